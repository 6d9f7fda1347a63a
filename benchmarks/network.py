"""How late a reader on another node is, over a network file system and over a shared folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.lab import FOLDERS, USER
from benchmarks.row import Row
from tests.cluster.failure import ClusterError
from tests.lab import Lab
from tests.watching import RANKS, Watched, looks_of

STEPS, PAUSE = 400, 0.05


def rows(lab: Lab, count: int) -> Iterator[Row]:
    """A run's age on another node; what `store probe` sees there. count: is not used."""
    del count
    try:
        network = lab.cluster.mount_network("login", "n1", "n2")
    except ClusterError as error:
        raise RuntimeError(str(error)) from error
    try:
        yield from _rows(lab, network)
    finally:
        lab.cluster.unmount_network()


def _rows(lab: Lab, network: Path) -> Iterator[Row]:
    over = _watched(lab, network / "history")
    beside = _watched(lab, lab.workspace)
    yield _age("age of the newest point, read on another node", _ages(over), _ages(beside))
    words = ("store", "probe", "-t", "test-cluster")
    seen, floor = (one.json(*words)["seen"]["visible_after"] for one in (over, beside))
    for what in seen:
        yield Row(
            f"{what}, seen on another node after",
            _seconds(seen[what]),
            _seconds(floor[what]),
            "-",
            "-",
            None,
        )


def _watched(lab: Lab, workspace: Path) -> Watched:
    words = ["mkdir", "-p", str(workspace)]
    if lab.cluster.run(USER, words).returncode:
        raise RuntimeError(f"cannot make {workspace}")
    return Watched.of(lab, workspace, f"{FOLDERS}{workspace.name}", STEPS, PAUSE)


def _ages(watched: Watched) -> list[float]:
    """Of the newest point, at each look while the run logs; nothing may be missing or twice."""
    reader = watched.watch(str(watched.json("submit")["run_id"]), "n2")
    looks = looks_of(reader)
    if looks[-1].points != [STEPS] * RANKS or not all(look.is_clean for look in looks):
        raise RuntimeError("the reader did not see all points, each once and whole")
    return [look.age for look in looks if look.age is not None]


def _age(what: str, ages: list[float], floor: list[float]) -> Row:
    return Row(
        f"{what}, sshfs, against a shared folder",
        f"{median(ages):.1f} s, at most {max(ages):.1f} s",
        f"{median(floor):.1f} s, at most {max(floor):.1f} s",
        f"{median(ages) - median(floor):.1f} s more",
        "0 lost, doubled, torn",
        True,
    )


def _seconds(delay: float | None) -> str:
    return "not seen" if delay is None else f"{delay:.2f} s"
