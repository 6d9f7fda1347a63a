"""hpcrun doctor on the real test cluster: a good target, and one with all that is wrong."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Lab

pytestmark = pytest.mark.cluster

WRONG = """\
inherits: [test-cluster]
id: wrong
valid_until: "2020-01-01"
detect: {{env: {{CLUSTER: wrong}}}}
storage:
  run_history_root: {history}
  scratch: $NO_SUCH_SCRATCH/hpcrun
  roots:
    lab: {{path: {history}, purge: {{days: 10}}}}
    gone: {{path: /nowhere/at/all}}
    node: {{path: /tmp, size: 1T, files: 5000, flock: false, writable_on_compute: false}}
  quota_command: myquota
scheduler:
  account: {{default: nobodys}}
  error_hints: {{Invalid account: the site knows, Invalid partition: the site knows}}
launch: {{mpi: {{type: pmi9, types: {{openmpi: pmix, mpich: pmi8}}}}}}
targets:
  short: {{partition: 'short,mian', time: {{default: 3m, max: 2h}}, nodes: {{max: 9}}}}
"""


@pytest.fixture(scope="module", autouse=True)
def nobody_elses_jobs(lab: Lab) -> None:
    """None that others have left: they would be counted, and a run could not start now."""
    lab.cluster.drop_jobs()


def examined(lab: Lab, target: str, code: int, **env: str) -> dict[str, list[tuple[str, str, str]]]:
    """(grade, message, cure) of each finding, by subject; no job may come of it."""
    before = ids(lab)
    done = lab.run("doctor", "--json", target, env=env)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert set(ids(lab).split()) <= set(before.split())  # those that ended are forgotten
    told: dict[str, list[Any]] = {}
    for finding in json.loads(done.stdout):
        grade, subject, message, cure = finding.values()
        told.setdefault(subject, []).append((grade, message, cure))
    return told


def ids(lab: Lab) -> str:
    """The jobs that the controller holds."""
    return lab.cluster.run("alice", ["squeue", "--noheader", "--states=all", "--format=%i"]).stdout


def test_a_good_target_is_found_good(lab: Lab) -> None:
    told = examined(lab, "test-cluster/main", 0)
    grades = {subject: {grade for grade, _, _ in found} for subject, found in told.items()}
    assert {subject for subject, grade in grades.items() if grade != {"ok"}} == set()
    assert told["account"] == [("ok", "lab, Slurm's own default", "")]
    assert told["partition"] == [("ok", "main is up and open to you", "")]
    assert told["limits"] == [("ok", "main gives 1-00:00:00 and 4 nodes", "")]
    assert told["clock"] == [("ok", "as the controller's", "")]
    assert re.match(r"--mpi=pmix; srun knows (.*, )?pmix\b", told["MPI"][0][1])
    assert told["trial"][0][1].startswith("a small run could start now, on n")


def test_all_that_is_wrong_is_found_at_once(lab: Lab) -> None:
    text = WRONG.format(history=lab.workspace)
    config = lab.folder("wrong", {"hpcrun/site_configs/wrong.yaml": text})
    told = examined(lab, "wrong/short", 1, XDG_CONFIG_HOME=str(config))
    assert {
        (subject, grade)
        for subject, found in told.items()
        for grade, _, _ in found
        if grade != "ok"
    } == {
        ("site wrong", "warning"),
        ("workspace", "error"),
        ("storage.roots.gone", "warning"),
        ("storage.scratch", "warning"),
        ("account", "error"),
        ("partition", "error"),
        ("targets.short.time.default", "error"),
        ("targets.short.time.max", "warning"),
        ("targets.short.nodes.max", "warning"),
        ("launch.mpi.type", "error"),
        ("launch.mpi.types.mpich", "error"),
        ("trial", "error"),
    }
    assert told["storage.roots.lab"][0][1].endswith(", emptied of what was not read for 10 days")
    limits = "/tmp, holds 1T and 5,000 files, jobs cannot write there, locks do not work there"
    assert told["storage.roots.node"] == [("ok", limits, "")]
    assert told["quota"] == [("ok", "`myquota` tells what is left of yours", "")]
    assert told["site wrong"][1][1].startswith("this host is none of wrong's")
    assert "from which files go after 10 days" in told["workspace"][1][1]
    assert told["account"][0][1] == "nobodys is none of your accounts: yours are lab"
    assert told["partition"][1][1:] == ("there is no partition mian", "did you mean main?")
    assert told["targets.short.nodes.max"][0][1].endswith("9 nodes, and short gives at most 4")
    said = r"srun knows no --mpi=pmi9: it knows (.*, )?pmix\b"
    assert re.match(said, told["launch.mpi.type"][0][1])
    (trial,) = told["trial"]
    assert trial[1].startswith("a small run is refused: sbatch: ")
    assert trial[2] == "the site knows"


DOUBTFUL = """\
inherits: [test-cluster]
id: doubtful
remarks: [idle jobs are canceled]
modules: {{system: none}}
storage:
  run_history_root: {history}
  roots:
    work: {{env: NO_SUCH_WORK, env_after: module reset}}
    closed: {{env: CLOSED}}
    open: {{path: {history}}}
    above: {{path: /usr}}
scheduler:
  account: {{required: true}}
  accounting: false
  requeue: {{default: false}}
  max_running_jobs: 1
"""


@contextlib.contextmanager
def partition_that_is(lab: Lab, state: str) -> Iterator[None]:
    """The partition `short`, in a state."""
    update = ["scontrol", "update", "PartitionName=short"]
    assert lab.cluster.run("root", [*update, f"State={state}"]).returncode == 0
    try:
        yield
    finally:
        assert lab.cluster.run("root", [*update, "State=UP"]).returncode == 0


@contextlib.contextmanager
def job_that_waits(lab: Lab) -> Iterator[None]:
    """A job of alice's that nobody starts."""
    words = ["sbatch", "--parsable", "--hold", "--partition=main", "--output=/dev/null"]
    done = lab.cluster.run("alice", [*words, "--wrap=true"])
    assert done.returncode == 0, done.stderr
    try:
        yield
    finally:
        lab.cluster.run("alice", ["scancel", done.stdout.strip()])


@contextlib.contextmanager
def small_disk(lab: Lab) -> Iterator[Path]:
    """A folder of alice's, on the login node alone, that holds next to nothing."""
    folder = lab.folder("small", {})
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0777", "none", str(folder)]
    assert lab.cluster.run("root", mount).returncode == 0
    try:
        yield folder
    finally:
        lab.cluster.run("root", ["umount", str(folder)])


# A clock an hour slow, and no locks, as on a Lustre that is not mounted with them.
LIBRARY = """\
#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t id, struct timespec *told) {
    int failed = syscall(SYS_clock_gettime, id, told);
    if (!failed && id == CLOCK_REALTIME)
        told->tv_sec -= 3600;
    return failed;
}

int flock(int fd, int operation) {
    errno = ENOSYS;
    return -1;
}
"""


def library(lab: Lab) -> Path:
    folder = lab.folder("library", {"odd.c": LIBRARY})
    words = ["cc", "-shared", "-fPIC", "-o", str(folder / "odd.so"), str(folder / "odd.c")]
    done = lab.cluster.run("root", words)
    if done.returncode == 127:
        pytest.skip("there is no C compiler")
    assert done.returncode == 0, done.stderr
    return folder / "odd.so"


def commands(lab: Lab, *names: str) -> str:
    """A PATH with only these of Slurm's commands, and hpcrun."""
    folder = lab.folder("commands", {})
    for name in names:
        lab.cluster.run("alice", ["ln", "-sf", f"/usr/bin/{name}", str(folder)])
    return f"{lab.venv}/bin:{folder}"


def test_each_line_can_be_a_warning(lab: Lab) -> None:
    told = lab.folder(
        "doubtful", {"hpcrun/site_configs/doubtful.yaml": DOUBTFUL.format(history=lab.workspace)}
    )
    environ = {
        "XDG_CONFIG_HOME": str(told),
        "LD_PRELOAD": str(library(lab)),
        "PATH": commands(lab, "sbatch", "squeue", "scancel", "scontrol", "sacctmgr"),
        "CLOSED": "/usr",
        "LMOD_CMD": "/usr/share/lmod/lmod/libexec/lmod",
    }
    with small_disk(lab) as disk, partition_that_is(lab, "DOWN"), job_that_waits(lab):
        environ["HPCRUN_WORKSPACE"] = str(disk)
        found = examined(lab, "doubtful/short", 0, **environ)
    doubts = {
        subject: (message, cure)
        for subject, each in found.items()
        for grade, message, cure in each
        if grade == "warning"
    }
    said = {
        "locks": "locks do not work (Function not implemented)",
        "space": "0.0 GiB and",
        "storage.roots.work": "$NO_SUCH_WORK names a variable",
        "storage.roots.closed": "/usr cannot be written: Permission denied",
        "storage.roots.open": "locks do not work (Function not implemented) in /",
        "modules": "the site says that there are no modules, and there is Lmod",
        "clock": "this host's and the controller's are 3",
        "account": "doubtful wants an account, and names no default: yours are lab",
        "partition": "short is down: it takes jobs, and starts none",
        "accounting": "this Slurm keeps records",
        "scheduler.requeue.default": "this Slurm requeues jobs unless they say otherwise, and the",
        "jobs": "you have 1 jobs, and 1 run at a time: another one waits",
        "MPI": "srun cannot be run",
    }
    assert set(doubts) == set(said)
    for subject, start in said.items():
        assert doubts[subject][0].startswith(start), doubts[subject]
    assert all(cure for _, cure in doubts.values()), doubts
    assert doubts["storage.roots.work"][1].startswith("run `module reset` first")
    assert ("ok", "idle jobs are canceled", "") in found["site doubtful"]
    assert found["storage.roots.above"] == [("ok", "/usr, where you write in folders below it", "")]


def test_each_line_can_be_an_error(lab: Lab) -> None:
    """Those that are not among all that is wrong above."""
    few = "inherits: [test-cluster]\nid: few\nscheduler: {max_jobs: 1, account: {required: true}}\n"
    told = lab.folder("few", {"hpcrun/site_configs/few.yaml": few})
    environ = {"XDG_CONFIG_HOME": str(told), "HPCRUN_WORKSPACE": "/proc/history", "USER": "nobody"}
    with partition_that_is(lab, "DRAIN"), job_that_waits(lab):
        found = examined(lab, "few/short", 1, **environ)
    assert found["workspace"][0][:2] == ("error", found["workspace"][0][1])
    assert found["workspace"][0][1].startswith("/proc/history cannot be written: ")
    assert found["account"][0][::2] == ("error", "ask your cluster's staff for one")
    assert found["partition"][0][:2] == ("error", "short takes no jobs now: its state is DRAIN")
    assert found["jobs"][0][:2] == ("error", "you have 1 jobs, and 1 are all that you may have")
    assert found["trial"] == [("warning", "no run is tried: it needs an account", "")]


def test_without_slurm_or_its_controller(lab: Lab) -> None:
    done = lab.run("doctor", env={"PATH": f"{lab.venv}/bin"})
    assert done.returncode == 0 and "warning\tSlurm: sbatch, squeue" in done.stdout, done.stdout
    found = examined(lab, "test-cluster/main", 1, PATH=f"{lab.venv}/bin")
    (told,) = found["Slurm"]
    assert told[0] == "error" and told[1].startswith("sbatch, squeue, scancel not on PATH")
    done = lab.cluster.run("root", ["cat", "/etc/slurm/slurm.conf"])
    away = done.stdout.replace("SlurmctldPort=", "#").replace("MessageTimeout=", "#")
    away += "\nSlurmctldPort=1\nMessageTimeout=2\n"  # seconds
    folder = lab.folder("away", {"slurm.conf": away})
    found = examined(lab, "test-cluster/main", 1, SLURM_CONF=str(folder / "slurm.conf"))
    (told,) = found["controller"]
    assert told[::2] == ("error", "wait, or ask your cluster's staff"), told


def test_a_refused_submission_tells_what_the_site_says(lab: Lab) -> None:
    text = WRONG.format(history="/nowhere")
    files = {"hpcrun/site_configs/wrong.yaml": text, "run.yaml": "command: [true]\n"}
    folder = lab.folder("refused", files)
    env = {"XDG_CONFIG_HOME": str(folder), "HPCRUN_WORKSPACE": str(folder / "history")}
    done = lab.run("submit", "-t", "wrong/short", cwd=folder, env=env)
    assert done.returncode == 7
    first, refusal = done.stderr.split("\n", 1)
    assert first == "hpcrun: wrong was said to close on 2020-01-01"
    assert "Invalid " in refusal and "the site knows" in refusal
