"""Report 1's protocol in plain PyTorch, eager, float32, with DataLoaders, and Foolbox (Rauber et al., JOSS 2020).

python pytorch_foolbox.py --data FOLDER --out FOLDER [--version L|P] [--seed 42]

The network starts as Keras starts it (Glorot-uniform kernels, zero biases), and Adam has Keras' epsilon.
"""

from __future__ import annotations

import argparse
import math
import warnings
from importlib import metadata
from pathlib import Path

import foolbox
import numpy as np
import protocol
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset


def build() -> nn.Module:
    """The report's network; its last softmax is part of the loss."""
    network = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1600, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip
    for layer in network:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return network


def new_optimizer(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(network.parameters(), lr=protocol.LEARNING_RATE, eps=protocol.ADAM_EPSILON)


def fgsm(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """One batch of examples."""
    model = foolbox.PyTorchModel(network.eval(), bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfFastGradientAttack()
    return attack(model, x, y, epsilons=protocol.EPS)[0]


def step(network: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    optimizer.zero_grad()
    functional.cross_entropy(network.train()(x), y).backward()
    optimizer.step()


@torch.no_grad()
def predict(network: nn.Module, x: Tensor) -> Tensor:
    """Logits (N, 10)."""
    network.eval()
    return torch.cat([network(part) for (part,) in DataLoader(TensorDataset(x), batch_size=protocol.BATCH)])


def train(network: nn.Module, x: Tensor, y: Tensor, epochs: int) -> torch.optim.Optimizer:
    """All but the last tenth, on which each epoch is validated; returns the optimizer with its state."""
    optimizer, split = new_optimizer(network), len(x) - protocol.held_out(len(x))
    loader = DataLoader(TensorDataset(x[:split], y[:split]), batch_size=protocol.BATCH, shuffle=True)
    for _ in range(epochs):
        for batch, labels in loader:
            step(network, optimizer, batch, labels)
        functional.cross_entropy(predict(network, x[split:]), y[split:])
    return optimizer


def defend(network: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, a: argparse.Namespace,
           baseline: nn.Module) -> None:  # fmt: skip
    """Half of each batch becomes examples: of the network in training (L), or made once on the baseline (P)."""
    copies = x
    if a.version == "P":
        loader = DataLoader(TensorDataset(x, y), batch_size=protocol.BATCH)
        copies = torch.cat([fgsm(baseline, batch, labels) for batch, labels in loader])
    loader = DataLoader(TensorDataset(x, copies, y), batch_size=protocol.BATCH, shuffle=True)
    for _ in range(a.defence_epochs):
        for batch, copy, labels in loader:
            chosen = torch.randperm(len(batch))[: math.ceil(protocol.RATIO * len(batch))]
            examples = fgsm(network, batch[chosen], labels[chosen]) if a.version == "L" else copy[chosen]
            mixed = batch.clone()
            mixed[chosen] = examples
            step(network, optimizer, mixed, labels)


def attack_test_set(network: nn.Module, x: Tensor) -> Tensor:
    """Examples of every test image, the network's own predictions as labels."""
    labels = predict(network, x).argmax(dim=1)
    loader = DataLoader(TensorDataset(x, labels), batch_size=protocol.BATCH)
    return torch.cat([fgsm(network, batch, part) for batch, part in loader])


def measure(results: protocol.Results, name: str, network: nn.Module, x: Tensor, y: Tensor) -> None:
    with results.stage(f"evaluate {name}"):
        logits = predict(network, x)
        loss = float(functional.cross_entropy(logits, y))
        results.share(name, logits.argmax(dim=1).numpy(), y.numpy(), loss)


def tensors(folder: Path, split: str, images: int) -> tuple[Tensor, Tensor]:
    x, y = protocol.load(folder, split, images)
    return torch.from_numpy(x)[:, None], torch.from_numpy(y)


def main() -> None:
    """Baseline, FGSM, adversarial training, poisoning."""
    a = protocol.parse(__doc__)
    a.out.mkdir(parents=True, exist_ok=True)
    results = protocol.Results(a)
    torch.manual_seed(a.seed)
    with results.stage("load"):
        (x, y), (x_test, y_test) = tensors(a.data, "train", a.images), tensors(a.data, "t10k", a.images)

    baseline = build()
    with results.stage("train"):
        optimizer = train(baseline, x, y, a.epochs)
        torch.save([baseline.state_dict(), optimizer.state_dict()], a.out / "baseline_cnn.pt")
    measure(results, "clean", baseline, x_test, y_test)
    with results.stage("fgsm"):
        examples = attack_test_set(baseline, x_test)
    measure(results, "fgsm", baseline, examples, y_test)

    with results.stage("defend"):
        defended = build()
        weights, moments = torch.load(a.out / "baseline_cnn.pt", weights_only=True)
        defended.load_state_dict(weights)
        optimizer = new_optimizer(defended)
        optimizer.load_state_dict(moments)
        defend(defended, optimizer, x, y, a, baseline)
        torch.save(defended.state_dict(), a.out / "adv_trained_cnn.pt")
    measure(results, "defended clean", defended, x_test, y_test)
    if a.version == "L":
        with results.stage("fgsm"):
            examples = attack_test_set(defended, x_test)
    measure(results, "defended fgsm", defended, examples, y_test)

    with results.stage("train poisoned"):
        victim = build()
        train(victim, torch.from_numpy(protocol.poisoned(x[:, 0].numpy(), y.numpy()))[:, None], y, a.epochs)
        torch.save(victim.state_dict(), a.out / "poisoned_cnn.pt")
    measure(results, "poisoned clean", victim, x_test, y_test)
    sevens = x_test[y_test == protocol.TARGET_LABEL]
    labels = torch.full((len(sevens),), protocol.TARGET_LABEL)
    measure(results, "poisoned sevens", victim, sevens, labels)
    square = torch.from_numpy(protocol.patched(np.asarray(sevens[:, 0])))[:, None]
    measure(results, "poisoned sevens patched", victim, square, labels)

    versions = {name: metadata.version(name) for name in ("torch", "foolbox", "numpy")}
    results.write(versions, threads=torch.get_num_threads())


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
