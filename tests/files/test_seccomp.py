"""The seccomp filter, judged by a small interpreter of classic BPF: for both processors, without installing it."""

from __future__ import annotations

import errno

import pytest

from secure_ai.files.sandbox.seccomp import ARCHITECTURES, REFUSED, Instruction, program

PID, OTHER = 4321, 4322
ALLOWED, THREAD = 0, 0x10000
X86_64, AARCH64, I386 = 0xC000003E, 0xC00000B7, 0x40000003

# Written down from the kernel's own headers, apart from the table that is tested.
KNOWN_REFUSED = {
    "x86_64": {"execve": 59, "fork": 57, "vfork": 58, "socket": 41, "ptrace": 101, "bpf": 321, "io_uring_setup": 425},
    "aarch64": {"execve": 221, "socket": 198, "ptrace": 117, "bpf": 280, "io_uring_setup": 425, "mount": 40},
}
KNOWN_ALLOWED = {
    "x86_64": {"read": 0, "write": 1, "mmap": 9, "openat": 257, "futex": 202, "exit_group": 231, "getrandom": 318},
    "aarch64": {"read": 63, "write": 64, "mmap": 222, "openat": 56, "futex": 98, "exit_group": 94, "getrandom": 278},
}
SPECIAL = {
    "x86_64": {"clone": 56, "clone3": 435, "kill": 62, "tgkill": 234, "prlimit64": 302},
    "aarch64": {"clone": 220, "clone3": 435, "kill": 129, "tgkill": 131, "prlimit64": 261},
}
MACHINES = sorted(ARCHITECTURES)


def verdict(lines: list[Instruction], arch: int, number: int, argument: int = 0) -> int:
    """What the filter answers to a call: 0 where it is allowed, else the error number."""
    data = {0: number, 4: arch, 16: argument & 0xFFFFFFFF, 20: argument >> 32}
    accumulator = position = 0
    while True:
        code, true, false, operand = lines[position]
        position += 1
        if code == 0x20:
            accumulator = data[operand]
        elif code == 0x06:
            assert operand in (0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS)
            return 0 if operand == 0x7FFF0000 else operand & 0xFFFF
        else:
            tests = {0x15: accumulator == operand, 0x35: accumulator >= operand, 0x45: bool(accumulator & operand)}
            position += true if tests[code] else false


def ask(machine: str, number: int, argument: int = 0) -> int:
    return verdict(program(machine, PID), {"x86_64": X86_64, "aarch64": AARCH64}[machine], number, argument)


@pytest.mark.parametrize("machine", MACHINES)
def test_every_call_of_the_table_is_refused_and_ordinary_ones_are_not(machine: str) -> None:
    column = ARCHITECTURES[machine][0]
    numbers = {name: both[column] for name, both in REFUSED.items()}
    assert {name: ask(machine, n) for name, n in numbers.items() if n is not None} == {
        name: errno.EPERM for name, n in numbers.items() if n is not None
    }
    assert KNOWN_REFUSED[machine].items() <= numbers.items()
    assert [name for name, n in KNOWN_ALLOWED[machine].items() if ask(machine, n) != ALLOWED] == []
    given = [n for n in numbers.values() if n is not None]
    assert len(given) == len(set(given)), "two names share a number"
    assert not set(given) & set(SPECIAL[machine].values())


@pytest.mark.parametrize("machine", MACHINES)
def test_threads_may_be_made_and_processes_may_not(machine: str) -> None:
    calls = SPECIAL[machine]
    assert ask(machine, calls["clone"], THREAD | 0x3D0F00) == ALLOWED
    assert ask(machine, calls["clone"], 17) == errno.EPERM
    assert ask(machine, calls["clone"], THREAD << 32) == errno.EPERM
    assert ask(machine, calls["clone3"], THREAD) == errno.ENOSYS, "so that the C library asks with clone"


@pytest.mark.parametrize("machine", MACHINES)
def test_a_process_may_signal_and_limit_itself_only(machine: str) -> None:
    calls = SPECIAL[machine]
    for name in ("kill", "tgkill"):
        answers = [ask(machine, calls[name], target) for target in (PID, OTHER, 0, 2**32 - 1)]
        assert answers == [ALLOWED, errno.EPERM, errno.EPERM, errno.EPERM]
    assert [ask(machine, calls["prlimit64"], target) for target in (0, OTHER)] == [ALLOWED, errno.EPERM]


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_of_another_kind_are_refused(machine: str) -> None:
    read = KNOWN_ALLOWED[machine]["read"]
    assert verdict(program(machine, PID), I386, read) == errno.EPERM
    assert ask(machine, 0x40000000 | read) == errno.EPERM, "x32"


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_fits_the_kernel(machine: str) -> None:
    lines = program(machine, PID)
    assert len(lines) <= 4096
    jumps = [(index, true, false) for index, (code, true, false, _) in enumerate(lines) if code not in (0x20, 0x06)]
    assert max(index + 1 + max(true, false) for index, true, false in jumps) < len(lines)
    assert lines[-1][0] == 0x06
