"""Writes TensorBoard's event files; what reads them is `hpcrun.agent.follow.event_file`. Pure.

A scalar is a float32, as with all writers: of a tensor of one float64, TensorBoard's fast loader
(2.21) shows nothing. Field numbers are those of TensorFlow's event.proto and summary.proto.
"""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from typing import NamedTuple

from hpcrun.agent.follow.crc32c import masked


class Point(NamedTuple):
    """One value. time: Unix seconds."""

    tag: str
    step: int
    value: float
    time: float


def beginning(time: float) -> bytes:
    """What a file begins with: the format, and the start of the first session."""
    return _record(_time(time) + _bytes(3, b"brain.Event:2")) + restart(0, time)


def scalar(point: Point) -> bytes:
    """The record of a value."""
    value = _head(point.tag) + b"\x15" + _float32(point.value) + _SCALARS
    return _record(_time(point.time) + _step(point.step) + _bytes(5, _bytes(1, value)))


def restart(step: int, time: float) -> bytes:
    """The record after which TensorBoard forgets what it read of this step and later ones."""
    return _record(_time(time) + _step(step) + _bytes(7, b"\x08\x01"))


def _record(event: bytes) -> bytes:
    length = struct.pack("<Q", len(event))
    return b"".join(
        (length, struct.pack("<I", masked(length)), event, struct.pack("<I", masked(event)))
    )


def _time(time: float) -> bytes:
    return b"\x09" + struct.pack("<d", time)


def _float32(value: float) -> bytes:
    try:
        return struct.pack("<f", value)
    except OverflowError:
        return struct.pack("<f", math.copysign(math.inf, value))


def _step(step: int) -> bytes:
    return b"\x10" + _varint(step)


@lru_cache(maxsize=4096)
def _head(tag: str) -> bytes:
    return _bytes(1, tag.encode("utf-8", "replace"))


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


_SCALARS = _bytes(9, _bytes(1, _bytes(1, b"scalars")) + b"\x20\x01")
"""SummaryMetadata: the plugin's name, and DATA_CLASS_SCALAR."""
