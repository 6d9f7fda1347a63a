"""Every way in which a run ends, or never starts, made on the real cluster; what is said of it.

All faults of a group are submitted together, so that one test waits for them all. Ends that need
no more than one command are in test_main_line: exit code, signal, cancel, time limit, preemption.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.layout import CONTROLLER
from tests.lab import Lab, eventually

pytestmark = pytest.mark.cluster

RUN_YAML = "experiment: verdicts\n"
HERE = "compute_target: test-cluster\n"
HELD = "sbatch: {hold: null}\n"
SLEEP = "command: [sleep, '300']\n"
LATER = "sbatch: {begin: now+1hour}\n"
FINAL = "requeue: {allowed: false}\n"

# Limits that hpcrun does not know of, and an MPI type that srun does not.
SITE = """\
schema_version: 1
id: odd
default_target: short
launch: {mpi: {type: no-such-type}}
targets:
  short: {partition: short}
  main: {partition: main}
  low: {partition: low}
"""

EAT = "python3 -c 'x = bytearray(900 << 20)'"

# A site's own launcher that takes any end of its ranks for a good one.
TOLERANT = """\
{% include "shipped/launchers/srun.sh.j2" %}
command=(sh -c '"$@"; exit 0' sh "${command[@]}")
"""

SUBMIT = """\
import io, json, os, sys
from hpcrun.cli.main import cli

told, out = {}, sys.stdout
for folder in sys.argv[1:]:
    os.chdir(folder)
    sys.stdout = io.TextIOWrapper(io.BytesIO())
    cli.main(["submit", "--json"], standalone_mode=False)
    sys.stdout.flush()
    told[os.path.basename(folder)] = json.loads(sys.stdout.buffer.getvalue())
json.dump(told, out)
"""


class Faults:
    """Runs of alice's that are submitted together, by their names."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        config = lab.folder("verdicts-config", {"hpcrun/site_configs/odd.yaml": SITE})
        # Who remembers no heartbeat takes every agent for silent, and asks Slurm.
        self.env = {"XDG_CONFIG_HOME": str(config), "XDG_CACHE_HOME": "/dev/null"}
        self.runs: dict[str, Any] = {}

    def submit(self, faults: Mapping[str, str | Mapping[str, str]]) -> None:
        """faults: name → the rest of its run.yaml; or its files, with that as run.yaml."""
        folders = []
        for name, given in faults.items():
            files = {"run.yaml": given} if isinstance(given, str) else dict(given)
            here = "" if "compute_target" in files["run.yaml"] else HERE
            files["run.yaml"] = RUN_YAML + here + files["run.yaml"]
            folders.append(str(self.lab.folder(f"verdicts/{name}", files)))
        words = [self.lab.python, "-c", SUBMIT, *folders]
        env = self.lab.environment(**self.env)
        done = self.lab.cluster.run("alice", words, env=env)
        assert done.returncode == 0, (done.stdout, done.stderr)
        self.runs |= json.loads(done.stdout)

    def job(self, name: str) -> str:
        return str(self.runs[name]["job_id"])

    def files(self, name: str) -> Path:
        return Path(self.runs[name]["files"])

    def look(self) -> Mapping[str, Any]:
        """The runs as they are now."""
        told = self.lab.json("list", "-n", "0", "-e", "verdicts", env=self.env)
        now = {run["run_id"]: run for run in told}
        self.runs = {name: now[run["run_id"]] for name, run in self.runs.items()}
        return self.runs

    def until(self, condition: Any) -> Mapping[str, Any]:
        """The runs once a condition on them holds; what they are, if it never does.

        Slurm drops a reservation that is over when it looks at time limits, every 30 s.
        """
        try:
            eventually(lambda: condition(self.look()), 120)
        except AssertionError:
            told = {
                name: (run["status"], run["reason"], run["verdict"])
                for name, run in self.runs.items()
            }
            raise AssertionError(told) from None
        return self.runs

    def root(self, *words: str) -> str:
        done = self.lab.cluster.run("root", words, node=CONTROLLER.name)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def show(self, name: str) -> list[tuple[str, str]]:
        """What a person reads, as (name, value)."""
        text = self.lab.ok("show", self.runs[name]["run_id"], env=self.env)
        return [(line.partition("\t")[0], line.partition("\t")[2]) for line in text.splitlines()]


def sbatch(lab: Lab, *words: str) -> str:
    """A job of alice's that is no run; its id."""
    whole = ["sbatch", "--parsable", "--output=/dev/null", *words]
    done = lab.cluster.run("alice", whole)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def ended(run: Any) -> bool:
    return run["verdict"] is not None and run["verdict"]["cause"] != "unknown"


# -- ends ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ends(accounted: Lab) -> Faults:
    """Runs that ended, each by another fault."""
    lab, faults = accounted, Faults(accounted)
    of_lab = f"environment: {lab.venv}\n"
    two = "distributed_job_config: {kind: mpi, process_count_per_node: 2}\n"
    broken = lab.folder("verdicts-prolog", {})
    lab.cluster.set_prolog(f"[ ! -e {broken}/$SLURM_JOB_ID ]")
    failing = sbatch(lab, "--hold", "--wrap=exit 1")
    depends = f"sbatch: {{dependency: 'afterok:{failing}', kill-on-invalid-dep: 'yes'}}\n"
    little = "resources: {time: 5m, memory: 300M}\n"
    faults.submit(
        {
            "node": SLEEP + FINAL + "sbatch: {nodelist: n1}\n",
            "boot": SLEEP + FINAL + "sbatch: {nodelist: n2}\n",
            "log-folder": SLEEP + HELD,
            "prolog": SLEEP + "sbatch: {hold: null, nodelist: n3}\n",
            "prolog-final": SLEEP + FINAL + "sbatch: {hold: null, nodelist: n4}\n",
            "requeued": SLEEP,
            "dependency": SLEEP + depends,
            "import": {
                "run.yaml": "script: train.py\n" + of_lab + two,
                "train.py": "import os, time\n"
                "def prepare():\n    import yaml_of_nobody.inner\n"
                "if os.environ['RANK'] == '1': prepare()\ntime.sleep(300)\n",
            },
            "interpreter": {
                "run.yaml": "script: train.py\n"
                "environment: {python: {interpreter_path: /nowhere/bin/python}}\n",
                "train.py": "",
            },
            "no-command": "command: no-such-program --epochs 3\n",
            "no-file": "command: [/usr/bin/python3, missing.py]\n",
            "no-module": "command: 'true'\nenvironment: {modules: [nothing/1.0]}\n",
            "mpi-type": "command: 'true'\ncompute_target: odd/main\n"
            + two.replace("}", ", launcher: srun}"),
            "no-torchrun": "command: 'true'\nenvironment: {python: {interpreter_path:"
            " /usr/bin/python3}}\ndistributed_job_config: {kind: pytorch, process_count: 2}\n",
            "no-room": {
                "run.yaml": "script: train.py\n",
                "train.py": "open('/dev/full', 'w', buffering=1).write('x\\n')\n",
            },
            "rank-memory": {
                "run.yaml": f"command: if [ $RANK = 1 ]; then exec {EAT}; fi\n" + two + little,
                ".hpcrun/templates/launchers/srun.sh.j2": TOLERANT,
            },
            "child-memory": f'command: "{EAT} || echo survived"\n' + little,
        }
    )
    for name in ("prolog", "prolog-final"):
        (broken / faults.job(name)).touch()
    (faults.files("log-folder") / "user_logs").rename(faults.files("log-folder") / "aside")
    held = [faults.job(name) for name in ("prolog", "prolog-final", "log-folder")]
    faults.root("scontrol", "release", failing, *held)
    faults.until(
        lambda runs: all(runs[name]["status"] == "Running" for name in ("node", "boot", "requeued"))
    )
    requeue(faults)
    cannot_boot(lab, faults.job("boot"))
    faults.until(lambda runs: all(ended(runs[name]) for name in ENDS if name != "node"))
    lab.cluster.fail_node("n1")
    faults.until(
        lambda runs: (
            all(ended(runs[name]) for name in ENDS)
            and all(len(runs[name]["attempts"]) == 2 for name in ("prolog", "requeued"))
        )
    )
    return faults


def requeue(faults: Faults) -> None:
    """By hand; the next attempt waits for longer than Slurm would have it."""
    faults.root("scontrol", "requeue", faults.job("requeued"))
    faults.root("scontrol", "update", f"jobid={faults.job('requeued')}", "starttime=now+1hour")


# slurm.h, 22.05 to 26.05.
JOB_RECONFIG_FAIL = 1 << 17


def cannot_boot(lab: Lab, job: str) -> None:
    """What a site's ResumeProgram tells the controller when it cannot boot a job's node."""
    (library,) = Path("/usr/lib").glob("*/slurm*/libslurmfull.so")
    code = (
        f"import ctypes; slurm = ctypes.CDLL({str(library)!r}, ctypes.RTLD_GLOBAL);"
        f" slurm.slurm_init(None); slurm.slurm_requeue({job}, {JOB_RECONFIG_FAIL})"
    )
    # That the job may not be requeued is an error here: it fails.
    lab.cluster.run("root", ["/usr/bin/python3", "-c", code], node=CONTROLLER.name)


ENDS = {
    "node": ("node_failure", "a node failed", "hpcrun resubmit"),
    "boot": ("node_failure", "a node could not be booted", "hpcrun resubmit"),
    "log-folder": ("launch_failed", "before user code started: FAILED 0:53", "choose a workspace"),
    "prolog-final": (
        "launch_failed",
        "before user code started: the prolog of its node failed",
        "tell your cluster's staff",
    ),
    "dependency": (
        "canceled",
        "the run was canceled by Slurm: a job that it depends on failed",
        "see why the job that it depends on failed",
    ),
    "import": (
        "exit_code",
        "fell first: ModuleNotFoundError: No module named 'yaml_of_nobody'",
        "install yaml_of_nobody into the environment {venv} (`{venv}/bin/python -m pip install",
    ),
    "interpreter": (
        "launch_failed",
        "cannot start /nowhere/bin/python",
        "name a Python that every node has",
    ),
    "no-command": ("exit_code", "exit code 127", "no-such-program is not on the job's PATH"),
    "no-file": ("exit_code", "exit code 2", "missing.py is not there"),
    "no-module": ("launch_failed", "cannot load module nothing/1.0", "`module avail`"),
    "mpi-type": ("launch_failed", "no rank began", "`srun --mpi=list`"),
    "no-torchrun": (
        "launch_failed",
        "no rank began",
        "install torch into the environment of /usr/bin/python3",
    ),
    "no-room": ("exit_code", "OSError: [Errno 28] No space left on device", "make room"),
    "rank-memory": (
        "out_of_memory",
        "rank 1 was killed because the job ran out of memory",
        "ask for more memory (`resources.memory`, which was 300M",
    ),
    "child-memory": ("completed", "although a process was killed for memory on the way", ""),
}


@pytest.mark.parametrize("name", ENDS)
def test_an_end_has_one_cause_its_evidence_and_what_to_change(ends: Faults, name: str) -> None:
    cause, sentence, hint = ENDS[name]
    verdict = ends.runs[name]["verdict"]
    assert (verdict["cause"], sentence in verdict["sentence"]) == (cause, True), verdict
    hint = hint.format(venv=ends.lab.venv)
    assert (hint in verdict["hint"]) if hint else verdict["hint"] == "", verdict
    assert verdict["evidence"] or name == "child-memory", verdict


def test_a_person_reads_sentence_evidence_and_hint(ends: Faults) -> None:
    shown = ends.show("import")
    assert ("status", "Failed") in shown
    (verdict,) = (value for name, value in shown if name == "verdict")
    host = ends.runs["import"]["attempts"][0]["host"]
    code = ends.runs["import"]["verdict"]["exit_code"]  # srun's, which ends the other ranks
    assert verdict == (
        f"the command ended with exit code {code}; rank 1 on {host} fell first:"
        " ModuleNotFoundError: No module named 'yaml_of_nobody'"
    )
    evidence = [value for name, value in shown if name == "evidence"]
    assert evidence[0] == "Traceback (most recent call last):"
    assert evidence[-1] == "ModuleNotFoundError: No module named 'yaml_of_nobody'"
    assert len([value for name, value in shown if name == "hint"]) == 1


def test_a_prolog_that_fails_holds_the_run(ends: Faults) -> None:
    run = ends.runs["prolog"]
    assert (run["status"], len(run["attempts"])) == ("Queued", 2), run
    (waits,) = (value for name, value in ends.show("prolog") if name == "waits")
    assert "its node's prolog failed" in waits and f"scontrol release {run['job_id']}" in waits
    sentence = run["attempts"][0]["verdict"]["sentence"]
    assert sentence == "the job was requeued before user code started"


def test_a_requeued_run_that_waits_says_why_twice(ends: Faults) -> None:
    waits_after_a_requeue(ends, " by `scontrol requeue`")


# -- what never starts, or not yet --------------------------------------------------------------

MANAGE = ("sacctmgr", "-i", "-Q")


@pytest.fixture(scope="module")
def waiting(accounted: Lab) -> Iterator[Faults]:
    """Runs that wait, each for another reason."""
    lab, faults = accounted, Faults(accounted)
    lab.cluster.drop_jobs()
    for words in (
        ("add", "account", "tight"),
        ("modify", "account", "tight", "set", "GrpTRES=cpu=0"),
        ("add", "user", "alice", "account=tight"),
        ("add", "qos", "small,brief", "MaxTRESPerJob=cpu=1"),
        ("modify", "user", "alice", "account=lab", "set", "qos=normal,small,brief"),
    ):
        faults.root(*MANAGE, *words)
    faults.root("scontrol", "update", "nodename=n4", "state=drain", "reason=test")
    reservation = ("reservation=brief", "users=alice", "nodes=n3", "starttime=now", "duration=9")
    faults.root("scontrol", "create", *reservation)
    failing = sbatch(lab, "--hold", "--wrap=exit 1")
    sbatch(lab, "--licenses=solver:1", "--wrap=sleep 300")
    faults.submit(
        {
            "held": SLEEP + HELD,
            "held-by-root": SLEEP + LATER,
            "time": SLEEP + "compute_target: odd/short\nresources: {time: 10m}\n",
            "dependency": SLEEP + f"sbatch: {{dependency: 'afterok:{failing}'}}\n",
            "license": SLEEP + "sbatch: {licenses: 'solver:1'}\n",
            "node": SLEEP + "sbatch: {nodelist: n4}\n",
            "account-limit": SLEEP + "resources: {account: tight}\n",
            "qos-limit": SLEEP + "resources: {qos: small, cpus_per_task: 2}\n",
            "qos": SLEEP + "resources: {qos: brief}\n" + LATER,
            "account": SLEEP + "compute_target: odd/low\n" + HELD,
            "reservation": SLEEP + "resources: {reservation: brief}\n" + LATER,
        }
    )
    job = faults.job
    faults.root("scontrol", "release", failing)
    faults.root("scontrol", "hold", job("held-by-root"))
    faults.root(*MANAGE, "modify", "user", "alice", "account=lab", "set", "qos-=brief")
    faults.root(*MANAGE, "delete", "qos", "brief")
    faults.root("scontrol", "update", "partition=low", "allowaccounts=tight")
    faults.root("scontrol", "update", "reservation=brief", "endtime=now+1")
    faults.root("scontrol", "release", job("account"))
    faults.until(
        lambda runs: all(
            str(runs[name]["reason"]).startswith(reason) for name, (reason, _) in WAITS.items()
        )
    )
    yield faults
    lab.cluster.drop_jobs()
    faults.root("scontrol", "update", "partition=low", "allowaccounts=all")
    for words in (
        ("delete", "user", "alice", "account=tight"),
        ("delete", "account", "tight"),
        ("modify", "user", "alice", "account=lab", "set", "qos=normal"),
        ("delete", "qos", "small"),
    ):
        faults.root(*MANAGE, *words)


WAITS = {
    "held": ("JobHeldUser", "scontrol release {job}"),
    "held-by-root": ("JobHeldAdmin", "ask your cluster's staff"),
    "time": ("PartitionTimeLimit", "`resources.time`"),
    "dependency": ("DependencyNeverSatisfied", "mend that one"),
    "license": ("Licenses", ""),
    "node": ("ReqNodeNotAvail", "`sinfo -R`"),
    "account-limit": ("AssocGrpCpuLimit", "choose another target"),
    "qos-limit": ("QOSMaxCpuPerJobLimit", "ask for less"),
    "qos": ("InvalidQOS", "`resources.qos`"),
    "account": ("Job's account not permitted", "`resources.account`"),
    "reservation": ("Reservation brief was deleted", "`resources.reservation`"),
}

STATUS = """\
import json, sys
from hpcrun import Run, Workspace

workspace = Workspace.from_config()
told = {name: Run.get(workspace, name).get_detailed_status() for name in sys.argv[1:]}
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def statuses(waiting: Faults) -> Mapping[str, Any]:
    """What the API says of each."""
    lab, ids = waiting.lab, {run["run_id"]: name for name, run in waiting.runs.items()}
    env = lab.environment(**waiting.env)
    done = lab.cluster.run("alice", [lab.python, "-c", STATUS, *ids], env=env)
    assert done.returncode == 0, done.stderr
    return {ids[run_id]: told for run_id, told in json.loads(done.stdout).items()}


@pytest.mark.parametrize("name", WAITS)
def test_a_run_that_waits_says_what_to_change(
    waiting: Faults, statuses: Mapping[str, Any], name: str
) -> None:
    reason, hint = WAITS[name]
    told = statuses[name]
    details = told["details"]
    assert (told["status"], details["reason"][: len(reason)]) == ("Queued", reason)
    assert details["in_words"] != details["reason"]
    hint = hint.format(job=waiting.job(name))
    assert (hint in details["hint"]) if hint else details["hint"] == "", details


def test_a_person_reads_why_a_run_waits(waiting: Faults) -> None:
    (waits,) = (value for name, value in waiting.show("time") if name == "waits")
    assert waits == (
        "PartitionTimeLimit: it asks for more time than the partition allows; it will never start:"
        " cancel it, and submit it with less time (`resources.time`), or to another target"
    )


# -- who knows the job? -------------------------------------------------------------------------

SHOW_AT_ONCE = """\
import sys
import hpcrun.workflow.forgotten
from hpcrun.cli.main import cli

hpcrun.workflow.forgotten.FORGOTTEN = 0.0
cli.main(["show", "--json", sys.argv[1]], standalone_mode=False)
"""


def test_a_job_that_neither_slurm_nor_sacct_knows_is_lost(accounted: Lab) -> None:
    """A site's sbatch gives an id, and no job comes of it. Two minutes of waiting are left out."""
    lab = accounted
    files = {"run.yaml": RUN_YAML + HERE + SLEEP, "bin/sbatch": "#!/bin/sh\necho 3999999\n"}
    folder = lab.folder("verdicts-lost", files)
    (folder / "bin/sbatch").chmod(0o755)
    path = f"{folder}/bin:{lab.environment()['PATH']}"
    run_id = lab.submit(folder, env={"PATH": path})
    assert lab.json("show", run_id)["status"] == "Queued"
    words = [lab.python, "-c", SHOW_AT_ONCE, run_id]
    done = lab.cluster.run("alice", words, env=lab.environment())
    verdict = json.loads(done.stdout)["verdict"]
    assert verdict["cause"] == "lost"
    sentence = "the agent left no end, and the job is unknown to the scheduler"
    assert verdict["sentence"] == sentence
    assert "only accounting (sacct) remembers it" in verdict["hint"]


def test_without_accounting_what_nobody_knows_is_said(accounted: Lab) -> None:
    lab, faults = accounted, Faults(accounted)
    lab.cluster.set_accounting(False)
    try:
        faults.submit({"canceled": SLEEP + HELD, "requeued": SLEEP})
        faults.root("scancel", faults.job("canceled"))
        faults.until(lambda runs: runs["requeued"]["status"] == "Running")
        requeue(faults)
        faults.until(
            lambda runs: ended(runs["canceled"]) and len(runs["requeued"]["attempts"]) == 2
        )
        verdict = faults.runs["canceled"]["verdict"]
        assert verdict["sentence"] == "the run was canceled by an unknown user"
        assert "accounting is off" in verdict["hint"]
        waits_after_a_requeue(faults, "; accounting is off, so nobody says why")
        faults.root("scancel", faults.job("requeued"))
    finally:
        lab.cluster.set_accounting(True)


def waits_after_a_requeue(faults: Faults, how: str) -> None:
    """Why the attempt ended, and why the next one waits."""
    run = faults.runs["requeued"]
    assert run["status"] == "Queued", run
    assert run["attempts"][0]["verdict"]["sentence"] == f"the job was requeued{how}"
    (waits,) = (value for name, value in faults.show("requeued") if name == "waits")
    assert waits.startswith("BeginTime: it may not start before its begin time; a requeued job")
