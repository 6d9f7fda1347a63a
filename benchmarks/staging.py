"""A packed environment on four nodes' own disks, against importing it on all from where it is.

STAGED_ENVIRONMENT names a virtual environment with torch, of an interpreter that users of the
cluster may start, in a folder that they see. It is looked at there, which is this machine's own
disk and in its memory, and over a network file system (sshfs), whose clients know nothing yet.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.lab import FOLDERS, USER, environment
from benchmarks.row import Row
from tests.cluster.failure import ClusterError
from tests.cluster.hosts import inside
from tests.cluster.layout import LOGIN, NODES
from tests.cluster.processes import call
from tests.lab import Lab

VARIABLE = "STAGED_ENVIRONMENT"
TURNS = 3

_FIRST = """\
import json, os, time
import torch

with open("outputs/%s.json" % os.environ["RANK"], "w") as file:
    json.dump(time.time() - float(os.environ["BEGAN"]), file)
"""
_NOTED = """\
{% extends "shipped/sbatch.sh.j2" %}
{% block settings %}
export BEGAN=$EPOCHREALTIME
{{ super() }}
{% endblock %}
{% block packed %}
{{ super() }}
echo staged $EPOCHREALTIME $BEGAN
{% endblock %}
"""
_IN_MEMORY = "inherits: [test-cluster]\nstorage: {node_tmp: /dev/shm}\n"
"""All four nodes are on one disk here, which no node of a cluster is."""

_CALLS = "trace=%file,read,pread64,fstat,lseek,mmap,getdents64"


class Ground(NamedTuple):
    """Where the environment and the history lie. served: by network, from a folder of this
    machine's, where it is one."""

    lab: Lab
    prefix: Path
    served: Path | None = None

    def here(self, path: str) -> Path:
        """A path of the nodes, as this machine sees it."""
        if self.served is None:
            return Path(path)
        return self.served / Path(path).relative_to(self.lab.cluster.layout.network)

    def forget(self) -> None:
        """Makes clients of a network file system that know nothing yet."""
        if self.served is not None:
            self.lab.cluster.mount_network(*(node.name for node in NODES))


def rows(lab: Lab, count: int) -> Iterator[Row]:
    """Job start to the first instruction behind `import torch`, and calls on the shared folder."""
    given = os.environ.get(VARIABLE)
    if not given:
        yield Row.skipped("staging", f"{VARIABLE} names no environment")
        return
    turns = min(count, TURNS)
    yield from _compared(Ground(lab, Path(given)), "a shared folder in memory", turns)
    try:
        with _served(lab, Path(given)) as ground:
            yield from _compared(ground, "sshfs", turns)
    except ClusterError as error:
        yield Row.skipped("staging over sshfs", str(error))


def _compared(ground: Ground, where: str, turns: int) -> Iterator[Row]:
    shared: list[float] = []
    packed: list[float] = []
    staged: list[float] = []
    for turn in range(turns + 1):
        ground.forget()
        one = _run(ground, pack=False)
        ground.forget()
        other = _run(ground, pack=True)
        if turn:  # the first packs it
            shared += [_slowest(one)]
            packed += [_slowest(other)]
            staged += [_staging(other)]
    yield Row(
        f"import torch on four nodes: packed, against from {where}",
        f"{median(packed):.1f} s, of which {median(staged):.1f} s to stage it",
        f"{median(shared):.1f} s",
        f"{median(packed) / median(shared):.2f}×",
        "-",
        None,
    )
    calls = [_calls(_run(ground, pack=pack, traced=True), ground.prefix) for pack in (True, False)]
    yield Row(
        f"calls of the ranks on {where}",
        f"{calls[0]:,}",
        f"{calls[1]:,}",
        "-",
        "-",
        None,
    )


def _run(ground: Ground, *, pack: bool, traced: bool = False) -> Path:
    """The files of a run that has ended well."""
    name = f"{FOLDERS}staging"
    strace = ["strace", "-f", "-y", "-qq", "-e", _CALLS, "-o", "outputs/${{rank}}.calls"]
    request = {
        "command": [*(strace if traced else ()), "python", "first.py"],
        "compute_target": "test-cluster/main",
        "resources": {"node_count": 4, "time": "20m", "memory": "4G"},
        "preflight": False,
        "environment": {
            "name": "torch",
            "virtual_environment": str(ground.prefix),
            **({"pack": "sbcast", "pack_failure": "fail"} if pack else {}),
        },
    }
    files = {
        "first.py": _FIRST,
        ".hpcrun/templates/sbatch.sh.j2": _NOTED,
        ".hpcrun/site_configs/test-cluster.yaml": _IN_MEMORY,
    }
    lab = ground.lab
    folder = lab.folder(name, {**files, "run.yaml": json.dumps(request)})
    run_id = lab.json("submit", cwd=folder, env=environment(lab), timeout=900)["run_id"]
    words = ("wait", "--json", "--timeout", "1200", run_id)
    run = json.loads(lab.run(*words, timeout=1260, env=environment(lab)).stdout)
    if run["status"] != "Completed":
        raise RuntimeError(run["verdict"])
    return ground.here(run["files"])


def _slowest(files: Path) -> float:
    """Seconds until the last rank's first instruction behind the import."""
    return max(float(path.read_text()) for path in _seen(files, "outputs", "*.json"))


def _staging(files: Path) -> float:
    (log,) = _seen(files, "user_logs", "batch-*.log")
    line = next(line for line in log.read_text().splitlines() if line.startswith("staged "))
    _, then, began = line.split()
    return float(then) - float(began)


def _calls(files: Path, prefix: Path) -> int:
    """Calls of all ranks that name a file of the environment where all nodes see it."""
    traces = (path.read_text() for path in _seen(files, "outputs", "*.calls"))
    return sum(f"{prefix}/" in line for text in traces for line in text.splitlines())


def _seen(files: Path, folder: str, pattern: str) -> list[Path]:
    return sorted((files / folder).glob(pattern))


@contextmanager
def _served(lab: Lab, given: Path) -> Iterator[Ground]:
    """The same, served to all nodes from this machine's disk. ClusterError."""
    cluster, layout = lab.cluster, lab.cluster.layout
    disk = cluster.root / f"{FOLDERS}served"
    hosts = (LOGIN.name, *(node.name for node in NODES))
    network = cluster.mount_network(*hosts)
    try:
        shutil.copytree(given, disk / "env", symlinks=True)
        # Its clients follow no link that leads out of what is served.
        python = disk / "env/bin/python3"
        interpreter = python.resolve()
        python.unlink()
        shutil.copy(interpreter, python)
        (disk / "history").mkdir()
        for path in (disk, *disk.rglob("*")):
            os.chown(path, layout.uid(USER), -1, follow_symlinks=False)
        call(inside(layout, LOGIN.name, ["mount", "--bind", str(disk), str(layout.served)]))
        yield Ground(replace(lab, workspace=network / "history"), network / "env", disk)
    finally:
        call(inside(layout, LOGIN.name, ["umount", "--lazy", str(layout.served)]))
        cluster.unmount_network()
        shutil.rmtree(disk, ignore_errors=True)
