"""A packed environment on the nodes' own disks, on the real test cluster."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from hpcrun.layout import task_ids
from tests.lab import PYTHON, Lab, eventually, go_on
from tests.wheels import make_wheel

pytestmark = pytest.mark.cluster

TELL = """
import json, os, pathlib, subprocess, sys, time
import tinypack
compiled = pathlib.Path(tinypack.__cached__).read_bytes()[8:12]
source = int(os.stat(tinypack.__file__).st_mtime)
told = {
    "host": os.uname().nodename.split(".")[0],
    "prefix": sys.prefix,
    "module": tinypack.__file__,
    "command": subprocess.run(["tinypack"], capture_output=True, text=True).stdout.strip(),
    "compiled": int.from_bytes(compiled, "little") == source,
    "mode": os.stat(pathlib.Path(sys.prefix).parent).st_mode & 0o777,
}
with open("outputs/%s.json" % os.environ["RANK"], "w") as file:
    json.dump(told, file)
while os.path.exists(sys.argv[1] + os.environ.get("SLURM_RESTART_COUNT", "0")):
    time.sleep(0.05)
"""

MPI = {"kind": "mpi", "node_count": 2}

EXTENDED = """\
{{% extends 'parent/sbatch.sh.j2' %}}
{{% block {} %}}
{{{{ super() }}}}
{}
{{% endblock %}}
"""


def submit(
    lab: Lab,
    name: str,
    environment: Mapping[str, Any],
    user: str = "alice",
    block: tuple[str, str] | None = None,
    **more: Any,
) -> tuple[str, str]:
    """(run id, what was said on standard error). block: of the template, and a line at its end."""
    request = {
        "script": "tell.py",
        "arguments": [str(lab.cluster.home(user) / f"wait-{name}-")],
        "compute_target": "test-cluster",
        "resources": {"time": "5m", "memory": "500M"},
        "environment": {"name": "tiny", "pack": "sbcast", **environment},
        **more,
    }
    files = {"tell.py": TELL, "run.yaml": json.dumps(request)}
    if block is not None:
        files[".hpcrun/templates/sbatch.sh.j2"] = EXTENDED.format(*block)
    folder = lab.folder(f"pack-{name}", files, user)
    done = lab.run("submit", "--json", cwd=folder, user=user)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["run_id"], done.stderr


@pytest.fixture(scope="module")
def packages(lab: Lab) -> Mapping[str, Any]:
    """An environment of one small package."""
    folder = lab.folder("wheels", {})
    folder.chmod(0o755)
    wheel = make_wheel(folder, "tinypack", "1.0")
    wheel.chmod(0o644)
    return {"pip": ["--no-index", str(wheel)]}


def told(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    assert run["status"] == "Completed", (run["verdict"], batch(run))
    return [
        json.loads(file.read_text())
        for file in sorted(Path(run["files"], "outputs").glob("*.json"))
    ]


def batch(run: Mapping[str, Any]) -> str:
    return "".join(file.read_text() for file in Path(run["files"]).glob("user_logs/batch-*.log"))


def place_of(run_id: str) -> str:
    return f"/tmp/hpcrun-{run_id.rsplit('_', 1)[-1]}-env"


def begun(lab: Lab, run_id: str) -> bool:
    return any(Path(lab.json("show", run_id)["files"], "outputs").glob("*.json"))


def left(lab: Lab, *runs: str) -> Sequence[str]:
    """What is staged for these runs on the nodes now; it goes beside the telling of the end."""
    hosts = [lab.cluster.layout.tmp(f"n{number}") for number in (1, 2, 3, 4)]
    places = [host / place_of(run)[5:] for host in hosts for run in runs]
    return sorted(str(place) for place in places if place.exists())


def whole(lab: Lab, *runs: str) -> Sequence[str]:
    """Which of these have been unpacked."""
    return [place for place in left(lab, *runs) if Path(place, "root/bin").is_dir()]


def test_ranks_run_from_their_nodes_own_disk(lab: Lab, packages: Mapping[str, Any]) -> None:
    run_id, said = submit(lab, "two", packages, distributed_job_config=MPI)
    assert "packing the environment" in said
    root = f"{place_of(run_id)}/root"
    run = lab.wait(run_id)
    ranks = told(run)
    assert len({rank["host"] for rank in ranks}) == 2
    for rank in ranks:
        assert rank["prefix"] == root
        assert rank["module"].startswith(f"{root}/lib/")
        assert rank["command"] == f"1.0 {root}"
        assert rank["compiled"] and rank["mode"] == 0o700
    eventually(lambda: left(lab, run_id) == [])
    request = json.loads(Path(run["record"], "run.json").read_text())
    assert request["environment"]["virtual_environment"].endswith(".1")
    again, said = submit(lab, "again", packages)
    assert "pack" not in said
    assert lab.wait(again)["status"] == "Completed"


def test_tasks_on_one_node_have_one_each(lab: Lab, packages: Mapping[str, Any]) -> None:
    tasks = {"kind": "parallel_task", "task_count": 2}
    wait = lab.cluster.home("alice") / "wait-tasks-0"
    wait.touch()
    run_id, _ = submit(
        lab, "tasks", packages, distributed_job_config=tasks, sbatch={"nodelist": "n1"}
    )
    children = task_ids(run_id, 2)
    eventually(lambda: len(left(lab, *children)) == 2 and all(begun(lab, one) for one in children))
    wait.unlink()
    for child in children:
        (rank,) = told(lab.wait(child))
        assert rank["prefix"] == f"{place_of(child)}/root"
    eventually(lambda: left(lab, *children) == [])


def test_mpi_brings_it_as_well(lab: Lab, packages: Mapping[str, Any]) -> None:
    folder = lab.folder("mpi-env", {})
    make = [PYTHON, "-m", "venv", "--without-pip", str(folder / "env")]
    assert lab.cluster.run("alice", make).returncode == 0
    (site,) = (folder / "env/lib").glob("python*/site-packages")
    (lab_site,) = (lab.venv / "lib").glob("python*/site-packages")
    (site / "lab.pth").write_text(f"import site; site.addsitedir({str(lab_site)!r})\n")
    (site / "tinypack.py").write_text("VERSION = 'of mpi'\n")
    command = folder / "env/bin/tinypack"
    tells = "import sys, tinypack; print(tinypack.VERSION, sys.prefix)"
    command.write_text(f"#!{folder}/env/bin/python\n{tells}\n")
    command.chmod(0o755)
    cached = [str(folder / "env/bin/python"), "-m", "compileall", "-q", str(site)]
    assert lab.cluster.run("alice", cached).returncode == 0
    environment = {"pack": "mpi4py", "virtual_environment": str(folder / "env")}
    run_id, _ = submit(lab, "mpi", environment, distributed_job_config=MPI)
    ranks = told(lab.wait(run_id))
    assert len({rank["host"] for rank in ranks}) == 2
    root = f"{place_of(run_id)}/root"
    assert {rank["prefix"] for rank in ranks} == {root}
    assert {rank["command"] for rank in ranks} == {f"of mpi {root}"}
    eventually(lambda: left(lab, run_id) == [])


def test_jobs_of_two_users_on_one_node_and_a_requeue_keep_to_their_own(
    lab: Lab, packages: Mapping[str, Any]
) -> None:
    on_one = {"sbatch": {"nodelist": "n3"}}
    runs, files = {}, {}
    for name, user in (("one", "alice"), ("other", "alice"), ("hers", "bob")):
        files[name] = lab.cluster.home(user) / f"wait-{name}-0"
        files[name].touch()
        runs[name], _ = submit(lab, name, packages, user, **on_one)
    staged = sorted(f"{lab.cluster.layout.tmp('n3')}{place_of(run)[4:]}" for run in runs.values())
    eventually(lambda: whole(lab, *runs.values()) == staged)
    job = lab.json("show", runs["one"])["attempts"][-1]["job_id"]
    # What a killed job of hers has left is removed by the next of hers, which has nothing staged;
    # nothing of others is.
    old = lab.cluster.layout.tmp("n3") / "hpcrun-00000000-env"
    shutil.copytree(staged[0], old, symlinks=True, dirs_exist_ok=True)
    owner = lab.cluster.home("alice").stat().st_uid
    for path in (old, *old.rglob("*")):
        os.chown(path, owner, -1, follow_symlinks=False)
    (old / "job").write_text("4294967\n")
    for path in map(Path, (*staged, old)):
        os.utime(path, (0, 0))
    plain = lab.folder(
        "pack-none", {"run.yaml": "command: sleep 60\ncompute_target: test-cluster\n"}
    )
    other = lab.submit(plain, "--set", "sbatch.nodelist=n3", "--set", "resources.memory=100M")
    eventually(lambda: not old.exists())
    lab.ok("cancel", other)
    eventually(lambda: lab.json("show", runs["one"])["status"] == "Running")
    assert lab.cluster.run("alice", ["scontrol", "requeue", job]).returncode == 0
    go_on(lab, job)
    eventually(lambda: lab.json("show", runs["one"])["attempts"][-1]["attempt"] == "1.1", 150)
    first = lab.wait(runs["one"], timeout=200)
    (rank,) = told(first)
    assert rank["prefix"] == f"{place_of(runs['one'])}/root"
    others = [path for path in staged if place_of(runs["one"])[4:] not in path]
    eventually(lambda: left(lab, *runs.values()) == others)
    assert not old.exists()
    for name, user in (("other", "alice"), ("hers", "bob")):
        files[name].unlink()
        (rank,) = told(lab.wait(runs[name], user=user))
        assert rank["prefix"] == f"{place_of(runs[name])}/root"
    eventually(lambda: left(lab, *runs.values()) == [])


def test_a_job_that_is_canceled_leaves_nothing(lab: Lab, packages: Mapping[str, Any]) -> None:
    wait = lab.cluster.home("alice") / "wait-canceled-0"
    wait.touch()
    run_id, _ = submit(lab, "canceled", packages, distributed_job_config=MPI)
    eventually(lambda: len(whole(lab, run_id)) == 2)
    eventually(lambda: lab.json("show", run_id)["status"] == "Running")
    lab.ok("cancel", run_id)
    assert lab.wait(run_id)["status"] == "Canceled"
    eventually(lambda: left(lab, run_id) == [])


SLOW_SRUN = """\
#!/bin/sh
case "$*" in
*--relative=1*) sleep 20 ;;
*" hold "*) sleep 3 ;;
esac
exec /usr/bin/srun "$@"
"""

SLOW = {
    "the agent": ("stage", "sleep 20"),
    "all others": ("environment", "export PATH=$HOME/work/slow:$PATH"),
}
"""Who of those that remove what is staged is late, and how: the script's tasks, and after them the
agent; or these tasks, and the keeper on the other node."""


@pytest.mark.parametrize("who", SLOW)
def test_one_that_is_canceled_before_anybody_keeps_it_leaves_nothing(
    lab: Lab, packages: Mapping[str, Any], who: str
) -> None:
    Path(lab.folder("slow", {"srun": SLOW_SRUN}), "srun").chmod(0o755)
    name = f"before-{who.split()[1]}"
    run_id, _ = submit(lab, name, packages, block=SLOW[who], distributed_job_config=MPI)
    eventually(lambda: len(whole(lab, run_id)) == 2)
    lab.ok("cancel", run_id)
    assert lab.wait(run_id)["status"] == "Canceled"
    eventually(lambda: left(lab, run_id) == [])


def test_one_that_is_canceled_while_it_comes_leaves_nothing(
    lab: Lab, packages: Mapping[str, Any]
) -> None:
    """sbcast is stopped on its way, and only a KILL ends it."""
    run_id, _ = submit(lab, "coming", packages, distributed_job_config=MPI, sbatch={"hold": None})
    run = lab.json("show", run_id)
    packed = Path(json.loads(Path(run["record"], "run.json").read_text())["environment"]["packed"])
    kept = packed.stat()
    place = place_of(run_id)
    try:
        os.truncate(packed, kept.st_size + 400_000_000)
        job = run["attempts"][-1]["job_id"]
        assert lab.cluster.run("alice", ["scontrol", "release", job]).returncode == 0
        eventually(lambda: stop(f"{place}/packed"))
        eventually(lambda: len(pids("hold", place)) == 2 and len(left(lab, run_id)) == 2)
        lab.ok("cancel", run_id)
        eventually(lambda: left(lab, run_id) == [])
        assert lab.wait(run_id)["status"] == "Canceled"
    finally:
        os.truncate(packed, kept.st_size)
        os.utime(packed, ns=(kept.st_atime_ns, kept.st_mtime_ns))


def pids(*words: str) -> list[int]:
    """The processes, of whichever host of the cluster, whose words end so."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            given = Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
            if tuple(given[-len(words) :]) == words and given[0] in ("/usr/bin/sh", "sbcast"):
                found.append(int(pid))
    return found


def stop(*words: str) -> list[int]:
    stopped = []
    for pid in pids(*words):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)
    return stopped


SPOILED = {
    "too large": ("facts", "n1: /tmp has "),
    "damaged": ("packed", "the packed file arrived damaged"),
    "gone": ("gone", "cannot read"),
}


@pytest.mark.parametrize(
    ("policy", "how"), [*(("share", how) for how in SPOILED), ("fail", "damaged")]
)
def test_what_cannot_be_staged_is_told_and_shared_or_fails(
    lab: Lab, packages: Mapping[str, Any], how: str, policy: str
) -> None:
    name = f"{policy}-{how.replace(' ', '-')}"
    hold = {"sbatch": {"hold": None, "nodelist": "n1"}}
    run_id, _ = submit(lab, name, {**packages, "pack_failure": policy}, **hold)
    run = lab.json("show", run_id)
    packed = Path(json.loads(Path(run["record"], "run.json").read_text())["environment"]["packed"])
    facts = packed.with_name(f"{packed.name}.facts")
    kept = facts.read_text(), packed.read_bytes()
    what, said = SPOILED[how]
    try:
        if what == "facts":
            facts.write_text(f"1000000000000 {kept[0].split()[1]}\n")
        elif what == "gone":
            facts.unlink()
        else:
            packed.write_bytes(kept[1][:-9] + b"\0" * 9)
        job = run["attempts"][-1]["job_id"]
        assert lab.cluster.run("alice", ["scontrol", "release", job]).returncode == 0
        ended = lab.wait(run_id)
    finally:
        facts.write_text(kept[0])
        packed.write_bytes(kept[1])
    assert said in batch(ended)
    if policy == "share":
        (rank,) = told(ended)
        assert rank["prefix"] == f"{place_of(run_id)}/root"
        shared = json.loads(Path(ended["record"], "run.json").read_text())["environment"]
        assert f"takes the environment from {shared['virtual_environment']}" in batch(ended)
    else:
        assert (ended["status"], ended["verdict"]["cause"]) == ("Failed", "launch_failed")
        assert said in " ".join(ended["verdict"]["evidence"])
    eventually(lambda: left(lab, run_id) == [])


def test_nobody_elses_folder_is_taken_for_ones_own(lab: Lab, packages: Mapping[str, Any]) -> None:
    run_id, _ = submit(lab, "squatted", packages, sbatch={"hold": None, "nodelist": "n4"})
    squat = Path(f"{lab.cluster.layout.tmp('n4')}{place_of(run_id)[4:]}")
    squat.mkdir()
    os.chown(squat, lab.cluster.home("bob").stat().st_uid, -1)
    job = lab.json("show", run_id)["attempts"][-1]["job_id"]
    try:
        assert lab.cluster.run("alice", ["scontrol", "release", job]).returncode == 0
        ended = lab.wait(run_id)
    finally:
        squat.rmdir()
    assert (ended["status"], ended["verdict"]["cause"]) == ("Failed", "launch_failed")
    assert "cannot stage the environment on n4" in batch(ended)
