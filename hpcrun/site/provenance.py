"""Where the facts of a site file come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Source:
    """Where facts of a site file come from."""

    url: str = ""
    """The page, or the repository with the path in it."""
    date: str = ""
    """The day it was read, as yyyy-mm-dd; absent where the address names the version."""
    grade: Literal["A", "B", "C"] = "A"
    """A: the site's own documentation. B: kept by its staff. C: third-party."""
    fields: tuple[str, ...] = ()
    """What it says, such as targets.gpu.time; empty: all that no other source names."""


def source_of(key: str, sources: Sequence[Source]) -> Source | None:
    """The source of a field, such as targets.gpu.time.max: the one that names it most closely."""
    named = [
        (len(field), source) for source in sources for field in source.fields if _is_in(key, field)
    ]
    if named:
        return max(named, key=lambda one: one[0])[1]
    return next((source for source in sources if not source.fields), None)


def _is_in(key: str, field: str) -> bool:
    return key == field or key.startswith((f"{field}.", f"{field}["))
