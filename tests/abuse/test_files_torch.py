"""Bad input D058-D064: torch files and pickles, each refused with its code; and the clean ones accepted."""

from __future__ import annotations

import builtins
import collections
import io
import pickle
import random
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from secure_ai.core.errors import PickleRefusedError
from secure_ai.files.open import FileBytes
from secure_ai.files.pickles import MAX_VIOLATIONS, judge_state_dict_pickle, scan
from secure_ai.files.torch_state import read_torch_state
from secure_ai.files.torch_zip import judge_torch_zip

OPEN, CLOSE = b"\x80\x02", b"."


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def saved(value: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def members_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


STATE = {"w": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(2)}
CLEAN = saved(STATE)
MEMBERS = members_of(CLEAN)


def changed(**parts: bytes | None) -> bytes:
    """The clean file with members replaced; `data_0` means `archive/data/0`, None takes the member away."""
    names = {key: "archive/" + key.replace("data_", "data/").replace("data/pkl", "data.pkl") for key in parts}
    members = MEMBERS | {names[key]: value for key, value in parts.items() if value is not None}
    gone = {names[key] for key, value in parts.items() if value is None}
    return zipped({name: content for name, content in members.items() if name not in gone})


def text(value: str) -> bytes:
    return b"X" + struct.pack("<L", len(value.encode())) + value.encode()


def name(module: str, attribute: str) -> bytes:
    return b"c" + f"{module}\n{attribute}\n".encode()


def stack_name(module: str, attribute: str) -> bytes:
    return text(module) + text(attribute) + b"\x93"


STORAGE = b"(" + text("storage") + name("torch", "FloatStorage") + text("0") + text("cpu") + b"K\x06tQ"
HOOKS = name("collections", "OrderedDict") + b")R"


def tensor(
    offset: bytes = b"K\0", shape: bytes = b"K\2K\3\x86", stride: bytes = b"K\3K\1\x86", hooks: bytes = HOOKS
) -> bytes:
    return (
        name("torch._utils", "_rebuild_tensor_v2") + b"(" + STORAGE + offset + shape + stride + b"\x89" + hooks + b"tR"
    )


def state(*values: bytes, key: bytes = text("w")) -> bytes:
    return OPEN + b"}" + b"".join(key + value + b"s" for value in values) + CLOSE


@pytest.mark.parametrize("written", [name, stack_name])
def test_a_dot_in_a_name_is_refused_though_the_whole_is_a_known_global(written: Any) -> None:
    """Python would fetch an attribute of an attribute: `torch` `_utils._rebuild_tensor_v2`."""
    known, dotted = ("torch._utils", "_rebuild_tensor_v2"), ("torch", "_utils._rebuild_tensor_v2")
    sound = state(tensor())
    assert scan(sound.replace(name(*known), written(*known))) == ()
    with pytest.raises(PickleRefusedError) as caught:
        judge_state_dict_pickle(sound.replace(name(*known), written(*dotted)), where="data.pkl")
    assert caught.value.got == "torch._utils._rebuild_tensor_v2"


class Canary:
    def __reduce__(self) -> Any:
        return (builtins.open, ("canary.txt", "w"))


def test_the_pickle_that_the_rows_are_made_from_is_accepted() -> None:
    judged = judge_state_dict_pickle(state(tensor()), where="data.pkl")
    assert judged.tensors["w"].shape == (2, 3)
    assert judged.storages["0"].count == 6


def test_the_file_that_the_rows_are_made_from_is_accepted() -> None:
    for content in (CLEAN, changed(), zipped(MEMBERS)):
        assert judge_torch_zip(FileBytes("m.pt", content))[0].tensors.keys() == {"w", "b"}


DANGEROUS = [
    *["builtins.eval", "os.system", "subprocess.Popen", "builtins.__import__", "numpy.f2py.crackfortran.getlincoef"],
    *["ctypes.CDLL", "urllib.request.urlopen", "importlib.import_module", "marshal.loads", "zipimport.zipimporter"],
    *["sqlite3.connect", "smtplib.SMTP", "code.InteractiveInterpreter", "multiprocessing.util.spawnv_passfds"],
    *["types.FunctionType", "tempfile.mkstemp", "mypkg_abc.func", "torch.storage._load_from_bytes", "torch.load"],
    *["torch.jit._script.unpackage_script_module", "torch._utils._rebuild_tensor", "operator.attrgetter"],
    *["pickle.loads", "_pickle.loads", "functools.partial", "numpy.core.multiarray._reconstruct", "posix.system"],
]


@pytest.mark.parametrize("style", [name, stack_name], ids=["GLOBAL", "STACK_GLOBAL"])
@pytest.mark.parametrize("full", DANGEROUS, ids=[f"D063-{full}" for full in DANGEROUS])
def test_d063_every_other_global_is_refused_and_named(
    refused: Callable[..., Any], style: Callable[[str, str], bytes], full: str
) -> None:
    module, _, attribute = full.rpartition(".")
    content = OPEN + style(module, attribute) + b")R" + CLOSE
    error = refused("E_PICKLE", lambda: judge_state_dict_pickle(content, where="data.pkl"))
    assert error.got == full
    assert "byte" in error.where


LAUGHS = (
    OPEN + b"]q\0" + b"".join(b"](" + (b"h" + bytes([i])) * 10 + b"eq" + bytes([i + 1]) for i in range(250)) + CLOSE
)
SWAPPED = b"(" + text("storage") + name("torch", "DoubleStorage") + text("0") + text("cpu") + b"K\x06tQ"
PICKLE_ROWS: dict[str, bytes] = {
    "D058-empty": b"",
    "D058-garbage": b"\x00\x01\x02garbage",
    "D058-reduce": pickle.dumps({"w": Canary()}, 2),
    "D058-reduce-protocol-0": pickle.dumps({"w": Canary()}, 0),
    "D058-reduce-protocol-5": pickle.dumps({"w": Canary()}, 5),
    "D058-plain-values": pickle.dumps({"w": [1.0, 2.0]}, 2),
    "D058-not-a-dict": pickle.dumps([1], 2),
    "D058-only-a-dict": state(),
    "D059-offset-beyond": state(tensor(offset=b"K\1")),
    "D059-shape-beyond": state(tensor(shape=b"K\3K\3\x86")),
    "D059-stride-beyond": state(tensor(stride=b"K\4K\1\x86")),
    "D059-negative-offset": state(tensor(offset=b"J\xff\xff\xff\xff")),
    "D059-negative-stride": state(tensor(stride=b"J\xfd\xff\xff\xffK\1\x86")),
    "D059-huge-shape": state(tensor(shape=b"\x8a\x09" + b"\xff" * 8 + b"\0" + b"K\1\x86")),
    "D059-shape-of-floats": state(tensor(shape=b"G" + bytes(8) + b"K\3\x86")),
    "D059-shape-and-stride-differ": state(tensor(stride=b"K\1\x85")),
    "D061-key-is-a-number": state(tensor(), key=b"K\1"),
    "D061-key-is-a-tuple": state(tensor(), key=b")"),
    "D061-key-twice": state(tensor(), tensor()),
    "D061-key-with-slash": state(tensor(), key=text("../w")),
    "D063-dotted-name": OPEN + name("torch", "_utils._rebuild_tensor_v2") + CLOSE,
    "D063-dotted-stack-name": OPEN + stack_name("collections", "OrderedDict.fromkeys") + CLOSE,
    "D063-escaped-name": OPEN + b"ccollections\nOrdered\\x44ict\n)R" + CLOSE,
    "D063-stack-global-of-numbers": OPEN + b"K\1K\2\x93" + CLOSE,
    "D063-stack-global-of-globals": OPEN + name("collections", "OrderedDict") + text("x") + b"\x93" + CLOSE,
    "D063-stack-global-from-memo": OPEN + text("os") + b"q\0" + text("system") + b"q\1h\0h\1\x93" + CLOSE,
    "D063-memo-overwritten": OPEN + text("os") + b"q\0" + text("collections") + b"q\0h\0" + CLOSE,
    "D063-memo-ahead": OPEN + b"N" + b"q\7" + CLOSE,
    "D063-memo-missing": OPEN + b"h\0" + CLOSE,
    "D063-build-on-ordered-dict": OPEN + HOOKS + b"}" + text("__class__") + b"Nsb" + CLOSE,
    "D063-build-on-tensor": state(tensor() + b"}b"),
    "D063-reduce-of-a-tensor": OPEN + tensor() + b")R" + CLOSE,
    "D063-reduce-of-text": OPEN + text("os.system") + b")R" + CLOSE,
    "D063-reduce-of-a-storage-class": OPEN + name("torch", "FloatStorage") + b")R" + CLOSE,
    "D063-hooks": state(tensor(hooks=HOOKS + text("k") + b"Ns")),
    "D063-ordered-dict-of-pairs": OPEN + name("collections", "OrderedDict") + b"]\x85R" + CLOSE,
    "D063-inst": OPEN + b"(ios\nsystem\n" + CLOSE,
    "D063-obj": OPEN + b"(" + name("os", "system") + b"o" + CLOSE,
    "D063-newobj": OPEN + name("collections", "OrderedDict") + b")\x81" + CLOSE,
    "D063-extension": OPEN + b"\x82\x01" + CLOSE,
    "D063-frame": b"\x80\x04\x95\xff\0\0\0\0\0\0\0" + name("os", "system") + CLOSE,
    "D063-no-stop": state(tensor())[:-1],
    "D063-behind-stop": state(tensor()) + name("os", "system") + CLOSE,
    "D063-second-proto": OPEN + OPEN + b"}" + CLOSE,
    "D063-no-proto": state(tensor())[2:],
    "D063-protocol-9": b"\x80\x09" + state(tensor())[2:],
    "D063-left-on-stack": OPEN + b"N" + state(tensor())[2:],
    "D063-stack-underflow": OPEN + b"s" + CLOSE,
    "D063-no-mark": OPEN + b"u" + CLOSE,
    "D063-pop-through-mark": OPEN + b"}(s" + CLOSE,
    "D063-cut-argument": OPEN + b"X\xff\0\0\0ab",
    "D063-cut-name": OPEN + b"cos\nsystem",
    "D063-text-not-utf8": OPEN + b"X\2\0\0\0\xff\xfe" + CLOSE,
    "D063-odd-items": OPEN + b"}(" + text("w") + b"u" + CLOSE,
    "D064-pickle-in-pickle": OPEN + name("pickle", "loads") + b"C" + bytes([len(OPEN)]) + OPEN + b"\x85R" + CLOSE,
    "D064-bytes": OPEN + b"C\2\x80\2" + CLOSE,
    "D064-persistent-id-is-text": OPEN + text("0") + b"Q" + CLOSE,
    "D064-persistent-id-names-a-file": OPEN + b"(" + text("file") + text("/etc/passwd") + b"tQ" + CLOSE,
    "D064-storage-key-is-a-path": OPEN + STORAGE.replace(text("0"), text("../0")) + CLOSE,
    "D064-storage-of-two-types": OPEN + STORAGE + SWAPPED + b"\x86" + CLOSE,
    "D064-storage-class-is-no-storage": OPEN
    + STORAGE.replace(b"ctorch\nFloatStorage", b"ccollections\nOrderedDict")
    + CLOSE,
    "D064-storage-negative": OPEN + STORAGE.replace(b"K\x06", b"J\xff\xff\xff\xff") + CLOSE,
    "D064-old-persistent-id": OPEN + b"P0\n" + CLOSE,
    "D064-10^7-memoize": b"\x80\x04N" + b"\x94" * 10_000_000 + CLOSE,
    "D064-billion-laughs": LAUGHS,
    "D064-deep": OPEN + b")" + b"\x85" * 190_000 + CLOSE,
    "D064-dict-in-itself": OPEN + b"}q\0" + text("w") + b"h\0s" + CLOSE,
    "D064-17-MB": OPEN + b"X" + struct.pack("<L", 17_000_000) + bytes(17_000_000) + CLOSE,
}


@pytest.mark.parametrize("content", PICKLE_ROWS.values(), ids=PICKLE_ROWS.keys())
def test_bad_pickle_is_refused(refused: Callable[..., Any], content: bytes) -> None:
    error = refused("E_PICKLE", lambda: judge_state_dict_pickle(content, where="data.pkl"))
    assert "data.pkl" in error.where


def test_d063_a_refusal_names_the_byte() -> None:
    content = OPEN + b"}" + text("w") + name("os", "system") + b")Rs" + CLOSE
    with pytest.raises(Exception, match=f"byte {content.index(b'cos')};"):
        judge_state_dict_pickle(content, where="data.pkl")


def script() -> bytes:
    return zipped({**MEMBERS, "archive/code/__torch__.py": b"pass", "archive/constants.pkl": b"\x80\x02)."})


def tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        info = tarfile.TarInfo("storages")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"\x80\x02)."))
    return stream.getvalue()


PKL = MEMBERS["archive/data.pkl"]
FILE_ROWS: dict[str, tuple[str, bytes]] = {
    "D058-empty": ("E_FORMAT", b""),
    "D058-garbage": ("E_FORMAT", b"garbage" * 10),
    "D058-plain-pickle": ("E_PICKLE", pickle.dumps({"w": Canary()})),
    "D058-protocol-0": ("E_PICKLE", pickle.dumps(Canary(), 0)),
    "D058-reduce": ("E_PICKLE", saved({"w": Canary()})),
    "D058-full-module": ("E_PICKLE", saved(torch.nn.Linear(2, 3))),
    "D058-optimizer-only": ("E_PICKLE", saved(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1).state_dict())),
    "D058-two-state-dicts": ("E_PICKLE", saved({"state_dict": STATE, "model": STATE})),
    "D058-nested-twice": ("E_PICKLE", saved({"a": {"b": STATE}})),
    "D058-complex": ("E_PICKLE", saved({"w": torch.zeros(2, dtype=torch.complex64)})),
    "D058-other-protocol": ("E_PICKLE", saved(STATE, pickle_protocol=4)),
    "D059-storage-short": ("E_PICKLE", changed(data_0=bytes(20))),
    "D059-storage-long": ("E_PICKLE", changed(data_0=bytes(28))),
    "D059-storage-missing": ("E_PICKLE", changed(data_1=None)),
    "D059-storage-too-many": ("E_PICKLE", changed(data_2=bytes(8))),
    "D059-deflated-bomb": ("E_ZIP", zipped({**MEMBERS, "archive/data/0": bytes(30_000_000)}, zipfile.ZIP_DEFLATED)),
    "D059-deflated": ("E_ZIP", zipped(MEMBERS, zipfile.ZIP_DEFLATED)),
    "D059-expanded": ("E_SIZE_LIMIT", saved({"w": torch.zeros(1).expand(100_000_000)})),
    "D060-no-pickle": ("E_PICKLE", changed(data_pkl=None)),
    "D060-parent-member": ("E_ZIP", zipped({**MEMBERS, "../../x": b""})),
    "D060-unknown-member": ("E_FORMAT", zipped({**MEMBERS, "archive/evil.py": b""})),
    "D060-two-folders": ("E_FORMAT", zipped({**MEMBERS, "other/data/0": b""})),
    "D060-no-folder": ("E_FORMAT", zipped({"data.pkl": PKL, "version": b"3\n"})),
    "D060-truncated": ("E_ZIP", CLEAN[:-100]),
    "D060-cut-in-front": ("E_FORMAT", CLEAN[100:]),
    "D060-big-endian": ("E_FORMAT", changed(byteorder=b"big")),
    "D060-version-99": ("E_FORMAT", changed(version=b"99\n")),
    "D060-pickle-twice": ("E_ZIP", zipped({**MEMBERS, "archive/data.pkk": PKL}).replace(b"data.pkk", b"data.pkl")),
    "D060-pickle-twice-but-for-case": ("E_ZIP", zipped({**MEMBERS, "archive/DATA.PKL": PKL})),
    "D061-number-as-key": ("E_PICKLE", saved({1: torch.zeros(1)})),
    "D061-nan": ("E_NONFINITE", saved({"w": torch.tensor([float("nan")])})),
    "D061-inf": ("E_NONFINITE", saved({"w": torch.tensor([float("inf")], dtype=torch.float64)})),
    "D061-bfloat16-nan": ("E_NONFINITE", saved({"w": torch.tensor([float("nan")], dtype=torch.bfloat16)})),
    "D062-torchscript": ("E_FORMAT", script()),
    "D062-exported-program": ("E_FORMAT", zipped({"e/models/model.json": b"{}", "e/archive_format": b"pt2"})),
    "D062-tar": ("E_FORMAT", tar()),
}


@pytest.mark.parametrize(("code", "content"), FILE_ROWS.values(), ids=FILE_ROWS.keys())
def test_bad_torch_file_is_refused(
    refused: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, content: bytes
) -> None:
    monkeypatch.chdir(tmp_path)  # where the canary would appear
    refused(code, lambda: read_torch_state(FileBytes("m.pt", content)))


def test_the_canary_sings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this, `no file appeared` would prove nothing."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Canary())).close()
    assert (tmp_path / "canary.txt").exists()


CLEAN_ROWS: dict[str, Any] = {
    "module": torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2)).state_dict(),
    "parameters": dict(torch.nn.Linear(2, 3).named_parameters()),
    "ordered-dict": collections.OrderedDict(STATE),
    "every-type": {
        f"t{i}": torch.ones(2, dtype=dtype)
        for i, dtype in enumerate(
            (
                torch.float64,
                torch.float16,
                torch.bfloat16,
                torch.int32,
                torch.int16,
                torch.int8,
                torch.uint8,
                torch.bool,
            )
        )
    },
    "view-of-a-storage": {"w": torch.arange(12.0).reshape(3, 4).t()[1:]},
    "tied": {"a": STATE["w"], "b": STATE["w"]},
    "checkpoint": {
        "model": STATE,
        "epoch": 3,
        "lr": 0.1,
        "note": "x",
        "done": True,
        "history": [1.0, 2.0],
        "none": None,
    },
    "lightning-style": {
        "state_dict": STATE,
        "optimizer": torch.optim.Adam(torch.nn.Linear(2, 2).parameters()).state_dict(),
    },
}


@pytest.mark.parametrize("value", CLEAN_ROWS.values(), ids=CLEAN_ROWS.keys())
def test_what_torch_saves_is_accepted(value: Any) -> None:
    judged, _ = judge_torch_zip(FileBytes("m.pt", saved(value)))
    inner = value.get("model", value.get("state_dict", value))
    assert {name: view.shape for name, view in judged.tensors.items()} == {n: tuple(t.shape) for n, t in inner.items()}


# --- amplification: limits before work, in one pass ------------------------------------------------------------------


def number(value: int) -> bytes:
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def pickle_of(tensors: Mapping[str, tuple[int, int, tuple[int, ...], tuple[int, ...]]]) -> bytes:
    """A state dict; a tensor is (key of its storage, elements there, shape, stride)."""
    parts = [OPEN, b"}"]
    for entry, (key, count, shape, stride) in tensors.items():
        sizes = b"".join(b"(" + b"".join(map(number, part)) + b"t" for part in (shape, stride))
        parts += [text(entry), name("torch._utils", "_rebuild_tensor_v2"), b"(", b"(", text("storage")]
        parts += [name("torch", "FloatStorage"), text(str(key)), text("cpu"), number(count), b"tQ", b"K\0", sizes]
        parts += [b"\x89", HOOKS, b"tRs"]
    return b"".join([*parts, CLOSE])


def file_of(tensors: Mapping[str, tuple[int, int, tuple[int, ...], tuple[int, ...]]]) -> FileBytes:
    storages = {key: count for key, count, _, _ in tensors.values()}
    members = {f"archive/data/{key}": bytes(4 * count) for key, count in storages.items()}
    known = {"archive/version": b"3\n", "archive/byteorder": b"little"}
    return FileBytes("m.pt", zipped({"archive/data.pkl": pickle_of(tensors), **known, **members}))


AMPLIFIED: dict[str, tuple[str, Mapping[str, tuple[int, int, tuple[int, ...], tuple[int, ...]]]]] = {
    "stride-0": ("E_SIZE_LIMIT", {"w": (0, 2, (3,), (0,))}),
    "windows": ("E_SIZE_LIMIT", {"w": (0, 1000, (500, 500), (1, 1))}),
    "one-storage-1000-times": ("E_SIZE_LIMIT", {f"w{i}": (0, 50_000, (50_000,), (1,)) for i in range(1000)}),
    "shape-beyond-63-bits": ("E_PICKLE", {"w": (0, 2, (0, 1 << 47, 1 << 47), (0, 0, 0))}),
    "4097-tensors": ("E_PICKLE", {f"w{i}": (0, 1, (1,), (1,)) for i in range(4097)}),
    "4096-storages-one-of-them-short": ("E_PICKLE", {f"w{i}": (i, 1, (1 + (i == 4095),), (1,)) for i in range(4096)}),
}


@pytest.mark.parametrize(("code", "tensors"), AMPLIFIED.values(), ids=AMPLIFIED.keys())
def test_what_makes_much_out_of_little_is_refused(refused: Callable[..., Any], code: str, tensors: Any) -> None:
    file = file_of(tensors)
    started = time.process_time()
    refused(code, lambda: read_torch_state(file))
    assert time.process_time() - started < 3


def test_4096_tensors_of_4096_storages_are_read_in_one_pass() -> None:
    file = file_of({f"w{i}": (i, 2, (2,), (1,)) for i in range(4096)})
    started = time.process_time()
    assert len(read_torch_state(file)) == 4096
    assert time.process_time() - started < 3


# --- a scan lists everything, a loader refuses on the first -----------------------------------------------------------


def test_a_scan_of_a_sound_pickle_finds_nothing() -> None:
    assert scan(PKL) == ()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (
            state(name("os", "system") + text("x") + b"\x85R", name("builtins", "eval") + b")R"),
            [("global", "os.system"), ("call", "os.system"), ("global", "builtins.eval"), ("call", "builtins.eval"),
             ("key", "w")],
        ),
        (OPEN + b"(" + name("os", "system") + b"o0" + name("posix", "system") + b")\x81" + CLOSE,
         [("global", "os.system"), ("opcode", "OBJ"), ("opcode", "POP"), ("global", "posix.system"),
          ("opcode", "NEWOBJ")]),
        (state(tensor(offset=b"K\1")) + b"junk", [("tensor", "element 6"), ("cut", "b'junk'")]),
        (OPEN + b"}(" + text("a") + b"N" + text("../b") + b"Nu" + CLOSE, [("state-dict", "NoneType")] * 2),
        (b"cos\nsystem\n(S'x'\ntR.",
         [("opcode", "GLOBAL"), ("global", "os.system"), ("opcode", "STRING"), ("call", "os.system")]),
    ],
    ids=["calls", "opcodes", "tail", "entries", "protocol-0"],
)  # fmt: skip
def test_a_scan_lists_every_violation_and_the_loader_names_the_first(
    content: bytes, found: list[tuple[str, str]]
) -> None:
    violations = scan(content)
    assert [(violation.rule, violation.got) for violation in violations] == found
    with pytest.raises(PickleRefusedError) as caught:
        judge_state_dict_pickle(content, where="data.pkl")
    first = violations[0]
    assert (caught.value.message, caught.value.expected, caught.value.got) == (first.what, first.expected, first.got)
    assert caught.value.where == f"data.pkl {first.place}"


def test_a_scan_of_many_violations_ends() -> None:
    assert len(scan(OPEN + name("os", "system") * 5000 + CLOSE)) == MAX_VIOLATIONS


@pytest.mark.parametrize("content", PICKLE_ROWS.values(), ids=PICKLE_ROWS.keys())
def test_a_scan_finds_what_the_loader_refuses(content: bytes) -> None:
    assert scan(content)


def test_a_scan_survives_random_changes() -> None:
    chance = random.Random(0)
    for _ in range(2000):
        content = bytearray(PKL)
        for _ in range(chance.randrange(1, 5)):
            content[chance.randrange(2, len(content))] = chance.randrange(256)
        violations = scan(bytes(content))
        try:
            judge_state_dict_pickle(bytes(content), where="data.pkl")
        except PickleRefusedError:
            assert violations
        else:
            assert not violations
