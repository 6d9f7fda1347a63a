"""Estimates π with all ranks of an MPI world; rank 0 logs what the world found."""

import random
import socket

from mpi4py import MPI

from hpcrun import Run

SAMPLES = 50_000


def main() -> None:
    """Samples on every rank, reduces, and logs one value per round."""
    world = MPI.COMM_WORLD
    print(f"rank {world.rank} of {world.size} on {socket.gethostname()}", flush=True)
    run = Run.get_context()
    generator = random.Random(world.rank)
    inside = 0
    for step in range(1, 6):
        inside += sum(
            generator.random() ** 2 + generator.random() ** 2 <= 1 for _ in range(SAMPLES)
        )
        total = world.allreduce(inside)
        run.log("pi", 4 * total / (step * SAMPLES * world.size), step=step)
    hosts = world.allgather(socket.gethostname())
    run.log("world_size", world.size)
    run.log_list("hosts", sorted(set(hosts)))


if __name__ == "__main__":
    main()
