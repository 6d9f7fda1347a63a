"""Jobs that work in a folder of their nodes: laid, collected while they run, and left behind."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from hpcrun.journal import Journal
from hpcrun.layout import Attempt
from tests.agent_job import Job, alive, kill, pid_in, small_disk, status_of, until
from tests.test_agent import other_node
from tests.test_agent_lay import store


@pytest.fixture
def job(tmp_path: Path, sdk: Path) -> Job:
    return Job(tmp_path, sdk).make(**asked(tmp_path))


def asked(root: Path, **agent: Any) -> dict[str, Any]:
    """A request with a snapshot, and a working folder on the node."""
    if not (root / "manifest.json").exists():
        store(root, {"train.py": b"print(1)\n", "up": "train.py"})
    return {
        "snapshot": {"manifest": str(root / "manifest.json"), "objects": str(root / "objects")},
        "working_directory": {"folder": str(root / "work"), "shared": False},
        "agent": {"kill_wait_seconds": 2, "heartbeat_seconds": 1, **agent},
    }


def work_of(job: Job) -> Path:
    return job.root / f"work-{job.attempt}"


def variables(job: Job) -> dict[str, str]:
    work = work_of(job)
    return {
        "HPCRUN_WORKING_DIRECTORY": str(work),
        "HPCRUN_OUTPUT_DIRECTORY": str(work / "outputs"),
        "PYTHONPATH": str(work),
    }


def shell(job: Job, text: str, teardown: str = "") -> int:
    return job.run("sh", "-c", text, teardown=teardown, **variables(job))


def problems(job: Job) -> list[str]:
    return [fact.data["message"] for fact in job.facts("problem")]


def test_a_job_works_there_and_leaves_nothing_there(job: Job) -> None:
    text = "pwd > outputs/where; cat up > outputs/source; echo 1 > logs/a; echo 2 > elsewhere"
    assert shell(job, text, teardown="pwd > teardown") == 0
    assert (job.files / "outputs/where").read_text() == f"{work_of(job)}\n"
    assert (job.files / "outputs/source").read_text() == "print(1)\n"
    assert (job.files / "logs/a").read_text() == "1\n"
    assert (job.files / "teardown").read_text() == f"{job.files}\n"
    assert not (job.files / "train.py").exists()
    assert not work_of(job).exists()
    assert problems(job) == []
    assert job.folded().undrained == ()


def test_the_shim_works_there_too(job: Job) -> None:
    words = [*job.shim, "sh", "-c", "pwd > outputs/where; echo said"]
    assert job.run(*words, **variables(job)) == 0
    assert (job.files / "outputs/where").read_text() == f"{work_of(job)}\n"
    assert (job.files / "user_logs/1.0/rank-0.log").read_text() == "said\n"


def test_files_come_while_the_command_runs(job: Job) -> None:
    text = "echo 1 > outputs/early; while ! test -e stop; do echo x >> logs/log; sleep 0.1; done"
    running = job.start("sh", "-c", text, **variables(job))
    until((job.files / "outputs/early").exists)
    until((job.files / "logs/log").exists)
    (work_of(job) / "stop").touch()
    assert status_of(running) == 0


def test_files_that_take_longer_than_the_grace_time_are_waited_for(job: Job) -> None:
    job.ask(**asked(job.root, kill_wait_seconds=0.2))
    text = "for n in 1 2 3 4; do head -c 150000000 /dev/urandom > outputs/$n; done"
    assert shell(job, text) == 0
    sizes = [(job.files / f"outputs/{n}").stat().st_size for n in (1, 2, 3, 4)]
    assert sizes == [150_000_000] * 4
    assert job.folded().undrained == ()


def test_a_requeue_sees_what_was_brought_and_replaces_it(job: Job) -> None:
    assert shell(job, "echo 1 > outputs/checkpoint; echo a > outputs/kept") == 0
    again = job.again("1.1")
    text = (
        "cat outputs/checkpoint > outputs/seen; rm outputs/checkpoint; echo 2 > outputs/checkpoint"
    )
    assert shell(again, text) == 0
    assert (job.files / "outputs/seen").read_text() == "1\n"
    assert (job.files / "outputs/checkpoint").read_text() == "2\n"
    assert (job.files / "outputs/kept").read_text() == "a\n"
    assert not (job.files / "outputs/kept").is_symlink()
    assert problems(job) == []


def test_a_requeue_does_not_go_on_from_half_a_checkpoint(job: Job) -> None:
    rules = {"checkpoints": {"patterns": ["checkpoint-*"], "marker": "complete"}}
    job.ask(**asked(job.root, **rules))
    text = "mkdir outputs/checkpoint-{0}; echo {0} | tee outputs/checkpoint-{0}/complete"
    assert shell(job, f"{text.format(1)}; {text.format(2)}; touch -d @9 outputs/checkpoint-1") == 0
    *seen, last = (fact.data["names"] for fact in job.facts("partial"))
    assert set(chain(*seen)) == {"outputs/checkpoint-1", "outputs/checkpoint-2"} and last == []
    journal = Journal(str(job.record / "node-other-1.0.jsonl"), Attempt(1))
    journal.append("partial", {"host": "other", "names": ["outputs/checkpoint-2"]})
    journal.close()
    again = job.again("1.1")
    assert shell(again, "ls outputs > seen; cp seen outputs; echo $HPCRUN_RESUME_FROM") == 0
    assert (job.files / "outputs/seen").read_text() == "checkpoint-1\n"
    assert again.fact("resumed").data["path"] == str(job.files / "outputs/checkpoint-1")


def test_a_requeue_that_writes_through_a_link_writes_to_the_history(job: Job) -> None:
    assert shell(job, "echo 1 > outputs/log") == 0
    assert shell(job.again("1.1"), "echo 2 >> outputs/log") == 0
    assert (job.files / "outputs/log").read_text() == "1\n2\n"
    assert problems(job) == []


def test_a_node_without_room_lets_the_job_work_in_the_history(job: Job) -> None:
    work_of(job).write_text("in the way")
    assert shell(job, "pwd > outputs/where; echo $PYTHONPATH > outputs/path; cat up") == 0
    assert (job.files / "outputs/where").read_text() == f"{job.files}\n"
    assert (job.files / "outputs/path").read_text().startswith(f"{job.files}:")
    assert any("the job works in" in text for text in problems(job))
    assert work_of(job).read_text() == "in the way"
    assert job.folded().undrained == ()


def test_a_folder_of_somebody_else_is_neither_used_nor_removed(job: Job) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to give a folder away")
    (work_of(job) / "outputs").mkdir(parents=True)
    (work_of(job) / "outputs/foreign").touch()
    os.chown(work_of(job), 65534, -1)
    assert shell(job, "pwd > outputs/where") == 0
    assert (job.files / "outputs/where").read_text() == f"{job.files}\n"
    assert not (job.files / "outputs/foreign").exists()
    assert (work_of(job) / "outputs/foreign").exists()


def test_what_a_full_history_does_not_take_stays_and_is_told(tmp_path: Path, sdk: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    with small_disk(tmp_path / "disk", "4m") as disk:
        job = Job(tmp_path, sdk).make(**asked(tmp_path, kill_wait_seconds=1))
        shutil.rmtree(job.files)
        job.files.symlink_to(disk)
        Path(job.paths.user_logs).mkdir()
        assert shell(job, "echo 1 > outputs/small; head -c 9000000 /dev/urandom > outputs/big") == 0
        assert (job.files / "outputs/small").read_text() == "1\n"
        (left,) = job.folded().uncollected
        assert (left.files, left.bytes, left.where) == (1, 9_000_000, str(work_of(job)))
        assert any("No space" in text for text in problems(job))
        assert (work_of(job) / "outputs/big").stat().st_size == 9_000_000


def test_a_killed_keeper_is_replaced_and_loses_no_file(job: Job) -> None:
    text = "echo 1 > outputs/a; while ! test -e stop; do sleep 0.1; done; echo 2 > outputs/b"
    running = job.start("sh", "-c", text, **variables(job))
    until((job.files / "outputs/a").exists)
    found = [int(pid) for pid in children_of(running.pid) if not cmdline(pid).startswith(b"sh\0")]
    assert found
    for pid in found:
        kill(pid)
    (work_of(job) / "stop").touch()
    assert status_of(running) == 0
    assert (job.files / "outputs/b").read_text() == "2\n"
    assert not work_of(job).exists()


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def cmdline(pid: str) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_kill_of_the_agent_loses_no_file(job: Job) -> None:
    text = "echo $$ > pid; echo 1 > outputs/a; exec sleep 60"
    running = job.start("sh", "-c", text, **variables(job))
    pid = pid_in(work_of(job) / "pid")
    kill(running.pid)
    running.wait()
    until(lambda: job.facts("drained"))
    assert not alive(pid)
    assert (job.files / "outputs/a").read_text() == "1\n"
    until(lambda: not work_of(job).exists())


def test_a_job_that_is_told_to_stop_tells_what_waits_and_brings_it(job: Job) -> None:
    code = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *a: sys.exit(0))\n"
    code += "print(1, file=open('outputs/late', 'w'), flush=True)\nwhile True: time.sleep(0.05)"
    running = job.start(sys.executable, "-c", code, **variables(job))
    late = work_of(job) / "outputs/late"
    until(lambda: late.exists() and late.read_text() == "1\n")
    running.send_signal(signal.SIGTERM)
    assert status_of(running) == 0
    assert (job.files / "outputs/late").read_text() == "1\n"
    assert job.folded().uncollected == ()


# -- another node ---------------------------------------------------------------------------------


def two_nodes(job: Job, launcher: str) -> dict[str, str]:
    """As if a second node had its own folder of the same name."""
    work = f"export HPCRUN_WORKING_DIRECTORY={job.root}/work2; {launcher}"
    job.ask(**asked(job.root, node_helpers=other_node(job, work)))
    return {**variables(job), "HPCRUN_NODELIST": f"{os.uname().nodename} other"}


def test_the_command_waits_until_the_other_node_has_laid_its_source(job: Job) -> None:
    more = two_nodes(job, "sleep 1; exec")
    text = f"cat {job.root}/work2/up > outputs/source"
    assert job.run("sh", "-c", text, **more) == 0
    assert (job.files / "outputs/source").read_text() == "print(1)\n"
    assert not (job.root / "work2").exists()


@pytest.mark.parametrize("launcher", ["exit 3; ", "touch $HPCRUN_WORKING_DIRECTORY; exec"])
def test_a_node_that_cannot_lay_its_source_lets_the_job_work_in_the_history(
    job: Job, launcher: str
) -> None:
    assert job.run("sh", "-c", "pwd > outputs/where", **two_nodes(job, launcher)) == 0
    assert (job.files / "outputs/where").read_text() == f"{job.files}\n"
    assert "not every other node has laid the snapshot" in problems(job)


def test_a_node_that_cannot_lay_all_of_its_source_keeps_nothing_of_it(job: Job) -> None:
    """Here no node has all of it any more, once the first node has its own."""
    late = f"until test -L {work_of(job)}/up; do sleep 0.05; done; rm -r {job.root}/objects; exec"
    assert job.run("true", **two_nodes(job, late)) == 1
    assert any("the job cannot work on" in text for text in problems(job))
    assert not (job.root / "work2").exists() and not work_of(job).exists()


# -- left behind ----------------------------------------------------------------------------------


def bring(job: Job, first: str = "yes") -> int:
    return status_of(job.call("bring-files", str(work_of(job)), str(job.files), first))


def test_what_was_left_behind_is_brought_later(job: Job) -> None:
    (work_of(job) / "outputs").mkdir(parents=True)
    (work_of(job) / "outputs/model").write_text("new")
    (job.files / "outputs").mkdir()
    (job.files / "outputs/model").write_text("old")
    assert bring(job) == 0
    assert job.batch_log.read_text() == "3\n"
    assert (job.files / "outputs/model").read_text() == "new"
    assert not work_of(job).exists()
    assert bring(job) == 0


def test_what_an_earlier_attempt_left_behind_replaces_nothing(job: Job) -> None:
    (work_of(job) / "outputs").mkdir(parents=True)
    (work_of(job) / "outputs/model").write_text("old")
    (job.files / "outputs").mkdir()
    (job.files / "outputs/model").write_text("new")
    assert bring(job, "no") == 0
    assert (job.files / "outputs/model").read_text() == "new"
    apart = job.files / "outputs/.nodes" / os.uname().nodename / "model"
    assert apart.read_text() == "old"
