"""An environment in a workspace that a group shares: built by one member, read by another."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from hpcrun.environments.cache import MARKER
from tests.test_group_cluster import Group, group
from tests.wheels import make_wheel

__all__ = ["group"]

pytestmark = pytest.mark.cluster


def test_an_environment_of_a_member_serves_the_others_who_only_read_it(group: Group) -> None:
    lab = group.lab
    yaml = "script: t.py\nenvironment: {pip: [--no-index, ./tinypack-1.0-py3-none-any.whl]}\n"
    files = {"run.yaml": yaml, "t.py": "import sys, tinypack\nprint(sys.prefix)\n"}
    wheel = make_wheel(lab.folder("wheel", {}, "alice"), "tinypack", "1.0")
    of = {}
    for user, more in (("alice", ()), ("bob", ()), ("bob", ("--set", "private=true"))):
        name = f"env-{user}-{len(more)}"
        source = lab.folder(name, files, user)
        shutil.copy(wheel, source)
        if user == "alice":  # a job of its own builds it
            build = ["srun", "--time=5", str(lab.venv / "bin/hpcrun"), "env", "build", "--json"]
            at = lab.environment(HPCRUN_WORKSPACE=str(group.workspace))
            job = lab.cluster.run(user, build, cwd=source, env=at)
            assert job.returncode == 0, job.stderr
            built = json.loads(job.stdout)["folder"]
        words = ("submit", "--follow", "-t", "test-cluster", *more)
        done = group.run(user, *words, cwd=source)
        assert done.returncode == 0, done.stderr
        of[name] = done
    run_of = {name: done.stdout.split()[2] for name, done in of.items()}
    hers = group.own("alice") / "environments"
    (link,) = hers.glob("*.1")
    assert str(link) == built and "building" not in of["env-alice-0"].stderr
    for name in ("env-alice-0", "env-bob-0"):
        assert str(link) in of[name].stdout, of[name]
    # Who prunes does not see what a private run needs.
    assert not (group.own("bob") / "environments").exists()
    assert str(group.own("bob") / "private/environments") in of["env-bob-2"].stdout
    # Slurm may start bob's run again, so alice's environment stays; and bob cannot change it.
    old = "import os, sys; os.utime(sys.argv[1], (0, 0))"
    group.python("alice", old, f"{link}/{MARKER}")
    group.json("alice", "delete", "--yes", run_of["env-alice-0"])
    assert group.json("alice", "env", "prune", "--yes")["environments"] == []
    can_write = (
        "import os, sys; print(any(os.access(w, os.W_OK) for w, *_ in os.walk(sys.argv[1])))"
    )
    assert group.python("bob", can_write, f"{link}/") == "False\n"
    group.json("bob", "delete", "--yes", run_of["env-bob-0"])
    with ThreadPoolExecutor() as pool:  # bob's touches nothing of hers
        words = ("env", "prune", "--yes")
        at_once = [pool.submit(group.json, user, *words) for user in ("alice", "bob", "alice")]
    gone = [[each["folder"] for each in one.result()["environments"]] for one in at_once]
    assert sorted(gone) == [[], [], [str(link)]] and gone[1] == []
    assert not list(hers.glob("*.1"))
