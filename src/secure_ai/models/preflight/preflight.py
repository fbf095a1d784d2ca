"""Before anything is attacked: can this network be called, and may what it answers be attacked and believed?

What can be put right without a choice (memory layout, the order of the axes, a last softmax) is put right in the target
that comes back; what needs a choice of the user's is a failed check that names the flag.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from secure_ai.core import seeds
from secure_ai.core.compute import MEMORY_FORMAT
from secure_ai.core.errors import EmptyDataError, TargetError
from secure_ai.core.trust import Check, CheckOutcome, check
from secure_ai.data.dataset import Dataset
from secure_ai.models.preflight.calls import SAME, Preflight, Samples, difference, guarded, rebuilt, scores
from secure_ai.models.preflight.outputs import tidied
from secure_ai.models.preflight.preprocessing import judge_preprocessing, other_layout_is_right
from secure_ai.models.preflight.provenance import input_check, names_check, unseen_check
from secure_ai.models.target.target import NetworkTarget
from secure_ai.models.target.watch import Watch, random_states
from secure_ai.models.target.wrappers import (
    contiguous_input,
    filled_input,
    logits_from_probabilities,
    recovers_exact_logits,
)
from secure_ai.models.tensors import images_to_float, labels_to_tensor, to_contiguous

MAX_SAMPLES = 64
PROBABILITY_TOLERANCE = 1e-3
MAX_ZERO_GRADIENTS = 0.1  # share of samples
MAX_BLIND = 0.1  # share of samples

ALONE = 16  # samples asked about one at a time
ONLY_CONTIGUOUS = "images and weights contiguous in memory, since it answers otherwise in the fast layout"
POOL = 1000  # samples at most that the preparation of the pixels is judged by
ONLY_FOR_ATTACKS = frozenset({"logits", "input-gradient"})
"""Checks that say nothing of an accuracy without an attack."""

__all__ = ["ONLY_FOR_ATTACKS", "Preflight", "examine", "preflight", "same_answers"]


def examine(target: NetworkTarget, dataset: Dataset, seed: int) -> Preflight:
    """`preflight` on images from all over the data set, and what is known of how the network was made."""
    spread = np.linspace(0, len(dataset) - 1, min(len(dataset), POOL)).astype(np.int64)
    images = images_to_float(dataset.images[spread])
    labels = labels_to_tensor(dataset.labels[spread])
    found = preflight(target, images, labels, generator=seeds.generator(seed, "preflight"), names=dataset.class_names)
    fed = input_check(found.target)
    told = fed.outcome is CheckOutcome.NOT_RUN or found.target.known.tell  # to be known on the first screen
    named = names_check(found.target, dataset)
    checks = (*((named,) if named else ()), *found.checks, fed, unseen_check(found.target, dataset))  # surest first
    return replace(found, checks=checks, fixes=(*found.fixes, *((fed.evidence,) if told else ())))


def preflight(
    target: NetworkTarget,
    images: Tensor,
    labels: Tensor,
    *,
    generator: torch.Generator,
    names: Sequence[str] = (),
) -> Preflight:
    """Call the network on a few real samples and judge what it answers.

    Args:
        images: (N, C, H, W) float32 in [0, 1]; whether they are prepared rightly is asked of all, the rest of 64.
        labels: (N,) int64 true labels.
        generator: chooses the samples, and seeds what the network itself draws.
        names: of the labels; none where nobody names them.

    Raises:
        EmptyDataError: no samples.
        TargetError: the network raises an error, does not answer one finite score a class, or changes its own weights.
    """
    if len(images) == 0:
        raise EmptyDataError("preflight needs samples", expected="at least one")
    images, labels = images.to(target.device), labels.to(target.device)
    chosen = torch.randperm(len(images), generator=generator, device="cpu")[:MAX_SAMPLES].sort().values
    seed = int(torch.randint(2**62, (1,), generator=generator, device="cpu"))
    with seeds.kept_random_state(target.device):
        seeds.seed_networks(seed, target.device)
        watch = Watch(target.network, target.name)
        found = _examined(target, (images[chosen], labels[chosen]), (images, labels), names)
        watch.compare()
        return found


def _examined(target: NetworkTarget, few: Samples, many: Samples, names: Sequence[str]) -> Preflight:
    checks: list[Check] = []
    fixes: list[str] = []
    x = few[0]
    steps: tuple[Callable[[NetworkTarget], Preflight], ...] = (
        lambda t: _layout(t, few, many),
        *(partial(step, x=x, y=few[1]) for step in (_evaluation_mode, _determinism, _batches, _logits, _gradients)),
        lambda t: judge_preprocessing(t, few, many, names),
    )
    for step in steps:
        found = step(target)
        target = found.target
        checks += found.checks
        fixes += found.fixes
    return replace(Preflight(rebuilt(target), tuple(checks), tuple(fixes)), images=x, answers=scores(target, x))


def same_answers(found: Preflight) -> Check:
    """The same images once more, after the attacks: a target that gives other outputs was not one target.

    What a network keeps in plain Python attributes, and what a service does behind its door, shows nowhere else.
    """
    identifier = "same-answers-after"
    if found.images is None or found.answers is None or not found.target.deterministic:
        return check(identifier, None, "needs a deterministic target")
    apart = difference(found.answers, scores(found.target, found.images))
    evidence = f"after the attacks the scores of {len(found.images)} images differ by {apart:.1e} of their size"
    return check(identifier, apart <= SAME, evidence)


def _layout(target: NetworkTarget, few: Samples, many: Samples) -> Preflight:
    """A layout of the images that the network accepts, the right one where it accepts both; the number of classes."""
    x, y = few
    nhwc = replace(target.transform, channels_last=True)
    layouts: tuple[tuple[str, Callable[[], NetworkTarget]], ...] = (
        ("", lambda: target),
        (
            "it gets a copy, contiguous in memory, since it calls view() or writes into its input",
            lambda: rebuilt(target, network=contiguous_input(target.network)),
        ),
        ("it gets (N, H, W, C)", lambda: rebuilt(target, transform=nhwc)),
        (
            f"it gets exactly {target.batch_size} images, black ones behind fewer",
            lambda: rebuilt(target, network=filled_input(target.network, target.batch_size)),
        ),
    )
    first: TargetError | None = None
    for fix, make in layouts:
        candidate = make()
        try:
            candidate, tidy = tidied(candidate, _raw, x, y)
            classes = _num_classes(target, guarded(candidate, lambda t: _raw(t, x)), x, y)
            if 1 < target.batch_size <= len(x):  # as named: will one less do, too?
                guarded(candidate, lambda t: _raw(t, x[: t.batch_size - 1]))
        except TargetError as error:
            first = first or error
            continue
        evidence = f"{len(x)} images answered with {classes} finite scores each"
        if target.access == "labels":
            evidence = f"{len(x)} images answered with a label each"
        found = rebuilt(candidate, num_classes=classes)
        told = fix or "(N, C, H, W) in any memory layout"
        if (usual := _only_contiguous(found, x)) is not None:
            found, told = usual, f"{told}; {ONLY_CONTIGUOUS}"
        if (better := other_layout_is_right(found, few, many)) is not None:
            found, told = better
        fixes = (*tidy, *((f"input layout: {told}",) if fix or usual or better else ()))
        return Preflight(found, (check("output", True, evidence), check("input-layout", True, told)), fixes)
    raise first or TargetError("the network cannot be called", where=target.name)


def _only_contiguous(target: NetworkTarget, x: Tensor) -> NetworkTarget | None:
    """The target with images and weights contiguous in memory, where it answers otherwise so; else None.

    What writes into `flatten(1)` writes into the images where these are contiguous, as it was written for, and into a
    copy of them in the layout that convolutions are fast in.
    """
    answers = scores(target, x)
    if difference(answers, scores(target, x)) > SAME:
        return None  # random by means of its own
    kept = [(parameter, parameter.data) for parameter in target.network.parameters()]
    to_contiguous(target.network)
    usual = rebuilt(target, network=contiguous_input(target.network))
    try:
        if difference(answers, scores(usual, x)) > SAME:
            return usual
    except TargetError:  # it is fed (N, H, W, C), or such
        pass
    for parameter, values in kept:
        parameter.data = values
    return None


def _raw(target: NetworkTarget, x: Tensor) -> Any:
    pixels = x.clone(memory_format=MEMORY_FORMAT)
    with torch.no_grad():
        parts = [target.network(target.fed(part)) for part in pixels.split(target.batch_size)]
        output = torch.cat(parts) if len(parts) > 1 and all(isinstance(p, Tensor) for p in parts) else parts[0]
    if pixels._version or not torch.equal(pixels, x):  # also where it writes what was there already
        raise TargetError("the network writes into its input", where=target.name, expected="images left as they are")
    return output


def _num_classes(target: NetworkTarget, output: Any, x: Tensor, y: Tensor) -> int:
    if (
        target.access == "labels"
        and isinstance(output, Tensor)
        and output.dim() == 1
        and not output.is_floating_point()
    ):
        return max(target.num_classes, int(y.max()) + 1, int(output.max()) + 1) + 1  # the last: any class not seen yet
    if not isinstance(output, Tensor) or output.dim() != 2 or len(output) != len(x) or not output.is_floating_point():
        got = f"{tuple(output.shape)} {output.dtype}" if isinstance(output, Tensor) else type(output).__name__
        expected = f"float tensor {(len(x), target.num_classes)}"
        raise TargetError("the output is not one score a class", where=target.name, expected=expected, got=got)
    classes, largest = int(output.shape[1]), int(y.max())
    if classes < 2 or classes <= largest:
        expected = f"more than {max(1, largest)}, for labels up to {largest}"
        raise TargetError("the network has too few classes", where=target.name, expected=expected, got=classes)
    if not bool(torch.isfinite(output).all()):
        raise TargetError("the network answers NaN or infinity", where=target.name, expected="finite scores")
    return classes


def _evaluation_mode(target: NetworkTarget, x: Tensor, y: Tensor) -> Preflight:
    before = sum(module.training for module in target.network.modules())
    stuck = guarded(target, lambda t: [type(module).__name__ for module in t.network.modules() if module.training])
    evidence = f"still in training mode after eval(): {', '.join(stuck[:3])}" if stuck else "every module obeys eval()"
    fix = f"{before} modules were in training mode; the network is attacked in evaluation mode"
    return Preflight(target, (check("eval-mode", not stuck, evidence),), (fix,) if before else ())


def _determinism(target: NetworkTarget, x: Tensor, y: Tensor) -> Preflight:
    # both calls in one go: random states are put back after each look at the network
    apart = guarded(target, lambda t: difference(t.logits(x).detach(), t.logits(x).detach()))
    evidence = f"two calls on the same images differ by {apart:.1e}, relative to their size"
    hint = "" if apart <= SAME else "; the answer is random (dropout or noise in forward?): average attacks over it"
    if seeds := guarded(target, lambda t: _seeds_itself(t, x[:2])):
        hint += "; the network seeds torch's random generator itself, so that its randomness cannot be seen here"
    elif draws := guarded(target, lambda t: _draws(t, x[:2])):
        hint += "; a call draws random numbers, of torch, numpy or Python"
    random = apart > SAME or seeds or draws
    return Preflight(rebuilt(target, deterministic=not random), (check("deterministic", not random, evidence + hint),))


def _draws(target: NetworkTarget, x: Tensor) -> bool:
    """Whether a call moves a random generator: what is random once in a hundred calls is random, too."""
    before = (random_states(), torch.default_generator.get_state().tolist())
    target.logits(x)
    return before != (random_states(), torch.default_generator.get_state().tolist())


def _seeds_itself(target: NetworkTarget, x: Tensor) -> bool:
    """Whether the global generator ends in one state wherever it began."""
    states = []
    for seed in (1, 2):
        torch.default_generator.manual_seed(seed)
        target.logits(x)
        states.append(torch.default_generator.get_state())
    return torch.equal(*states)


def _batches(target: NetworkTarget, x: Tensor, y: Tensor) -> Preflight:
    if not target.deterministic or len(x) < 2:
        return Preflight(target, (check("batch-independent", None, "needs a deterministic network and two images"),))
    half, answers = len(x) // 2, scores(target, x)
    apart = difference(answers[:half], scores(target, x[:half]))
    moved = difference(answers, scores(target, x.flip(0)).flip(0))
    evidence = f"in a batch half the size, scores differ by {apart:.1e} of their size; in reverse order, by {moved:.1e}"
    lead = answers.topk(2, dim=1).values.diff(dim=1).squeeze(1)  # below 0; the surest come first
    surest = lead.argsort()[:ALONE]
    try:
        alone = torch.cat([scores(target, x[row : row + 1]) for row in surest.tolist()])
        single = difference(answers[surest], alone)
        evidence += f"; alone, by {single:.1e}"
    except TargetError as error:
        single = math.inf
        evidence += f"; alone an image is not answered ({error.got})"
    apart = max(apart, moved, single)
    hint = "; batch statistics, a choice for the whole batch, or noise by place in it?" if apart > SAME else ""
    return Preflight(target, (check("batch-independent", apart <= SAME, evidence + hint),))


def _logits(target: NetworkTarget, x: Tensor, y: Tensor) -> Preflight:
    """Recover logits where the network answers probabilities."""
    if target.access == "labels":
        return Preflight(target, (check("logits", None, "the target offers labels only"),))
    answer = scores(target, x)
    if bool((answer <= 0).all() & (answer.logsumexp(dim=1).abs() <= PROBABILITY_TOLERANCE).all()):
        return Preflight(target, (check("logits", True, "log-probabilities, which serve as logits"),))
    if not bool((answer >= 0).all() & ((answer.sum(dim=1) - 1).abs() <= PROBABILITY_TOLERANCE).all()):
        return Preflight(target, (check("logits", True, f"scores from {answer.min():.3g} to {answer.max():.3g}"),))
    exact = guarded(target, lambda t: recovers_exact_logits(t.network, t.fed(x)))
    if target.access == "scores":
        return _log_scores(target, answer)
    trusted = exact
    if exact:
        how = "the network ends in a softmax; its input is used as logits"
    else:
        flat = int(((answer == 0) | (answer == 1)).any(dim=1).sum())
        trusted = flat <= MAX_BLIND * len(answer)
        how = (
            "the network answers probabilities; log p is used as logits, without gradient where p rounds to 0 or 1: "
            f"on {flat} of {len(answer)} images"
        )
    wrapped = rebuilt(target, network=logits_from_probabilities(target.network, exact=exact))
    if turned := int((scores(wrapped, x).argmax(dim=1) != answer.argmax(dim=1)).sum()):
        trusted, how = False, f"{how}; {turned} of {len(answer)} images are classified otherwise by it"
    return Preflight(wrapped, (check("logits", trusted, how),), (how,))


def _log_scores(target: NetworkTarget, answer: Tensor) -> Preflight:
    """Probabilities for an attack by scores: log p is as good as logits, unless it is rounded to 0 and 1 throughout."""
    blind = int((answer.amax(dim=1) == 1).sum())
    how = f"the target answers probabilities; log p is used, rounded to 0 and 1 on {blind} of {len(answer)} images"
    hint = "" if blind <= MAX_BLIND * len(answer) else ": attacks by scores see next to nothing there"
    wrapped = rebuilt(target, network=logits_from_probabilities(target.network, exact=False))
    return Preflight(wrapped, (check("logits", not hint, how + hint),), (how,))


def _gradients(target: NetworkTarget, x: Tensor, y: Tensor) -> Preflight:
    """Whether cross-entropy and margin have a usable gradient with respect to the pixels."""
    if target.access != "gradients":
        return Preflight(target, (check("input-gradient", None, f"the target offers {target.access} only"),))
    evidence, ok = [], True
    for name, loss in (("cross-entropy", _cross_entropy), ("margin", _margin)):
        gradient = _input_gradient(target, x, y, loss)
        if gradient is None:
            return Preflight(target, (check("input-gradient", False, "no gradient reaches the pixels at all"),))
        finite = bool(torch.isfinite(gradient).all())
        zero = int((gradient.flatten(1) == 0).all(dim=1).sum())
        ok = ok and finite and zero <= MAX_ZERO_GRADIENTS * len(x)
        evidence.append(f"{name}: {zero} of {len(x)} all zero" + ("" if finite else ", NaN or infinity among them"))
    hint = "" if ok else "; attacks by gradient are blind here, and their failure shows nothing"
    return Preflight(target, (check("input-gradient", ok, "; ".join(evidence) + hint),))


def _input_gradient(
    target: NetworkTarget, x: Tensor, y: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
) -> Tensor | None:
    def gradient(frozen: NetworkTarget) -> Tensor | None:
        pixels = x.clone().requires_grad_()
        with torch.enable_grad():
            value = loss(frozen.logits(pixels), y)
            return torch.autograd.grad(value, pixels, allow_unused=True)[0] if value.requires_grad else None

    return guarded(target, gradient)


def _cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return functional.cross_entropy(logits, y, reduction="sum")


def _margin(logits: Tensor, y: Tensor) -> Tensor:
    others = logits.masked_fill(functional.one_hot(y, logits.shape[1]).bool(), -torch.inf)
    return (others.amax(dim=1) - logits.gather(1, y[:, None])[:, 0]).sum()
