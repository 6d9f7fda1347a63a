"""sbatch, on the real test cluster, as an ordinary user on the login node."""

from __future__ import annotations

import pytest

from tests.alice import Alice, wrappers

pytestmark = pytest.mark.cluster


@pytest.mark.parametrize(
    ("directive", "said"),
    [
        ("--partition=nope", "Invalid partition name specified"),
        ("--account=nope", "Invalid account or account/partition combination"),
        ("--gres=gpu:9", "Requested node configuration is not available"),
        ("--mem=999G", "Requested node configuration is not available"),
        ("--licenses=nope", "Invalid license specification"),
        ("--constraint=nope", "Invalid feature specification"),
        ("--nodelist=n99", "Invalid node name specified"),
        ("--reservation=nope", "Requested reservation is invalid"),
        ("--time=soon", "Invalid --time specification"),
        ("--nodes=many", "is not a valid node count"),
        ("--cpus-per-task=x", "Invalid numeric value"),
        ("--no-such-option", "unrecognized option"),
        ("--dependency=afterok:x", "Job dependency problem"),
    ],
)
def test_a_refusal_is_told_in_slurms_words(alice: Alice, directive: str, said: str) -> None:
    told = alice.submit(alice.script("job.sh", "true", directive))
    assert (told["error"], told["transient"]) == ("SchedulerError", False), told
    assert said in told["message"]


@pytest.mark.parametrize("script", ["true\n", "#!/bin/bash\r\ntrue\r\n", ""])
def test_a_script_that_is_none_is_refused(alice: Alice, script: str) -> None:
    path = alice.folder / "job.sh"
    path.write_text(script)
    assert alice.submit(path)["error"] == "SchedulerError"


def test_a_sites_own_lines_around_the_id(alice: Alice) -> None:
    body = 'echo "Welcome, 3 news"; /usr/bin/sbatch "$@"; echo "Your quota: 80 %"; echo note >&2'
    job_id = alice.submit(alice.script("job.sh", "sleep 60"), env=wrappers(alice, sbatch=body))
    assert job_id in alice.jobs()


@pytest.mark.parametrize(
    "body",
    [
        '/usr/bin/sbatch "$@" >/dev/null; kill -9 $$',
        '/usr/bin/sbatch "$@" >/dev/null',
        '/usr/bin/sbatch "$@" >/dev/null; echo "the proxy lost its server" >&2; exit 1',
    ],
)
def test_a_client_that_fails_after_the_job_was_taken(alice: Alice, body: str) -> None:
    script = alice.script("job.sh", "sleep 60", f"--job-name={alice.folder.name}")
    told = alice.submit(script, env=wrappers(alice, sbatch=body))
    assert (told["error"], told["transient"]) == ("OutcomeUnknown", True)
    assert len(alice.find(alice.folder.name)) == 1


def test_a_client_that_is_late(alice: Alice) -> None:
    script = alice.script("job.sh", "sleep 60", f"--job-name={alice.folder.name}")
    body = """
import hpcrun.scheduler.slurm
hpcrun.scheduler.slurm.SUBMIT_TIMEOUT = 5.0
tell(told(slurm.submit, submission(sys.argv[1])))
"""
    path = wrappers(alice, sbatch='/usr/bin/sbatch "$@"; sleep 60')
    told = alice.python(body, script, env=path)
    assert told["error"] == "OutcomeUnknown"
    assert "did not answer within 5 s" in told["message"]
    assert len(alice.find(alice.folder.name)) == 1


def test_the_cluster_stays_with_the_id(alice: Alice) -> None:
    script = alice.script("job.sh", "sleep 60", "--clusters=hpcrun")
    job_id = alice.submit(script)
    assert job_id.endswith(";hpcrun")
    assert alice.word(job_id, "Starting")["raw"] == "RUNNING"
    body = """
slurm = Slurm({"SLURM_CLUSTERS": "hpcrun"})
tell(sorted(slurm.jobs()))
"""
    assert job_id in alice.python(body)
    assert alice.python("tell(told(slurm.cancel, JobId(sys.argv[1])))", job_id) is None
    assert alice.canceled(job_id)["by"] == "alice"


def test_little_of_the_submitters_environment_reaches_the_job(alice: Alice) -> None:
    out = alice.folder / "environment"
    script = alice.script("job.sh", f"env -0 > {out}.part && mv {out}.part {out}")
    secret = {
        "AWS_SECRET_ACCESS_KEY": "secret",
        "CONDA_PREFIX": "/opt/conda",
        "VIRTUAL_ENV": "/opt/venv",
        "DISPLAY": ":0",
        "XDG_RUNTIME_DIR": "/run/user/1",
        "SBATCH_PARTITION": "nope",
        "SBATCH_TIMELIMIT": "nonsense",
        "SLURM_JOB_ID": "1",
        "SLURM_MEM_PER_CPU": "5",
        "SRUN_CPUS_PER_TASK": "5",
        "SALLOC_ACCOUNT": "nope",
    }
    kept = {"LC_TIME": "C", "TZ": "UTC", "MODULEPATH": "/opt/modules"}
    body = """
slurm = Slurm({"SITE_SAYS": "a,b c"})
tell(told(slurm.submit, submission(sys.argv[1])))
"""
    job_id = alice.python(body, script, env={**secret, **kept})
    assert alice.word(job_id, "Completed", "Failed")["state"] == "Completed"
    lines = (item.partition("=") for item in out.read_text().split("\0") if item)
    found = {name: value for name, _, value in lines}
    assert found | kept | {"SITE_SAYS": "a,b c"} == found
    assert {"HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG"} <= set(found)
    assert not (set(secret) - {"SLURM_JOB_ID"}) & set(found)
    assert not {"PYTHONPATH", "LC_ALL", "SLURM_TIME_FORMAT", "LC_CTYPE"} & set(found)
    assert found["SLURM_JOB_ID"] == job_id


def test_a_machine_without_slurm(alice: Alice) -> None:
    empty = {"PATH": str(alice.folder)}
    body = """
tell([told(slurm.check), told(slurm.jobs), told(slurm.submit, submission("job.sh"))])
"""
    for told in alice.python(body, env=empty):
        assert (told["error"], told["transient"]) == ("SchedulerError", False)
        assert told["hint"]
    assert alice.python("tell(told(slurm.check))") is None
