"""Appending facts: whole lines, one writer, torn ends healed."""

from __future__ import annotations

from pathlib import Path

from hpcrun.journal import Journal
from hpcrun.layout import Attempt
from hpcrun.record import decode_page


def test_facts_come_back_in_order(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "a.jsonl"), Attempt(1))
    for count in range(5):
        journal.append("heartbeat", {"count": count}, sync=count == 4)
    page = decode_page((tmp_path / "a.jsonl").read_bytes())
    assert [f.data["count"] for f in page.facts] == list(range(5))
    assert [f.number for f in page.facts] == [1, 2, 3, 4, 5]


def test_no_file_without_a_fact(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path / "a.jsonl"), Attempt(1))
    journal.sync()
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_a_torn_end_costs_only_itself_and_numbers_stay_unique(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    first = Journal(str(path), Attempt(1))
    first.append("started")
    first.append("running")
    path.write_bytes(path.read_bytes()[:-7])
    second = Journal(str(path), Attempt(1))
    second.append("finalizing")
    page = decode_page(path.read_bytes())
    assert [f.kind for f in page.facts] == ["started", "finalizing"]
    assert page.bad_lines == 1
    assert len({f.number for f in page.facts}) == 2
