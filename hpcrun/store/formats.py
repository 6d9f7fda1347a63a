"""Numbers of formats: what this hpcrun reads, and one sentence for what a later one wrote.

Each kind of file has a table of readers by number; the greatest is what is written.
"""

from __future__ import annotations

from collections.abc import Iterable

import hpcrun
from hpcrun.errors import StoreError


class NewerFormat(StoreError):
    """What a later hpcrun wrote, in a format that this one does not read. It is not damaged."""

    def __init__(self, what: str, number: int, known: Iterable[int], by: str = "") -> None:
        writer = f", by hpcrun {by}" if by else ""
        super().__init__(
            f"{what} was written in format {number}{writer};"
            f" this hpcrun, {hpcrun.__version__}, reads up to {max(known)}",
            f"use hpcrun {by} or later" if by else "use a later hpcrun",
        )


def expect_known(what: str, number: object, known: Iterable[int], by: object = "") -> None:
    """Whether this hpcrun reads a format. NewerFormat; StoreError where it is none."""
    if type(number) is int and number in known:
        return
    if type(number) is int and number > max(known):
        raise NewerFormat(what, number, known, by if isinstance(by, str) else "")
    raise StoreError(f"{what} is damaged: {number!r} is no format", "restore it from a copy")
