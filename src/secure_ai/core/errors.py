"""Every error a user can meet: one class a code, each with its exit code.

An error says where, what was expected, what was got and what to do. Codes are stable: scripts match on them. The exit
codes are those of the command line (0 done, 1 findings, 2 bad input, 3 inconclusive, 4 verification failed, 70 a bug of
this program: an exception that is no SecureAIError).
"""

from __future__ import annotations

from typing import ClassVar

EXIT_OK = 0
EXIT_FINDINGS = 1
EXIT_BAD_INPUT = 2
EXIT_INCONCLUSIVE = 3
EXIT_VERIFICATION_FAILED = 4
EXIT_BUG = 70  # EX_SOFTWARE of sysexits.h
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

MAX_TEXT_CHARACTERS = 300


def printable(text: object, limit: int = MAX_TEXT_CHARACTERS) -> str:
    """`text` as one line of at most `limit` printable characters; hostile bytes are shown escaped, never sent raw."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))
    return line if len(line) <= limit else line[: limit - 1] + "…"


class SecureAIError(Exception):
    """An error that the user can act on.

    Args:
        message: what is wrong, one sentence.
        where: file, field or offset.
        expected: the rule that was broken.
        got: the offending value.
        hint: what to do about it.
    """

    code: ClassVar[str] = "E_SECURE_AI"
    exit_code: ClassVar[int] = EXIT_BAD_INPUT

    def __init__(
        self, message: str, *, where: object = "", expected: object = "", got: object = "", hint: object = ""
    ) -> None:
        self.message = printable(message)
        self.where = printable(where)
        self.expected = printable(expected)
        self.got = printable(got)
        self.hint = printable(hint)
        super().__init__(self.message)

    def __str__(self) -> str:
        """One line: message, then the parts that are filled in."""
        parts = (("where", self.where), ("expected", self.expected), ("got", self.got), ("hint", self.hint))
        return "; ".join([self.message, *(f"{name}: {value}" for name, value in parts if value)])

    def as_json(self) -> dict[str, str]:
        """The `error` object of `--json`."""
        return {
            "code": self.code,
            "message": self.message,
            "where": self.where,
            "expected": self.expected,
            "got": self.got,
            "hint": self.hint,
        }


# --- usage and configuration (exit 2) ---------------------------------------------------------------------------------


class UsageError(SecureAIError):
    """Options that contradict each other, or a value outside its range."""

    code = "E_USAGE"


class ConfigError(SecureAIError):
    """A recipe or configuration file has a wrong or missing key or value."""

    code = "E_CONFIG"


class BudgetError(SecureAIError):
    """A perturbation budget outside its norm's range."""

    code = "E_BUDGET"


class AttackSettingsError(SecureAIError):
    """An attack that does not exist, or a setting of one that is outside its range."""

    code = "E_ATTACK"


class TriggerError(SecureAIError):
    """A trigger that cannot be parsed or does not fit the image."""

    code = "E_TRIGGER"


class EmptyDenominatorError(SecureAIError):
    """A rate was asked for over no samples."""

    code = "E_EMPTY_DENOMINATOR"


# --- files (exit 2) ---------------------------------------------------------------------------------------------------


class FileMissingError(SecureAIError):
    """A file or folder that was named does not exist."""

    code = "E_FILE_MISSING"


class FileKindError(SecureAIError):
    """Not a regular file: a folder, pipe, device, link or a file with several hard links."""

    code = "E_FILE_KIND"


class FileUnreadableError(SecureAIError):
    """The file exists but this user may not read it."""

    code = "E_FILE_UNREADABLE"


class FileChangedError(SecureAIError):
    """The file changed while it was being read."""

    code = "E_FILE_CHANGED"


class PathEscapeError(SecureAIError):
    """A path that leads out of the folder it must stay in."""

    code = "E_PATH_ESCAPE"


class SizeLimitError(SecureAIError):
    """Input larger than the limit set for it."""

    code = "E_SIZE_LIMIT"


class FormatError(SecureAIError):
    """Content of an unknown or unsupported format."""

    code = "E_FORMAT"


class JsonError(SecureAIError):
    """Malformed, ambiguous or too deep JSON."""

    code = "E_JSON"


class ZipError(SecureAIError):
    """A malformed, ambiguous or bomb-like ZIP archive."""

    code = "E_ZIP"


class GzipError(SecureAIError):
    """A malformed gzip stream, or more than one member."""

    code = "E_GZIP"


class IdxMagicError(SecureAIError):
    """An IDX file's magic number is wrong, or of the other kind (images for labels)."""

    code = "E_IDX_MAGIC"


class IdxShortError(SecureAIError):
    """An IDX file too short for its header."""

    code = "E_IDX_SHORT"


class IdxRankError(SecureAIError):
    """An IDX file with an unsupported number of dimensions."""

    code = "E_IDX_RANK"


class IdxLengthError(SecureAIError):
    """An IDX payload longer or shorter than its header says."""

    code = "E_IDX_LENGTH"


class NpyError(SecureAIError):
    """A malformed NumPy array file."""

    code = "E_NPY"


class NpyObjectError(SecureAIError):
    """A NumPy file whose array holds Python objects (a pickle)."""

    code = "E_NPY_OBJECT"


class NpyTrailError(SecureAIError):
    """Bytes after the end of a NumPy array."""

    code = "E_NPY_TRAIL"


class SafetensorsError(SecureAIError):
    """A safetensors file that breaks a rule of the format or of this reader."""

    code = "E_SAFETENSORS"


class KerasFormatError(SecureAIError):
    """A `.keras` archive that is malformed or holds a layer outside the closed list."""

    code = "E_KERAS"


class PickleRefusedError(SecureAIError):
    """A pickle, or a torch file whose pickle asks for anything but plain tensors."""

    code = "E_PICKLE"


# --- data (exit 2) ----------------------------------------------------------------------------------------------------


class DataKeysError(SecureAIError):
    """An archive without the arrays `x` and `y`, or with others."""

    code = "E_KEYS"


class PairCountError(SecureAIError):
    """Images and labels differ in number."""

    code = "E_PAIR_COUNT"


class EmptyDataError(SecureAIError):
    """No samples."""

    code = "E_EMPTY"


class LabelError(SecureAIError):
    """Labels of a wrong type or outside their range."""

    code = "E_LABEL"


class ShapeError(SecureAIError):
    """An array of an unexpected shape."""

    code = "E_SHAPE"


class PixelRangeError(SecureAIError):
    """Pixels outside [0, 1] (float) or of an unsupported type."""

    code = "E_PIXEL_RANGE"


class NonFiniteError(SecureAIError):
    """NaN or infinity where a finite number is needed."""

    code = "E_NONFINITE"


class ImageError(SecureAIError):
    """An image file that is damaged, animated, transparent or of a kind outside the conversion table."""

    code = "E_IMAGE"


class LeakError(SecureAIError):
    """The same file serves as training and test data."""

    code = "E_LEAK"


# --- models (exit 2) --------------------------------------------------------------------------------------------------


class ArchError(SecureAIError):
    """An architecture that cannot be found, or a factory that raises or returns something else."""

    code = "E_ARCH"


class StateMismatchError(SecureAIError):
    """Weights that do not fit the architecture."""

    code = "E_STATE_MISMATCH"


class TargetError(SecureAIError):
    """A model that cannot be evaluated: wrong output shape, non-finite outputs, changing weights."""

    code = "E_TARGET"


class AttackOutputError(SecureAIError):
    """An attack returned something outside its contract."""

    code = "E_ATTACK_OUTPUT"


# --- the environment (exit 3) -----------------------------------------------------------------------------------------


class EnvironmentFailedError(SecureAIError):
    """The machine failed us: disk full, folder not writable, memory exhausted."""

    code = "E_ENVIRONMENT"
    exit_code = EXIT_INCONCLUSIVE


class ExtraMissingError(SecureAIError):
    """An optional extra that was not installed."""

    code = "E_EXTRA"
    exit_code = EXIT_INCONCLUSIVE


class LockedError(SecureAIError):
    """Another run holds the folder."""

    code = "E_LOCKED"
    exit_code = EXIT_INCONCLUSIVE


class DataUnavailableError(SecureAIError):
    """No source could deliver the data set."""

    code = "E_DATA_UNAVAILABLE"
    exit_code = EXIT_INCONCLUSIVE


class ChildFailedError(SecureAIError):
    """A child process died, timed out or answered out of form."""

    code = "E_CHILD"
    exit_code = EXIT_INCONCLUSIVE


class SandboxError(SecureAIError):
    """A child that this machine cannot confine, where confinement is required."""

    code = "E_SANDBOX"
    exit_code = EXIT_INCONCLUSIVE


class ReplayError(SecureAIError):
    """Something that a run recorded cannot be made again from what it left."""

    code = "E_REPLAY"
    exit_code = EXIT_INCONCLUSIVE


class CostLimitError(SecureAIError):
    """The work asked for exceeds the limit on steps, batch or time."""

    code = "E_COST_LIMIT"
    exit_code = EXIT_INCONCLUSIVE


# --- verification (exit 4) --------------------------------------------------------------------------------------------


class DigestMismatchError(SecureAIError):
    """Bytes whose digest is not the pinned one."""

    code = "E_DIGEST"
    exit_code = EXIT_VERIFICATION_FAILED


class LogError(SecureAIError):
    """An event log whose chain is broken."""

    code = "E_LOG"
    exit_code = EXIT_VERIFICATION_FAILED
