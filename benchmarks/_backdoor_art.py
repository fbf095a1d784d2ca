"""ART's defences of training data on the sets that our filters work on, given the true fraction of poisoned images.

ART's spectral signatures refuse 1.5 times that fraction of every class. With the fraction of the whole set, as its
documentation asks for, most of a poisoned class's images must pass; so the fraction of that class is tried, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from _backdoor_networks import ARCH, drawn, training_of
from _backdoor_repairs import KINDS, Poisoned, dosed, poisoned_set
from _backdoor_steps import FIRST_SEED, Setting, saved, trained
from _package import images_to_float, make_folder, rate, write_json
from torch import Tensor, nn

DOSE = 0.01


class Penultimate(nn.Module):
    """The layer that ART is to look at: it takes the last one of a model that is no chain of layers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.network.features(x)  # type: ignore[operator]  # every built-in network has it
        return features


def art_filters(own: Setting) -> list[dict[str, Any]]:
    """For the first set of each kind: poisoned images that each of ART's defences finds, and false alarms."""
    folder = make_folder(own.work / "art")
    for kind in KINDS:
        what = dosed(drawn(kind, FIRST_SEED), DOSE)
        path = folder / f"{what.id}.json"
        if path.exists():
            continue
        network = trained(own, ARCH, [training_of(what, own.pool)]).network(0, own.device)
        found = _found(network, poisoned_set(what, own))
        write_json(path, {"id": what.id, "kind": kind, "dose": DOSE, "filters": found})
        own.say(f"ART {what.id}: {found}")
    return saved(folder)


def _found(network: nn.Module, data: Poisoned) -> dict[str, Any]:
    from art.defences.detector.poison import ActivationDefence, SpectralSignatureDefense
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        nn.Sequential(Penultimate(network.eval())), nn.CrossEntropyLoss(), data.images.shape[1:], 10,
        device_type="cpu" if next(network.parameters()).device.type == "cpu" else "gpu",
    )  # fmt: skip
    x, y = images_to_float(data.images).numpy(), np.eye(10, dtype=np.float32)[data.labels]
    np.random.seed(0)  # ART draws from the global generator
    torch.manual_seed(0)
    own_class = data.labels == np.bincount(data.labels[data.bad]).argmax()
    of_all, of_class = float(data.bad.mean()), float(data.bad[own_class].mean())
    defences = {
        "activation-clustering": ActivationDefence(classifier, x, y),
        "spectral-signatures": SpectralSignatureDefense(classifier, x, y, expected_pp_poison=of_all),
        "spectral-signatures, class": SpectralSignatureDefense(classifier, x, y, expected_pp_poison=of_class),
    }
    return {name: _counted(np.asarray(defence.detect_poison()[1]) == 0, data) for name, defence in defences.items()}


def _counted(refused: np.ndarray, data: Poisoned) -> dict[str, Any]:
    return {
        "found": rate(int(refused[data.bad].sum()), int(data.bad.sum())).as_json(),
        "false_alarms": rate(int(refused[data.good].sum()), int(data.good.sum())).as_json(),
    }
