"""A node's working folder while a job works there, and what of it has come to the history."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from hpcrun.agent.checkpoints import Rules
from hpcrun.agent.collecting import Collector
from hpcrun.agent.partial import Partial
from hpcrun.agent.place import Place
from hpcrun.layout import Attempt
from hpcrun.record import Fact

RULES = Rules(("checkpoint-*",), "complete")


class Node:
    """A node's working folder, its collector, and what that told."""

    def __init__(self, root: Path, files: Path, host: str, first: bool) -> None:
        self.work = root / host
        for folder in (self.work, files):
            for name in ("outputs", "logs"):
                (folder / name).mkdir(parents=True, exist_ok=True)
        self.files = files
        self.host = host
        self.first = first
        self.told: list[str] = []
        self.partial: list[Fact] = []
        self.begin()

    def begin(self, old: dict[str, int] | None = None, late: bool = False) -> None:
        """A collector that knows nothing yet."""
        place = Place(str(self.files), self.host, self.first, old or {}, late)
        partial = Partial(str(self.work), RULES, self.tell_partial)
        self.collector = Collector(
            str(self.work), str(self.files), place, self.told.append, partial
        )

    def tell_partial(self, names: Sequence[str]) -> None:
        data = {"host": self.host, "names": list(names)}
        self.partial.append(Fact("partial", Attempt(1), 0.0, len(self.partial) + 1, data))

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def look(self) -> None:
        """One look at all, whatever the time."""
        self.collector._next_look = 0.0
        self.collector.look(1000)

    def finish(self) -> None:
        done, _ = self.collector.finish(1000)
        assert done, self.collector.error


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """The first node of a job."""
    return Node(tmp_path, tmp_path / "files", "n1", first=True)


@pytest.fixture
def second(tmp_path: Path) -> Node:
    """Another one."""
    return Node(tmp_path, tmp_path / "files", "n2", first=False)


def brought(files: Path) -> dict[str, bytes]:
    """Name → content of all files in the history, hidden ones included."""
    found = (path for path in files.rglob("*") if path.is_file())
    return {path.relative_to(files).as_posix(): path.read_bytes() for path in found}
