"""What the agent loses where it or a disk fails: nothing. Real processes, real kills."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpcrun.state import Cause, State
from tests.agent_job import (
    LOG_POINTS,
    Job,
    alive,
    kill,
    kill_at_once,
    logged,
    pid_in,
    points,
    small_disk,
    status_of,
    until,
)

ROOT = os.geteuid() == 0


# -- the spool ----------------------------------------------------------------------------------


def test_the_spool_is_drained_to_the_last_byte(job: Job) -> None:
    fill = (
        "import os, random\n"
        "spool = os.environ['HPCRUN_SPOOL']\n"
        "r = random.Random(3)\n"
        "for n in range(20):\n"
        "    name = f'rank-{n}-1.0-h-{n}.jsonl'\n"
        "    data = bytes(r.randrange(256) for _ in range(r.randrange(200000)))\n"
        "    open(os.path.join(spool, name), 'wb').write(data)\n"
        "    open(name, 'wb').write(data)\n"
        "os.remove(f'rank-19-1.0-h-19.jsonl')\n"
        "open('rank-19-1.0-h-19.jsonl', 'wb').write(b'torn')\n"
        "open(os.path.join(spool, 'rank-19-1.0-h-19.jsonl'), 'wb').write(b'torn')\n"
    )
    assert job.run(sys.executable, "-c", fill) == 0
    written = {path.name: path.read_bytes() for path in job.files.glob("rank-*")}
    kept = {path.name: path.read_bytes() for path in job.record.glob("rank-*")}
    assert len(written) == 20
    assert kept == written
    assert job.facts("loss") == []
    assert not job.spool.exists()


def test_the_spool_is_brought_while_the_command_runs(job: Job) -> None:
    agent = job.start(*job.shim, sys.executable, "-c", LOG_POINTS, "100000", "0.01")
    until(lambda: list(job.record.glob("rank-0-*")) and len(points(job)) > 100)
    assert job.spool.stat().st_mode & 0o777 == 0o700
    agent.terminate()
    assert status_of(agent) == 143
    assert len(points(job).splitlines()) >= logged(job)


@pytest.mark.skipif(not ROOT, reason="needs root to make a folder of somebody else")
def test_a_spool_of_somebody_else_is_not_used(job: Job) -> None:
    job.spool.mkdir()
    os.chown(job.spool, 12345, 12345)
    assert job.run(*job.shim, "sh", "-c", 'echo "${HPCRUN_SPOOL-none}" > spool') == 0
    assert (job.files / "spool").read_text() == "none\n"
    assert str(job.spool) in job.fact("problem").data["message"]
    assert list(job.spool.iterdir()) == []


@pytest.mark.skipif(not ROOT, reason="needs root to mount a small file system")
def test_a_full_disk_ends_nothing_and_loses_nothing(tmp_path: Path, sdk: Path) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        job = Job(tmp_path, sdk)
        (disk / "record").mkdir()
        (tmp_path / "record").symlink_to(disk / "record")
        Path(job.paths.user_logs).mkdir(parents=True)
        job.ask(agent={"heartbeat_seconds": 0.2})
        agent = job.start(*job.shim, sys.executable, "-c", LOG_POINTS, "4000", "0.001")
        pid_in(job.files / "pid")
        with (disk / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError):
            while True:
                filler.write(b"x" * 512)
        until(lambda: logged(job) == 4000)
        time.sleep(1)
        (disk / "filler").unlink()
        assert status_of(agent) == 0
        assert points(job).splitlines() == [b"%08d of the points" % n for n in range(4000)]
        assert job.facts("loss") == []
        assert job.folded().state == State.COMPLETED


@pytest.mark.skipif(not ROOT, reason="needs root to mount a small file system")
@pytest.mark.parametrize(("word", "status"), [("exit 3", 3), ("no-such-command", 127)])
@pytest.mark.parametrize("freed", [True, False])
def test_a_disk_that_is_full_from_the_start_changes_no_status(
    tmp_path: Path, sdk: Path, word: str, status: int, freed: bool
) -> None:
    """The record, the batch log and the run's folder lie on it; the spool does not."""
    with small_disk(tmp_path / "disk", "256k") as disk:
        job = Job(disk, sdk).make(agent={"kill_wait_seconds": 1})
        job.batch_log.touch()
        with (disk / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError):
            while True:
                filler.write(b"x" * 512)
        words = ["sh", "-c", word] if status == 3 else [word]
        agent = job.start(*words, HPCRUN_SPOOL=str(tmp_path / "spool"))
        until((job.record / "agent-1.0.jsonl").exists)
        time.sleep(2)
        if freed:
            (disk / "filler").unlink()
        assert status_of(agent) == status
        assert not (tmp_path / "spool").exists()
        if freed:
            verdict = job.folded().verdict
            assert verdict is not None and verdict.exit_code == status


@pytest.mark.skipif(not ROOT, reason="needs root to mount a small file system")
def test_a_disk_that_stays_full_is_a_loss_with_its_count(tmp_path: Path, sdk: Path) -> None:
    with small_disk(tmp_path / "disk", "256k") as disk:
        job = Job(tmp_path, sdk)
        (disk / "record").mkdir()
        (tmp_path / "record").symlink_to(disk / "record")
        Path(job.paths.user_logs).mkdir(parents=True)
        job.ask(agent={"kill_wait_seconds": 1})
        big = "import os; s = os.environ['HPCRUN_SPOOL']\n"
        big += "open(s + '/rank-0-1.0-h-1.jsonl', 'wb').write((b'x' * 99 + b'\\n') * 5000)"
        assert job.run(sys.executable, "-c", big) == 0
        assert b"records stay in" in job.batch_log.read_bytes()
        whole = (job.spool / "rank-0-1.0-h-1.jsonl").read_bytes()
        part = (job.record / "rank-0-1.0-h-1.jsonl").read_bytes()
        assert whole.startswith(part) and 0 < len(part) < len(whole)


# -- kills --------------------------------------------------------------------------------------


def agent_lost(job: Job, pid: int) -> None:
    """What must hold once the keeper has done its part."""
    until(lambda: job.facts("ended"))
    until(lambda: not job.spool.exists())
    assert not alive(pid)
    assert len(points(job).splitlines()) >= logged(job)
    assert job.facts("loss") == []
    ended = job.fact("ended").data
    assert (ended["cause"], ended["signal"], ended["exit_code"]) == ("agent_lost", 9, None)
    verdict = job.folded().verdict
    assert verdict is not None and verdict.cause == Cause.AGENT_LOST


@pytest.mark.parametrize("seed", range(4))
def test_kill_of_the_agent_loses_no_point(job: Job, seed: int) -> None:
    agent = job.start(*job.shim, sys.executable, "-c", LOG_POINTS, "100000", "0.0005")
    pid = pid_in(job.files / "pid")
    until(lambda: logged(job) > 10)
    time.sleep(random.Random(seed).random())
    kill(agent.pid)
    assert status_of(agent) == 137
    agent_lost(job, pid)


@pytest.mark.parametrize("seed", range(2))
def test_kill_of_agent_and_command_loses_no_point(job: Job, seed: int) -> None:
    agent = job.start(*job.shim, sys.executable, "-c", LOG_POINTS, "100000", "0.0005")
    pid = pid_in(job.files / "pid")
    until(lambda: logged(job) > 10)
    time.sleep(random.Random(seed).random())
    kill_at_once(agent.pid, pid)
    status_of(agent)
    agent_lost(job, pid)


def test_kill_of_the_command_loses_no_point(job: Job) -> None:
    agent = job.start(*job.shim, sys.executable, "-c", LOG_POINTS, "100000", "0.0005")
    pid = pid_in(job.files / "pid")
    until(lambda: logged(job) > 100)
    kill(pid)
    assert status_of(agent) == 137
    assert len(points(job).splitlines()) >= logged(job)
    assert job.fact("rank_ended").data["status"] == 137


def test_an_agent_that_was_stopped_goes_on(job: Job) -> None:
    """Also where it would have told a heartbeat meanwhile."""
    job.ask(agent={"heartbeat_seconds": 0.2})
    agent = job.start("sh", "-c", "echo $$ > pid; exec sleep 60")
    pid = pid_in(job.files / "pid")
    until(lambda: job.facts("heartbeat"))
    for stops in range(1, 4):
        os.kill(agent.pid, signal.SIGSTOP)
        time.sleep(0.5)
        beats = len(job.facts("heartbeat"))
        os.kill(agent.pid, signal.SIGCONT)
        until(lambda beats=beats: len(job.facts("heartbeat")) > beats)
        until(lambda stops=stops: len(job.facts("signal")) == stops)
    assert {fact.data["name"] for fact in job.facts("signal")} == {"SIGCONT"}
    os.kill(pid, signal.SIGTERM)
    assert status_of(agent) == 143
    assert job.fact("ended").data["signal"] == signal.SIGTERM


def test_kill_of_the_agent_ends_a_command_that_will_not(job: Job) -> None:
    job.ask(agent={"kill_wait_seconds": 0.5})
    agent = job.start("sh", "-c", "trap '' TERM; echo $$ > pid; while :; do sleep 1; done")
    pid = pid_in(job.files / "pid")
    kill(agent.pid)
    status_of(agent)
    until(lambda: job.facts("ended"))
    until(lambda: not alive(pid))


def test_in_slurm_the_end_is_told_before_the_ranks_are_gone(job: Job) -> None:
    job.ask(target="cluster/gpu")
    code = [sys.executable, "-c", LOG_POINTS, "3000", "0.0005", "go"]
    agent = job.start(*job.shim, *code, SLURM_JOB_ID="7")
    pid = pid_in(job.files / "pid")
    kill(agent.pid)
    status_of(agent)
    until(lambda: job.facts("ended"))
    assert alive(pid)
    (job.files / "go").touch()
    until(lambda: not job.spool.exists())
    assert len(points(job).splitlines()) == 3000
    assert job.fact("ended").data["interrupted"] is True  # Slurm says why
    assert job.fact("rank_ended").data["status"] == 0


def keeper_of(agent: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    return next(int(c) for c in children if b"run" in Path(f"/proc/{c}/cmdline").read_bytes())


def test_the_history_is_written_to_once_a_second_however_much_is_logged(job: Job) -> None:
    agent = job.start(*job.shim, sys.executable, "-c", LOG_POINTS, "100000", "0.0005")
    command, keeper = pid_in(job.files / "pid"), keeper_of(agent)

    def writes() -> int:
        told = Path(f"/proc/{keeper}/io").read_text()
        return int(told.partition("syscw: ")[2].split()[0])

    until(lambda: logged(job) > 1000)
    begin, so_far, points_so_far = time.monotonic(), writes(), logged(job)
    until(lambda: logged(job) > points_so_far + 4000)
    seconds = time.monotonic() - begin
    # The journal of metrics; the node's own word and the pipes of its ranks are seldom.
    assert 1 <= writes() - so_far <= seconds + 4
    os.kill(command, signal.SIGTERM)
    status_of(agent)


def test_a_keeper_that_is_killed_is_replaced(job: Job) -> None:
    agent = job.start(*job.shim, sys.executable, "-c", LOG_POINTS, "2000", "0.001")
    pid_in(job.files / "pid")
    kill(keeper_of(agent))
    assert status_of(agent) == 0
    assert len(points(job).splitlines()) == 2000
    assert "the keeper" in job.fact("problem").data["message"]
    assert job.folded().state == State.COMPLETED
