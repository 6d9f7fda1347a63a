"""Many runs at once: eight clients of two users submit one by one into one workspace."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.campaign import Figures, times
from tests.lab import Lab, eventually
from tests.submission import TRAIN, jobs, points

pytestmark = [pytest.mark.cluster, pytest.mark.campaign]

USERS = ("alice", "bob")
CLIENTS = 8
RUNS = times(504, 40)

# One client: (its name, ids of all, folder, how many) → what each submission took, and the tags.
# It tags the newest runs of its user's other clients too, while their agents write.
CLIENT = """\
import json, os, sys, time
from hpcrun import Experiment, Run, ScriptRunConfig, Workspace

name, known, ran, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
workspace, opened, told, tags = Workspace.from_config(), [], [], {}
COUNTED = {"open", "os.listdir", "os.scandir", "subprocess.Popen"}
sys.addaudithook(lambda what, _: opened.append(what) if what in COUNTED else None)
experiment = Experiment(workspace, "crowd")
ids = os.open(known, os.O_RDWR | os.O_APPEND | os.O_CREAT)
for number in range(count):
    src = ScriptRunConfig(source_directory=".", script="train.py", arguments=[ran])
    src.run_config.target = "test-cluster"
    opened.clear()
    begin = time.perf_counter()
    run = experiment.submit(src)
    told.append((run.id, len(opened), time.perf_counter() - begin))
    os.write(ids, (run.id + "\\n").encode())
    for other in os.pread(ids, 1 << 20, 0).decode().split()[-3:]:
        Run.get(workspace, other).tag(name, str(number))
        tags[other] = str(number)
print(json.dumps({"told": told, "tags": tags}))
"""


@dataclass(frozen=True)
class Client:
    """One client's word: its name and user; of each run (id, files opened, seconds); run → tag."""

    name: str
    user: str
    told: Sequence[tuple[str, int, float]]
    tags: Mapping[str, str]


@pytest.fixture
def workspace(lab: Lab) -> Iterator[Path]:
    """An empty one that both may write in."""
    path = lab.cluster.shared / f"crowd-{os.urandom(3).hex()}"
    path.mkdir()
    os.chown(path, 0, lab.cluster.shared.stat().st_gid)
    path.chmod(0o2775)
    yield path
    shutil.rmtree(path)


def submit_all(lab: Lab, workspace: Path) -> list[Client]:
    """All clients at once, to their ends."""
    env = lab.environment(HPCRUN_WORKSPACE=str(workspace))
    started = []
    for number in range(CLIENTS):
        user = USERS[number % 2]
        if number < len(USERS):
            lab.folder("crowd", {"train.py": TRAIN, "ran/.keep": "", ".gitignore": "ran\n"}, user)
        source = lab.cluster.home(user) / "work/crowd"
        words = [f"client{number}", str(source / "ran/ids"), str(source / "ran")]
        command = [lab.python, "-c", CLIENT, *words, str(RUNS // CLIENTS)]
        started.append((words[0], user, lab.cluster.popen(user, command, cwd=source, env=env)))
    found = []
    for name, user, process in started:
        output, error = process.communicate(timeout=900)
        assert process.returncode == 0, error
        found.append(Client(name, user, **json.loads(output)))
    return found


def test_no_record_is_lost_and_no_run_doubled(lab: Lab, workspace: Path, figures: Figures) -> None:
    clients = submit_all(lab, workspace)
    env = {"HPCRUN_WORKSPACE": str(workspace), "XDG_CACHE_HOME": "/dev/null"}

    def ended(user: str) -> dict[str, Any] | None:
        runs = {run["run_id"]: run for run in lab.json("list", "-n", "0", user=user, env=env)}
        return runs if all(run["verdict"] for run in runs.values()) else None

    for user in USERS:
        runs: dict[str, Any] = eventually(lambda user=user: ended(user), 600)
        own = [client for client in clients if client.user == user]
        ids = [run_id for client in own for run_id, *_ in client.told]
        assert sorted(runs) == sorted(ids) and len(set(ids)) == RUNS // len(USERS)
        known = jobs(lab, user)
        for run_id, run in runs.items():
            assert (run["status"], run["user"]) == ("Completed", user), run
            assert (run["problems"], run["lost_records"], run["bad_lines"]) == ([], 0, 0)
            assert known[run_id] == [run["job_id"]]
            ran = lab.cluster.home(user) / "work/crowd/ran" / run_id
            assert ran.read_text().split() == ["begun", *["logged"] * 3]
            assert points(Path(run["record"])) == [1, 1 / 2, 1 / 3]
            tags = {client.name: client.tags[run_id] for client in own if run_id in client.tags}
            assert run["tags"] == tags
    # The first submission of each imports and publishes; no later one looks at those before.
    later = [[opened for _, opened, _ in client.told[1:]] for client in clients]
    seconds = [[took for *_, took in client.told[1:]] for client in clients]
    half = len(seconds[0]) // 2
    # Who meets another at a file looks again: the least counts.
    assert all(min(opened[half:]) <= 1.1 * min(opened[:half]) for opened in later), later
    figures.tell(
        "eight clients submit",
        runs=RUNS,
        right_records=RUNS,
        files_opened_by_a_submission=f"{later[0][0]} at first, {later[0][-1]} at last",
        seconds_of_a_submission=f"{mean(seconds, 0, half):.2f} in the first half,"
        f" {mean(seconds, half, 2 * half):.2f} in the second",
    )


def mean(each: Sequence[Sequence[float]], begin: int, end: int) -> float:
    values = [value for one in each for value in one[begin:end]]
    return sum(values) / len(values)
