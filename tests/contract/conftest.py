"""One user for each adapter to Slurm, so that every test of the contract runs with each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.alice import PYSLURM, Alice, at_work
from tests.cluster import Cluster


@pytest.fixture(scope="session")
def missing(cluster: Cluster, code: Path) -> str | None:
    """Why the users' Python has no pyslurm; None where it has one."""
    body = """
from hpcrun.scheduler.libslurm import LibSlurm
tell(told(LibSlurm().version))
"""
    with at_work(cluster, code) as alice:
        said = alice.python(body)
    return said["message"] if isinstance(said, dict) else None


@pytest.fixture(params=("commands", "pyslurm"))
def adapter(request: pytest.FixtureRequest, missing: str | None) -> str:
    """The name of an adapter that can be used here."""
    if request.param == "pyslurm" and missing is not None:
        pytest.skip(f"pyslurm: {missing} ({PYSLURM} may name a folder that has it)")
    name: str = request.param
    return name


@pytest.fixture
def alice(cluster: Cluster, code: Path, adapter: str) -> Iterator[Alice]:
    """A user whose hpcrun asks Slurm through one of the adapters."""
    with at_work(cluster, code, adapter) as alice:
        yield alice
