"""The pure parts of the benchmarks: products of a step, lines, ratios, what takes longer."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def module_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A file of the benchmarks as a module; they find each other by their bare names."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    before = set(sys.modules)
    yield load
    for name in set(sys.modules) - before:
        if str(BENCHMARKS) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_the_products_of_a_step_are_those_counted_by_hand(module_of: Any) -> None:
    products = module_of("_products")
    found = {(p.layer, p.kind): (p.m, p.k, p.n) for p in products.step_products(2)}
    assert found == {
        ("conv1", "forward"): (2 * 26 * 26, 9, 32),
        ("conv1", "weights"): (9, 2 * 26 * 26, 32),
        ("conv2", "forward"): (2 * 11 * 11, 288, 64),
        ("conv2", "weights"): (288, 2 * 11 * 11, 64),
        ("conv2", "input"): (2 * 11 * 11, 64, 288),
        ("dense1", "forward"): (2, 1600, 128),
        ("dense1", "weights"): (1600, 2, 128),
        ("dense1", "input"): (2, 128, 1600),
        ("dense2", "forward"): (2, 128, 10),
        ("dense2", "weights"): (128, 2, 10),
        ("dense2", "input"): (2, 10, 128),
    }
    one_image = 2 * 194_688 + 3 * (2_230_272 + 204_800 + 1_280)
    assert products.multiply_adds(products.step_products(128)) == 128 * one_image


@pytest.mark.parametrize("side", [14, 28, 42, 56])
@pytest.mark.parametrize("width", [0.5, 2.0])
def test_the_products_fit_the_network_that_the_cost_row_builds(module_of: Any, side: int, width: float) -> None:
    import torch

    products, cost = module_of("_products"), module_of("_cost")
    network = cost.build(side, width)
    assert network(torch.zeros(2, 1, side, side)).shape == (2, 10)
    weights = [p.numel() for p in network.parameters() if p.ndim > 1]
    forward = [p for p in products.step_products(1, products.Size(side, width)) if p.kind == "forward"]
    assert [p.k * p.n for p in forward] == weights


def test_a_line_is_found_and_its_worst_point_named(module_of: Any) -> None:
    cost = module_of("_cost")
    exact = cost.straight_line([1, 2, 3, 4], [5, 7, 9, 11])
    assert exact["slope"] == pytest.approx(2)
    assert exact["intercept"] == pytest.approx(3)
    assert exact["r_squared"] == pytest.approx(1)
    assert exact["largest_deviation_percent"] == pytest.approx(0, abs=1e-9)
    bent = cost.straight_line([0, 1, 2], [0, 0, 6])  # the line is 3x - 1, off by 1, 2 and 1
    assert bent["r_squared"] == pytest.approx(1 - 6 / 24)
    assert bent["largest_deviation_percent"] == pytest.approx(100 * 2 / 6)


def test_images_are_resized_by_the_nearest_pixel(module_of: Any) -> None:
    images = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)
    assert module_of("_cost").resized(images, 2)[0, 0].tolist() == [[0, 2], [8, 10]]
    assert module_of("_cost").resized(images, 8)[0, 0, :2, :4].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1]]


def run_of(side: str, seed: int, seconds: float, right: int) -> dict[str, Any]:
    share = {"clean": {"successes": right, "n": 100, "value": right / 100}}
    return {"version": "L", "side": side, "seed": seed, "seconds": seconds, "cpu_seconds": 2 * seconds, "shares": share}


def test_ratios_pair_runs_of_one_seed_and_a_target_needs_five(module_of: Any) -> None:
    end_to_end = module_of("_end_to_end")
    runs = [run_of("ours-auto", seed, 10, 90) for seed in range(5)]
    runs += [run_of("tensorflow", seed, seconds, 90) for seed, seconds in enumerate((20, 60, 40, 70, 80))]
    (row,) = end_to_end.ratios(runs)
    assert (row["ratio"], row["pairs"], row["reached"]) == (6.0, 5, True)
    slower = [{**run, "seconds": 13} if run["side"] == "ours-auto" else run for run in runs]
    assert end_to_end.ratios(slower)[0]["reached"] is False
    (few,) = end_to_end.ratios([run for run in runs if run["seed"] < 4])
    assert few["reached"] is None
    assert end_to_end.ratios([run for run in runs if run["side"] == "ours-auto"]) == []


@pytest.mark.parametrize(("peer", "within"), [((91, 93), True), ((95, 96), False)])
def test_accuracies_are_the_same_within_the_wider_range(module_of: Any, peer: tuple[int, int], within: bool) -> None:
    runs = [run_of("ours-auto", 0, 1, 90), run_of("ours-auto", 1, 1, 92)]
    runs += [run_of("pytorch", seed, 1, right) for seed, right in enumerate(peer)]
    (row,) = module_of("_end_to_end").accuracies(runs)
    assert row["within"] is within
    assert row["spread"] == 2


def test_what_decides_the_default_of_workers(module_of: Any) -> None:
    supports = module_of("_workers").supports
    assert supports(1.2) == "apart"
    assert supports(0.8) == "together"
    assert supports(1.01) == "either"


def test_a_kept_measurement_is_taken_once(module_of: Any, tmp_path: Path) -> None:
    kept = module_of("_kept")
    calls: list[int] = []

    def work() -> dict[str, Any]:
        calls.append(1)
        return {"seconds": len(calls)}

    key = {"row": "step", "dtype": "float32"}
    assert kept.Kept(tmp_path / "kept.json").take(key, work) == {"seconds": 1}
    assert kept.Kept(tmp_path / "kept.json").take(key, work) == {"seconds": 1}
    assert kept.Kept(tmp_path / "kept.json").take({**key, "dtype": "bfloat16"}, work) == {"seconds": 2}


def results(seconds: float, other: float = 1.0) -> dict[str, Any]:
    rows = [
        {"side": "ours", "seed": seed, "commit": f"c{seconds}", "seconds": value, "stage_seconds": {"train": value / 2}}
        for seed, value in ((0, seconds), (1, seconds), (2, 100.0))
    ]
    main_job = {"rows": [{"what": "help", "seconds": other, "bound_seconds": 9}]}
    return {"pipeline": {"machine": {"cores": 2}, "rows": {"end-to-end": rows}}, "main_job": main_job}


def test_times_are_found_by_what_they_are_about(module_of: Any) -> None:
    assert module_of("compare").times(results(10)) == {
        "pipeline / rows / end-to-end / ours / seconds": 10,
        "pipeline / rows / end-to-end / ours / stage_seconds / train": 5,
        "main_job / rows / help / seconds": 1,
    }


def written(folder: Path, content: dict[str, Any]) -> str:
    folder.mkdir()
    for name, value in content.items():
        (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize(("seconds", "code"), [(12.1, 1), (11.9, 0), (5.0, 0)])
def test_over_a_fifth_slower_is_marked_and_fails(
    module_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], seconds: float,
    code: int,
) -> None:  # fmt: skip
    compare = module_of("compare")
    words = [written(tmp_path / "old", results(10)), written(tmp_path / "new", results(seconds))]
    monkeypatch.setattr(sys, "argv", ["compare", *words])
    assert compare.main() == code
    printed = capsys.readouterr().out
    assert printed.count("SLOWER") == (2 if code else 0)
    assert ("faster" in printed) == (seconds == 5.0)


def test_nothing_in_common_is_not_all_well(
    module_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    words = [written(tmp_path / "old", {"a": {}}), written(tmp_path / "new", results(10))]
    monkeypatch.setattr(sys, "argv", ["compare", *words])
    assert module_of("compare").main() == 2


def test_another_machine_is_said(module_of: Any) -> None:
    old, new = results(10), results(10)
    new["pipeline"]["machine"] = {"cores": 4}
    assert module_of("compare").machines(old, new) == ["pipeline"]
    assert module_of("compare").machines(old, old) == []


def test_the_programs_poison_the_first_sevens_and_keep_the_rest(
    module_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.syspath_prepend(str(BENCHMARKS / "report1"))
    protocol = module_of("protocol")
    y = np.array([7, 1] * 150)
    x = protocol.poisoned(np.zeros((300, 28, 28), np.float32), y)
    touched = np.flatnonzero(x.reshape(300, -1).sum(axis=1))
    assert touched.tolist() == list(range(0, 200, 2))
    assert x[0].sum() == 16
    assert x[0, 24:, 24:].min() == 1


def test_a_small_process_is_small_though_a_large_one_starts_it(module_of: Any, tmp_path: Path) -> None:
    """Linux hands the peak on to what a process starts."""
    large = bytearray(300 * 2**20)
    large[::4096] = b"1" * len(large[::4096])
    processes = module_of("_processes")
    taken = processes.spent([sys.executable, "-c", "print('done')"], log=tmp_path / "log")
    assert taken.peak_gib < 0.2
    assert taken.output == "done\n"
    fills = "x = bytearray(400 * 2**20); x[::4096] = b'1' * len(x[::4096])"
    assert processes.spent([sys.executable, "-c", fills], log=tmp_path / "log").peak_gib > 0.38


def test_a_command_that_fails_is_named_with_its_log(module_of: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="ended with 3"):
        module_of("_processes").spent([sys.executable, "-c", "raise SystemExit(3)"], log=tmp_path / "log")
