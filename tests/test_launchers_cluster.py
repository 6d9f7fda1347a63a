"""Every launcher over two nodes on the real cluster: who is who, a collective, a rank that dies."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Lab

pytestmark = pytest.mark.cluster

TELL = """
import json, os, socket, sys
from hpcrun import Run, distributed
{world}
me = distributed.ranks()
run = Run.get_context()
told = {{
    "words": sys.argv[1:],
    "facts": me._asdict(),
    "host": socket.gethostname(),
    "of_world": of_world,
    "variables": {{name: os.environ[name] for name in {names} if name in os.environ}},
    "reduced": [distributed.reduce(me.rank, how) for how in ("mean", "sum", "min", "max")],
    "with_nan": [
        distributed.reduce(float("nan") if me.rank == one else me.rank, how)
        for how in ("mean", "sum", "min", "max")
        for one in (0, 3)
    ],
}}
run.log("place", me.rank + 1, step=0, reduce="mean")
run.log("own", me.rank)
with open("outputs/%d.json" % me.rank, "w") as file:
    json.dump(told, file)
{end}
"""

MPI4PY = (
    "from mpi4py import MPI\n"
    "world = MPI.COMM_WORLD\n"
    "of_world = [world.rank, world.size, world.allgather(socket.gethostname())]\n"
)
TORCH = (
    "import torch.distributed as dist\n"
    "dist.init_process_group('gloo')\n"
    "names = [None] * dist.get_world_size()\n"
    "dist.all_gather_object(names, socket.gethostname())\n"
    "of_world = [dist.get_rank(), dist.get_world_size(), names]\n"
)
DESTROY = "dist.barrier()\ndist.destroy_process_group()\n"

NAMES = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK"),
    *("MASTER_ADDR", "MASTER_PORT", "AZ_BATCH_MASTER_NODE", "AZ_BATCHAI_MPI_MASTER_NODE"),
    *("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    *("OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
)

OF_MPI = {"kind": "mpi", "node_count": 2, "process_count_per_node": 2}
OF_TORCH = {"kind": "pytorch", "node_count": 2, "process_count": 4, "communication_backend": "Gloo"}

WORLDS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "mpi4py-srun": (MPI4PY, {**OF_MPI, "launcher": "srun"}),
    "mpi4py-mpirun": (MPI4PY, {**OF_MPI, "launcher": "mpirun"}),
    "torch-torchrun": (TORCH, {**OF_TORCH, "launcher": "torchrun"}),
    "torch-torchrun_static": (TORCH, {**OF_TORCH, "launcher": "torchrun_static"}),
    "torch-torchrun_mpirun": (TORCH, {**OF_TORCH, "launcher": "torchrun_mpirun"}),
    "torch-srun": (TORCH, {**OF_TORCH, "launcher": "srun"}),
    "torch-own": (TORCH, {"kind": "pytorch", "node_count": 2}),
}

WORDS = ("${{rank}}", "it's ${{local_rank}} of ${{ world_size }}; $RANK", "$${{rank}}")

OWN = (
    *("-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=2"),
    *("--node-rank=${{node_rank}}", "--master-addr=${{master_addr}}"),
    *("--master-port=${{master_port}}", "train.py"),
)
"""What `torch-own` runs once on each node, as people do who bring their own torchrun."""

CLUSTER = """
import json, os, socket, time
config = json.loads(os.environ["TF_CONFIG"])
cluster, task = config["cluster"], config["task"]
host, port = cluster[task["type"]][task["index"]].rsplit(":", 1)
assert host == socket.gethostname().split(".")[0]
with open("outputs/%s.json" % os.environ["RANK"], "w") as file:
    json.dump({"config": config, "size": os.environ["WORLD_SIZE"]}, file)
server = socket.create_server(("", int(port)))
if task["type"] == "ps":
    time.sleep(600)
for address in [*cluster["worker"], *cluster["ps"]]:
    host, port = address.rsplit(":", 1)
    for attempt in range(600):
        try:
            socket.create_connection((host, int(port)), 5).close()
            break
        except OSError:
            time.sleep(0.1)
    else:
        raise SystemExit("nobody at " + address)
while not all(os.path.exists("outputs/done-%d" % n) for n in range(len(cluster["worker"]))):
    open("outputs/done-%d" % task["index"], "w").close()
    time.sleep(0.1)
"""

DIES = """
import os, time
if os.environ["RANK"] == "{rank}":
    while len(os.listdir("outputs")) < {others}:
        time.sleep(0.1)
    raise RuntimeError("this one dies")
open("outputs/" + os.environ["RANK"], "w").close()
time.sleep(600)
"""

OF_TENSORFLOW = {"kind": "tensorflow", "worker_count": 2, "parameter_server_count": 1}

DYING: Mapping[str, tuple[int, Mapping[str, Any]]] = {
    "srun": (3, {**OF_MPI, "launcher": "srun"}),
    "mpirun": (3, {**OF_MPI, "launcher": "mpirun"}),
    "torchrun": (3, {**OF_TORCH, "launcher": "torchrun"}),
    "torchrun_static": (3, {**OF_TORCH, "launcher": "torchrun_static"}),
    "tensorflow": (2, OF_TENSORFLOW),
    "tensorflow-worker": (1, OF_TENSORFLOW),
}


@dataclass(frozen=True)
class Runs:
    """The runs, side by side, by what they try."""

    lab: Lab
    ids: Mapping[str, str]

    def end(self, name: str) -> Any:
        return self.lab.wait(self.ids[name], timeout=240)

    def told(self, name: str) -> list[dict[str, Any]]:
        """What each rank of a run that completed saw."""
        run = self.end(name)
        assert run["status"] == "Completed", (run["verdict"], logs(run))
        found = sorted(Path(run["files"], "outputs").glob("*.json"))
        return [json.loads(file.read_text()) for file in found]


def logs(run: Mapping[str, Any]) -> list[str]:
    files = Path(run["files"]).glob("user_logs/**/*.log")
    return [file.read_text(errors="replace")[-2000:] for file in files]


@pytest.fixture(scope="module")
def runs(lab: Lab) -> Runs:
    ids = {}
    for name, (world, distributed) in WORLDS.items():
        text = TELL.format(world=world, names=NAMES, end=DESTROY if world == TORCH else "")
        ids[name] = submit(lab, name, text, distributed)
    ids["cluster"] = submit(lab, "tf-config", CLUSTER, OF_TENSORFLOW)
    for name, (rank, distributed) in DYING.items():
        others = 2 if distributed is OF_TENSORFLOW else 3
        ids[f"dies-{name}"] = submit(
            lab, f"dies-{name}", DIES.format(rank=rank, others=others), distributed
        )
    return Runs(lab, ids)


def submit(lab: Lab, name: str, text: str, distributed: Mapping[str, Any]) -> str:
    request = {
        **(
            {"command": [lab.python, *OWN]}
            if name == "torch-own"
            else {"script": "train.py", "arguments": list(WORDS)}
        ),
        "compute_target": "test-cluster",
        "resources": {"time": "5m", "memory": "3G"},
        "environment": {"name": "lab", "python": {"interpreter_path": lab.python}},
        "distributed_job_config": dict(distributed),
    }
    folder = lab.folder(f"launch-{name}", {"train.py": text, "run.yaml": json.dumps(request)})
    return lab.submit(folder)


@pytest.mark.parametrize("name", WORLDS)
def test_every_rank_knows_itself_and_speaks_with_all(runs: Runs, name: str) -> None:
    told = runs.told(name)
    distributed = WORLDS[name][1]
    hosts = [rank["host"] for rank in told]
    assert len(told) == 4 and len(set(hosts)) == 2
    for number, rank in enumerate(told):
        node, local = divmod(number, 2)
        facts = {"rank": number, "world_size": 4, "local_rank": local}
        facts |= {"local_world_size": 2, "node_rank": node}
        variables = rank["variables"]
        assert rank["facts"] == facts
        assert {n: variables[n.upper()] for n in facts} == {n: str(v) for n, v in facts.items()}
        assert rank["of_world"] == [number, 4, hosts]
        assert rank["reduced"] == [1.5, 6, 0, 3]
        assert len(rank["with_nan"]) == 8 and all(map(math.isnan, rank["with_nan"]))
        words = [str(number), f"it's {local} of 4; $RANK", "${{rank}}"]
        assert rank["words"] == ([] if name == "torch-own" else words)
        assert int(variables["MASTER_PORT"]) > 1024
        named = {n: v for n, v in variables.items() if n.startswith(("AZ_", "OMPI_"))}
        if distributed["kind"] == "mpi":
            first, port = variables["MASTER_ADDR"], variables["MASTER_PORT"]
            assert first == hosts[0].split(".")[0]
            assert named == {
                "AZ_BATCH_MASTER_NODE": f"{first}:{port}",
                "AZ_BATCHAI_MPI_MASTER_NODE": first,
                "OMPI_COMM_WORLD_RANK": str(number),
                "OMPI_COMM_WORLD_SIZE": "4",
                "OMPI_COMM_WORLD_LOCAL_RANK": str(local),
                "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
            }
        else:
            assert named == {}
    assert runs.lab.json("metrics", runs.ids[name]) == {"place": 2.5, "own": 0}


def test_runs_side_by_side_have_ports_of_their_own(runs: Runs) -> None:
    ports = [
        {rank["variables"]["MASTER_PORT"] for rank in runs.told(name)}
        for name in ("mpi4py-srun", "mpi4py-mpirun", "torch-torchrun_static", "torch-srun")
    ]
    assert all(len(own) == 1 for own in ports) and len(set.union(*ports)) == 4


def test_a_tensorflow_cluster_finds_itself(runs: Runs) -> None:
    one, two, server = runs.told("cluster")
    cluster = one["config"]["cluster"]
    assert len(set(cluster["worker"])) == 2 and len(cluster["ps"]) == 1
    assert two["config"]["cluster"] == server["config"]["cluster"] == cluster
    tasks = [told["config"]["task"] for told in (one, two, server)]
    assert [(task["type"], task["index"]) for task in tasks] == [
        ("worker", 0),
        ("worker", 1),
        ("ps", 0),
    ]
    assert [told["size"] for told in (one, two, server)] == ["3"] * 3
    ended = runs.end("cluster")
    assert ended["verdict"]["cause"] == "completed"
    ranks = {rank["rank"]: rank["status"] for rank in ended["attempts"][0]["ranks"]}
    assert ranks == {0: 0, 1: 0, 2: 0}


ALONE = """
from mpi4py import MPI
from hpcrun import distributed
assert MPI.COMM_WORLD.size == 1
distributed.reduce(1)
"""


def test_an_mpi_that_knows_no_other_process_reduces_nothing(lab: Lab) -> None:
    """As where srun's --mpi does not fit: each process would tell its own value as that of all."""
    for size, said in (("4", "WorldError: 4 processes have no way to reduce"), ("1", "")):
        env = lab.environment(RANK="0", WORLD_SIZE=size)
        done = lab.cluster.run("alice", [lab.python, "-c", ALONE], env=env)
        assert said in done.stderr and bool(done.returncode) == bool(said), done


@pytest.mark.parametrize("name", DYING)
def test_a_rank_that_dies_ends_the_run_and_is_named(runs: Runs, name: str) -> None:
    """The others would sleep for ten minutes."""
    ended = runs.end(f"dies-{name}")
    rank, _ = DYING[name]
    verdict = ended["verdict"]
    assert ended["status"] == "Failed", verdict
    assert verdict["rank"] == rank, verdict
    assert verdict["evidence"][-1] == "RuntimeError: this one dies"
    assert f"rank {rank} on " in verdict["sentence"]
    log = ("logs", "--rank", str(rank), ended["run_id"])
    assert f"its log\thpcrun {' '.join(log)}\n" in runs.lab.ok("show", ended["run_id"])
    assert runs.lab.ok(*log).endswith("RuntimeError: this one dies\n")
