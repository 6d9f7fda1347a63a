"""Headers of a tar file that are the same bytes wherever and whenever they are made. Pure.

POSIX ustar, with a PAX header before a member whose name is long or no ASCII, or that has holes:
these stand as in GNU tar's sparse format 1.0, which Python's tarfile reads but does not write. A
size of more than 11 octal digits stands in base 256, as GNU tar writes it. Any tar unpacks what is
written with them. Nobody's headers are parsed: who reads knows from the manifest what they must be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

BLOCK = 512
RECORD = 20 * BLOCK
"""A tar file is a multiple of it."""

_LONGEST = 100
_LARGEST = 8**11 - 1


def header(
    name: str,
    size: int,
    executable: bool = False,
    mtime: int = 0,
    target: str | None = None,
    sparse_size: int | None = None,
) -> bytes:
    """The header of a member.

    size: the bytes that follow. mtime: Unix seconds. target: of a symbolic link. sparse_size: the
    bytes of a file with holes, of which a map and then the data follow.
    """
    plain, link = _bytes(name), _bytes(target or "")
    pax: dict[bytes, bytes] = {}
    if sparse_size is not None:
        pax = {
            b"GNU.sparse.major": b"1",
            b"GNU.sparse.minor": b"0",
            b"GNU.sparse.name": plain,
            b"GNU.sparse.realsize": b"%d" % sparse_size,
        }
        plain = b"GNUSparseFile.0"
    if _is_odd(plain):
        pax[b"path"] = plain
    if _is_odd(link):
        pax[b"linkpath"] = link
    kind = b"0" if target is None else b"2"
    mode = 0o777 if target is not None else 0o755 if executable else 0o644
    own = _ustar(plain, size, mode, min(mtime, _LARGEST), kind, link)
    if not pax:
        return own
    records = _records(pax)
    return _ustar(b"././@PaxHeader", len(records), 0o644, 0, b"x") + padded(records) + own


def padded(data: bytes) -> bytes:
    """Filled up to whole blocks."""
    return data + bytes(padding(len(data)))


def padding(size: int) -> int:
    """How many bytes are missing to whole blocks."""
    return -size % BLOCK


def end(size: int) -> bytes:
    """What stands behind the last member. size: the bytes before."""
    return bytes(2 * BLOCK + -(size + 2 * BLOCK) % RECORD)


def sparse_map(pieces: Sequence[tuple[int, int]]) -> bytes:
    """The map of a file with holes. pieces: (begin, length) of what is none."""
    numbers = [len(pieces), *(number for piece in pieces for number in piece)]
    return padded(b"".join(b"%d\n" % number for number in numbers))


def _is_odd(name: bytes) -> bool:
    return len(name) > _LONGEST or not name.isascii()


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _ustar(name: bytes, size: int, mode: int, mtime: int, kind: bytes, link: bytes = b"") -> bytes:
    fields = (
        name[:_LONGEST].ljust(_LONGEST, b"\0"),
        b"%07o\0" % mode,
        b"%07o\0%07o\0" % (0, 0),
        b"%011o\0" % size if size <= _LARGEST else b"\x80" + size.to_bytes(11, "big"),
        b"%011o\0" % mtime,
        b" " * 8,
        kind,
        link[:_LONGEST].ljust(_LONGEST, b"\0"),
        b"ustar\x0000",
    )
    block = b"".join(fields).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _records(pax: Mapping[bytes, bytes]) -> bytes:
    """`length key=value`, a line each; the length counts its own digits."""
    found = b""
    for key, value in pax.items():
        rest = b" " + key + b"=" + value + b"\n"
        length = len(rest) + len(str(len(rest)))
        length = len(rest) + len(str(length))
        found += b"%d" % length + rest
    return found
