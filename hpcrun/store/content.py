"""What a sealed file has to hold of a run, and whether two readings tell the same."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hpcrun.record import Fact


class Journal(NamedTuple):
    """A journal as it was sealed. read: up to its last newline. size: with what came after."""

    name: str
    read: int
    size: int
    crc32: int
    bad_lines: int

    @classmethod
    def of(cls, name: str, data: bytes, read: int, bad_lines: int) -> Journal:
        return cls(name, read, len(data), zlib.crc32(data[:read]), bad_lines)


@dataclass(frozen=True)
class Content:
    """What a sealed run holds.

    texts: run.json, script.sh and others by their names, journals of facts up to what was read.
    metric_facts: what the journals of metrics tell. journals: all that are in here. artifacts:
    the journals of images, up to what was read.
    """

    run_id: str
    texts: Mapping[str, bytes]
    metric_facts: Sequence[Fact]
    journals: Sequence[Journal]
    artifacts: Mapping[str, bytes] = field(default_factory=dict)


def same(facts: Iterable[Fact], others: Iterable[Fact]) -> bool:
    """Whether two readings of journals tell the same, in whatever order and however often."""
    return _by_place(facts) == _by_place(others)


def tells(facts: Iterable[Fact], others: Iterable[Fact]) -> bool:
    """Whether a reading of journals tells all that another one does."""
    return _by_place(others).items() <= _by_place(facts).items()


def _by_place(facts: Iterable[Fact]) -> dict[tuple[object, ...], str]:
    """As text, since nan is not nan, and 1 is not 1.0."""
    return {
        (f.writer, f.attempt, f.number, f.kind): repr((float(f.time), sorted(f.data.items())))
        for f in facts
    }
