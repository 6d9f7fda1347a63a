"""TensorBoard's event files: framed records, each an Event of protobuf.

Pure; standard library only (Python 3.8+).

A frame is the length (8 bytes), its masked CRC-32C (4), the event, its masked CRC-32C (4).
A scalar is a `simple_value`, or (TensorFlow 2) a tensor without dimensions; the plugin is told
with each value or only with the first of a tag. Field numbers are those of TensorFlow's
event.proto, summary.proto and tensor.proto.
"""

from __future__ import annotations

import struct
from typing import Any, Dict, List, NamedTuple, Optional

from hpcrun.agent.follow.crc32c import masked
from hpcrun.agent.follow.points import Point, Reading, count
from hpcrun.agent.follow.protobuf import fields, messages
from hpcrun.agent.follow.tensor import number_in
from hpcrun.forms import STEP_LIMIT
from hpcrun.metrics.values import checked_name, scalar

CHECKED = 1 << 16
"""The bytes of a longer event are not summed up: those are images and graphs, and it takes time."""

_FRAME = 12


def read(data: bytes, step: str, final: bool) -> Reading:
    """The scalars of all whole records."""
    del step, final
    points: List[Point] = []
    skipped: Dict[str, int] = {}
    view = memoryview(data)
    place, wants, problem = 0, 0, ""
    while len(data) - place >= _FRAME:
        length, check = struct.unpack_from("<QI", data, place)
        if masked(view[place : place + 8]) != check:
            problem = "a record's length is damaged"
            break
        begin, end = place + _FRAME, place + _FRAME + length
        if end + 4 > len(data):
            wants = 0 if place else end + 4
            break
        if length <= CHECKED and masked(view[begin:end]) != struct.unpack_from("<I", data, end)[0]:
            problem = "a record is damaged"
            break
        place = end + 4
        try:
            points += _event(view[begin:end], place, skipped)
        except (ValueError, struct.error):
            count(skipped, "damaged event")
    return Reading(points, place, skipped, wants, problem)


def _event(body: memoryview, end: int, skipped: Dict[str, int]) -> List[Point]:
    time, step = None, 0
    values: List[_Value] = []
    for number, content in fields(body):
        if number == 1 and isinstance(content, memoryview):
            told = struct.unpack("<d", content)[0]
            time = told if 0 < told < 1e11 else None
        elif number == 2 and isinstance(content, int):
            step = content
        elif number == 5 and isinstance(content, memoryview):
            values += [_value(inner) for one, inner in messages(content) if one == 1]
    points = []
    for tag, value, kind in values:
        if kind:
            count(skipped, kind)
        elif tag:
            points.append(Point(tag, value, step if step < STEP_LIMIT else None, time, end))
    return points


class _Value(NamedTuple):
    """A summary's value: its tag, and a scalar, or of which kind it is instead."""

    tag: str
    value: Any
    kind: str


_KINDS = {3: "histogram", 4: "image", 5: "histogram", 6: "audio"}


def _value(body: memoryview) -> _Value:
    tag, kind, plugin = "", "empty summary", ""
    value: Optional[float] = None
    tensor: Optional[memoryview] = None
    for number, content in fields(body):
        if not isinstance(content, memoryview):
            continue
        if number == 1:
            tag = str(content, "utf-8", "replace")
        elif number == 2:
            value = struct.unpack("<f", content)[0]
        elif number == 8:
            tensor = content
        elif number == 9:
            plugin = _plugin(content)
        elif number in _KINDS:
            kind = _KINDS[number]
    if value is None and tensor is not None:
        value = number_in(tensor) if plugin in ("", "scalars") else None
        kind = plugin or "tensor"
    if value is None:
        return _Value(tag, None, kind)
    try:
        return _Value(checked_name(tag), scalar(value), "")
    except ValueError:
        return _Value(tag, None, "tag that is too long, or empty")


def _plugin(metadata: memoryview) -> str:
    """The name in SummaryMetadata.plugin_data."""
    for number, content in messages(metadata):
        if number == 1:
            for inner, name in messages(content):
                if inner == 1:
                    return str(name, "utf-8", "replace")
    return ""
