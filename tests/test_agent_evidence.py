"""What logs and the kernel's counters tell of an end."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcrun.agent import evidence, setting
from hpcrun.agent.memory import JobGroup, MemoryKills, job_groups
from hpcrun.agent.ranks import Exits
from hpcrun.agent.setting import Setting
from hpcrun.journal import Journal
from hpcrun.layout import Attempt
from tests.agent_job import Job, until

MEMORY = Path("/sys/fs/cgroup/memory")
HOST = os.uname().nodename

# As Slurm 22.05.8 and 21.08 write them, plain and through `srun --label`.
LINES = {
    "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0. Some of the step tasks have been"
    " OOM Killed.": "0",
    "slurmstepd: error: Detected 2 oom-kill event(s) in StepId=7.batch. Some of your processes may"
    " have been killed by the cgroup out-of-memory handler.": "batch",
    "0: slurmstepd: error: Detected 1 oom_kill event in StepId=31.4. Some": "4",
    "slurmstepd-n1: error: Detected 1 oom-kill event(s) in StepId=229.0. Some of your": "0",
}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path, tmp_path / "sdk").make()


@pytest.fixture
def told(job: Job) -> Setting:
    return setting.read(job.environment())


@pytest.mark.parametrize("line", LINES)
def test_slurms_own_words_on_memory(job: Job, told: Setting, line: str) -> None:
    job.batch_log.write_text(f"training\n{line}\nsrun: error: n1: task 0: Out Of Memory\n")
    (kill,) = evidence.memory_kills(told, 0)
    assert kill["step"] == LINES[line]
    assert kill["evidence"] in line
    assert evidence.memory_kills(told, evidence.size(str(job.batch_log))) == []


def test_talk_of_memory_is_no_evidence(job: Job, told: Setting) -> None:
    job.batch_log.write_text("my oom_kill event handler\nslurmstepd: error: Detected nothing\n")
    assert evidence.memory_kills(told, 0) == []


def fall(told: Setting, host: str, *ends: tuple[int, int, float]) -> None:
    journal = Journal(told.paths.journal(f"node-{host}-{told.attempt}"), told.attempt)
    for rank, status, time in ends:
        journal.append("rank_ended", {"rank": rank, "status": status, "host": host, "time": time})
    journal.close()


def write_log(told: Setting, name: str, text: str) -> None:
    folder = Path(told.paths.attempt_logs(told.attempt))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_the_rank_that_fell_first_is_heard(told: Setting) -> None:
    fall(told, "n1", (0, 0, 1.0), (1, 9, 20.5))
    fall(told, "n2", (2, 1, 20.25), (3, 143, 30.0))
    for rank in range(4):
        write_log(told, f"rank-{rank}.log", f"I am {rank}\n")
    assert evidence.last_words(told, 0) == ["I am 2"]


def test_other_attempts_are_not_heard(told: Setting, job: Job) -> None:
    fall(told._replace(attempt=Attempt(1, 1)), "n1", (1, 9, 1.0))
    write_log(told, "rank-1.log", "I am 1\n")
    job.batch_log.write_text("srun: error: cannot start\n")
    assert evidence.last_words(told, 0) == ["srun: error: cannot start"]


def test_a_rank_is_heard_in_its_nodes_log(told: Setting) -> None:
    fall(told, "n1", (7, 1, 1.0))
    write_log(told, "node-n1.log", "[7] seven\n[70] seventy\n[7] \n[7] fell\n[8] eight\n")
    assert evidence.last_words(told, 0) == ["seven", "", "fell"]


def test_a_traceback_is_heard_with_the_last_lines_behind_it(told: Setting) -> None:
    fall(told, "n1", (0, 1, 1.0))
    trace = "Traceback (most recent call last):\n  File 'x'\n    f()\nKeyError: 'y'\n"
    again = trace.replace("KeyError", "ValueError")
    during = "\nDuring handling of the above exception, another exception occurred:\n\n"
    bye = [f"wandb: {n}" for n in range(7)]
    write_log(told, "rank-0.log", "epoch 1\n" + trace + during + again + "\n".join(bye))
    assert evidence.last_words(told, 0) == [*again.splitlines(), *bye[-5:]]
    deep = trace.replace("    f()\n", "    f()\n" * 30)
    write_log(told, "rank-0.log", deep)
    words = evidence.last_words(told, 0)
    assert (len(words), words[-1]) == (15, "KeyError: 'y'")


def test_a_traceback_is_heard_as_pytorch_writes_it(told: Setting) -> None:
    fall(told, "n1", (2, 1, 5.0))
    trace = "Traceback (most recent call last):\n  line 3\nValueError: bad\n"
    written = "".join(f"[rank2]: {line}" for line in trace.splitlines(keepends=True))
    write_log(told, "rank-2.log", "".join(f"step {n}\n" for n in range(50)) + written)
    assert evidence.last_words(told, 0) == trace.splitlines()


def test_a_traceback_that_a_rank_has_outlived_hides_no_last_words(told: Setting) -> None:
    fall(told, "n1", (0, 3, 1.0))
    lines = ["Traceback (most recent call last):", "  File 'x'", "KeyError: 'y'", "gave up"]
    write_log(told, "rank-0.log", "\n".join([*lines[:3], *"abcdef", lines[3]]))
    assert evidence.last_words(told, 0) == [*lines[:3], *"abcdef", lines[3]]


def test_no_more_than_twenty_lines_and_four_kibibytes(told: Setting, job: Job) -> None:
    job.batch_log.write_bytes(b"".join(b"%d\n" % n for n in range(100000)))
    assert evidence.last_words(told, 0) == [str(n) for n in range(99980, 100000)]
    job.batch_log.write_bytes(b"\xff" * 9_000 + b"\n" + b"x" * 9_000)
    words = evidence.last_words(told, 0)
    assert 0 < len("\n".join(words).encode()) <= 4096


@pytest.fixture
def task_group() -> Iterator[Path]:
    """A control group of 32 MiB as Slurm makes them for a task."""
    if os.geteuid() != 0 or not (MEMORY / "memory.oom_control").exists():
        pytest.skip("needs root, and the memory controller of cgroup version 1")
    own = next(
        line.split(":", 2)[2]
        for line in Path("/proc/self/cgroup").read_text().splitlines()
        if line.split(":")[1] == "memory"
    )
    task = MEMORY / own.lstrip("/") / f"job_{os.getpid()}" / "step_0" / "task_1"
    task.mkdir(parents=True)
    try:
        (task / "memory.limit_in_bytes").write_text(str(32 << 20))
        yield task
    finally:
        for folder in (task, *task.parents[:2]):
            until(lambda folder=folder: is_removed(folder))


def is_removed(group: Path) -> bool:
    """It stays busy for a moment after its last process has ended."""
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.exists()


HOG = "x = b'x' * (200 << 20)"


def test_the_kernels_counter_names_the_step(task_group: Path) -> None:
    kills = MemoryKills(JobGroup(str(task_group.parents[1]), unified=False), HOST)
    assert kills.new() == []
    hog = f"open({str(task_group / 'cgroup.procs')!r}, 'w').write('0'); {HOG}"
    assert subprocess.run([sys.executable, "-c", hog]).returncode == -9
    (fact,) = kills.new()
    assert (fact["step"], fact["host"]) == ("0", HOST)
    assert "killed a process for memory in step_0" in fact["evidence"]
    assert kills.new() == []


def test_a_rank_sees_it_in_its_own_group(task_group: Path, job: Job, sdk: Path) -> None:
    """The group is gone with its step, before anybody else may have looked."""
    enter = 'echo $$ > "$0"; exec "$@"'
    shim = (str(task_group / "cgroup.procs"), "sh", str(sdk / "hpcrun/agent/task.sh"))
    spool = {"HPCRUN_SPOOL": str(job.spool)}
    for words, told in (
        (("sh", "-c", "kill -9 $$"), []),
        ((sys.executable, "-c", HOG), ["memory"]),
    ):
        done = subprocess.run(["sh", "-c", enter, *shim, *words], env=job.environment(**spool))
        assert done.returncode == 137
        assert (job.spool / "exits").read_text().splitlines()[-1].split()[4:] == told
    end = Exits(str(job.spool)).new()[-1]
    assert (end["rank"], end["status"], end["memory"]) == (0, 137, True)


def test_version_two_counts_in_the_step_itself(tmp_path: Path) -> None:
    step = tmp_path / "step_batch"
    (step / "user").mkdir(parents=True)
    events = step / "memory.events"
    events.write_text("low 0\nhigh 0\nmax 4\noom 1\noom_kill 1\n")
    kills = MemoryKills(JobGroup(str(tmp_path), unified=True), HOST)
    assert kills.new() == []
    events.write_text("low 0\nhigh 0\nmax 9\noom 3\noom_kill 4\noom_group_kill 0\n")
    (fact,) = kills.new()
    assert fact["step"] == "batch"
    assert "3 processes" in fact["evidence"]
    events.unlink()
    assert kills.new() == []


MOUNTS = [
    ["cgroup", "/sys/fs/cgroup/memory", "cgroup", "rw,memory", "0", "0"],
    ["cgroup2", "/sys/fs/cgroup", "cgroup2", "rw", "0", "0"],
]


@pytest.mark.parametrize(
    ("membership", "expected"),
    [
        ("4:memory:/slurm/uid_0/job_7/step_batch", "/sys/fs/cgroup/memory/slurm/uid_0/job_7"),
        (
            "0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_0",
            "/sys/fs/cgroup/system.slice/slurmstepd.scope/job_7",
        ),
        ("0::/user.slice/session-1.scope", None),
        ("3:cpuset:/slurm/uid_0/job_7/step_batch", None),
    ],
)
def test_the_group_of_the_job(membership: str, expected: str | None) -> None:
    found = next(job_groups([membership], MOUNTS), None)
    assert (found and found.path) == expected
