"""`hpcrun store seal`: which runs it seals, and that nothing else tells the difference."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hpcrun.errors import StoreError
from hpcrun.layout import UserPaths
from hpcrun.store.users import login_of
from tests.agent_job import alive, until

RUN_YAML = "script: train.py\nexperiment: seals\nresources: {time: 5m}\n"
TRAIN = """\
import pathlib, time
from hpcrun import Run

run = Run.get_context()
for step in range(50):
    run.log("loss", 1 / (step + 1), step=step)
run.log_row("table", a=1, b="x")
run.tag("kind", "baseline")
pathlib.Path("outputs/model").write_text("0")
while pathlib.Path(__file__).with_name("wait").exists():
    time.sleep(0.05)
"""


class Here:
    """hpcrun on this machine, with a workspace and a cache of its own."""

    def __init__(self, root: Path) -> None:
        self.workspace = root / "history"
        self.source = root / "source"
        self.cache = root / "cache"
        self.source.mkdir()
        (self.source / "train.py").write_text(TRAIN)
        (self.source / "run.yaml").write_text(RUN_YAML)
        self.own = UserPaths.of(str(self.workspace), login_of(os.getuid()))

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HPCRUN_", "SLURM_"))}
        return subprocess.run(
            [sys.executable, "-m", "hpcrun", "-w", str(self.workspace), *words],
            cwd=self.source,
            env={**kept, "XDG_CACHE_HOME": str(self.cache)},
            capture_output=True,
            text=True,
        )

    def json(self, *words: str) -> Any:
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        return self.over(json.loads(done.stdout), words)

    def over(self, told: Any, words: tuple[str, ...]) -> Any:
        """What a command told; of a run that was followed once its process is gone, too: its end
        is told, and synced, before."""
        if "--follow" in words:
            pid = int(told["job_id"].split(":")[1])
            until(lambda: not alive(pid))
        return told

    def fetched(self, run_id: str, name: str) -> str:
        """The path of a copy of one of its files."""
        return str(self.source / self.json("download", run_id, name)["path"])

    def told(self, run_id: str) -> list[Mapping[str, Any]]:
        """What the commands tell of a run, but where its record lies."""
        run = self.json("show", run_id)
        report = self.json("report", run_id)
        for value in (run, report["run"]):
            value.pop("record")
        names = [file["name"] for file in self.json("files", run_id)]
        return [run, report, self.json("metrics", run_id), names, self.json("logs", run_id)]


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def test_a_sealed_run_tells_what_it_told(here: Here) -> None:
    (here.source / "README").write_text("x")
    run_id = here.json("submit", "--follow")["run_id"]
    listed = here.json("list")
    before = here.told(run_id)
    done = here.run("store", "seal")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"run {run_id}: ") and done.stderr == ""
    assert here.told(run_id) == before
    (run,) = here.json("list")
    assert {**run, "record": listed[0]["record"]} == listed[0]
    assert run["record"].startswith(here.own.runs) and run["record"].endswith(f"{run_id}.h5")
    # Its copy of the source has gone: the snapshot holds it as well.
    left = sorted(os.listdir(run["files"]))
    assert left == ["logs", "outputs", "user_logs"]
    # There is nothing more to seal.
    assert here.json("store", "seal") == []


def test_where_there_is_no_run_nothing_is_done(here: Here) -> None:
    assert here.json("store", "seal") == [] and here.json("store", "index") == {"runs": 0}
    assert here.run("store", "seal", "--due").returncode == 0
    assert not here.workspace.exists()


def test_a_run_that_goes_on_is_not_sealed(here: Here) -> None:
    (here.source / "wait").write_text("")
    run_id = here.json("submit")["run_id"]
    until(lambda: here.json("show", run_id)["status"] == "Running")
    done = here.run("store", "seal", run_id)
    assert done.returncode == StoreError.exit_code
    assert f"run {run_id} cannot be sealed: it is Running" in done.stderr
    assert here.json("store", "seal") == []
    copy = Path(here.json("show", run_id)["files"], "wait")
    copy.unlink()
    here.run("wait", run_id)
    until(lambda: here.run("store", "seal", run_id).returncode == 0)


def test_a_record_that_is_too_large_stays_as_it_is(here: Here) -> None:
    run_id = here.json("submit", "--follow")["run_id"]
    with Path(here.own.active, run_id, "large").open("wb") as file:
        file.truncate((256 << 20) + 1)
    done = here.run("store", "seal", run_id)
    assert done.returncode == StoreError.exit_code
    assert "268435456 are sealed at most (its journals stay, and every" in done.stderr


def test_a_run_whose_job_lives_is_not_sealed(here: Here) -> None:
    """Its end is told, and a process of it is still there."""
    (here.source / "wait").write_text("")
    run_id = here.json("submit")["run_id"]
    until(lambda: here.json("show", run_id)["status"] == "Running")
    (journal,) = Path(here.own.active, run_id).glob("agent-*.jsonl")
    from hpcrun.layout import Attempt
    from hpcrun.record import Fact, encode

    end = {"exit_code": 0, "signal": None, "cause": "completed", "interrupted": False}
    with journal.open("ab") as file:
        file.write(encode(Fact("ended", Attempt(1), 1.0, 10**6, end)))
    done = here.run("store", "seal", run_id)
    assert "may be requeued while the scheduler remembers it" in done.stderr
    Path(here.json("show", run_id)["files"], "wait").unlink()
    until(lambda: here.run("store", "seal", run_id).returncode == 0)


def test_what_is_told_later_is_told_and_sealed_again(here: Here) -> None:
    run_id = here.json("submit", "--follow")["run_id"]
    here.json("store", "seal", run_id)
    from hpcrun import Run, Workspace

    run = Run.get(Workspace(here.workspace), run_id)
    run.tag("kind", "best")
    run.display_name = "the best one"
    assert here.json("show", run_id)["tags"] == {"kind": "best"}
    (sealed,) = here.json("store", "seal")
    assert sealed["sealed"].endswith(f"{run_id}.1.h5")
    told = here.json("show", run_id)
    assert (told["tags"], told["display_name"]) == ({"kind": "best"}, "the best one")


def test_what_is_due_is_sealed_by_the_next_command(here: Here) -> None:
    """In the background, once a run has ended a while ago; and not before."""
    run_id = here.json("submit", "--follow")["run_id"]
    assert here.run("store", "seal", "--due").returncode == 0
    assert here.json("show", run_id)["record"].endswith(run_id)
    old = an_hour_ago(here, run_id)
    here.json("list")
    until(lambda: here.json("show", old)["record"].endswith(".h5"))
    assert here.json("show", old)["status"] == "Completed"


def an_hour_ago(here: Here, run_id: str) -> str:
    """The same run, as if all of it had happened an hour ago."""
    from hpcrun.record import decode_page, encode

    experiment, seconds, token = run_id.rsplit("_", 2)
    older = f"{experiment}_{int(seconds) - 3600}_{token}"
    record = Path(here.own.active, run_id).rename(Path(here.own.active, older))
    request = json.loads((record / "run.json").read_text())
    request |= {"run_id": older, "created": request["created"] - 3600}
    (record / "run.json").write_text(json.dumps(request))
    for path in record.glob("*.jsonl"):
        facts = decode_page(path.read_bytes()).facts
        path.write_bytes(b"".join(encode(f._replace(time=f.time - 3600)) for f in facts))
    return older


def test_leftovers_of_killed_sealers_go_after_a_week(here: Here) -> None:
    run_id = here.json("submit", "--follow")["run_id"]
    sealed = Path(here.json("store", "seal", run_id)[0]["sealed"])
    old, new = (sealed.with_name(f".{sealed.name}.n1.7.{name}") for name in ("old", "new"))
    for path in (old, new):
        path.write_text("half")
    week = time.time() - 8 * 86400
    for path in (old, sealed):
        os.utime(path, (week, week))
    retired = Path(here.own.active, f".sealed-{run_id}.0")
    assert retired.is_dir()
    assert here.json("store", "seal") == []
    assert (old.exists(), new.exists(), retired.exists(), sealed.exists()) == (
        False, True, False, True,
    )  # fmt: skip
    assert here.json("show", run_id)["status"] == "Completed"


# Logs an image; a child has ended while the run above it goes on, until a line comes.
PARENT = """\
import sys
from hpcrun import Experiment, Workspace

with Experiment(Workspace(sys.argv[1]), "family").start_logging(snapshot_directory=None) as run:
    run.log("loss", 0.5)
    with run.child_run() as child:
        child.log("loss", 0.25)
        child.log_image("dot", path=sys.argv[2])
    print(run.id, child.id, flush=True)
    sys.stdin.readline()
"""
DOT = b"GIF87a" + bytes(range(64))


def test_a_child_is_sealed_after_the_run_above_it(here: Here, tmp_path: Path) -> None:
    """A job reads journals only, those of its children too."""
    (tmp_path / "dot.gif").write_bytes(DOT)
    words = [sys.executable, "-c", PARENT, str(here.workspace), str(tmp_path / "dot.gif")]
    env = {**os.environ, "XDG_CACHE_HOME": str(here.cache)}
    with subprocess.Popen(
        words, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        parent, child = process.stdout.readline().split()
        until(lambda: here.json("show", child)["attempts"][0]["undrained"] == [])
        reason = here.run("store", "seal", child).stderr
        assert f"cannot be sealed: run {parent} above it is Running" in reason
        process.communicate("\n")
    assert process.returncode == 0
    until(lambda: here.json("show", parent)["attempts"][0]["undrained"] == [])
    from hpcrun import Run, Workspace

    def told() -> list[Any]:
        run = Run.get(Workspace(here.workspace), child)
        image = run.get_metrics("dot", populate=True)
        above = Run.get(Workspace(here.workspace), parent).get_metrics(recursive=True)
        names = [file["name"] for file in here.json("files", child)]
        return [image, above, names, Path(here.fetched(child, names[0])).read_bytes()]

    before = told()
    assert before[0] == {"dot": DOT} and before[3] == DOT
    assert {run["run_id"] for run in here.json("store", "seal") if run["sealed"]} == {parent, child}
    assert os.listdir(here.own.active) and not Path(here.own.active, child).exists()
    assert told() == before


def test_a_sealed_run_is_deleted_whole(here: Here) -> None:
    """Its sealed files, and what lies beside them: journals that are kept, and a later word."""
    run_id = here.json("submit", "--follow")["run_id"]
    from hpcrun import Run, Workspace

    for value in ("a", "b"):
        here.json("store", "seal", run_id)
        Run.get(Workspace(here.workspace), run_id).tag("kind", value)
    lying = [path for path in Path(here.own.root).rglob("*") if run_id in path.name]
    assert len(lying) == 6  # two seals, two folders of journals, its own, and its files
    files = [path for path in Path(here.own.root).rglob("*") if run_id in str(path)]
    plan = here.json("delete", run_id)
    assert plan["files"] == sum(path.is_file() for path in files)
    assert here.json("delete", "--yes", run_id)["deleted"]
    assert [path for path in Path(here.own.root).rglob("*") if run_id in str(path)] == []
    assert here.json("list") == []
    assert here.run("show", run_id).returncode != 0


def test_a_sealed_run_is_submitted_again(here: Here) -> None:
    run_id = here.json("submit", "--follow")["run_id"]
    here.json("store", "seal", run_id)
    before = here.json("metrics", run_id)
    run = here.json("resubmit", run_id, "--follow")
    assert (run["status"], len(run["attempts"])) == ("Completed", 2)
    assert here.json("show", run_id)["record"] == str(Path(here.own.active, run_id))
    (sealed,) = here.json("store", "seal", run_id)
    assert sealed["sealed"].endswith(f"{run_id}.1.h5")
    run = here.json("show", run_id)
    assert [attempt["status"] for attempt in run["attempts"]] == ["Completed"] * 2
    assert here.json("metrics", run_id)["loss"] == before["loss"]


def test_files_of_a_run_that_was_submitted_again_are_taken_anew(here: Here) -> None:
    run_id = here.json("submit", "--follow")["run_id"]
    here.json("store", "seal", run_id)
    here.json("resubmit", run_id, "--follow")
    here.json("store", "seal", run_id)
    assert all(file["sha256"] for file in here.json("files", run_id))
    assert here.json("files", run_id, "--check")["differences"] == []


# Its first attempt makes a child; later ones read what that has logged.
FAMILY = """\
import os
from hpcrun import Run

run = Run.get_context()
if os.environ["HPCRUN_ATTEMPT"].startswith("1."):
    with run.child_run() as child:
        child.log("score", 7)
else:
    print("children:", [v for k, v in run.get_metrics(recursive=True).items() if k != run.id])
"""


def test_a_job_that_begins_again_reads_its_sealed_children(here: Here) -> None:
    """In a job only journals can be read."""
    (here.source / "train.py").write_text(FAMILY)
    run = here.json("submit", "--follow")
    (child,) = here.json("show", run["run_id"])["children"]
    until(lambda: here.json("show", child)["attempts"][0]["undrained"] == [])
    assert len([done for done in here.json("store", "seal") if done["sealed"]]) == 2
    here.json("resubmit", run["run_id"], "--follow")
    assert "children: [{'score': 7}]" in here.json("logs", run["run_id"])["text"]
    assert here.json("show", child)["record"].endswith(child)
    seals = [done["sealed"] for done in here.json("store", "seal")]
    assert len(seals) == 2 and all(path.endswith(".1.h5") for path in seals)
    assert here.json("metrics", child) == {"score": 7}


# Begins a child of an id that its caller chose.
OWN_ID = """\
import sys
from hpcrun import Experiment, Workspace

with Experiment(Workspace(sys.argv[1]), "family").start_logging(snapshot_directory=None) as run:
    with run.child_run(run_id="family_1700000000_0123abcd") as child:
        child.log("loss", 0.25)
"""


def test_no_child_takes_the_id_of_a_sealed_run(here: Here) -> None:
    words = [sys.executable, "-c", OWN_ID, str(here.workspace)]
    env = {**os.environ, "XDG_CACHE_HOME": str(here.cache)}
    assert subprocess.run(words, env=env).returncode == 0
    run_id = "family_1700000000_0123abcd"
    until(lambda: here.json("show", run_id)["attempts"][0]["undrained"] == [])
    before = here.json("store", "seal", run_id)[0]["sealed"]
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    assert f"StoreError: there is a run {run_id} already" in done.stderr
    assert here.json("show", run_id)["record"] == before


def test_an_archived_run_stays_hidden_when_it_is_sealed(here: Here) -> None:
    run_id = here.json("submit", "--follow")["run_id"]
    here.json("archive", run_id)
    here.json("store", "seal", run_id)
    assert here.json("list") == []
    assert [run["run_id"] for run in here.json("list", "--archived")] == [run_id]
    here.json("archive", "--undo", run_id)
    assert [run["archived"] for run in here.json("list")] == [False]
    here.json("archive", "-e", "seals")
    assert here.json("list") == []


def test_runs_are_sorted_by_a_metric_or_a_column(here: Here) -> None:
    """Sealed or not; `-` for the greatest first."""
    ids = []
    for rate, seal in (("0.5", True), ("0.125", False), ("0.25", True)):
        text = f"from hpcrun import Run\nRun.get_context().log('loss', {rate})\n"
        (here.source / "train.py").write_text(text)
        ids.append(here.json("submit", "--follow")["run_id"])
        if seal:
            here.json("store", "seal", ids[-1])
    half, eighth, quarter = ids
    assert here.json("store", "index") == {"runs": 2}
    listed = here.json("list", "--sort", "loss")
    assert [run["run_id"] for run in listed] == [eighth, quarter, half]
    assert [run["metrics"] for run in listed] == [{"loss": 0.125}, {"loss": 0.25}, {"loss": 0.5}]
    first = here.run("list", "--sort", "-loss", "-n", "1").stdout.splitlines()
    assert first[0].split("\t")[:2] == ["run", "loss"]
    assert first[1].split("\t")[:2] == [half, "0.5"]
    created = here.json("list", "--sort", "created")
    assert [run["run_id"] for run in created] == ids and "metrics" not in created[0]
