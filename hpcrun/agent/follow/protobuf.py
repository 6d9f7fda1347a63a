"""Messages of protobuf, field by field, without their schemas. Pure; standard library (3.8+)."""

from __future__ import annotations

from typing import Iterator, Tuple, Union

Field = Tuple[int, Union[int, memoryview]]
"""A field's number, and what it holds."""


def messages(body: memoryview) -> Iterator[Tuple[int, memoryview]]:
    """The fields that are no varints. ValueError."""
    for number, content in fields(body):
        if isinstance(content, memoryview):
            yield number, content


def fields(body: memoryview) -> Iterator[Field]:
    """The fields of a message: varints as ints, all others as their bytes. ValueError."""
    place, size = 0, len(body)
    while place < size:
        key, place = varint(body, place)
        wire = key & 7
        if wire == 0:
            number, place = varint(body, place)
            yield key >> 3, number
            continue
        length = {1: 8, 5: 4}.get(wire)
        if wire == 2:
            length, place = varint(body, place)
        if length is None or place + length > size:
            raise ValueError("no message of protobuf")
        yield key >> 3, body[place : place + length]
        place += length


def varint(body: memoryview, place: int) -> Tuple[int, int]:
    """(the number that begins there, where it ends). ValueError."""
    number = 0
    for shift in range(0, 70, 7):
        if place >= len(body):
            break
        byte = body[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & (1 << 64) - 1, place
    raise ValueError("no number of protobuf")
