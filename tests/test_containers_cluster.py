"""Runs in containers on the real cluster: Charliecloud's, which any user of Debian can start.

Its image is a folder with nothing in it but a mark; what it runs is the nodes' /usr.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import NotHere
from tests.cluster.packages import install_charliecloud
from tests.lab import Lab

pytestmark = pytest.mark.cluster

TELL = """
import json, os, socket, sys
from hpcrun import Run, distributed
{world}
me = distributed.ranks()
run = Run.get_context()
run.log("place", me.rank + 1, step=0, reduce="mean")
with open("outputs/%d.json" % me.rank, "w") as file:
    json.dump({{
        "world": names,
        "host": socket.gethostname(),
        "is_image": os.path.exists("/etc/is-the-image"),
        "hpcrun": sys.modules["hpcrun"].__file__,
        "mode": os.environ["MODE"],
        "key": os.environ["A_KEY"],
        "data": open("/data/words").read(),
        "words": sys.argv[1:3],
        "used": open(os.environ["HPCRUN_INPUT_USED"] + "/a word").read(),
        "staged": open(sys.argv[3]).read(),
        "is_staged": sys.argv[3].startswith("/tmp/hpcrun-"),
    }}, file)
for folder in sys.argv[4:]:
    open("%s/%d" % (folder, me.rank), "w").write(socket.gethostname())
if "dist" in globals():
    dist.destroy_process_group()
"""

MPI4PY = "from mpi4py import MPI\nnames = MPI.COMM_WORLD.allgather(socket.gethostname())"
TORCH = """
import torch.distributed as dist
dist.init_process_group("gloo")
names = [None] * dist.get_world_size()
dist.all_gather_object(names, socket.gethostname())
"""
ALONE = "names = [socket.gethostname()]"

TWO = {"node_count": 2}
OF_MPI = {"kind": "mpi", **TWO, "process_count_per_node": 2}
OF_TORCH = {"kind": "pytorch", **TWO, "process_count": 4, "communication_backend": "Gloo"}

WORLDS: dict[str, tuple[str, dict[str, Any] | None]] = {
    "srun": (MPI4PY, {**OF_MPI, "launcher": "srun"}),
    "mpirun": (MPI4PY, {**OF_MPI, "launcher": "mpirun"}),
    "torchrun": (TORCH, {**OF_TORCH, "launcher": "torchrun"}),
    "plain": (ALONE, None),
}


MADE = ("${{outputs.direct}}", "${{outputs.brought}}")


@dataclass(frozen=True)
class Runs:
    """A run of each launcher, all submitted at once."""

    lab: Lab
    data: Path
    ids: Mapping[str, str]

    def told(self, how: str) -> list[dict[str, Any]]:
        """What its ranks wrote."""
        run = self.lab.wait(self.ids[how])
        files = Path(run["files"])
        logs = [file.read_text()[-2000:] for file in files.glob("user_logs/**/*.log")]
        assert run["status"] == "Completed", (run["verdict"], logs)
        return [json.loads(file.read_text()) for file in sorted(files.glob("outputs/*.json"))]


@pytest.fixture(scope="module")
def runs(lab: Lab) -> Runs:
    try:
        install_charliecloud()
    except NotHere as error:
        pytest.skip(str(error))
    image = lab.cluster.shared / "image"
    shutil.rmtree(image, ignore_errors=True)
    own = ("dev", "proc", "sys", "tmp", "usr", "etc", "home", "data")
    data = lab.folder("container-data", {"a word": "as it lies", "made/.keep": ""})
    shown = (lab.workspace, lab.venv, lab.cluster.cache, data)
    for place in (*own, *(str(path).lstrip("/") for path in shown)):
        (image / place).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (image / name).symlink_to(f"usr/{name}")
    for name in ("passwd", "group", "hosts", "resolv.conf", "is-the-image"):
        (image / "etc" / name).touch()
    (image / "etc/nsswitch.conf").write_text("hosts: files\n")
    return Runs(lab, data, {how: submit(lab, image, data, how) for how in WORLDS})


def submit(lab: Lab, image: Path, data: Path, how: str) -> str:
    world, distributed = WORLDS[how]
    files = {"train.py": TELL.format(world=world), "data/words": "of the node"}
    source = lab.folder(f"container-{how}", files)
    key = lab.folder(f"container-key-{how}", {"key": "it's a key"}) / "key"
    key.chmod(0o600)
    request = {
        "script": "train.py",
        "arguments": ["${{rank}}", "it's $HOME", "${{inputs.staged}}", *MADE],
        "inputs": {"used": str(data), "staged": {"path": str(data / "a word"), "mode": "stage"}},
        "outputs": {
            "direct": {"path": f"{data}/made/{how}-direct", "mode": "direct"},
            "brought": f"{data}/made/{how}-brought",
        },
        "compute_target": "test-cluster",
        "working_directory": "node" if how == "srun" else "history",
        "environment": {
            "docker": {
                "base_image": str(image),
                "runtime": "charliecloud",
                "volumes": ["/usr", str(lab.cluster.cache), f"{source}/data:/data"],
            },
            "virtual_environment": str(lab.venv),
            "environment_variables": {"MODE": "a b"},
        },
        "secrets": {"A_KEY": str(key)},
        "resources": {"time": "5m", "memory": "3G"},
        **({"distributed_job_config": distributed} if distributed else {}),
    }
    (source / "run.yaml").write_text(json.dumps(request))
    return lab.submit(source)


@pytest.mark.parametrize("how", WORLDS)
def test_ranks_in_containers_are_one_world(runs: Runs, how: str) -> None:
    told = runs.told(how)
    hosts = [rank["host"] for rank in told]
    assert (len(told), len(set(hosts))) == ((1, 1) if how == "plain" else (4, 2))
    for number, rank in enumerate(told):
        assert rank["world"] == hosts
        assert rank["is_image"] and rank["data"] == "of the node"
        assert (rank["mode"], rank["key"]) == ("a b", "it's a key")
        assert rank["words"] == [str(number), "it's $HOME"]
        assert (rank["used"], rank["staged"], rank["is_staged"]) == (
            "as it lies",
            "as it lies",
            True,
        )
        assert "/sdk/" in rank["hpcrun"]
    for output in ("direct", "brought"):
        made = runs.data / "made" / f"{how}-{output}"
        assert {path.name: path.read_text() for path in made.glob("[0-9]*")} == {
            str(number): host for number, host in enumerate(hosts)
        }
    place = (len(told) + 1) / 2
    assert runs.lab.json("metrics", runs.ids[how]) == {"place": place}
