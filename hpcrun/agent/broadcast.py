"""A file from the first process of an MPI world to a folder of each node. (Python 3.8+, mpi4py)

python broadcast.py FILE PLACE: one process on each node, in which PLACE is a folder of our own.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys

BLOCK = 16 << 20
"""Bytes that are sent at once."""


def main() -> int:
    """Copies the file; a node that cannot write ends all of them, and says so."""
    source, place = sys.argv[1:]
    try:
        mpi = importlib.import_module("mpi4py.MPI")
    except ImportError as error:
        return _fail(f"{sys.executable} has no mpi4py that works: {error}")
    world = mpi.COMM_WORLD
    first = world.Get_rank() == 0
    try:
        with contextlib.ExitStack() as files:
            packed = files.enter_context(open(os.path.join(place, "packed"), "wb"))
            read = files.enter_context(open(source, "rb")) if first else None
            size = world.bcast(os.path.getsize(source) if first else None, root=0)
            for begin in range(0, size, BLOCK):
                part = bytearray(min(BLOCK, size - begin))
                if read is not None and read.readinto(part) < len(part):
                    raise OSError(f"{source} has changed")
                world.Bcast(part, root=0)
                packed.write(part)
    except OSError as error:
        world.Abort(_fail(str(error)))
    return 0


def _fail(why: str) -> int:
    host = os.uname().nodename
    sys.stderr.write(f"hpcrun: cannot stage the environment on {host}: {why}\n")
    sys.stderr.flush()
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
