from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from secure_ai.core.errors import DigestMismatchError, FileKindError, UsageError
from secure_ai.core.events import canonical_json, ignore_event
from secure_ai.files.seal import Seal
from secure_ai.runs.engine import execute as engine
from secure_ai.runs.engine.execute import Execution, Finished, execute, recall, stage_key
from secure_ai.runs.engine.stage import Notice, Outputs, Stage, TimeShortError, Work, watch_nothing
from secure_ai.runs.engine.store import Store, key_of

KEY = key_of({"stage": "a"})
SEAL = Seal(bytes(32))
torch_threads = torch.get_num_threads


def no_data(role: str) -> Any:
    raise KeyError(role)


def context(folder: Path, events: Any = ignore_event, deadline: float | None = None, seal: Seal = SEAL) -> Execution:
    return Execution(
        store=Store(folder, events, seal),
        data=no_data,
        data_digest=lambda role: f"digest of {role}",
        precision="auto",
        events=events,
        watcher=watch_nothing,
        deadline=deadline,
    )


class Counting:
    """Stages that count how often they really ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def stage(self, name: str, needs: tuple[str, ...] = (), settings: Mapping[str, Any] | None = None) -> Stage:
        own = settings or {}

        def function(work: Work) -> Outputs:
            self.ran.append(name)
            joined = b"".join(work.inputs[need]["out"] for need in needs)
            return {"out": name.encode() + joined + str(own.get("x", "")).encode()}

        return Stage(id=name, function=function, needs=needs, settings=own)


def run(folder: Path, stages: list[Stage], **more: Any) -> Finished:
    progress = Finished()
    execute(stages, context(folder, **more), progress)
    return progress


def test_what_an_earlier_run_left_is_recalled_and_nothing_runs(tmp_path: Path) -> None:
    """b is known with the a of that run only; c, which never ran, and d, which needs it, stay unknown."""
    count = Counting()
    a, b = count.stage("a"), count.stage("b", ("a",))
    run(tmp_path, [a, b])
    known = [a, b, count.stage("c"), count.stage("d", ("c",))]
    found = Finished()
    recall(known, context(tmp_path), found)
    assert (list(found.records), found.reused, count.ran) == (["a", "b"], ["a", "b"], ["a", "b"])
    other = Finished()
    recall([count.stage("a", settings={"x": 2}), b], context(tmp_path), other)
    assert other.records == {}


def test_what_was_put_is_found_again(tmp_path: Path) -> None:
    store = Store(tmp_path, ignore_event, SEAL)
    assert store.find(KEY) is None
    put = store.put("a", KEY, {"x": b"one", "y": b"two", "same": b"one"}, 1.5)
    found = Store(tmp_path, ignore_event, SEAL).find(KEY)
    assert found == put
    assert store.blob(put.outputs["x"]) == b"one"
    assert put.outputs["x"] == put.outputs["same"]
    blobs = [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]
    assert len(blobs) == 2
    assert {path.stat().st_mode & 0o777 for path in blobs} == {0o444}


def damage_blob(folder: Path) -> None:
    path = next(path for path in (folder / "objects").rglob("*") if path.is_file())
    path.chmod(0o644)
    path.write_bytes(b"other")


def remove_blob(folder: Path) -> None:
    next(path for path in (folder / "objects").rglob("*") if path.is_file()).unlink()


def rewrite_record(content: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = next((folder / "stages").glob("*.json"))
        path.chmod(0o644)
        path.write_bytes(content)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        damage_blob,
        remove_blob,
        rewrite_record(b""),
        rewrite_record(b"{"),
        rewrite_record(b"[]"),
        rewrite_record(b'{"stage": "a", "outputs": {"x": "../../etc/passwd"}, "seconds": 1}'),
        rewrite_record(b'{"stage": "a", "outputs": 3, "seconds": 1}'),
        rewrite_record(b'{"stage": "a", "seconds": 1}'),
    ],
)
def test_damage_is_found_recorded_and_repaired(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    seen: list[str] = []
    counting = Counting()
    run(tmp_path, [counting.stage("a")])
    damage(tmp_path)
    progress = run(tmp_path, [counting.stage("a")], events=lambda kind, data: seen.append(kind))
    assert counting.ran == ["a", "a"]
    assert seen[0] in ("store_damaged", "store_foreign")
    assert progress.outputs(Store(tmp_path, ignore_event, SEAL), "a") == {"out": b"a"}
    run(tmp_path, [counting.stage("a")])
    assert counting.ran == ["a", "a"]


def test_an_altered_blob_is_never_handed_out(tmp_path: Path) -> None:
    store = Store(tmp_path, ignore_event, SEAL)
    record = store.put("a", KEY, {"x": b"one"}, 0.0)
    damage_blob(tmp_path)
    with pytest.raises(DigestMismatchError):
        store.blob(record.outputs["x"])


def test_a_blob_replaced_by_a_link_counts_as_damage(tmp_path: Path) -> None:
    store = Store(tmp_path / "store", ignore_event, SEAL)
    record = store.put("a", KEY, {"x": b"secret"}, 0.0)
    path = tmp_path / "store" / "objects" / record.outputs["x"][:2] / record.outputs["x"]
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    path.unlink()
    path.symlink_to(outside)
    assert store.find(KEY) is None


def test_nothing_changed_runs_nothing(tmp_path: Path) -> None:
    counting = Counting()
    plan = [counting.stage("a"), counting.stage("b", ("a",))]
    first = run(tmp_path, plan)
    second = run(tmp_path, plan)
    assert counting.ran == ["a", "b"]
    assert second.reused == ["a", "b"]
    assert {k: v.outputs for k, v in first.records.items()} == {k: v.outputs for k, v in second.records.items()}


def test_a_changed_setting_runs_what_depends_on_it_and_nothing_else(tmp_path: Path) -> None:
    counting = Counting()
    run(tmp_path, [counting.stage("a", settings={"x": 1}), counting.stage("b", ("a",)), counting.stage("c")])
    run(tmp_path, [counting.stage("a", settings={"x": 2}), counting.stage("b", ("a",)), counting.stage("c")])
    assert counting.ran == ["a", "b", "c", "a", "b"]


def test_an_equal_output_does_not_make_the_next_stage_stale(tmp_path: Path) -> None:
    """The key holds digests of inputs, not how they came about."""
    counting = Counting()
    run(tmp_path, [counting.stage("a", settings={"unused": 1}), counting.stage("b", ("a",))])
    run(tmp_path, [counting.stage("a", settings={"unused": 2}), counting.stage("b", ("a",))])
    assert counting.ran == ["a", "b", "a"]


def test_other_data_is_another_stage(tmp_path: Path) -> None:
    ran: list[str] = []

    def function(work: Work) -> Outputs:
        ran.append("a")
        return {"out": b""}

    stage = Stage(id="a", function=function, data=("test",))
    for digest in ("one", "one", "two"):
        at = context(tmp_path)
        at = Execution(**{name: getattr(at, name) for name in at.__slots__} | {"data_digest": lambda role, d=digest: d})
        execute([stage], at, Finished())
    assert ran == ["a", "a"]


def test_other_code_that_decides_results_reuses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counting = Counting()
    run(tmp_path, [counting.stage("a")])
    monkeypatch.setattr(engine, "results_digest", lambda: "other code")
    assert run(tmp_path, [counting.stage("a")]).reused == []
    monkeypatch.undo()
    assert run(tmp_path, [counting.stage("a")]).reused == ["a"]
    assert counting.ran == ["a", "a"]


def nothing() -> None:
    return None


@pytest.mark.parametrize(("fingerprints", "ran"), [(("x", "x"), 1), (("x", "y"), 2), ((None, None), 2)])
def test_what_has_no_fingerprint_is_never_reused(
    tmp_path: Path, fingerprints: tuple[str | None, str | None], ran: int
) -> None:
    counting = Counting()
    for fingerprint in fingerprints:
        run(
            tmp_path,
            [replace(counting.stage("a"), fingerprint=partial(str.strip, fingerprint) if fingerprint else nothing)],
        )
    assert counting.ran == ["a"] * ran


def key(stage: Stage, at: Execution) -> str:
    return stage_key(stage, {}, at)


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Stage, Execution]:
    """A stage and its context, on a machine that has one of the two units that decide bfloat16 results."""
    monkeypatch.setattr(engine, "cpu_flags", lambda: frozenset({"avx2", "avx512_bf16"}))
    monkeypatch.setattr(engine, "versions", lambda: {"torch": "2.13.0", "numpy": "2.3.1"})
    return Stage(id="a", function=lambda work: {}, settings={"x": 1}, data=("test",)), context(tmp_path)


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("get_num_threads", lambda: torch_threads() + 1),
        ("versions", lambda: {"torch": "2.13.1", "numpy": "2.3.1"}),
        ("versions", lambda: {"torch": "2.13.0", "numpy": "2.3.2"}),
        ("cpu_flags", lambda: frozenset({"avx2", "avx512_bf16", "amx_bf16"})),
        ("cpu_flags", lambda: frozenset({"avx2"})),
        ("results_digest", lambda: "other code"),
    ],
    ids=["threads", "torch", "numpy", "more units", "fewer units", "code"],
)
def test_what_surrounds_a_stage_is_in_its_key(
    plain: tuple[Stage, Execution], monkeypatch: pytest.MonkeyPatch, what: str, value: Any
) -> None:
    before = key(*plain)
    monkeypatch.setattr(torch if what == "get_num_threads" else engine, what, value)
    assert key(*plain) != before


def test_what_a_stage_is_made_of_is_in_its_key(plain: tuple[Stage, Execution]) -> None:
    stage, at = plain
    others = [
        (replace(stage, id="b"), at),
        (replace(stage, settings={"x": 2}), at),
        (replace(stage, settings={}), at),
        (replace(stage, data=("train",)), at),
        (replace(stage, fingerprint=lambda: "x"), at),
        (stage, replace(at, precision="float32")),
        (stage, replace(at, device="cuda", device_name="a GPU")),
        (stage, replace(at, device="cuda", device_name="another GPU")),
        (stage, replace(at, data_digest=lambda role: "other")),
    ]
    keys = [key(*plain), *(key(*other) for other in others)]
    assert len(set(keys)) == len(keys)
    assert set(keys) == {key(*plain), *(key(*other) for other in others)}  # the same again


def test_what_decides_nothing_is_not_in_a_key(
    plain: tuple[Stage, Execution], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, at = plain
    before = key(stage, at)
    monkeypatch.setattr(engine, "cpu_flags", lambda: frozenset({"avx512_bf16", "sse4_2"}))
    assert key(replace(stage, cost_seconds=9.0), replace(at, deadline=time.monotonic() + 9)) == before
    assert key(stage, replace(at, store=Store(tmp_path / "other", ignore_event, SEAL))) == before


@pytest.mark.parametrize(("cost", "ran"), [(900.0, True), (1100.0, False), (0.0, True)])
def test_a_stage_starts_only_where_its_cost_fits_before_the_deadline(tmp_path: Path, cost: float, ran: bool) -> None:
    counting = Counting()
    stage = replace(counting.stage("a"), cost_seconds=cost)
    progress = run(tmp_path, [stage, counting.stage("b")], deadline=time.monotonic() + 1000)
    assert counting.ran == (["a", "b"] if ran else ["b"])
    assert list(progress.skipped) == ([] if ran else ["a"])
    assert run(tmp_path, [stage], deadline=time.monotonic() - 1).reused == (["a"] if ran else [])


def test_a_failure_keeps_what_was_finished(tmp_path: Path) -> None:
    counting = Counting()

    def fail(work: Work) -> Outputs:
        raise UsageError("no")

    progress = Finished()
    with pytest.raises(UsageError):
        execute([counting.stage("a"), Stage(id="b", function=fail)], context(tmp_path), progress)
    assert list(progress.records) == ["a"]
    run(tmp_path, [counting.stage("a")])
    assert counting.ran == ["a"]


def test_a_stage_that_finds_out_that_time_is_short_is_skipped_and_leaves_nothing(tmp_path: Path) -> None:
    counting = Counting()

    def short(work: Work) -> Outputs:
        raise TimeShortError("too little")

    plan = [Stage(id="a", function=short), counting.stage("b", ("a",)), counting.stage("c")]
    progress = run(tmp_path, plan)
    assert (list(progress.records), list(progress.skipped)) == (["c"], ["a", "b"])
    again = run(tmp_path, [counting.stage("a"), *plan[1:]])
    assert (counting.ran, again.skipped) == (["c", "a", "b"], {})


def test_past_the_deadline_nothing_starts_and_what_depends_is_skipped(tmp_path: Path) -> None:
    counting = Counting()
    run(tmp_path, [counting.stage("a")])
    plan = [counting.stage("a"), counting.stage("b", ("a",)), counting.stage("c", ("b",))]
    progress = run(tmp_path, plan, deadline=time.monotonic() - 1)
    assert counting.ran == ["a"]
    assert progress.reused == ["a"]
    assert list(progress.skipped) == ["b", "c"]


def test_the_watcher_hears_start_progress_and_end(tmp_path: Path) -> None:
    heard: list[Notice] = []

    def function(work: Work) -> Outputs:
        work.progress(1, 2)
        return {"out": b""}

    at = context(tmp_path)
    at = Execution(**{name: getattr(at, name) for name in at.__slots__} | {"watcher": heard.append})
    execute([Stage(id="a", function=function, cost_seconds=5)], at, Finished())
    assert [notice.kind for notice in heard] == ["start", "progress", "end"]
    assert (heard[1].done, heard[1].total) == (1, 2)


@pytest.mark.parametrize("name", ["", "objects", "stages", "partial"])
def test_a_store_with_a_link_in_it_is_refused_and_nothing_is_written_through(tmp_path: Path, name: str) -> None:
    victim, folder = tmp_path / "victim", tmp_path / ".store"
    victim.mkdir()
    if name:
        folder.mkdir()
    (folder / name if name else folder).symlink_to(victim)
    with pytest.raises(FileKindError):
        Store(folder, ignore_event, SEAL)
    assert list(victim.iterdir()) == []


def test_a_blob_is_not_written_through_a_link(tmp_path: Path) -> None:
    store, victim = Store(tmp_path / ".store", ignore_event, SEAL), tmp_path / "victim"
    victim.mkdir()
    digest = hashlib.sha256(b"x").hexdigest()
    (tmp_path / ".store" / "objects" / digest[:2]).symlink_to(victim)
    with pytest.raises(FileKindError):
        store.put("stage", "0" * 64, {"a": b"x"}, 0.0)
    assert list(victim.iterdir()) == []


OTHER = Seal(b"x" * 32)


def tamper(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Rewrite the only record; blobs are added under their right digest, as someone who knows the format would."""
    path = next((folder / "stages").glob("*.json"))
    record = json.loads(path.read_bytes())
    change(record)
    path.chmod(0o644)
    path.write_bytes(canonical_json(record).encode())


def put_false_output(folder: Path) -> None:
    digest = hashlib.sha256(b"false").hexdigest()
    (folder / "objects" / digest[:2]).mkdir(exist_ok=True)
    (folder / "objects" / digest[:2] / digest).write_bytes(b"false")
    tamper(folder, lambda record: record["outputs"].update(out=digest))


def move_record(folder: Path) -> None:
    """A record of the user's own, under the key of another stage."""
    other = Counting()
    run(folder, [other.stage("b", settings={"x": "false"})])
    mine, moved = (
        next(path for path in (folder / "stages").glob("*.json") if json.loads(path.read_bytes())["stage"] == stage)
        for stage in ("a", "b")
    )
    mine.unlink()
    moved.rename(mine)


@pytest.mark.parametrize(
    "change",
    [
        put_false_output,
        move_record,
        lambda folder: tamper(folder, lambda record: record.pop("tag")),  # as written before there were tags
        lambda folder: tamper(folder, lambda record: record.update(tag="")),
        lambda folder: tamper(folder, lambda record: record.update(tag=None)),
        lambda folder: tamper(folder, lambda record: record.update(tag="\u00e9" * 64)),
        lambda folder: tamper(folder, lambda record: record.update(seconds=2.0)),
        lambda folder: tamper(folder, lambda record: record.update(stage="b")),
    ],
    ids=["output", "moved", "old", "empty", "null", "no ascii", "seconds", "stage"],
)
def test_a_changed_record_is_foreign_and_its_stage_runs_again(tmp_path: Path, change: Callable[[Path], None]) -> None:
    counting, seen = Counting(), []
    run(tmp_path, [counting.stage("a")])
    change(tmp_path)
    progress = run(tmp_path, [counting.stage("a")], events=lambda kind, data: seen.append(kind))
    assert counting.ran == ["a", "a"]
    assert (progress.foreign, progress.reused) == (["a"], [])
    assert "store_foreign" in seen
    assert progress.outputs(Store(tmp_path, ignore_event, SEAL), "a") == {"out": b"a"}
    again = run(tmp_path, [counting.stage("a")])  # what was done again is the user's own
    assert (again.foreign, again.reused) == ([], ["a"])


@pytest.mark.parametrize(("second", "reused"), [(SEAL, ["a"]), (OTHER, []), (Seal(None), [])])
def test_only_the_key_that_sealed_a_store_opens_it(tmp_path: Path, second: Seal, reused: list[str]) -> None:
    counting = Counting()
    run(tmp_path, [counting.stage("a")])
    progress = run(tmp_path, [counting.stage("a")], seal=second)
    assert progress.reused == reused
    assert progress.foreign == ([] if reused else ["a"])


def test_without_a_key_nothing_is_reused_and_everything_runs(tmp_path: Path) -> None:
    counting = Counting()
    for _ in range(2):
        progress = run(tmp_path, [counting.stage("a"), counting.stage("b", ("a",))], seal=Seal(None))
        assert progress.outputs(Store(tmp_path, ignore_event, Seal(None)), "b") == {"out": b"ba"}
    assert counting.ran == ["a", "b", "a", "b"]


def test_state_to_resume_from_is_sealed_for_one_stage(tmp_path: Path) -> None:
    store = Store(tmp_path, ignore_event, SEAL)
    store.partial("1" * 64).write(b"state")
    assert store.partial("1" * 64).read(10) == b"state"
    (tmp_path / "partial" / ("1" * 64)).rename(tmp_path / "partial" / ("2" * 64))
    assert store.partial("2" * 64).read(10) is None


@pytest.mark.parametrize("name", ["objects", "stages", "partial"])
def test_a_link_in_the_store_is_refused_and_without_it_the_run_goes_on(name: str, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "store" / name).symlink_to(tmp_path / "elsewhere")
    count = Counting()
    with pytest.raises(FileKindError) as caught:
        run(tmp_path / "store", [count.stage("a")])
    assert caught.value.hint.startswith("remove it")
    (tmp_path / "store" / name).unlink()  # as told
    run(tmp_path / "store", [count.stage("a")])
    assert count.ran == ["a"]
