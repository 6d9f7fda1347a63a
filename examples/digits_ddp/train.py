"""Trains a classifier of handwritten digits with DistributedDataParallel over several nodes.

gloo on CPUs, nccl on GPUs. Every rank logs its own host; rank 0 logs the metrics.
"""

import argparse
import gc
import os
import socket
from pathlib import Path

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from hpcrun import Run


def load() -> tuple[TensorDataset, torch.Tensor, torch.Tensor]:
    """Training data, and the images and labels of the test."""
    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images / 16.0, dtype=torch.float32)
    y = torch.tensor(labels, dtype=torch.long)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    return TensorDataset(x[:1400], y[:1400]), x[1400:], y[1400:]


def train(epochs: int) -> None:
    """Trains, and leaves the model in outputs/."""
    cuda = torch.cuda.is_available()
    local_rank = int(os.environ["LOCAL_RANK"])
    device = torch.device("cuda", local_rank) if cuda else torch.device("cpu")
    rank, world = dist.get_rank(), dist.get_world_size()
    print(f"rank {rank} of {world} on {socket.gethostname()}", flush=True)

    run = Run.get_context()
    torch.manual_seed(0)
    data, test_x, test_y = load()
    sampler = DistributedSampler(data, world, rank, seed=0)
    loader = DataLoader(data, batch_size=50, sampler=sampler)
    network = torch.nn.Sequential(
        torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10)
    ).to(device)
    model = DistributedDataParallel(network, device_ids=[local_rank] if cuda else None)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for x, y in loader:
            loss = torch.nn.functional.cross_entropy(model(x.to(device)), y.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            guess = network(test_x.to(device)).argmax(1).cpu()
        run.log("loss", loss.detach(), step=epoch)
        run.log("accuracy", (guess == test_y).float().mean(), step=epoch)

    hosts: list[str | None] = [None] * world
    dist.all_gather_object(hosts, socket.gethostname())
    run.log("world_size", world)
    run.log_list("hosts", sorted({str(host) for host in hosts}))
    if rank == 0:
        Path("outputs").mkdir(exist_ok=True)
        torch.save(network.state_dict(), "outputs/model.pt")


def main() -> None:
    """Joins the world, trains, and leaves it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=15)
    options = parser.parse_args()

    torch.set_num_threads(1)
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    train(options.epochs)
    # The model holds the world: a world that lives on until the interpreter ends may abort it
    # (torch 2.13: "terminate called without an active exception").
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
