"""The recipes of docs/launchers.md over two nodes, each with its framework's own collective."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.frameworks import MAKE, python_of
from tests.lab import Lab
from tests.test_launchers_cluster import OF_MPI, OF_TENSORFLOW, OF_TORCH, logs

pytestmark = pytest.mark.cluster

TOLD = """
import json, os, socket
with open("outputs/%s.json" % os.environ["RANK"], "w") as file:
    json.dump({"rank": rank, "size": size, "total": total, "host": socket.gethostname()}, file)
"""

HOROVOD = """
import horovod.torch as hvd, os, torch
hvd.init()
assert hvd.local_rank() == int(os.environ["LOCAL_RANK"]) and not hvd.gloo_built()
rank, size = hvd.rank(), hvd.size()
total = hvd.allreduce(torch.tensor([rank + 1.0]), op=hvd.Sum).item()
"""

JAX = """
import jax
jax.config.update("jax_platforms", "cpu")
jax.distributed.initialize()
from jax.experimental.multihost_utils import process_allgather
import numpy
rank, size = jax.process_index(), jax.process_count()
total = float(process_allgather(numpy.array([rank + 1])).sum())
"""

WORKERS = """
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
rank, size = strategy.cluster_resolver.task_id, strategy.num_replicas_in_sync

@tf.function
def summed():
    add = lambda: tf.distribute.get_replica_context().all_reduce("SUM", tf.constant(rank + 1.0))
    return strategy.run(add)

total = float(summed())
"""

SERVERS = """
import os, time
import tensorflow as tf
from tensorflow.compat import v1
resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
cluster, place = resolver.cluster_spec(), resolver.task_id
rank = place + (cluster.num_tasks("worker") if resolver.task_type == "ps" else 0)
size, total = cluster.num_tasks("worker") + cluster.num_tasks("ps"), 3.0
server = tf.distribute.Server(cluster, job_name=resolver.task_type, task_index=place)
if resolver.task_type == "ps":
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "-1"
    TOLD
    server.join()
with tf.Graph().as_default():
    with tf.device("/job:ps/task:0"):
        variable = v1.get_variable("total", initializer=0.0, use_resource=True)
        add = variable.assign_add(place + 1.0)
    with v1.Session(server.target) as session:
        if place == 0:
            session.run(variable.initializer)
            open("outputs/ready", "w").close()
        while not os.path.exists("outputs/ready"):
            time.sleep(0.1)
        session.run(add)
        while session.run(variable) < 3:
            time.sleep(0.1)
        total = float(session.run(variable))
        open("outputs/seen-%d" % place, "w").close()
        while not os.path.exists("outputs/seen-%d" % (1 - place)):
            time.sleep(0.1)
"""

ACCELERATE = """
import torch
from accelerate import Accelerator
accelerator = Accelerator(cpu=True)
rank, size = accelerator.process_index, accelerator.num_processes
total = accelerator.gather(torch.tensor([rank + 1.0])).sum().item()
accelerator.end_training()
"""

LIGHTNING = """
import lightning, torch
from torch.utils.data import DataLoader, TensorDataset

class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch, number):
        return self.layer(batch[0]).pow(2).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def on_train_end(self):
        global rank, size, total
        rank, size = self.global_rank, self.trainer.world_size
        total = self.all_gather(torch.tensor([rank + 1.0])).sum().item()

trainer = lightning.Trainer(
    accelerator="cpu", devices=2, num_nodes=2, strategy="ddp", max_epochs=1, logger=False,
    enable_progress_bar=False, enable_checkpointing=False, enable_model_summary=False,
)
trainer.fit(Model(), DataLoader(TensorDataset(torch.ones(16, 2)), batch_size=4))
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


class Recipe(NamedTuple):
    """framework: the set that has it. ranks: how many there are in all."""

    framework: str
    code: str
    distributed: Mapping[str, Any]
    ranks: int = 4


OF_HOROVOD = {"kind": "horovod", "node_count": 2, "process_count_per_node": 2}

RECIPES = {
    "horovod-srun": Recipe("horovod", HOROVOD, {**OF_HOROVOD, "launcher": "srun"}),
    "horovod-mpirun": Recipe("horovod", HOROVOD, {**OF_HOROVOD, "launcher": "mpirun"}),
    "jax": Recipe("others", JAX, {**OF_MPI, "launcher": "srun"}),
    "tensorflow-workers": Recipe(
        "others", WORKERS, {**OF_TENSORFLOW, "parameter_server_count": 0}, 2
    ),
    "tensorflow-servers": Recipe("others", SERVERS, OF_TENSORFLOW, 3),
    "accelerate": Recipe("others", ACCELERATE, {**OF_TORCH, "launcher": "torchrun"}),
    "lightning-srun": Recipe("others", LIGHTNING, {**OF_TORCH, "launcher": "srun"}),
    "lightning-torchrun": Recipe("others", LIGHTNING, {**OF_TORCH, "launcher": "torchrun"}),
}


@pytest.fixture(scope="module")
def runs(lab: Lab) -> Mapping[str, str]:
    """The runs, side by side, of those that have been built."""
    return {name: submit(lab, name) for name, recipe in RECIPES.items() if python_of(recipe[0])}


def submit(lab: Lab, name: str) -> str:
    recipe = RECIPES[name]
    told = TOLD.strip().replace("\n", "\n    ")
    request = {
        "script": "train.py",
        "compute_target": "test-cluster",
        "resources": {"time": "10m", "memory": "4G"},
        "environment": {"python": {"interpreter_path": str(python_of(recipe.framework))}},
        "distributed_job_config": dict(recipe.distributed),
    }
    text = recipe.code.replace("TOLD", told) + TOLD
    files = {"train.py": text, "run.yaml": json.dumps(request)}
    return lab.submit(lab.folder(f"recipe-{name}", files))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_makes_one_world(lab: Lab, runs: Mapping[str, str], name: str) -> None:
    recipe = RECIPES[name]
    if name not in runs:
        pytest.skip(f"what {name} needs has not been built: {MAKE[recipe.framework]}")
    run = lab.wait(runs[name], timeout=400)
    assert run["status"] == "Completed", (run["verdict"], logs(run))
    found = sorted(Path(run["files"], "outputs").glob("*.json"))
    told = [json.loads(file.read_text()) for file in found]
    ranks = recipe.ranks
    total = 3.0 if name == "tensorflow-servers" else ranks * (ranks + 1) / 2
    assert [each["rank"] for each in told] == list(range(ranks))
    assert {(each["size"], each["total"]) for each in told} == {(ranks, total)}
    assert len({each["host"] for each in told}) == 2
