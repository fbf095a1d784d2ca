"""Do results on a GPU equal those on the CPU? `python benchmarks/device_check.py`, wherever a GPU is at hand.

On a small convolutional network that is trained here on the CPU: every attack (the samples that one device alone
breaks), the logits, the probes of the trust verdict, five steps of every way to train (how far the weights drift apart,
over how far they went), certificates, the backdoor scan's detectors, and `secure_ai.attack` from preflight to verdict.
Rounding differs between devices, so that a sample at the very boundary may fall either way; more must not.
Exit 0: within the tolerances. 1: not. 3: no GPU.
"""

from __future__ import annotations

import sys
import traceback

import torch
from _device_training import cases
from _package import (
    ATTACKS,
    NetworkTarget,
    Norm,
    PerturbationBudget,
    SecureAIError,
    SuiteResult,
    device_name,
    diagnose,
    exact_kernels,
    parse_attacks,
    run_suite,
)
from torch import Tensor, nn

N, CLASSES, SIDE = 512, 4, 12
EPS: dict[Norm, float] = {"linf": 0.06, "l2": 0.8, "l1": 6.0, "l0": 12}
SETTINGS = {"hopskipjump": ":query_budget=500", "square": ":query_budget=200", "cw": ":steps=100",
            "sigma-zero": ":steps=100", "odi-pgd": ":restarts=4"}  # fmt: skip
MOST_DISAGREEING = 0.02  # of the samples attacked; random search compounds rounding, gradient steps hardly do
MOST_APART = 1e-4  # of logits, relative to the largest


def bars(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noisy images (n, 3, SIDE, SIDE) with a bright bar; its row is the class."""
    y = torch.arange(n) % CLASSES
    x = 0.4 * torch.rand(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    for row in range(3):
        x[torch.arange(n), :, 3 * y + row] += 0.2
    return x, y


def trained() -> nn.Module:
    """On the CPU, so that both devices get the same weights."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(200, CLASSES))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    x, y = bars(400, 1)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net.eval()


def target_on(net: nn.Module, device: torch.device) -> NetworkTarget:
    """The network on `device`."""
    shape = (3, SIDE, SIDE)
    return NetworkTarget(net.to(device), name="check", digest="", input_shape=shape, num_classes=CLASSES)


def compare(cpu: torch.device, gpu: torch.device) -> bool:
    """Print a line an attack; whether all are within the tolerances."""
    x, y = bars(N, 2)
    net, ok = trained(), True
    for entry in ATTACKS:
        for norm in entry.norms:
            plans = parse_attacks(entry.name + SETTINGS.get(entry.name, ""), norm)
            budget = PerturbationBudget(norm, EPS[norm])
            found: list[SuiteResult] = []
            for device in (cpu, gpu):
                found.append(run_suite(target_on(net, device), x, y, budget=budget, attacks=plans, seed=0))
            apart = int((found[0].robust != found[1].robust).sum())
            fine = apart <= MOST_DISAGREEING * N
            ok = ok and fine
            rates = " / ".join(f"{int(one.robust.sum())}" for one in found)
            print(f"{'ok  ' if fine else 'FAIL'} {entry.name} {norm}: {rates} of {N} robust, {apart} disagree")
    ok &= same_logits(net, x, cpu, gpu) & same_probes(net, x, y, cpu, gpu)
    return ok & same_work(net.to(cpu), x, y)


def same_work(net: nn.Module, x: Tensor, y: Tensor) -> bool:
    """Whether training, certificates, detectors and a whole attack agree; one that raises does not stop the others."""
    ok = True
    for case in cases(net, x, y):
        try:
            apart = case.apart(case.measure("cpu"), case.measure("cuda"))
        except (SecureAIError, RuntimeError, TypeError, ValueError):
            traceback.print_exc(limit=-4)
            apart = float("inf")
        fine = apart <= case.most
        ok = ok and fine
        print(f"{'ok  ' if fine else 'FAIL'} {case.name}: {apart:.1e} apart, at most {case.most:g} allowed", flush=True)
    return ok


def same_logits(net: nn.Module, x: Tensor, cpu: torch.device, gpu: torch.device) -> bool:
    """Whether both devices compute the same float32 logits, to rounding: TF32 would be a thousand times further off."""
    with torch.no_grad(), exact_kernels(gpu):
        here = net.to(cpu)(x)
        there = net.to(gpu)(x.to(gpu)).cpu()
    apart = float((here - there).abs().max() / here.abs().max())
    print(f"{'ok  ' if apart <= MOST_APART else 'FAIL'} logits: {apart:.1e} apart")
    return apart <= MOST_APART


def same_probes(net: nn.Module, x: Tensor, y: Tensor, cpu: torch.device, gpu: torch.device) -> bool:
    """Whether every probe of the trust verdict has the same outcome on both devices."""
    budget = PerturbationBudget("linf", EPS["linf"])
    plans = parse_attacks("apgd-ce", "linf")
    robust = run_suite(target_on(net, cpu), x, y, budget=budget, attacks=plans, seed=0).robust
    outcomes = [
        {one.id: one.outcome for one in diagnose(target_on(net, d), x, y, budget, 0, attacks=plans, robust=robust)}
        for d in (cpu, gpu)
    ]
    differing = [name for name, outcome in outcomes[0].items() if outcomes[1][name] is not outcome]
    print(f"{'FAIL' if differing else 'ok  '} probes: {', '.join(differing) or 'the same outcomes'}")
    return not differing


def main() -> int:
    """The exit code."""
    if not torch.cuda.is_available():
        print("no GPU: nothing was compared")
        return 3
    cpu, gpu = torch.device("cpu"), torch.device("cuda", torch.cuda.current_device())
    print(f"cpu against {device_name(gpu)}, torch {torch.__version__}")
    try:
        return 0 if compare(cpu, gpu) else 1
    except SecureAIError as error:
        print(error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
