"""Metric files and node measurements on the real cluster."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from hpcrun.record import decode_page
from tests.lab import Lab, eventually, go_on
from tests.test_kills import count, ended, processes_of

pytestmark = pytest.mark.cluster

RUN_YAML = """\
script: train.py
compute_target: test-cluster
experiment: follow
resources: {time: 10m}
metric_files: [logs/*.jsonl, outputs/m.csv]
system_metrics_seconds: 1
"""

# Goes on where the file ends, as training does from its checkpoint; the first attempt has no end.
TRAIN = """\
import os, time
out = os.open("logs/m.jsonl", os.O_RDWR | os.O_APPEND | os.O_CREAT)
table = os.open("outputs/m.csv", os.O_RDWR | os.O_APPEND | os.O_CREAT)
if not os.fstat(table).st_size:
    os.write(table, b"step,b\\n")
first = os.pread(out, 1 << 24, 0).count(b"\\n")
attempt = int(os.environ["HPCRUN_ATTEMPT"].partition(".")[2])
for number in range(first, 10**6 if attempt == 0 else first + 100):
    os.write(out, b'{"step": %d, "a": %d, "attempt": %d}\\n' % (number, number, attempt))
    os.write(table, b"%d,%d\\n" % (number, number))
    time.sleep(0.01)
"""


def metrics_of_record(run: Any) -> list[tuple[str, str, Any]]:
    """(attempt, name, value) of each fact."""
    facts = []
    for path in sorted(Path(run["record"]).glob("*.metrics.jsonl")):
        facts += decode_page(path.read_bytes(), path.name).facts
    return [(str(f.attempt), f.data["m"], f.data["v"]) for f in facts if f.kind == "metric"]


def running(lab: Lab, name: str) -> Any:
    source = lab.folder(name, {"run.yaml": RUN_YAML, "train.py": TRAIN})
    run_id = lab.submit(source)
    run = eventually(lambda: (r := lab.json("show", run_id))["status"] == "Running" and r)
    eventually(lambda: len(lab.json("metrics", run_id).get("a") or []) > 10)
    return run


def test_a_requeue_goes_on_with_the_files_and_doubles_nothing(lab: Lab) -> None:
    run = running(lab, "follow-requeue")
    assert lab.cluster.run("alice", ["scontrol", "requeue", run["job_id"]]).returncode == 0
    go_on(lab, run["job_id"])
    run = lab.wait(run["run_id"])
    assert [a["attempt"] for a in run["attempts"]] == ["1.0", "1.1"], run
    assert (run["status"], run["problems"]) == ("Completed", [])
    lines = count(Path(run["files"], "logs/m.jsonl"))
    found = metrics_of_record(run)
    assert [value for _, name, value in found if name == "a"] == list(range(lines))
    assert [value for _, name, value in found if name == "b"][-1] == lines - 1
    told = [(attempt, value) for attempt, name, value in found if name == "attempt"]
    assert {(a, v) for a, v in told} == {("1.0", 0), ("1.1", 1)}
    assert lab.json("metrics", run["run_id"])["a"] == list(range(lines))
    shown = lab.ok("show", run["run_id"])
    assert f"metric file\tlogs/m.jsonl: {2 * lines} values" in shown
    assert "CPUs\t" in shown and "memory\t" in shown


def test_the_jobs_own_share_of_both_its_nodes(lab: Lab) -> None:
    """The nodes have two CPUs or more, and other work; the job has one, and keeps it busy."""
    text = (
        "import time\ne = time.time() + 6\nx = bytearray(60 << 20)\nwhile time.time() < e: pass\n"
    )
    yaml = RUN_YAML + "resources: {time: 10m, memory: 300M, cpus_per_task: 1, node_count: 2}\n"
    yaml = yaml.replace("resources: {time: 10m}\n", "", 1)
    source = lab.folder("follow-share", {"run.yaml": yaml, "train.py": text})
    run = lab.wait(lab.submit(source))
    assert run["status"] == "Completed", lab.ok("show", run["run_id"])
    facts = []
    for path in Path(run["record"]).glob("node-*.metrics.jsonl"):
        facts += [f for f in decode_page(path.read_bytes()).facts if f.kind == "system"]
    data = [fact.data for fact in facts]
    assert data and {one["of"] for one in data} == {"job"}
    nodes = run["attempts"][0]["nodes"]
    assert len(nodes) == 2
    for node in nodes:
        of_node = [one for one in data if one["host"] == node]
        # Of a core, which it shares with whatever else this machine does.
        assert max(one["cpu_percent"] * one["cpus"] for one in of_node) > 5
        assert max(one["memory_bytes"] for one in of_node) > 60 << 20
    assert {one["memory_limit_bytes"] for one in data} == {300 << 20}
    system = lab.json("metrics", "--system", run["run_id"])
    assert {f"system/{node}/cpu_percent" for node in nodes} < set(system)


def test_what_a_killed_job_left_in_its_files_is_collected(lab: Lab) -> None:
    run = running(lab, "follow-killed")
    # The agent and its keeper come first: what is written while they stand still waits for collect.
    processes, journal = processes_of(run["run_id"]), Path(run["files"], "logs/m.jsonl")
    for pid in processes[:2]:
        os.kill(pid, signal.SIGSTOP)
    written = count(journal)
    eventually(lambda: count(journal) > written)
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):  # Slurm ends them as well
            os.kill(pid, signal.SIGKILL)
    run = eventually(lambda: ended(lab, run["run_id"]))
    before = len(metrics_of_record(run))
    lab.ok("collect", run["run_id"])
    lab.ok("collect", run["run_id"])
    lines = count(journal)
    found = metrics_of_record(run)
    assert len(found) > before
    assert sorted(value for _, name, value in found if name == "a") == list(range(lines))
