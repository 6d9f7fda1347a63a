"""How often a fault is tried, and what came of it.

`make test` tries each fault a few times, `make campaign` as often as its test asks for, and tells
the figures of each.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator

import pytest

SWITCH = "HPCRUN_CAMPAIGN"
"""1 asks for the full counts."""

KILLS = 10
"""How often `make test` tries a fault."""

_FIGURES = "campaign"


def times(full: int, short: int = KILLS) -> int:
    """How often a fault is tried."""
    return full if os.environ.get(SWITCH) == "1" else min(full, short)


def seeded(name: str, count: int) -> Iterator[random.Random]:
    """The sources of chance of so many tries; the same in every run."""
    for number in range(count):
        yield random.Random(f"{name} {number}")


class Figures:
    """What came of a fault, for the summary at the end. request: the test's."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._node = request.node

    def tell(self, fault: str, **figures: object) -> None:
        """Figures by their names, such as killed=200, lost=0."""
        words = [f"{name.replace('_', ' ')} {value}" for name, value in figures.items()]
        self._node.user_properties.append((_FIGURES, f"{fault}: {', '.join(words)}"))


def summary(reports: Iterable[pytest.TestReport]) -> list[str]:
    """All that was told, a line each."""
    found = [report for report in reports if report.when == "call"]
    return [str(line) for one in found for key, line in one.user_properties if key == _FIGURES]
