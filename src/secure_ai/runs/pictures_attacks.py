"""The pictures of attacks: transfer matrices, and grids of adversarial examples."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from secure_ai.core.results import Rate
from secure_ai.files.npy import NpyLimits, read_npz
from secure_ai.files.open import MIB, FileBytes
from secure_ai.report.render import png as plots
from secure_ai.runs.engine.jsons import json_bytes
from secure_ai.runs.engine.store import Store, key_of
from secure_ai.runs.pictures import drawing_code

LIMITS = NpyLimits(max_array_bytes=256 * MIB, max_dimensions=4, max_members=256)
ReadOutput = Callable[[str, str], bytes | None]

# stage -> file name of its matrix
MATRICES = {"transfer/matrix": "transfer_matrix", "assess/transfer": "transfer_matrix_subject"}
# file name -> (stage, prefix of the rows' names, title)
GRIDS = {
    "adversarial_examples_report_1": (
        "transfer/matrix",
        "report-1/",
        "Adversarial examples for report 1's networks; prediction and confidence below",
    ),
    "adversarial_examples_report_2": (
        "transfer/matrix",
        "report-2/",
        "Adversarial examples for report 2's networks; prediction and confidence below",
    ),
    "adversarial_examples_subject": (
        "assess/attack",
        "",
        "Adversarial examples for the network; prediction and confidence below",
    ),
}


def attack_pictures(results: Mapping[str, Mapping[str, Any]], output: ReadOutput, store: Store) -> dict[str, bytes]:
    """PNG bytes by file name (without ending), drawn once for the same content.

    Args:
        results: `result.json` of every finished stage.
        output: reads an output of a stage.
        store: where a picture drawn before is found again.
    """
    drawn: dict[str, bytes] = {}
    for stage, name in MATRICES.items():
        for entry in results.get(stage, {}).get("transfers", []):
            drawn[name] = _kept(store, name, json_bytes(entry), partial(_matrix, entry))
    for name, (stage, prefix, title) in GRIDS.items():
        content = output(stage, "gallery.npz")
        groups = [
            (number, group)
            for number, group in enumerate(results.get(stage, {}).get("galleries", []))
            if group["name"].startswith(prefix)
        ]
        if content is not None and groups:
            key = json_bytes([title, groups]) + hashlib.sha256(content).digest()
            drawn[name] = _kept(store, name, key, partial(_grid, content, groups, title))
    return drawn


def _kept(store: Store, name: str, content: bytes, draw: Callable[[], bytes]) -> bytes:
    key = key_of({"picture": name, "code": drawing_code(), "content": hashlib.sha256(content).hexdigest()})
    record = store.find(key) or store.put(f"picture/{name}", key, {"png": draw()}, 0.0)
    return store.blob(record.outputs["png"])


def _matrix(entry: Mapping[str, Any]) -> bytes:
    budget = f"{entry['budget']['norm']} {entry['budget']['eps_text']}" if entry["budget"] else ""
    note = f"{entry['attack']}, {budget}, n = {entry['n']:,}; outlined: a network's own examples"
    rates = [[Rate(**rate) for rate in row] for row in entry["rates"]]
    return plots.transfer_png(rates, entry["networks"], "Accuracy by network and origin of examples", note)


def _grid(content: bytes, groups: Sequence[tuple[int, Mapping[str, Any]]], title: str) -> bytes:
    arrays = read_npz(FileBytes("gallery.npz", content), limits=LIMITS)
    rows: list[tuple[str, Any]] = []
    captions: list[list[str]] = []
    for number, group in groups:
        clean, x_adv = arrays[f"clean-{number}"], arrays[f"x_adv-{number}"]
        rows += grid_rows(clean, x_adv, group["name"])
        captions += [answers(group["clean"]), [], answers(group["adversarial"])]
    return plots.image_grid_png(rows, title, captions)


def grid_rows(clean: np.ndarray, x_adv: np.ndarray, name: str) -> list[tuple[str, Any]]:
    """Clean, perturbation (blue darker, red brighter, magnified to its own largest value), adversarial."""
    delta = x_adv - clean
    largest = float(np.abs(delta).max())
    return [
        (f"{name}: clean", clean),
        (f"perturbation, up to {largest:.3g}", delta),
        ("adversarial", x_adv),
    ]


def answers(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """`7 (99 %)`: predicted class and its confidence."""
    return [f"{answer['label']} ({100 * answer['confidence']:.0f} %)" for answer in found]
