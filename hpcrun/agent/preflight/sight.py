"""What one task of a preflight sees. Standard library only (Python 3.8+)."""

from __future__ import annotations

import errno
import glob
import json
import os
import socket
import time
from typing import Any, Dict, Mapping, NamedTuple, Optional, Sequence

from hpcrun.agent.nvml import GpuWatch
from hpcrun.metrics.ranks import RankFacts

MARK = "hpcrun-preflight "
"""What a line begins with that is ours: launchers and MPI write there too."""

REACH = 5.0
"""Seconds in which the first node must answer."""

_GPUS = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")

_DEVICES = ("/dev/nvidia[0-9]*", "/dev/dri/renderD*")

_WORLD = """\
try:
    from mpi4py import MPI
except ImportError:
    print("none")
else:
    print(MPI.COMM_WORLD.Get_size())
"""


class Sight(NamedTuple):
    """What a task sees.

    rank, size: among those that its launcher numbered together. pmi: the rank by which MPI would
    know it, where srun tells one. mpi: the size of the world that mpi4py begins, or the words in
    which it failed; None if it was not tried. addresses: of the master's name. unreached: why the
    master's port does not answer. gpus: how many it may use. rooms: folder,
    to the bytes free there, or why that is not known. time: Unix seconds, by its own clock. taken:
    of the ports that it is to listen at, those that another program has.
    """

    host: str
    rank: int
    size: int
    pmi: Optional[int]
    mpi: Any
    addresses: Sequence[str]
    unreached: str
    gpus: int
    rooms: Mapping[str, Any]
    time: float
    taken: Sequence[int] = ()

    @property
    def line(self) -> str:
        """As it is told."""
        return MARK + json.dumps(self._asdict(), separators=(",", ":"))

    @classmethod
    def of(cls, line: str) -> "Optional[Sight]":
        """What a line tells; None if it is not ours, or torn."""
        try:
            return cls(**json.loads(line[len(MARK) :])) if line.startswith(MARK) else None
        except (ValueError, TypeError):
            return None


def look(environ: Mapping[str, str], told: Mapping[str, Any]) -> Sight:
    """What this task sees.

    told: `python`, the command's, or null where there is no MPI; `begin`, the seconds in which that
    must have begun; `address` and `port` of the
    master, 0 where nobody listens; `folders` that need room; `servers`, where each task listens at
    the master's port on its own node: how many of the first have a parameter server at the next.
    """
    facts = RankFacts.of(environ)
    pmi = environ.get("PMIX_RANK", environ.get("PMI_RANK", ""))
    addresses = _addresses(told["address"])
    asks = facts.local_rank == 0 and bool(told["port"]) and bool(addresses)
    return Sight(
        host=os.uname().nodename,
        rank=facts.rank,
        size=facts.world_size,
        pmi=int(pmi) if pmi.isdecimal() else None,
        mpi=_world(told["python"], told["begin"]) if told["python"] else None,
        addresses=addresses,
        unreached=_unreached(told["address"], told["port"]) if asks else "",
        gpus=_gpus(environ),
        rooms={folder: _room(folder) for folder in told["folders"]},
        time=time.time(),
        taken=[port for port in _ports(facts.rank, told) if not _is_free(port)],
    )


def _addresses(name: str) -> Sequence[str]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return sorted({str(place[4][0]) for place in found})


def _unreached(address: str, port: int) -> str:
    try:
        with socket.create_connection((address, port), REACH):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def _ports(rank: int, told: Mapping[str, Any]) -> Sequence[int]:
    """Those that a task of TensorFlow's will listen at; the master's is kept free by the agent."""
    port, servers = told["port"], told["servers"]
    if not port or servers is None:
        return ()
    return [port + 1] * (rank < servers) + [port] * (rank > 0)


def _is_free(port: int) -> bool:
    try:
        with socket.create_server(("", port)):
            return True
    except OSError as error:
        return error.errno != errno.EADDRINUSE


def _gpus(environ: Mapping[str, str]) -> int:
    told = next((environ[name] for name in _GPUS if name in environ), None)
    if told is None:  # a whole node's, which nobody needs to name
        return max(len(glob.glob(pattern)) for pattern in _DEVICES)
    words = [word for word in told.split(",") if word.strip()]
    count = 0 if words in (["NoDevFiles"], ["-1"]) else len(words)
    watch = GpuWatch.here(environ)
    columns = watch.sample() if watch is not None else {}
    return min([count, *map(len, columns.values())])


def _room(folder: str) -> Any:
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    try:
        found = os.statvfs(folder)
    except OSError as error:
        return error.strerror
    return found.f_bavail * found.f_frsize


def _world(python: str, begin: float) -> Any:
    import subprocess  # slow to import, and only MPI needs it

    try:
        done = subprocess.run(
            (python, "-c", _WORLD),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            close_fds=False,  # MPICH's kin speak with what started them over one (PMI_FD)
            timeout=begin,
        )
    except OSError:
        return None  # the command will tell of it
    except subprocess.TimeoutExpired:
        return f"it has not after {begin:.0f} s"
    words = done.stdout.decode("utf-8", "replace").split()
    if words == ["none"]:
        return None
    if done.returncode == 0 and words and words[-1].isdecimal():
        return int(words[-1])
    said = done.stderr.decode("utf-8", "replace").split("\n")
    told: Dict[str, None] = dict.fromkeys(line.strip() for line in said if line.strip(" -*\n"))
    return " ".join(list(told)[:3])[:300] or f"status {done.returncode}"
