"""Strict ZIP: the directory is read and judged first, then the members that were asked for.

Every byte of the file must belong to exactly one member, to the directory or to the end record, and every local header
must say what the directory says. So two readers cannot see two different archives in one file (CWE-436), and nothing
hides in front, between or behind. A ZIP64 end record (torch writes one always) must repeat the plain one; an archive
that needs ZIP64 is refused: what is read here is far below 4 GiB.

Source: PKWARE APPNOTE.TXT 6.3.10, sections 4.3 and 4.4.
"""

from __future__ import annotations

import stat
import struct
import zlib
from dataclasses import dataclass, replace

from secure_ai.core.errors import ZipError
from secure_ai.files.boundary import refuses_with
from secure_ai.files.open import MIB, FileBytes

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q4sLQL")  # the ZIP64 end record and, behind it, its locator
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_DESCRIPTORS = {16: struct.Struct("<4s3L"), 24: struct.Struct("<4sL2Q")}
_STORED, _DEFLATED = 0, 8
_HAS_DESCRIPTOR, _UTF8 = 0x0008, 0x0800
_ALLOWED_FLAGS = _HAS_DESCRIPTOR | _UTF8 | 0x0006  # bits 1 and 2 tell how hard deflate tried
_ZIP64_SIZE = 0xFFFFFFFF
_ZIP64_EXTRA = 1
_DOS_FOLDER = 0x10


@dataclass(frozen=True, slots=True, kw_only=True)
class ZipLimits:
    """What an archive may cost. A member, or the archive, below its floor may shrink by any ratio."""

    max_members: int = 1024
    max_total_bytes: int = 1024 * MIB
    max_ratio: int = 100
    member_floor_bytes: int = 1 * MIB  # 60,000 sorted labels (480 kB) shrink 800-fold and are no bomb
    total_floor_bytes: int = 16 * MIB
    max_name_bytes: int = 255


@dataclass(frozen=True, slots=True)
class ZipMember:
    """One checked entry. `start` is where its data begin in the file."""

    name: str
    method: int
    flags: int
    crc: int
    packed_bytes: int
    bytes: int
    header: int
    start: int = 0

    @property
    def stored(self) -> bool:
        """Whether its data lie in the file as they are."""
        return self.method == _STORED


def read_zip(file: FileBytes, *, limits: ZipLimits) -> dict[str, bytes]:
    """Name to content, in the order of the directory, each checked against its CRC. Raises ZipError."""
    return {member.name: member_bytes(file, member) for member in read_directory(file, limits=limits)}


@refuses_with(ZipError)
def read_directory(file: FileBytes, *, limits: ZipLimits) -> tuple[ZipMember, ...]:
    """The members, after every check that needs no decompression.

    Raises:
        ZipError: malformed, ambiguous, encrypted, bomb-like, or holding an unsafe name.
    """
    content, where = file.content, file.name
    if not content.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        raise ZipError("not a ZIP archive", where=where, expected="PK at byte 0", got=content[:8].hex(" "))
    directory, count, end = _end_record(content, where, limits)
    members: list[ZipMember] = []
    position = directory
    for _ in range(count):
        member, position = _entry(content, position, end, where, limits)
        members.append(member)
    if position != end:
        raise ZipError("the directory has another size than it says", where=where, expected=end, got=position)
    _refuse_same_names(members, where)
    _refuse_bomb(members, len(content), where, limits)
    return _tile(content, members, directory, where)


def member_bytes(file: FileBytes, member: ZipMember) -> bytes:
    """One member's content. Raises ZipError where it does not decompress to exactly what the directory says."""
    packed = memoryview(file.content)[member.start : member.start + member.packed_bytes]
    where = f"{file.name}: {member.name}"
    if member.method == _STORED:
        data = bytes(packed)
    else:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            data = inflater.decompress(packed, member.bytes + 1)
        except zlib.error as error:
            raise ZipError("the member does not decompress", where=where, got=error) from None
        if len(data) != member.bytes or not inflater.eof or inflater.unused_data:
            raise ZipError("the member has another size than the directory says", where=where, expected=member.bytes)
    if zlib.crc32(data) != member.crc:
        raise ZipError("the member's checksum is wrong", where=where, expected=f"CRC-32 {member.crc:08x}")
    return data


def _end_record(content: bytes, where: str, limits: ZipLimits) -> tuple[int, int, int]:
    start = len(content) - _END.size
    if start < 0 or content[start : start + 4] != b"PK\x05\x06":
        raise ZipError("no end record in the last 22 bytes", where=where, expected="nothing behind it, no comment")
    _, disk, directory_disk, here, count, size, offset, comment = _END.unpack_from(content, start)
    if (disk, directory_disk, comment) != (0, 0, 0) or here != count:
        raise ZipError("a multi-part archive or a comment", where=where, expected="one part, no comment")
    if count > limits.max_members:
        raise ZipError("too many members", where=where, expected=f"<= {limits.max_members}", got=count)
    end = offset + size
    if start == end + _END64.size:
        _check_end64(content, end, (count, size, offset), where)
    elif start != end:
        hint = "cut, too large, or changed after it was written"
        raise ZipError("the directory does not end at the end record", where=where, expected=start, got=end, hint=hint)
    if count == 0:
        raise ZipError("an archive without members", where=where)
    return offset, count, end


def _check_end64(content: bytes, position: int, told: tuple[int, int, int], where: str) -> None:
    (magic, length, _, _, disk, directory_disk, here, count, size, offset, locator, end_disk, record, disks) = (
        _END64.unpack_from(content, position)
    )
    numbers = (length, disk, directory_disk, here, end_disk, record, disks)
    if (magic, locator) != (b"PK\x06\x06", b"PK\x06\x07") or numbers != (44, 0, 0, count, 0, position, 1):
        raise ZipError("a malformed ZIP64 end record", where=where)
    if (count, size, offset) != told:
        raise ZipError("the two end records disagree", where=where, expected=told, got=(count, size, offset))


def _entry(content: bytes, position: int, end: int, where: str, limits: ZipLimits) -> tuple[ZipMember, int]:
    if position + _ENTRY.size > end or content[position : position + 4] != b"PK\x01\x02":
        raise ZipError("the directory is cut or malformed", where=f"{where} byte {position}")
    (_, _, _, flags, method, _, _, crc, packed, size, name_size, extra, comment, disk, _, mode, header) = (
        _ENTRY.unpack_from(content, position)
    )
    after = position + _ENTRY.size + name_size + extra + comment
    name = _name(content[position + _ENTRY.size : position + _ENTRY.size + name_size], flags, where, limits)
    where = f"{where}: {name}"
    if flags & ~_ALLOWED_FLAGS:
        raise ZipError(
            "encrypted or of an unknown kind", where=where, expected="no encryption", got=f"flags {flags:#x}"
        )
    if method not in (_STORED, _DEFLATED):
        raise ZipError("an unsupported compression method", where=where, expected="stored or deflated", got=method)
    if stat.S_IFMT(mode >> 16) not in (0, stat.S_IFREG) or mode & _DOS_FOLDER:
        raise ZipError("not a regular file", where=where, expected="a file", got=f"mode {mode >> 16:o}")
    if disk or after > end or _ZIP64_SIZE in (packed, size, header) or (method == _STORED and packed != size):
        raise ZipError("an entry contradicts itself", where=where, expected="one part, sizes that agree, no ZIP64")
    return ZipMember(name, method, flags, crc, packed, size, header), after


def _name(raw: bytes, flags: int, where: str, limits: ZipLimits) -> str:
    try:
        name = raw.decode("utf-8" if flags & _UTF8 else "ascii")
    except UnicodeDecodeError:
        raise ZipError("a member's name is not UTF-8", where=where, got=raw[:80]) from None
    safe = (
        0 < len(raw) <= limits.max_name_bytes
        and name.isprintable()
        and not set(name) & set('\\:<>"|?*')
        and not any(part in ("", ".", "..") for part in name.split("/"))
    )
    if not safe:
        raise ZipError("an unsafe member name", where=where, expected="a plain relative file name", got=name)
    return name


def _refuse_same_names(members: list[ZipMember], where: str) -> None:
    seen: set[str] = set()
    for member in members:
        key = member.name.casefold()  # some readers look names up without regard to case
        if key in seen:
            raise ZipError("a member stands twice", where=where, expected="unique names", got=member.name)
        seen.add(key)


def _refuse_bomb(members: list[ZipMember], file_bytes: int, where: str, limits: ZipLimits) -> None:
    for member in members:
        if member.bytes > max(limits.member_floor_bytes, limits.max_ratio * member.packed_bytes):
            ratio = f"{member.bytes} bytes from {member.packed_bytes}"
            raise ZipError(
                "compressed too well: a bomb",
                where=f"{where}: {member.name}",
                expected=f"<= {limits.max_ratio}:1",
                got=ratio,
            )
    total = sum(member.bytes for member in members)
    most = min(limits.max_total_bytes, max(limits.total_floor_bytes, limits.max_ratio * file_bytes))
    if total > most:
        raise ZipError("the members are too large together", where=where, expected=f"<= {most} bytes", got=total)


def _tile(content: bytes, members: list[ZipMember], directory: int, where: str) -> tuple[ZipMember, ...]:
    """Check that members lie side by side from byte 0 to the directory, and that local headers agree."""
    order = sorted(members, key=lambda member: member.header)
    located: dict[str, ZipMember] = {}
    position = 0
    for member, following in zip(order, [*(m.header for m in order[1:]), directory], strict=True):
        if member.header != position:
            raise ZipError(
                "bytes that belong to no member, or to two", where=f"{where} byte {position}", got=member.header
            )
        located[member.name] = _locate(content, member, following, where)
        position = following
    return tuple(located[member.name] for member in members)


def _locate(content: bytes, member: ZipMember, following: int, where: str) -> ZipMember:
    where = f"{where}: {member.name}"
    if member.header + _LOCAL.size > following or content[member.header : member.header + 4] != b"PK\x03\x04":
        raise ZipError("no local header where the directory points", where=where, got=f"byte {member.header}")
    _, _, flags, method, _, _, crc, packed, size, name_size, extra_size = _LOCAL.unpack_from(content, member.header)
    name_start = member.header + _LOCAL.size
    start = name_start + name_size + extra_size
    name = content[name_start : name_start + name_size]
    if name != member.name.encode() or (flags, method) != (member.flags, member.method):
        raise ZipError("local header and directory disagree", where=where, expected=member.name, got=name)
    if start + member.packed_bytes > following:
        raise ZipError("the member is cut", where=where, expected=f"{member.packed_bytes} bytes")
    sizes = _local_sizes(content[name_start + name_size : start], packed, size)
    told = (crc, *sizes)
    truth = (member.crc, member.packed_bytes, member.bytes)
    gap = content[start + member.packed_bytes : following]
    if told != truth and not (flags & _HAS_DESCRIPTOR and told == (0, 0, 0)):
        raise ZipError("local header and directory disagree", where=where, expected=truth, got=told)
    if gap and not (flags & _HAS_DESCRIPTOR and _descriptor(gap) == truth):
        raise ZipError("bytes between two members", where=where, expected="none", got=f"{len(gap)} bytes")
    return replace(member, start=start)


def _local_sizes(extra: bytes, packed: int, size: int) -> tuple[int, int]:
    """Sizes of a local header; NumPy always writes them into the ZIP64 extra field."""
    if (packed, size) != (_ZIP64_SIZE, _ZIP64_SIZE):
        return packed, size
    if len(extra) < 20 or struct.unpack_from("<2H", extra) != (_ZIP64_EXTRA, 16):
        return -1, -1
    size, packed = struct.unpack_from("<2Q", extra, 4)
    return packed, size


def _descriptor(gap: bytes) -> tuple[int, int, int] | None:
    layout = _DESCRIPTORS.get(len(gap))
    if layout is None or not gap.startswith(b"PK\x07\x08"):
        return None
    _, crc, packed, size = layout.unpack(gap)
    return crc, packed, size
