"""seccomp: which system calls this process may make from now on. Source: seccomp(2), linux/filter.h.

A list of what is refused, not of what is allowed: what torch, NumPy and HDF5 need differs by version, and Landlock,
which denies all files by default, stands behind it. A refused call fails with EPERM and ends nothing.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator, Mapping

from secure_ai.files.sandbox.linux import PR_GET_SECCOMP, buffer, prctl, system_call

# name -> its number on x86_64 and on aarch64; None: it does not exist there.
REFUSED: Mapping[str, tuple[int | None, int | None]] = {
    # sockets of every kind
    "socket": (41, 198), "socketpair": (53, 199), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201),
    "accept": (43, 202), "accept4": (288, 242),
    # other processes: their memory, descriptors and signals
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "process_mrelease": (448, 448), "kcmp": (312, 272), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    # their scheduling and pages
    "setpriority": (141, 140), "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118), "sched_setattr": (314, 274), "ioprio_set": (251, 30), "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # new processes and programs, other namespaces, leaving the group that is killed
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281), "unshare": (272, 97),
    "setns": (308, 268), "setsid": (112, 157), "setpgid": (109, 154),
    # what Landlock does not cover: mode, owner, times and attributes of files
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "lchown": (94, None), "fchown": (93, 55), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "setxattrat": (463, 463), "removexattr": (197, 14), "lremovexattr": (198, 15),
    "fremovexattr": (199, 16), "removexattrat": (466, 466), "truncate": (76, 45),
    # memory and queues shared with other processes
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "msgget": (68, 186), "msgsnd": (69, 189),
    "msgrcv": (70, 188), "msgctl": (71, 187), "semget": (64, 190), "semop": (65, 193), "semtimedop": (220, 192),
    "semctl": (66, 191), "mq_open": (240, 180), "mq_unlink": (241, 181),
    # parts of the kernel with a history of holes
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "memfd_secret": (447, 447),
    "modify_ldt": (154, None), "personality": (135, 92),
    # mounts, and files by handle instead of path
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "open_tree": (428, 428),
    "open_tree_attr": (467, 467), "move_mount": (429, 429), "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262),
    "quotactl": (179, 60), "quotactl_fd": (443, 443),
    # the machine itself
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225),
    "syslog": (103, 116), "acct": (163, 89), "vhangup": (153, 58), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171), "sethostname": (170, 161),
    "setdomainname": (171, 162), "iopl": (172, None), "ioperm": (173, None),
}  # fmt: skip
# name -> numbers as above, and which of its arguments decides
_CLONE, _CLONE3 = (56, 220), (435, 435)
_SIGNALS = {"kill": (62, 129), "tgkill": (234, 131)}
_PRLIMIT = (302, 261)
_SECCOMP = (317, 277)

# machine -> column of the tables above, its AUDIT_ARCH value
ARCHITECTURES: Mapping[str, tuple[int, int]] = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCH, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data; the low half of the argument
_ALLOW, _REFUSE, _UNKNOWN_CALL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
_X32_CALLS = 0x40000000
_CLONE_THREAD = 0x10000
_SET_FILTER, _ALL_THREADS = 1, 1
_FILTERING = 2

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, operand


def program(machine: str, pid: int) -> list[Instruction]:
    """The filter, as classic BPF.

    Args:
        machine: a key of `ARCHITECTURES`.
        pid: of this process: signals to itself (abort) stay allowed.
    """
    column, arch = ARCHITECTURES[machine]
    return [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, arch),
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32_CALLS),
        (_RETURN, 0, 0, _REFUSE),
        *(line for numbers in REFUSED.values() for line in _answer(numbers[column], _REFUSE)),
        *_answer(_CLONE3[column], _UNKNOWN_CALL),  # its flags are out of sight; C libraries then use clone
        *_only_if(_CLONE[column], _ANY_BIT, _CLONE_THREAD),
        *(line for numbers in _SIGNALS.values() for line in _only_if(numbers[column], _EQUAL, pid)),
        *_only_if(_PRLIMIT[column], _EQUAL, 0),
        (_RETURN, 0, 0, _ALLOW),
    ]


def _answer(number: int | None, answer: int) -> Iterator[Instruction]:
    if number is not None:
        yield from ((_EQUAL, 0, 1, number), (_RETURN, 0, 0, answer))


def _only_if(number: int, test: int, value: int) -> Iterator[Instruction]:
    """Allowed if the first argument passes the test, refused otherwise."""
    yield from (
        (_EQUAL, 0, 4, number),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (test, 0, 1, value),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    )


def filter_calls() -> None:
    """Put the filter on every thread of this process, for good. Needs no_new_privs.

    Raises:
        OSError: the kernel has no seccomp filters, or this processor's calls are not in the tables.
    """
    machine = os.uname().machine
    if machine not in ARCHITECTURES or ctypes.sizeof(ctypes.c_void_p) != 8:
        raise OSError(errno.EOPNOTSUPP, f"no table of system calls for {machine}")
    install(program(machine, os.getpid()))


def install(lines: list[Instruction]) -> None:
    """Make `lines` a filter of this process. Raises OSError."""
    column, _ = ARCHITECTURES[os.uname().machine]
    code = buffer(b"".join(struct.pack("=HBBI", *line) for line in lines))
    head = buffer(struct.pack("@HP", len(lines), ctypes.addressof(code)))
    thread = system_call(_SECCOMP[column], _SET_FILTER, _ALL_THREADS, head)
    if thread != 0 or prctl(PR_GET_SECCOMP) != _FILTERING:
        raise OSError(errno.EBUSY, f"thread {thread} cannot be filtered")
