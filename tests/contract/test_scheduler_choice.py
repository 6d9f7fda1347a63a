"""Which adapter is chosen on the real test cluster, and who is told."""

from __future__ import annotations

import json

import pytest

from tests.alice import Alice, until, wrappers
from tests.lab import Lab

pytestmark = pytest.mark.cluster

CHOOSE = """
choice = choose("auto")
tell([choice.name, choice.is_less, choice.why])
"""


@pytest.mark.parametrize("adapter", ["pyslurm"], indirect=True)
def test_auto_takes_the_library_of_the_slurm_that_runs(alice: Alice) -> None:
    name, is_less, why = alice.python(CHOOSE)
    assert (name, is_less) == ("pyslurm", False)
    assert "is made for the Slurm that runs" in why
    other = wrappers(alice, scontrol="echo 'SLURM_VERSION           = 24.11.5'")
    name, is_less, why = alice.python(CHOOSE, env=other)
    assert (name, is_less) == ("commands", True)
    assert why.endswith("is not made for the Slurm that runs, 24.11.5")


@pytest.mark.parametrize("adapter", ["pyslurm"], indirect=True)
def test_the_library_asks_without_the_commands(alice: Alice) -> None:
    job_id = alice.submit(alice.script("job.sh", "sleep 600"))
    names = ("squeue", "scontrol", "scancel", "sacct")
    none = wrappers(alice, **dict.fromkeys(names, "exit 9"))
    body = "tell(told(slurm.jobs))"
    until(lambda: alice.python(body, env=none), lambda jobs: jobs[job_id]["state"] == "Starting")
    assert alice.lives(job_id, none)[-1]["raw"] == "RUNNING"
    alice.python("tell(told(slurm.cancel, JobId(sys.argv[1])))", job_id, env=none)
    until(lambda: alice.python(body, env=none), lambda jobs: jobs[job_id]["state"] == "Canceled")


@pytest.mark.parametrize("adapter", ["pyslurm"], indirect=True)
def test_a_library_that_ends_its_process_ends_nothing_else(alice: Alice) -> None:
    conf = alice.folder / "slurm.conf"
    conf.write_text("Nonsense=1\n")
    name, is_less, why = alice.python(CHOOSE, env={"SLURM_CONF": str(conf)})
    assert (name, is_less) == ("commands", True)
    assert why.startswith("libslurm: ")
    body = "tell([told(slurm.jobs), told(slurm.version)])"
    for told in alice.python(body, env={"SLURM_CONF": str(conf)}):
        assert told["error"] == "SchedulerError"


def test_doctor_says_who_asks_and_why(lab: Lab) -> None:
    config = lab.folder("adapters", {"hpcrun/config.json": '{"scheduler_adapter": "auto"}'})
    words = ("doctor", "--json", "test-cluster/main")
    done = lab.run(*words, env={"XDG_CONFIG_HOME": str(config)})
    told = {finding["subject"]: finding for finding in json.loads(done.stdout)}
    assert told["adapter"]["grade"] == "warning"
    assert told["adapter"]["message"] == "commands: pyslurm is not installed"
    assert told["controller"]["grade"] == "ok"
    assert done.stderr == "hpcrun: Slurm is asked by its commands: pyslurm is not installed\n"
    quiet = lab.run(*words)
    told = {finding["subject"]: finding for finding in json.loads(quiet.stdout)}
    assert told["adapter"]["message"] == "commands: as configured"
    assert quiet.stderr == ""
    (config / "hpcrun/config.json").write_text('{"scheduler_adapter": "pyslurm"}')
    done = lab.run(*words, env={"XDG_CONFIG_HOME": str(config)})
    told = {finding["subject"]: finding for finding in json.loads(done.stdout)}
    assert told["adapter"]["grade"] == "error"
    assert told["adapter"]["message"].endswith("(install hpcrun-slurm[pyslurm])")
