"""The run history over a network file system, each node with a mount and caches of its own."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hpcrun.agent.keeper import SYNC_PAUSE
from hpcrun.store.settings import read_settings
from tests.cluster import Cluster
from tests.cluster.hosts import view
from tests.cluster.network import REMEMBERED
from tests.cluster.processes import pid
from tests.lab import Lab, eventually
from tests.submission import make_place
from tests.watching import RANKS, Watched, looks_of

pytestmark = pytest.mark.cluster

STEPS, PAUSE = 600, 0.02

HEALED = 2 * SYNC_PAUSE + REMEMBERED + 30
"""Seconds after a full disk in which a reader may meet a gap: some more where others compute."""


@pytest.fixture(scope="module")
def watched(lab: Lab, network: Path) -> Iterator[Watched]:
    """An empty workspace there."""
    workspace = network / f"history-{os.urandom(3).hex()}"
    assert lab.cluster.run("alice", ["mkdir", str(workspace)]).returncode == 0
    yield Watched.of(lab, workspace, "network", STEPS, PAUSE)
    lab.cluster.run("alice", ["rm", "-rf", str(workspace)])


def found(done: Any, grade: str) -> set[str]:
    return {finding["subject"] for finding in done["findings"] if finding["grade"] == grade}


# -- probing --------------------------------------------------------------------------------------


def test_two_nodes_of_a_folder_that_all_share(lab: Lab) -> None:
    with make_place(lab, "probe") as place:
        done = json.loads(place.run("store", "probe", "-t", "test-cluster", "--json").stdout)
        seen = done["seen"]
        assert read_settings(place.workspace)["seen"] == seen
        assert len(set(seen["hosts"])) == 2 and set(seen["hosts"]) <= {"n1", "n2", "n3", "n4"}
        assert (seen["target"], seen["errors"]) == ("test-cluster/main", {})
        assert seen["locks"] == {"flock": "excludes", "fcntl": "excludes"}
        assert all(delay < 20 for delay in seen["visible_after"].values())
        assert found(done, "error") == set()
        assert place.json("list") == []


def test_a_folder_that_nodes_do_not_share_is_a_finding(lab: Lab) -> None:
    """Each host has its own /tmp."""
    with make_place(lab, "probe") as place:
        words = ("-w", "/tmp/probed", "store", "probe", "-t", "test-cluster")
        done = place.run(*words)
        assert done.returncode == 1
        assert "found nothing out" in done.stdout and "may not see this workspace" in done.stdout
        lab.cluster.run("alice", ["rm", "-rf", "/tmp/probed"])


def test_two_nodes_over_a_network(watched: Watched) -> None:
    words = ("store", "probe", "-t", "test-cluster", "--json", "--timeout", "300")
    done = watched.run(*words, timeout=400)
    told = json.loads(done.stdout)
    seen = told["seen"]
    assert [mount["kind"] for mount in seen["file_system"]] == ["fuse.sshfs"] * 2
    assert set(seen["hosts"]) == {"n1", "n2"}
    # SFTP has no locks: each kernel keeps its own.
    assert seen["locks"] == {"flock": "one host only", "fcntl": "one host only"}
    assert {"flock", "fcntl"} <= found(told, "warning")
    for one in seen["one_winner"].values():
        assert (one["both"], one["error"]) == (0, "")
    for reads in seen["whole"].values():
        assert (reads["torn"], reads["error"]) == (0, "")
    after = seen["visible_after"]
    assert all(delay is not None and delay < 20 for delay in after.values()), after
    assert seen["times"]["unit"] == "s"
    assert watched.json("list") == []


# -- reading while others write -------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(watched: Watched) -> str:
    """A run on n1 that was read on n2 all the while; in its midst the file system was full."""
    run_id = str(watched.json("submit")["run_id"])
    served = view(watched.lab.cluster.layout, "login", watched.lab.cluster.layout.served)

    def logged() -> int:
        assert [run["run_id"] for run in watched.json("list", node="n2")] == [run_id]
        watched.json("show", run_id, node="n2")
        return len(watched.json("metrics", run_id, node="n2").get("value", ()))

    with watched.watch(run_id, "n2") as reader:
        counts = [eventually(logged, 120)]
        full = time.time()
        fill(served)
        counts += [logged(), logged()]
        (served / "filler").unlink()
        freed = time.time()
        counts += [logged(), logged()]
        looks = looks_of(reader)
    assert counts == sorted(counts) and counts[-1] <= RANKS * STEPS
    odd = [look for look in looks if not look.is_clean]
    assert len(looks) > 10 and looks[-1].state == "Completed"
    assert looks[-1].points == [STEPS] * RANKS
    for one, other in pairwise(looks):
        assert all(a <= b for a, b in zip(one.points, other.points, strict=True))
    assert len({tuple(look.points) for look in looks}) > 5
    assert not any(look.wrong for look in looks)
    # What could not be written is told as late as at the next sync, and then written again.
    assert all(full < look.time < freed + HEALED for look in odd)
    return run_id


def fill(served: Path) -> None:
    with (served / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError):
        while True:
            filler.write(bytes(1 << 20))


def test_a_reader_on_another_node_loses_doubles_and_tears_nothing(
    watched: Watched, written: str
) -> None:
    def told(node: str) -> Any:
        return watched.json("metrics", written, node=node)

    eventually(lambda: len(told("n2")["value"]) == RANKS * STEPS)
    expected = [10 * step + rank for rank in range(RANKS) for step in range(STEPS)]
    assert told("n2")["value"] == told("n1")["value"] == told("login")["value"] == expected
    shown: Any = watched.json("show", written, node="n2")
    assert (shown["status"], shown["bad_lines"], shown["lost_records"]) == ("Completed", 0, 0)


SEAL = """\
import sys
from pathlib import Path
from hpcrun.store import FileStore
from hpcrun.store.sealing import seal

store = FileStore(Path(sys.argv[1]), "alice")
print(seal(store.stored(store.paths(sys.argv[2]))))
"""

# What a reader is told, again and again, as one digest each time, until some seconds after a seal.
READ = """\
import hashlib, sys, time
from pathlib import Path
from hpcrun.store import FileStore

store = FileStore(Path(sys.argv[1]), "alice")
paths = store.paths(sys.argv[2])
last = time.monotonic() + 150
while time.monotonic() < last:
    told = repr((store.read(paths.run_id), store.metrics(paths), store.script(paths)))
    seals = len(store.stored(paths).seals())
    print(hashlib.sha256(told.encode()).hexdigest(), seals, flush=True)
    if seals:
        last = min(last, time.monotonic() + float(sys.argv[3]))
"""


def test_a_run_is_sealed_and_indexed_while_another_node_reads(
    watched: Watched, written: str
) -> None:
    served = view(watched.lab.cluster.layout, "login", watched.lab.cluster.layout.served)
    where = (str(watched.workspace), written)
    fill(served)
    with watched.python(SEAL, *where, node="n1") as refused:
        _, errors = refused.communicate(timeout=180)
    assert refused.returncode == 1 and "StoreError: cannot seal run" in errors, errors
    (served / "filler").unlink()
    with watched.python(READ, *where, str(REMEMBERED + 2), node="n2") as reader:
        line = reader.stdout.readline() if reader.stdout else ""
        with watched.python(SEAL, *where, node="n1") as sealer:
            sealed, errors = sealer.communicate(timeout=180)
        assert sealer.returncode == 0, errors
        output, errors = reader.communicate(timeout=180)
    assert reader.returncode == 0, errors
    told = [look.split() for look in (line + output).splitlines()]
    assert len({digest for digest, _ in told}) == 1
    assert [seals for _, seals in told] == sorted(seals for _, seals in told)
    assert (told[0][1], told[-1][1]) == ("0", "1")
    assert watched.json("store", "index") == {"runs": 1}
    for node in ("n1", "n2", "login"):
        (run,) = eventually(lambda node=node: watched.json("list", node=node))
        assert (run["run_id"], run["record"]) == (written, sealed.strip())


# -- the tool -------------------------------------------------------------------------------------


def test_a_client_that_was_killed_is_mounted_anew(
    cluster: Cluster, network: Path, watched: Watched
) -> None:
    client = pid(cluster.layout, "fuse-n2")
    assert client is not None
    os.kill(client, signal.SIGKILL)
    eventually(lambda: cluster.run("alice", ["ls", str(network)], node="n2").returncode)
    cluster.mount_network("n2")
    listed = cluster.run("alice", ["ls", str(network)], node="n2")
    assert watched.workspace.name in listed.stdout
    assert os.listdir(network) == []  # this machine sees nothing of it
