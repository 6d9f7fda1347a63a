"""What the pure functions need from outside: the clock, the user, the machine, new ids."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import hpcrun
from hpcrun.resolve.surroundings import Surroundings
from hpcrun.store.policy import read_policy
from hpcrun.store.users import own_name
from hpcrun.variables import is_heeded

_KEPT = ("VIRTUAL_ENV", "CONDA_PREFIX", "PATH")


def here(workspace: Path, source: Path) -> Surroundings:
    """This machine, this user, now."""
    return Surroundings(
        user=own_name(workspace),
        host=os.uname().nodename,
        created=time.time(),
        version=hpcrun.__version__,
        python=sys.executable,
        workspace=str(workspace),
        source=str(source.resolve()),
        private=read_policy(workspace).private,
        environ={name: text for name, text in os.environ.items() if _is_kept(name)},
    )


def _is_kept(name: str) -> bool:
    return name in _KEPT or is_heeded(name)


def new_token() -> str:
    """Eight random hex digits, for a run id."""
    return os.urandom(4).hex()
