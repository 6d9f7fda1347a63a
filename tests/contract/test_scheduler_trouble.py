"""What every adapter to Slurm does where a part of the cluster is away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.alice import Alice, until
from tests.cluster import Cluster
from tests.cluster.processes import pid as daemon_pid

pytestmark = pytest.mark.cluster


def test_a_controller_that_is_away(alice: Alice) -> None:
    job_id = alice.submit(alice.script("job.sh", "exit 3"))
    alice.word(job_id, "Failed")
    alice.recorded(job_id)
    bodies = (
        "tell(told(slurm.submit, submission(sys.argv[1])))",
        "tell(told(slurm.jobs))",
        "tell(told(slurm.cancel, JobId(sys.argv[2])))",
        "tell(told(slurm.lives, JobId(sys.argv[2])))",
    )
    script = alice.script("job.sh", f"touch {alice.folder}/ran")
    alice.cluster.stop_controller()
    try:
        started = [
            subprocess.Popen(alice.words(body, script, job_id), stdout=subprocess.PIPE, text=True)
            for body in bodies
        ]
        *told, (ended,) = [json.loads(process.communicate()[0]) for process in started]
    finally:
        alice.cluster.start_controller()
    for error in told:
        assert (error["error"], error["transient"]) == ("SchedulerError", True)
        assert "Unable to contact slurm controller (connect failure)" in error["message"]
        assert error["hint"]
    # slurmdbd still knows.
    assert (ended["state"], ended["exit_code"]) == ("Failed", 3)
    assert not (alice.folder / "ran").exists()


@contextmanager
def frozen(cluster: Cluster, daemon: str) -> Iterator[None]:
    """A daemon that takes calls and does not answer."""
    pid = daemon_pid(cluster.layout, daemon)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_an_answer_that_does_not_come_leaves_the_outcome_open(alice: Alice) -> None:
    """sbatch gives up after 10 s (MessageTimeout), and the job is there all the same (22.05)."""
    script = alice.script("job.sh", "sleep 600", f"--job-name={alice.folder.name}")
    with frozen(alice.cluster, "slurmctld"):
        told = alice.submit(script)
    assert told["error"] == "OutcomeUnknown"
    assert "Socket timed out" in told["message"]
    assert len(until(lambda: alice.find(alice.folder.name), bool)) == 1


def test_records_that_do_not_answer_are_done_without(alice: Alice) -> None:
    job_id = alice.submit(alice.script("job.sh", "exit 3"))
    alice.word(job_id, "Failed")
    body = """
import hpcrun.scheduler.slurm
hpcrun.scheduler.slurm.RECORDS_TIMEOUT = 1.0
tell([told(slurm.lives, JobId(sys.argv[1])), told(slurm.find, "nobody")])
"""
    with frozen(alice.cluster, "slurmdbd"):
        (word,), *nobody = alice.python(body, job_id)
    assert (word["state"], word["exit_code"]) == ("Failed", 3)
    for told in nobody:
        assert (told["error"], told["transient"]) == ("SchedulerError", True)


def test_without_accounting(alice: Alice) -> None:
    alice.cluster.set_accounting(False)
    try:
        job_id = alice.submit(alice.script("job.sh", "exit 3"))
        word = alice.word(job_id, "Failed")
        assert (word["exit_code"], word["restart"]) == (3, 0)
        canceled = alice.submit(alice.script("job.sh", "sleep 600"))
        alice.command("scancel", canceled)
        assert alice.word(canceled, "Canceled")["by"] is None
        assert alice.lives("4000000") == []
        assert alice.find("nobody") == []
    finally:
        alice.cluster.set_accounting(True)
