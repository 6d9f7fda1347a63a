"""hpcrun doctor on the real test cluster: a good target, and one with all that is wrong."""

from __future__ import annotations

import json
import re
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


def examined(lab: Lab, target: str, code: int, **env: str) -> dict[str, list[tuple[str, str, str]]]:
    """(grade, message, cure) of each finding, by subject; no job may come of it."""
    before = ids(lab)
    done = lab.run("doctor", "--json", target, env=env)
    assert done.returncode == code, (done.stdout, done.stderr)
    assert ids(lab) == before
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
