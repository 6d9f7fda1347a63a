"""Several nodes bring outputs/ and logs/ to one place: whose name stands, what is kept apart."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from hpcrun.agent.place import tidy
from tests.working_node import Node, brought, node, second

__all__ = ["node", "second"]


def test_names_of_their_own_stand_side_by_side(node: Node, second: Node) -> None:
    node.write("outputs/shard0", "0")
    second.write("outputs/shard1", "1")
    (second.work / "outputs/last").symlink_to("shard1")
    second.finish()
    node.finish()
    assert brought(node.files) == {
        "outputs/shard0": b"0",
        "outputs/shard1": b"1",
        "outputs/last": b"1",
    }
    assert not (node.files / "outputs/.nodes").exists()
    assert (node.told, second.told) == ([], [])


@pytest.fixture(params=["first node first", "second node first"])
def order(request: pytest.FixtureRequest, node: Node, second: Node) -> Iterator[list[Node]]:
    yield [node, second] if request.param == "first node first" else [second, node]


def test_equal_names_are_kept_apart_and_said_so(
    node: Node, second: Node, order: list[Node]
) -> None:
    for each in (node, second):
        each.write("outputs/model.pt", each.host)
        each.write("logs/sub/train.log", each.host)
    for each in order:
        each.look()
        each.look()
    second.finish()
    node.finish()
    assert brought(node.files) == {
        "outputs/model.pt": b"n1",
        "outputs/.nodes/n2/model.pt": b"n2",
        "logs/sub/train.log": b"n1",
        "logs/.nodes/n2/sub/train.log": b"n2",
    }
    assert any("outputs/model.pt, kept as outputs/.nodes/n2/model.pt" in t for t in node.told)
    assert (len(node.told), second.told) == (2, [])


def test_files_of_two_nodes_with_one_size_and_one_time(
    node: Node, second: Node, order: list[Node]
) -> None:
    for each in (node, second):
        os.utime(each.write("outputs/model.pt", each.host), (1e9, 1e9))
    for each in order:
        each.look()
        each.look()
    for each in order:
        each.begin()
        each.look()
        each.look()
    second.finish()
    node.finish()
    assert brought(node.files) == {
        "outputs/model.pt": b"n1",
        "outputs/.nodes/n2/model.pt": b"n2",
    }


def test_a_name_that_the_first_node_takes_at_its_very_end(node: Node, second: Node) -> None:
    second.write("outputs/model.pt", "n2")
    second.finish()
    node.write("outputs/model.pt", "n1")
    node.finish()
    assert brought(node.files) == {
        "outputs/model.pt": b"n1",
        "outputs/.nodes/n2/model.pt": b"n2",
    }


def test_a_node_that_begins_anew_finds_its_own_name(second: Node) -> None:
    second.write("outputs/shard1", "1")
    second.finish()
    assert tidy(str(second.files)) == []
    second.begin(late=True)
    second.finish()
    assert brought(second.files) == {"outputs/shard1": b"1"}


def test_a_node_updates_and_removes_only_its_own(node: Node, second: Node) -> None:
    second.write("outputs/model.pt", "n2")
    second.write("outputs/own", "n2")
    second.look()
    second.look()
    node.write("outputs/model.pt", "n1")
    node.look()
    node.look()
    second.write("outputs/model.pt", "n2 again")
    second.write("outputs/own", "own again")
    second.look()
    second.look()
    assert (node.files / "outputs/model.pt").read_text() == "n1"
    assert (node.files / "outputs/own").read_text() == "own again"
    assert (node.files / "outputs/.nodes/n2/model.pt").read_text() == "n2 again"
    (second.work / "outputs/model.pt").unlink()
    (second.work / "outputs/own").unlink()
    second.look()
    assert brought(node.files) == {"outputs/model.pt": b"n1"}


def test_the_first_node_takes_back_what_was_taken_in_that_moment(node: Node) -> None:
    node.write("outputs/model.pt", "n1")
    node.look()
    node.look()
    (node.files / "outputs/other").write_text("n2")
    (node.files / "outputs/other").rename(node.files / "outputs/model.pt")
    node.finish()
    assert brought(node.files) == {"outputs/model.pt": b"n1"}


def test_what_an_earlier_attempt_left_is_replaced(second: Node) -> None:
    left = second.files / "outputs/shard1"
    left.write_text("attempt 1")
    second.begin(old={"outputs/shard1": left.stat().st_ino})
    second.write("outputs/shard1", "attempt 2")
    second.finish()
    assert tidy(str(second.files)) == []
    assert brought(second.files) == {"outputs/shard1": b"attempt 2"}
