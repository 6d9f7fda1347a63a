"""One answer for all processes of a run, over the world they have. Standard library only (3.8+).

Nothing is imported: a world counts if the script has loaded and initialized it.
"""

from __future__ import annotations

import sys
from typing import Any


def any_of_all(mine: bool) -> bool:
    """Whether any process says yes; all of them must call. Without a world, what this one says."""
    torch = sys.modules.get("torch")
    if torch is not None and _has_torch_world(torch):
        return _over_torch(torch, mine)
    mpi = getattr(sys.modules.get("mpi4py"), "MPI", None)
    if mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized():
        return bool(mpi.COMM_WORLD.allreduce(int(mine), op=mpi.MAX))
    return mine


def _has_torch_world(torch: Any) -> bool:
    distributed = getattr(torch, "distributed", None)
    return distributed is not None and distributed.is_available() and distributed.is_initialized()


def _over_torch(torch: Any, mine: bool) -> bool:
    distributed = torch.distributed
    backend = str(distributed.get_backend())
    device = "cuda" if backend == "nccl" else "cpu"
    answer = torch.tensor([int(mine)], dtype=torch.int32, device=device)
    distributed.all_reduce(answer, op=distributed.ReduceOp.MAX)
    return bool(answer.item())
