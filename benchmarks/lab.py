"""The test cluster with hpcrun installed on it, for as long as it is measured."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import interleaved
from tests.cluster import Cluster
from tests.cluster.failure import ClusterError
from tests.cluster.layout import LOGIN
from tests.lab import Lab, make_lab

USER = "alice"

FOLDERS = "bench-"
"""How the names of the user's folders begin; they are removed at the end."""


class Unavailable(Exception):
    """There can be no test cluster here; its text says why."""


@contextmanager
def bench() -> Iterator[Lab]:
    """hpcrun on the cluster, with a history of its own. A cluster that was down goes down again."""
    if os.geteuid() != 0:
        raise Unavailable("the test cluster needs root")
    if shutil.which("slurmctld") is None and shutil.which("apt-get") is None:
        raise Unavailable("there is no Slurm and no apt-get to install it with")
    cluster = Cluster()
    history = cluster.shared / "bench-history"
    with ExitStack() as stack:
        try:
            stack.enter_context(cluster.in_use())
        except ClusterError as error:
            raise Unavailable(str(error).splitlines()[0]) from error
        try:
            _make_history(history, cluster.shared.stat().st_gid)
            yield dataclasses.replace(make_lab(cluster), workspace=history)
        finally:
            for folder in (history, *cluster.home(USER).glob(f"work/{FOLDERS}*")):
                shutil.rmtree(folder, ignore_errors=True)


def times(
    lab: Lab,
    commands: Mapping[str, Sequence[str]],
    count: int,
    cwd: Path | None = None,
    node: str = LOGIN.name,
) -> dict[str, list[float]]:
    """The wall times of commands that a user runs in turn on a host, timed there."""
    source = Path(interleaved.__file__).read_text()
    done = lab.cluster.run(
        USER,
        [lab.python, "-c", source],
        cwd=cwd,
        env=environment(lab),
        input=json.dumps({"commands": commands, "count": count}),
        timeout=3600,
        node=node,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def environment(lab: Lab) -> dict[str, str]:
    """A user's variables; what hpcrun remembers goes where it is removed with the history."""
    return lab.environment(XDG_CACHE_HOME=str(lab.workspace / "cache"))


def _make_history(folder: Path, group: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    os.chown(folder, 0, group)
    folder.chmod(0o2775)
