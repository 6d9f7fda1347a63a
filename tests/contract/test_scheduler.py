"""What every adapter to Slurm does, on the real test cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.alice import Alice, at_work, until, wrappers
from tests.cluster import Cluster

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module", autouse=True)
def over_limit(cluster: Cluster, code: Path) -> Iterator[str]:
    """A job that reaches its time limit while the other tests run: Slurm looks every 30 s."""
    with at_work(cluster, code) as alice:
        job_id = alice.sbatch("--time=1", str(alice.script("limit.sh", "sleep 300")))
        until(lambda: alice.jobs()[job_id]["state"], lambda state: state == "Starting")
        # What a limit of a minute does, without the minute (22.05).
        alice.command("scontrol", "update", f"jobid={job_id}", "EndTime=now", user="root")
        yield job_id


# -- submit, look, cancel -----------------------------------------------------------------------


def test_a_job_from_submit_to_end(alice: Alice) -> None:
    name = f"exp_{int(time.time())}_0123abcd"
    script = alice.script("job.sh", "sleep 600", f"--job-name={name}", "--nodes=2", "--mem=50")
    job_id = alice.submit(script)
    assert job_id.isdecimal()
    assert alice.find(name) == [job_id]
    word = until(alice.jobs, lambda jobs: jobs[job_id]["state"] == "Starting")[job_id]
    assert word["raw"] == "RUNNING"
    assert (len(word["nodes"]), word["restart"], word["reason"]) == (2, 0, "")
    assert alice.lives(job_id)[-1]["state"] == "Starting"
    alice.python("tell(told(slurm.cancel, JobId(sys.argv[1])))", job_id)
    word = alice.canceled(job_id)
    assert (word["state"], word["cause"]) == ("Canceled", "canceled")
    assert (word["by"], word["restart"]) == ("alice", 0)
    assert f"CANCELLED by {alice.cluster.layout.uid('alice')}" in word["raw"]
    assert abs(word["end"] - time.time()) < 60
    # A job that has ended, or never was, is no error.
    for gone in (job_id, "4000000"):
        assert alice.python("tell(told(slurm.cancel, JobId(sys.argv[1])))", gone) is None
    assert alice.find(name) == [job_id]
    assert alice.lives("4000000") == []
    assert alice.find("nobody_1795545988_0123abcd") == []


def test_the_newest_job_of_a_name_comes_first(alice: Alice) -> None:
    script = alice.script("job.sh", "sleep 600", f"--job-name={alice.folder.name}")
    first = alice.submit(script)
    time.sleep(1.1)
    second = alice.submit(script)
    assert alice.find(alice.folder.name) == [second, first]


def test_a_job_that_the_controller_forgot_is_found_in_the_records(alice: Alice) -> None:
    """sacct alone: a squeue and a scontrol that know no job, as after MinJobAge."""
    name = f"exp_{int(time.time())}_{os.getpid():08x}"
    script = alice.script("job.sh", "exit 3", f"--job-name={name}")
    job_id = alice.submit(script)
    alice.word(job_id, "Failed")
    bin = wrappers(alice, squeue="exit 0", scontrol="echo 'Invalid job id specified' >&2; exit 1")
    body = "tell([told(slurm.find, sys.argv[1]), told(slurm.lives, JobId(sys.argv[2]))])"
    found, (word,) = until(
        lambda: alice.python(body, name, job_id, env=bin),
        lambda seen: bool(seen[0] and seen[1] and seen[1][-1]["cause"]),
    )
    assert found == [job_id]
    assert (word["state"], word["cause"], word["exit_code"]) == ("Failed", "exit_code", 3)
    assert word["restart"] == 0
    assert len(word["nodes"]) == 1


def test_array_tasks_are_told_apart(alice: Alice) -> None:
    script = alice.script("job.sh", "exit $SLURM_ARRAY_TASK_ID", "--array=0-3%2")
    job_id = alice.submit(script)
    ids = {f"{job_id}_{task}" for task in range(4)}
    assert ids <= set(alice.jobs())
    word = alice.word(f"{job_id}_3", "Failed")
    assert word["exit_code"] == 3
    assert alice.word(f"{job_id}_0", "Completed")["exit_code"] == 0


def test_an_array_is_canceled_whole(alice: Alice) -> None:
    """A part of it has the number of the whole (22.05)."""
    job_id = alice.submit(alice.script("job.sh", "sleep 600", "--array=1-3%2"))
    tasks = [f"{job_id}_{task}" for task in (1, 2, 3)]
    until(alice.jobs, lambda jobs: jobs[tasks[0]]["state"] == "Starting")
    alice.python("tell(told(slurm.cancel, JobId(sys.argv[1])))", job_id)
    until(alice.jobs, lambda jobs: {jobs[task]["state"] for task in tasks} == {"Canceled"})


def test_a_job_that_waits_says_why_and_until_when(alice: Alice) -> None:
    held = alice.sbatch("--hold", str(alice.script("held.sh", "true")))
    later = alice.sbatch("--begin=now+1hour", str(alice.script("later.sh", "true")))
    too_long = alice.sbatch("-p", "short", "--time=10", str(alice.script("long.sh", "true")))
    reasons = {later: "BeginTime", too_long: "PartitionTimeLimit"}
    jobs = until(
        alice.jobs, lambda jobs: all(jobs[job]["reason"] == why for job, why in reasons.items())
    )
    assert {jobs[job]["state"] for job in (held, later, too_long)} == {"Queued"}
    assert jobs[held]["reason"] == "JobHeldUser"
    assert abs(jobs[later]["starts"] - time.time() - 3600) < 60
    assert jobs[held]["starts"] is None
    alice.command("scancel", held)
    word = alice.canceled(held)
    assert (word["state"], word["by"], word["nodes"]) == ("Canceled", "alice", [])


def test_an_administrator_cancels(alice: Alice) -> None:
    job_id = alice.submit(alice.script("job.sh", "sleep 600"))
    alice.command("scancel", job_id, user="root")
    word = alice.canceled(job_id)
    assert (word["state"], word["by"]) == ("Canceled", "root")


def test_another_users_job_cannot_be_canceled(alice: Alice) -> None:
    script = alice.script("job.sh", "sleep 600", "--output=/dev/null")
    job_id = alice.command("sbatch", "--parsable", str(script), user="bob")
    try:
        told = alice.python("tell(told(slurm.cancel, JobId(sys.argv[1])))", job_id)
        assert (told["error"], told["transient"]) == ("SchedulerError", False)
        assert "Access/permission denied" in told["message"]
        assert job_id not in alice.jobs()
    finally:
        alice.command("scancel", job_id, user="bob")


def test_a_requeued_job_is_its_next_life(alice: Alice) -> None:
    job_id = alice.submit(alice.script("job.sh", "sleep 600", "--requeue"))
    alice.word(job_id, "Starting")
    alice.command("scontrol", "requeue", job_id)
    word = until(lambda: alice.jobs()[job_id], lambda w: w["state"] == "Queued")
    assert (word["restart"], word["raw"]) == (1, "PENDING")
    alice.command("scancel", job_id)
    word = alice.word(job_id, "Canceled")
    assert word["restart"] == 1
    word = alice.canceled(job_id)
    assert (word["state"], word["restart"], word["by"]) == ("Canceled", 1, "alice")
    # The records alone tell it too.
    blind = wrappers(alice, scontrol="echo 'Invalid job id specified' >&2; exit 1")
    words = until(lambda: alice.lives(job_id, blind), lambda w: w[-1]["state"] == "Canceled")
    for lives in (words, alice.lives(job_id)):
        told = [(w["restart"], w["cause"], w["by"]) for w in lives]
        assert told == [(0, "requeued", None), (1, "canceled", "alice")]


# -- how jobs end -------------------------------------------------------------------------------

EAT = "python3 -c 'x = bytearray(400 << 20); print(len(x))'"


def test_ends(alice: Alice) -> None:
    code = alice.sbatch(str(alice.script("code.sh", "exit 7")))
    high = alice.sbatch(str(alice.script("high.sh", "exit 200")))
    killed = alice.sbatch(str(alice.script("killed.sh", "kill -9 $$")))
    done = alice.sbatch(str(alice.script("done.sh", "true")))
    step = alice.sbatch(str(alice.script("step.sh", f"srun -n1 --mem=50 {EAT}\nexit 0")))
    batch = alice.sbatch(str(alice.script("batch.sh", f"{EAT}\nexit 0")))
    log = alice.sbatch("--output=/nowhere/log", str(alice.script("log.sh", "true")))

    def verdict(job_id: str) -> tuple[str, str, int | None, int | None]:
        word = alice.word(job_id, "Completed", "Failed")
        return word["state"], word["cause"], word["exit_code"], word["signal"]

    assert verdict(code) == ("Failed", "exit_code", 7, None)
    assert verdict(high) == ("Failed", "exit_code", 200, None)
    assert verdict(killed) == ("Failed", "signal", None, 9)
    assert verdict(done) == ("Completed", "completed", 0, None)
    assert verdict(batch) == ("Failed", "out_of_memory", None, None)
    # The records come a moment after the controller's word.
    word = until(lambda: alice.lives(step)[-1], lambda w: w["cause"] == "out_of_memory")
    assert word["state"] == "Completed"
    assert word["raw"] == f"COMPLETED 0:0; step {step}.0 OUT_OF_MEMORY 0:125"
    assert verdict(log) == ("Failed", "launch_failed", None, None)
    assert "the folder of the job's log may be missing" in alice.lives(log)[-1]["raw"]


def test_the_time_limit(alice: Alice, over_limit: str) -> None:
    word = alice.word(over_limit, "Failed")
    assert (word["cause"], word["exit_code"]) == ("time_limit", None)
    assert word["raw"].startswith("TIMEOUT")
