"""Telling of many files without a flood. Standard library only (Python 3.8+)."""

from __future__ import annotations

from typing import Callable, Dict, Set

NAMED = 5
"""How many files are told by name for one reason."""


class Telling:
    """Tells each file once, and for each reason only the first by name. tell: takes a sentence."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told: Dict[str, Set[str]] = {}

    def say(self, reason: str, name: str) -> None:
        """A file, and what is to be said of it."""
        names = self._told.setdefault(reason, set())
        if name not in names:
            names.add(name)
            if len(names) <= NAMED:
                self._tell(f"{reason}: {name}")

    def sum_up(self) -> None:
        """How many there were in all, where not all were told by name."""
        for reason, names in self._told.items():
            if len(names) > NAMED:
                self._tell(f"{reason}: {len(names)} files in all")
