"""The number in a TensorProto without dimensions, as TensorFlow 2 writes scalars.

Pure; standard library only (Python 3.8+).
"""

from __future__ import annotations

import struct
from typing import Any, Union

from hpcrun.agent.follow.protobuf import fields, varint

BOOL, BFLOAT16, HALF = 10, 14, 19

_PACKED = {
    **{1: "<f", 2: "<d", 3: "<i", 4: "<B", 5: "<h", 6: "<b", 9: "<q"},
    **{BOOL: "<?", 17: "<H", HALF: "<e", 22: "<I", 23: "<Q"},
}
"""DataType → how its bytes are packed."""

_DIMENSION = 2
_CONTENT, _FLOATS, _DOUBLES = 4, 5, 6
_INTEGERS = frozenset((7, 10, 11, 13, 16, 17))


def number_in(body: memoryview) -> Any:
    """The number; None if it is none. ValueError, struct.error."""
    kind, content, given = 0, memoryview(b""), 0
    for number, inner in fields(body):
        if number == 1 and isinstance(inner, int):
            kind = inner
        elif number == 2 and isinstance(inner, memoryview):
            if any(field == _DIMENSION for field, _ in fields(inner)):
                return None
        elif number in (_CONTENT, _FLOATS, _DOUBLES) and isinstance(inner, memoryview):
            content = inner
        elif number in _INTEGERS:
            given = _integer(inner)
    if kind not in _PACKED and kind != BFLOAT16:
        return None
    if not content and kind in (HALF, BFLOAT16):
        content = memoryview(struct.pack("<H", given))  # half_val holds the bits
    if not content:
        return bool(given) if kind == BOOL else given  # protobuf leaves out what is zero
    if kind == BFLOAT16:
        return struct.unpack("<f", b"\0\0" + bytes(content[:2]))[0]
    return struct.unpack_from(_PACKED[kind], content)[0]


def _integer(inner: Union[int, memoryview]) -> int:
    """A number, or the first of packed ones. Negative ones are written in 64 bits."""
    if isinstance(inner, memoryview):
        inner = varint(inner, 0)[0]
    return inner - (1 << 64) if inner >= 1 << 63 else inner
