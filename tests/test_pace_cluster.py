"""How often Slurm is asked, counted by wrappers around its commands."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from tests.lab import eventually
from tests.submission import Place

pytestmark = pytest.mark.cluster

ASKING = ("squeue", "scontrol", "sacct", "sinfo")
SECONDS = 8
INTERVAL = 2
SITE = f"""\
schema_version: 1
id: mine
default_target: main
targets:
  main: {{partition: main, time: {{default: 5m, max: 1h}}}}
scheduler: {{poll: {{interval_seconds: {INTERVAL}, max_interval_seconds: {INTERVAL}}}}}
"""


def counting(place: Place, calls: Path) -> Path:
    """A folder for PATH, with wrappers that write down each call of Slurm's commands."""
    calls.touch()
    calls.chmod(0o666)
    folder = place.script("none", "")
    for name in ASKING:
        call = f'#!/bin/bash\necho {name} >> {calls}\nexec /usr/bin/{name} "$@"\n'
        (folder / name).write_text(call)
        (folder / name).chmod(0o755)
    return folder


def counted(place: Place, runs: list[str]) -> Counter[str]:
    """How often each of Slurm's commands is called while so many runs are waited for at once; never
    more often than the pace allows."""
    calls = place.source / f"calls-{len(runs)}"
    folder = counting(place, calls)
    began = time.monotonic()
    waiting = [
        place.start("wait", "--timeout", str(SECONDS), run_id, bin=folder) for run_id in runs
    ]
    for process in waiting:
        process.communicate()
        assert process.returncode == 22, process.returncode
    counts = Counter(calls.read_text().split())
    assert 1 <= counts["squeue"] <= questions(began), counts
    return counts


def questions(began: float) -> int:
    """How many there may be since then: programs begin, and end, one after another."""
    return int((time.monotonic() - began) // INTERVAL) + 1


def held(place: Place) -> str:
    """A run that waits, at a site that may be asked often."""
    sites = place.source / ".hpcrun/site_configs"
    sites.mkdir(parents=True)
    (sites / "mine.yaml").write_text(SITE)
    assert place.run("submit", "-t", "mine", "--set", "sbatch={hold: null}").returncode == 0
    (run_id,) = place.names()
    return run_id


def test_twenty_that_wait_ask_no_more_than_one(place: Place) -> None:
    run_id = held(place)
    one = counted(place, [run_id])
    twenty = counted(place, [run_id] * 20)
    place.run("cancel", run_id)
    assert set(one) == set(twenty) == {"squeue"}


def test_twenty_that_wait_hear_of_an_end_by_one_question(place: Place) -> None:
    """Who canceled it, only scontrol and sacct tell."""
    run_id = held(place)
    (job,) = place.jobs()[run_id]
    calls = place.source / "calls"
    folder = counting(place, calls)
    waiting = [place.start("wait", "--timeout", "300", run_id, bin=folder) for _ in range(20)]
    eventually(lambda: "squeue" in calls.read_text())
    began = time.monotonic()
    assert place.lab.cluster.run("root", ["scancel", job]).returncode == 0
    for process in waiting:
        _, error = process.communicate()
        assert process.returncode == 21 and "canceled by root" in error
    counts = Counter(calls.read_text().split())
    # sacct may hear of it later than the controller, and is asked again then.
    assert 1 <= counts["scontrol"] <= questions(began), counts
    assert counts["sacct"] <= questions(began) + 4, counts


def test_a_list_asks_once_though_no_answer_can_be_kept(place: Place) -> None:
    """Whatever the pace, and however long the answer takes."""
    for _ in range(3):
        assert place.run("submit", "--set", "sbatch={hold: null}").returncode == 0
    folder = counting(place, place.source / "calls")
    done = place.run("list", bin=folder, XDG_CACHE_HOME="/dev/null")
    assert place.run("cancel", *place.names()).returncode == 0
    assert done.stdout.count("Queued") == 3
    assert (place.source / "calls").read_text().split() == ["squeue"]
