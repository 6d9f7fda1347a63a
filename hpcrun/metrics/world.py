"""What all processes of a run say together, over the world they have. Standard library only (3.8+).

Nothing is imported: a world counts if the script has loaded and initialized it, and it is more than
this process. torch.distributed comes before mpi4py.
"""

from __future__ import annotations

import math
import os
import sys
from typing import Any, NamedTuple, Optional, Sequence, Tuple

from hpcrun.errors import HpcrunError
from hpcrun.metrics.ranks import RankFacts

REDUCTIONS = ("mean", "sum", "min", "max")


class WorldError(HpcrunError):
    """Several processes, and no world that is initialized to speak over."""


def reduced(value: Any, how: str = "mean") -> float:
    """The mean, sum, min or max of the values of all processes; each of them must call it.

    value: a number, or an array or tensor of one; whole numbers are exact up to 2^53. It goes over
    torch.distributed or mpi4py, whichever the script has initialized; one process needs neither.
    ValueError, TypeError; WorldError if there are several processes and neither.
    """
    if not isinstance(how, str) or how not in REDUCTIONS:
        named = repr(how)[:40] if isinstance(how, str) else f"a {type(how).__name__}"
        raise ValueError(f"{named} is no reduction: known are {', '.join(REDUCTIONS)}")
    mine = _number(value)
    told = _over_all(mine, "sum" if how == "mean" else how)
    if told is None:
        size = RankFacts.of(os.environ).world_size
        if size > 1:
            raise WorldError(
                f"{size} processes have no way to reduce a value over all of them",
                "call torch.distributed.init_process_group() or import mpi4py.MPI before (its world"
                " is this process alone where srun's --mpi does not fit); with another library,"
                " reduce the value by its own means, and log that",
            )
        return mine
    return told.value / told.size if how == "mean" else told.value


def any_of_all(mine: bool) -> bool:
    """Whether any process says yes; all of them must call. Without a world, what this one says."""
    told = _over_all(int(mine), "max")
    return mine if told is None else bool(told.value)


class _Told(NamedTuple):
    """value: the reduced one. size: how many processes the world has."""

    value: float
    size: int


def _over_all(mine: float, how: str) -> Optional[_Told]:
    """A collective over the world, if there is one."""
    torch = sys.modules.get("torch")
    if torch is not None and _has_torch_world(torch):
        return _over_torch(torch, mine, how)
    mpi = getattr(sys.modules.get("mpi4py"), "MPI", None)
    if mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized():
        world = mpi.COMM_WORLD
        if world.Get_size() > 1:
            return _over_mpi(world, getattr(mpi, how.upper()), mine, how)
    return None


def _has_torch_world(torch: Any) -> bool:
    distributed = getattr(torch, "distributed", None)
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return False
    return bool(distributed.get_world_size() > 1)


def _over_torch(torch: Any, mine: float, how: str) -> _Told:
    distributed = torch.distributed
    device = device_of(str(distributed.get_backend()))
    answer = torch.tensor(_marked(mine, how), dtype=torch.float64, device=device)
    distributed.all_reduce(answer, op=getattr(distributed.ReduceOp, how.upper()))
    return _Told(_unmarked(answer.tolist(), how), distributed.get_world_size())


def _over_mpi(world: Any, op: Any, mine: float, how: str) -> _Told:
    if how == "sum":
        return _Told(world.allreduce(mine, op=op), world.Get_size())
    return _Told(_unmarked(world.allreduce(_marked(mine, how), op=op), how), world.Get_size())


def _marked(mine: float, how: str) -> Tuple[float, float]:
    """A value behind a mark by which NaN wins: Gloo passes over it in min and max (torch 2.13), and
    what MPI does depends on the order."""
    return float(math.isnan(mine) == (how == "max")), mine


def _unmarked(told: Sequence[float], how: str) -> float:
    mark, value = told
    return math.nan if how != "sum" and bool(mark) == (how == "max") else value


_DEVICES = {"nccl": "cuda", "xccl": "xpu"}


def device_of(backend: str) -> str:
    """What a backend's tensors must lie on. It is named as it was asked for: `nccl`, or by device,
    as `cuda:nccl` or `cpu:gloo,cuda:nccl`."""
    devices = [one.partition(":")[0] for one in backend.split(",") if ":" in one]
    if devices:
        return "cpu" if "cpu" in devices else devices[0]
    return _DEVICES.get(backend, "cpu")


def _number(value: Any) -> float:
    if not isinstance(value, (str, bytes)):
        try:
            return float(value.item() if hasattr(value, "item") else value)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            pass
    raise TypeError(f"only a number can be reduced over processes, not a {type(value).__name__}")
