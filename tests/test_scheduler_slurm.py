"""Slurm through its commands, on the real test cluster, as an ordinary user on the login node."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hpcrun
from hpcrun.scheduler.hostlist import expand
from tests.cluster import Cluster
from tests.cluster.layout import PATH
from tests.cluster.processes import pid as daemon_pid

pytestmark = pytest.mark.cluster

PRELUDE = """
import json, os, signal, subprocess, sys, time
from pathlib import Path, PurePosixPath
from hpcrun.errors import OutcomeUnknown, SchedulerError
from hpcrun.ports import JobId, Submission
from hpcrun.scheduler.shared import shared_jobs
from hpcrun.scheduler.slurm import Slurm

slurm = Slurm()

def submission(script, name="job"):
    folder = PurePosixPath(os.getcwd())
    return Submission(PurePosixPath(script), name, folder, folder / "log")

def told(act, *arguments):
    try:
        return act(*arguments)
    except SchedulerError as error:
        kind = type(error).__name__
        return {"error": kind, **{k: getattr(error, k) for k in ("message", "hint", "transient")}}

def tell(value):
    print(json.dumps(value, default=vars))
"""


@dataclass(frozen=True)
class Alice:
    """A user on the login node; her Python finds this hpcrun. folder: hers, on all hosts."""

    cluster: Cluster
    code: Path
    folder: Path

    def words(self, body: str, *arguments: object, env: Mapping[str, str] = {}) -> list[str]:
        """The words that run a piece of Python as alice; it may `tell` one value."""
        python = ["/usr/bin/python3", "-c", PRELUDE + body, *map(str, arguments)]
        variables = {"PYTHONPATH": str(self.code), "PYTHONDONTWRITEBYTECODE": "1", **env}
        return self.cluster.words("alice", python, cwd=self.folder, env=variables)

    def python(self, body: str, *arguments: object, env: Mapping[str, str] = {}) -> Any:
        """What a piece of Python tells."""
        words = self.words(body, *arguments, env=env)
        done = subprocess.run(words, capture_output=True, text=True, timeout=150, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def command(self, *words: str, user: str = "alice") -> str:
        done = self.cluster.run(user, words, cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def script(self, name: str, body: str, *directives: str) -> Path:
        path = self.folder / name
        lines = (f"#SBATCH {line}\n" for line in ("--mem=50", *directives))
        path.write_text(f"#!/bin/bash\n{''.join(lines)}{body}\n")
        return path

    def submit(self, script: Path, env: Mapping[str, str] = {}) -> Any:
        return self.python("tell(told(slurm.submit, submission(sys.argv[1])))", script, env=env)

    def sbatch(self, *words: str) -> str:
        return self.command("sbatch", "--parsable", *words)

    def jobs(self) -> Any:
        return self.python("tell(told(slurm.jobs))")

    def find(self, name: str) -> Any:
        return self.python("tell(told(slurm.find, sys.argv[1]))", name)

    def lives(self, job_id: str, env: Mapping[str, str] = {}) -> Any:
        return self.python("tell(told(slurm.lives, JobId(sys.argv[1])))", job_id, env=env)

    def word(self, job_id: str, *states: str) -> Any:
        """The word on a job once it is in one of these states."""
        return until(lambda: self.lives(job_id)[-1], lambda w: w["state"] in states)


def until(look: Callable[[], Any], good: Callable[[Any], bool], seconds: float = 40) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if good(seen):
            return seen
        assert time.monotonic() < deadline, seen
        time.sleep(0.2)


@pytest.fixture(scope="module")
def code(cluster: Cluster) -> Iterator[Path]:
    """A copy of hpcrun that alice can read: a clone may lie where she cannot."""
    code = cluster.shared / f"code-{os.getpid()}"
    for package in (hpcrun, filelock):
        source = Path(package.__file__ or "").parent
        copied = code / source.name
        shutil.copytree(source, copied, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["/usr/bin/python3", "-m", "compileall", "-q", code], check=True)
    subprocess.run(["chmod", "-R", "a+rX", code], check=True)
    yield code
    shutil.rmtree(code)


@contextmanager
def at_work(cluster: Cluster, code: Path) -> Iterator[Alice]:
    """Alice in a new folder; the jobs that she starts there end with it."""
    folder = cluster.shared / f"alice-{time.time_ns()}"
    cluster.run("alice", ["mkdir", str(folder)])
    yield Alice(cluster, code, folder)
    jobs = cluster.run("alice", ["squeue", "--me", "-h", "-O", "JobID:|,WorkDir:|"]).stdout
    own = [line.split("|")[0] for line in jobs.splitlines() if str(folder) in line]
    if own:
        cluster.run("alice", ["scancel", *own])
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def alice(cluster: Cluster, code: Path) -> Iterator[Alice]:
    with at_work(cluster, code) as alice:
        yield alice


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
    script = alice.script("job.sh", "sleep 60", f"--job-name={name}", "--nodes=2", "--mem=50")
    job_id = alice.submit(script)
    assert job_id.isdecimal()
    assert alice.find(name) == [job_id]
    word = until(alice.jobs, lambda jobs: jobs[job_id]["state"] == "Starting")[job_id]
    assert word["raw"] == "RUNNING"
    assert (len(word["nodes"]), word["restart"], word["reason"]) == (2, 0, "")
    assert alice.lives(job_id)[-1]["state"] == "Starting"
    alice.python("tell(told(slurm.cancel, JobId(sys.argv[1])))", job_id)
    word = alice.word(job_id, "Canceled")
    assert (word["cause"], word["by"], word["restart"]) == ("canceled", "alice", 0)
    assert f"CANCELLED by {alice.cluster.layout.uid('alice')}" in word["raw"]
    assert abs(word["end"] - time.time()) < 60
    # A job that has ended, or never was, is no error.
    for gone in (job_id, "4000000"):
        assert alice.python("tell(told(slurm.cancel, JobId(sys.argv[1])))", gone) is None
    assert alice.find(name) == [job_id]
    assert alice.lives("4000000") == []
    assert alice.find("nobody_1795545988_0123abcd") == []


def test_the_newest_job_of_a_name_comes_first(alice: Alice) -> None:
    script = alice.script("job.sh", "sleep 60", f"--job-name={alice.folder.name}")
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
        lambda: alice.python(body, name, job_id, env=bin), lambda seen: bool(seen[0] and seen[1])
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


def test_a_job_that_waits_says_why_and_until_when(alice: Alice) -> None:
    held = alice.sbatch("--hold", str(alice.script("held.sh", "true")))
    later = alice.sbatch("--begin=now+1hour", str(alice.script("later.sh", "true")))
    too_long = alice.sbatch("-p", "short", "--time=10", str(alice.script("long.sh", "true")))
    jobs = until(alice.jobs, lambda jobs: jobs[too_long]["reason"] == "PartitionTimeLimit")
    assert {jobs[job]["state"] for job in (held, later, too_long)} == {"Queued"}
    assert jobs[held]["reason"] == "JobHeldUser"
    assert jobs[later]["reason"] == "BeginTime"
    assert abs(jobs[later]["starts"] - time.time() - 3600) < 60
    assert jobs[held]["starts"] is None
    alice.command("scancel", held)
    word = alice.word(held, "Canceled")
    assert (word["by"], word["nodes"]) == ("alice", [])


def test_an_administrator_cancels(alice: Alice) -> None:
    job_id = alice.submit(alice.script("job.sh", "sleep 60"))
    alice.command("scancel", job_id, user="root")
    assert alice.word(job_id, "Canceled")["by"] == "root"


def test_another_users_job_cannot_be_canceled(alice: Alice) -> None:
    script = alice.script("job.sh", "sleep 60", "--output=/dev/null")
    job_id = alice.command("sbatch", "--parsable", str(script), user="bob")
    try:
        told = alice.python("tell(told(slurm.cancel, JobId(sys.argv[1])))", job_id)
        assert (told["error"], told["transient"]) == ("SchedulerError", False)
        assert "Access/permission denied" in told["message"]
        assert job_id not in alice.jobs()
    finally:
        alice.command("scancel", job_id, user="bob")


def test_a_requeued_job_is_its_next_life(alice: Alice) -> None:
    job_id = alice.submit(alice.script("job.sh", "sleep 60", "--requeue"))
    alice.word(job_id, "Starting")
    alice.command("scontrol", "requeue", job_id)
    word = until(lambda: alice.jobs()[job_id], lambda w: w["state"] == "Queued")
    assert (word["restart"], word["raw"]) == (1, "PENDING")
    alice.command("scancel", job_id)
    word = alice.word(job_id, "Canceled")
    assert (word["restart"], word["by"]) == (1, "alice")
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
    killed = alice.sbatch(str(alice.script("killed.sh", "kill -9 $$")))
    done = alice.sbatch(str(alice.script("done.sh", "true")))
    step = alice.sbatch(str(alice.script("step.sh", f"srun -n1 --mem=50 {EAT}\nexit 0")))
    batch = alice.sbatch(str(alice.script("batch.sh", f"{EAT}\nexit 0")))
    log = alice.sbatch("--output=/nowhere/log", str(alice.script("log.sh", "true")))

    def verdict(job_id: str) -> tuple[str, str, int | None, int | None]:
        word = alice.word(job_id, "Completed", "Failed")
        return word["state"], word["cause"], word["exit_code"], word["signal"]

    assert verdict(code) == ("Failed", "exit_code", 7, None)
    assert verdict(killed) == ("Failed", "signal", None, 9)
    assert verdict(done) == ("Completed", "completed", 0, None)
    assert verdict(batch) == ("Failed", "out_of_memory", None, None)
    # The records come a moment after the controller's word.
    word = until(lambda: alice.lives(step)[-1], lambda w: w["cause"] == "out_of_memory")
    assert word["state"] == "Completed"
    assert word["raw"] == f"COMPLETED 0:0; step {step}.0 OUT_OF_MEMORY 0:125"
    assert verdict(log) == ("Failed", "launch_failed", None, None)
    assert "the folder of the job's log may be missing" in alice.lives(log)[-1]["raw"]


# -- sbatch -------------------------------------------------------------------------------------


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


def wrappers(alice: Alice, **bodies: str) -> Mapping[str, str]:
    """The PATH of a site that puts its own commands before Slurm's."""
    folder = alice.folder / f"bin-{time.time_ns()}"
    folder.mkdir()
    for name, body in bodies.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{PATH}"}


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
hpcrun.scheduler.slurm.SUBMIT_TIMEOUT = 1.0
tell(told(slurm.submit, submission(sys.argv[1])))
"""
    path = wrappers(alice, sbatch='/usr/bin/sbatch "$@"; sleep 30')
    told = alice.python(body, script, env=path)
    assert told["error"] == "OutcomeUnknown"
    assert "did not answer within 1 s" in told["message"]
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
    assert alice.word(job_id, "Canceled")["by"] == "alice"


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


# -- one answer for all processes ---------------------------------------------------------------


def test_one_question_serves_all_processes(alice: Alice) -> None:
    count = alice.folder / "count"
    bin = wrappers(alice, squeue=f'echo >> {count}; sleep 0.5; exec /usr/bin/squeue "$@"')
    job_id = alice.submit(alice.script("job.sh", "sleep 60"))
    body = 'tell(told(shared_jobs, slurm.jobs, Path("cache/jobs.json"), float(sys.argv[1])))'

    def together(pace: float, processes: int) -> Sequence[Any]:
        words = alice.words(body, pace, env=bin)
        started = [
            subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(processes)
        ]
        return [json.loads(process.communicate()[0]) for process in started]

    answers = together(60, 6)
    assert all(job_id in answer for answer in answers)
    assert count.read_text() == "\n"
    together(60, 1)
    assert count.read_text() == "\n"
    together(0, 1)
    together(0, 1)
    assert count.read_text() == "\n" * 3
    cache = alice.folder / "cache" / "jobs.json"
    assert cache.stat().st_mode & 0o777 == 0o600


def test_a_failure_is_shared_too(alice: Alice) -> None:
    count = alice.folder / "count"
    says = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
    bin = wrappers(alice, squeue=f'echo >> {count}; sleep 0.5; echo "{says}" >&2; exit 1')
    body = 'tell(told(shared_jobs, slurm.jobs, Path("jobs.json"), 60))'
    words = alice.words(body, env=bin)
    started = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(5)]
    answers = [json.loads(process.communicate()[0]) for process in started]
    assert len({json.dumps(answer, sort_keys=True) for answer in answers}) == 1
    assert answers[0]["transient"] is True
    assert "connect failure" in answers[0]["message"]
    assert count.read_text() == "\n"


# -- node lists ---------------------------------------------------------------------------------

numbers = st.lists(st.integers(0, 300), min_size=1, max_size=4, unique=True)
ranges = st.builds(
    lambda start, length, width: f"{start:0{width}d}-{start + length:0{width}d}",
    st.integers(0, 99),
    st.integers(0, 12),
    st.integers(1, 4),
)
brackets = st.lists(st.one_of(ranges, st.integers(0, 300).map(str)), min_size=1, max_size=3).map(
    lambda parts: f"[{','.join(parts)}]"
)
prefixes = st.text("abcn-", min_size=1, max_size=4).filter(lambda text: not text.startswith("-"))
hosts = st.one_of(
    prefixes,
    st.builds("{}{}".format, prefixes, st.integers(0, 99)),
    st.builds("{}{}".format, prefixes, brackets),
    st.builds("{}{}{}{}".format, prefixes, brackets, prefixes, brackets),
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(hosts, min_size=1, max_size=4).map(",".join))
def test_node_lists_are_expanded_as_slurm_does(cluster: Cluster, text: str) -> None:
    said = cluster.run("alice", ["scontrol", "show", "hostnames", text])
    assert list(expand(text)) == said.stdout.split(), said.stderr


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12, unique=True), st.integers(1, 3))
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_what_slurm_folds_is_unfolded(cluster: Cluster, numbers: list[int], width: int) -> None:
    names = [f"r{number % 3}n{number:0{width}d}" for number in numbers]
    folded = cluster.run("alice", ["scontrol", "show", "hostlist", ",".join(names)]).stdout.strip()
    assert sorted(expand(folded)) == sorted(names)


# -- a time limit ------------------------------------------------------------------------------


def test_the_time_limit(alice: Alice, over_limit: str) -> None:
    word = alice.word(over_limit, "Failed")
    assert (word["cause"], word["exit_code"]) == ("time_limit", None)
    assert word["raw"].startswith("TIMEOUT")


# -- a cluster in trouble -----------------------------------------------------------------------


def test_a_controller_that_is_away(alice: Alice) -> None:
    job_id = alice.submit(alice.script("job.sh", "exit 3"))
    alice.word(job_id, "Failed")
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
    script = alice.script("job.sh", "sleep 60", f"--job-name={alice.folder.name}")
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
        canceled = alice.submit(alice.script("job.sh", "sleep 60"))
        alice.command("scancel", canceled)
        assert alice.word(canceled, "Canceled")["by"] is None
        assert alice.lives("4000000") == []
        assert alice.find("nobody") == []
    finally:
        alice.cluster.set_accounting(True)
