"""A host loses power while it writes: the last line torn or garbage, run.json empty."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from hpcrun.errors import StoreError
from hpcrun.journal import Journal
from hpcrun.layout import Attempt
from hpcrun.record import decode_page
from tests.campaign import Figures, seeded, times
from tests.commands import answer, told

TRAIN = """\
from hpcrun import Run
run = Run.get_context()
for step in range(40):
    run.log("loss", step, step=step)
run.tag("kind", "baseline")
print("trained", flush=True)
open("outputs/model", "w").write("weights")
"""


@pytest.fixture
def run(project: Path) -> Any:
    """A run that has completed here."""
    (project / "train.py").write_text(TRAIN)
    return told("wait", told("submit", "-t", "local")["run_id"])


def damaged(content: bytes, chance: random.Random) -> bytes:
    """What a crash may leave of the end of a journal: less, zeros, garbage, a line of it."""
    size = chance.randrange(1, 300)
    return chance.choice(
        [
            content[: -min(size, len(content))],
            content[:-size] + bytes(size),
            content[:-size] + chance.randbytes(size),
            content + bytes(size),
            content + chance.randbytes(size) + b"\n",
        ]
    )


def values(answered: str) -> list[int]:
    found: list[int] = json.loads(answered).get("loss", [])
    return found


@pytest.mark.campaign
def test_the_last_lines_of_any_journal(
    run: Any, project: Path, tmp_path: Path, figures: Figures
) -> None:
    history, record, run_id = tmp_path / "history", Path(run["record"]), run["run_id"]
    whole = tmp_path / "whole"
    shutil.copytree(record, whole)
    journals = sorted(path.name for path in whole.glob("*.jsonl"))
    assert len(journals) >= 5
    tries = times(300, 3 * len(journals))
    for number, chance in enumerate(seeded("journal", tries)):
        shutil.rmtree(record)
        shutil.copytree(whole, record)
        journal = record / journals[number % len(journals)]
        before = journal.read_bytes()
        journal.write_bytes(damaged(before, chance))
        after = journal.read_bytes()
        (listed,) = json.loads(answer(history, "list", "--json"))
        shown = json.loads(answer(history, "show", "--json", run_id))
        assert listed["run_id"] == shown["run_id"] == run_id
        # Of an end that is gone nobody says that the run has completed.
        assert (shown["status"] == "Completed") is ("ended" in agents(record))
        assert json.loads(answer(history, "logs", "--json", run_id))["text"] == "trained\n"
        kept = sum(line in after.split(b"\n") for line in before.splitlines() if b'"loss"' in line)
        count = kept if ".metrics" in journal.name else 40
        assert values(answer(history, "metrics", "--json", run_id)) == list(range(count))
        # Whoever writes to it next, and the journal's own writer, lose nothing.
        answer(history, "list")
        writer = Journal(str(journal), Attempt(1))
        writer.append("problem", {"message": "after the crash"})
        writer.close()
        assert decode_page(journal.read_bytes()).facts[-1].data["message"] == "after the crash"
    figures.tell("last lines of a journal damaged", journals=tries, other_lines_lost=0)


def agents(record: Path) -> set[str]:
    """The kinds of the agent's facts whose lines are whole."""
    (path,) = record.glob("agent-*.jsonl")
    return {fact.kind for fact in decode_page(path.read_bytes()).facts}


@pytest.mark.campaign
def test_an_empty_request(run: Any, project: Path, tmp_path: Path, figures: Figures) -> None:
    """Other runs are listed; this one is told, and says where its files are."""
    history, record = tmp_path / "history", Path(run["record"])
    sizes = [0, *(chance.randrange(1, 2000) for chance in seeded("request", times(50) - 1))]
    other = told("wait", told("submit", "-t", "local")["run_id"])["run_id"]
    request = (record / "run.json").read_bytes()
    for size in sizes:
        (record / "run.json").write_bytes(request[:size])
        assert [each["run_id"] for each in json.loads(answer(history, "list", "--json"))] == [other]
        for words in (["show"], ["logs", "--json"], ["metrics", "--json"], ["files"]):
            with pytest.raises(StoreError, match=r"run\.json is (damaged|empty)") as error:
                answer(history, *words, run["run_id"])
            assert size or run["files"] in error.value.hint
        assert Path(run["files"], "outputs/model").read_text() == "weights"
    figures.tell("run.json cut short, or empty", runs=len(sizes), other_runs_unseen=0)
