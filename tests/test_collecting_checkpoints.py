"""Checkpoints that are folders: a next attempt never goes on from half of one that was brought."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcrun.agent.checkpoints import newest
from hpcrun.agent.partial import partial_names
from hpcrun.layout import Attempt
from hpcrun.record import Fact
from tests.campaign import Figures, seeded, times
from tests.working_node import RULES, Node


def resumed(node: Node) -> Path | None:
    """What the next attempt goes on from, if the node fails at this moment."""
    partial = {str(node.files / name) for name in partial_names(node.partial)}
    found = newest(str(node.files / "outputs"), RULES, partial)
    return None if found is None else Path(found.path)


def is_whole(node: Node, checkpoint: Path) -> bool:
    own = node.work / checkpoint.relative_to(node.files)
    return {f.name: f.read_bytes() for f in own.iterdir()} == {
        f.name: f.read_bytes() for f in checkpoint.iterdir()
    }


@pytest.mark.campaign
def test_a_node_that_fails_while_checkpoints_come(tmp_path: Path, figures: Figures) -> None:
    """Its marker, the smallest file, comes first: nobody goes on from what has come by then."""
    tries = times(1000)
    halves = 0
    for number, chance in enumerate(seeded("half a checkpoint", tries)):
        root = tmp_path / str(number)
        node = Node(root, root / "files", "n1", first=True)
        for step in range(1, 4):
            for name, size in (("model", 9000), ("optimizer", 20000), ("complete", 1)):
                node.write(f"outputs/checkpoint-{step}/{name}", chance.randbytes(size))
            for _ in range(chance.randrange(2, 9)):
                node.collector._next_look = 0.0
                node.collector.look(0)  # one file
                found = resumed(node)
                assert found is None or is_whole(node, found)
                there = sorted((node.files / "outputs").glob("checkpoint-*"))
                halves += bool(there) and there[-1] != found
        node.finish()
        found = resumed(node)
        assert found is not None and found.name == "checkpoint-3" and is_whole(node, found)
        assert node.partial[-1].data["names"] == []
    assert halves
    figures.tell("node fails while a checkpoint comes", moments_with_half_of_one=halves, chosen=0)


def told(host: str, attempt: Attempt, number: int, *names: str) -> Fact:
    return Fact("partial", attempt, 0.0, number, {"host": host, "names": list(names)})


def test_the_newest_attempt_tells_of_a_checkpoint_or_who_has_drained_its_node() -> None:
    one, two = Attempt(1, 0), Attempt(1, 1)
    lost = [told("n1", one, 1, "outputs/a", "outputs/b"), told("n1", one, 2, "outputs/b")]
    assert partial_names(lost) == partial_names(lost[::-1]) == {"outputs/b"}
    again = [told("n2", two, 1, "outputs/b"), told("n2", two, 2)]
    assert partial_names([*lost, *again[:1]]) == {"outputs/b"}
    assert partial_names([*lost, *again]) == set()
    drained = Fact("drained", one, 0.0, 1, {"host": "n1.cluster"})
    assert partial_names([*lost, drained]) == set()
