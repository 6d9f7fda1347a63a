"""From the start of a job of two nodes to the first instruction of its last process, by launcher.

A bare script starts the same processes by the same words, written by hand. Against it hpcrun's
script with the agent alone, and with the agent and its preflight, which is the default; the three
run on the same nodes, in turn.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.first_instruction import NOTED, bare_job, gone, our_job
from benchmarks.lab import FOLDERS
from benchmarks.row import Row
from tests.cluster.layout import NODES
from tests.lab import Lab, eventually

NODELIST = ",".join(node.name for node in NODES[:2])

_USER_SCRIPT = """\
import time

now = time.time()
import os

told = os.environ["TOOK"] + f".{os.uname().nodename}-{os.getpid()}"
with open(told + ".part", "w") as file:
    file.write(str(now - float(os.environ["BEGAN"])))
os.rename(told + ".part", told + ".rank")
"""

_BARE = """\
#!/bin/bash
#SBATCH --nodelist={nodelist} --nodes=2 --ntasks-per-node={tasks} --cpus-per-task={cpus}
#SBATCH --output=/dev/null
export BEGAN=$EPOCHREALTIME
export PMIX_MCA_psec=native PMIX_MCA_gds=hash
read -r first < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
export first
"""

_SRUN = "srun --nodes=2 --ntasks-per-node={tasks} --cpus-per-task={cpus}"
_TORCH = "-m torch.distributed.run --nnodes=2 --nproc-per-node=2"
_C10D = (
    '--rdzv-backend=c10d --rdzv-id="$SLURM_JOB_ID" --rdzv-endpoint="$first:29411"'
    " --rdzv-conf=is_host=$([ $SLURM_NODEID = 0 ] && echo true || echo false)"
)
_STATIC = '--node-rank="$SLURM_NODEID" --master-addr="$first" --master-port=29411'


HOW = ("bare", "agent alone", "agent and preflight")


class _Launch(NamedTuple):
    """distributed: of run.yaml. words: by hand. tasks: on each node, of so many cpus.

    processes: in all.
    """

    distributed: dict[str, object]
    words: str
    tasks: int = 2
    cpus: int = 1
    processes: int = 4


def _mpi(launcher: str) -> dict[str, object]:
    return {"kind": "mpi", "node_count": 2, "process_count_per_node": 2, "launcher": launcher}


def _torch(launcher: str) -> dict[str, object]:
    counts = {"node_count": 2, "process_count": 4, "communication_backend": "Gloo"}
    return {"kind": "pytorch", "launcher": launcher, **counts}


def _on_each_node(flags: str) -> str:
    """torchrun, once on each node, where its number is known."""
    return f"{_SRUN} bash -c 'exec {{python}} {_TORCH} {flags} first.py'"


LAUNCHES = {
    "srun": _Launch(_torch("srun"), f"{_SRUN} {{python}} first.py"),
    "srun --mpi=pmix": _Launch(_mpi("srun"), f"{_SRUN} --mpi=pmix {{python}} first.py"),
    "mpirun": _Launch(_mpi("mpirun"), "mpirun -np 4 --bind-to none {python} first.py"),
    "torchrun": _Launch(_torch("torchrun"), _on_each_node(_C10D), 1, 2),
    "torchrun_static": _Launch(_torch("torchrun_static"), _on_each_node(_STATIC), 1, 2),
    "tensorflow": _Launch(
        {"kind": "tensorflow", "worker_count": 2, "parameter_server_count": 0},
        f"{_SRUN} {{python}} first.py",
        tasks=1,
        processes=2,
    ),
}


def rows(lab: Lab, count: int) -> Iterator[Row]:
    """Two rows for each launcher: what the agent adds alone, and what it adds with a preflight."""
    files = {"first.py": _USER_SCRIPT, ".hpcrun/templates/sbatch.sh.j2": NOTED}
    for name, launch in LAUNCHES.items():
        place = {"python": lab.python, "nodelist": NODELIST, **launch._asdict()}
        bare = (_BARE + launch.words).format(**place)
        files |= {f"{name}.yaml": _run(lab.python, launch), f"{name}.sh": bare}
    folder = lab.folder(f"{FOLDERS}launches", files)
    took: dict[tuple[str, str], list[float]] = {(name, how): [] for name in LAUNCHES for how in HOW}
    for turn in range(count + 1):
        for (name, how), times in took.items():
            found = _took(lab, folder, name, how, f"{turn}-{how.split()[-1]}")
            times += [found] if turn else []  # the first round is not counted
    medians = {key: median(times) for key, times in took.items()}
    for (name, how), seconds in medians.items():
        floor = medians[name, "bare"]
        more = f"{seconds - floor:.2f} s more"
        what = f"{name}: {how}, against a bare script"
        if how != "bare":
            yield Row(what, f"{seconds:.2f} s", f"{floor:.2f} s", more, "-", None)


def _run(python: str, launch: _Launch) -> str:
    return json.dumps(
        {
            "script": "first.py",
            "environment": {"name": "lab", "python": {"interpreter_path": python}},
            "compute_target": "test-cluster/main",
            "sbatch": {"nodelist": NODELIST},
            "distributed_job_config": launch.distributed,
        }
    )


def _took(lab: Lab, folder: Path, name: str, how: str, turn: str) -> float:
    """Seconds until the last process of a job has begun."""
    took = folder / f"{name.replace(' ', '')}-{turn}"
    if how == "bare":
        job = bare_job(lab, folder, f"{name}.sh", took)
    else:
        preflight = f"preflight={'true' if 'preflight' in how else 'false'}"
        job = our_job(lab, folder, took, "--file", f"{name}.yaml", "--set", preflight)

    def told() -> list[Path]:
        found = list(folder.glob(f"{took.name}.*.rank"))
        return found if len(found) == LAUNCHES[name].processes else []

    times = [float(file.read_text()) for file in eventually(told, 180)]
    gone(lab, job)
    return max(times)
