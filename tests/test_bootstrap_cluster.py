"""hpcrun brought to a login node with no way out, by the real ssh, venv and pip."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import pytest

from tests.cluster import Cluster
from tests.cluster.laptop import Laptop
from tests.far import other_version
from tests.lab import PYTHON, Lab, eventually

pytestmark = pytest.mark.cluster

ROOT = Path(".local/share/hpcrun")

TRAIN = """\
import pathlib, time

while not pathlib.Path("go").exists():
    time.sleep(0.1)
"""
RUN_YAML = "script: train.py\ncompute_target: test-cluster\nresources: {time: 10m}\n"
BROKEN = "raise ImportError('/lib64/libc.so.6: version GLIBC_2.99 not found')"


@pytest.fixture(scope="module")
def wheels(cluster: Cluster) -> Path:
    """What pip finds on the laptop: the packages that hpcrun needs on this machine, kept between
    sessions."""
    from hpcrun.transport.bootstrap import found_in, probe_text
    from hpcrun.transport.wheels import fetch, own_wheel

    folder = cluster.cache / "bootstrap-wheels"
    with filelock.FileLock(f"{folder}.lock", timeout=600):
        if not (folder / "complete").exists():
            folder.mkdir(exist_ok=True)
            text = probe_text(PYTHON)
            said = subprocess.run(["sh"], input=text, capture_output=True, text=True).stdout
            own = own_wheel(folder)
            fetch(own, found_in(said, "this machine", PYTHON).platform, folder)
            own.unlink()
            subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
            (folder / "complete").touch()
    return folder


class Desk:
    def __init__(self, laptop: Laptop, lab: Lab, wheels: Path) -> None:
        self.laptop, self.lab = laptop, lab
        self.env = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null"}
        self.env["PIP_FIND_LINKS"] = str(wheels)
        self.root = lab.cluster.home("alice") / ROOT

    def words(self, *words: str) -> list[str]:
        return [self.lab.python, "-m", "hpcrun", "site", "bootstrap", *words]

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return self.laptop.run(self.words(*words), env={**self.env, **env}, timeout=300)

    def bring(self, *words: str, **env: str) -> Any:
        done = self.run("--yes", "--json", "login", *words, **env)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return json.loads(done.stdout)

    def stays(self) -> dict[str, str]:
        """Version → why it is not removed; empty: it would be."""
        told = json.loads(self.run("--prune", "--json", "login").stdout)
        return {each["name"]: each["why"] for each in told["versions"]}

    def names(self) -> list[str]:
        return sorted(path.name for path in self.root.iterdir()) if self.root.is_dir() else []


@pytest.fixture
def desk(laptop: Laptop, lab: Lab, wheels: Path) -> Iterator[Desk]:
    desk = Desk(laptop, lab, wheels)
    lab.cluster.run("alice", ["rm", "-rf", str(desk.root)])
    yield desk
    lab.cluster.run("alice", ["rm", "-rf", str(desk.root)])


def test_hpcrun_is_brought_once_and_an_upgrade_leaves_a_job_alone(desk: Desk) -> None:
    cluster = desk.lab.cluster
    routes = cluster.run("alice", ["ip", "route"]).stdout
    assert "default" not in routes and "via" not in routes
    asked = desk.run("login")
    assert asked.returncode == 1 and "nothing was written" in asked.stderr, asked.stderr
    assert desk.names() == []

    first = desk.bring()
    assert first["installed"] and first["version"] == "0.1.0"
    assert desk.names() == sorted([Path(first["folder"]).name, "current"])
    there = [str(desk.root / "current/bin/hpcrun")]
    assert cluster.run("alice", [*there, "--version"], env={}).stdout.endswith("0.1.0\n")
    made = (desk.root / "current").lstat().st_mtime_ns
    again = desk.bring()
    assert not again["installed"] and again["folder"] == first["folder"]
    assert (desk.root / "current").lstat().st_mtime_ns == made

    # A job of the first one goes on while another comes.
    source = desk.lab.folder("bootstrap", {"train.py": TRAIN, "run.yaml": RUN_YAML})
    env = desk.lab.environment(HPCRUN_WORKSPACE=str(cluster.home("alice") / "history-bootstrap"))
    submit = [*there, "submit", "--json"]
    done = cluster.run("alice", submit, cwd=source, env=env)
    assert done.returncode == 0, done.stderr
    run_id = json.loads(done.stdout)["run_id"]

    def run() -> Any:
        return json.loads(cluster.run("alice", [*there, "show", "--json", run_id], env=env).stdout)

    eventually(lambda: run()["status"] == "Running")
    second = desk.bring(PYTHONPATH=other_version(desk.lab, desk.laptop.home / "next", "0.2.0"))
    assert second["version"] == "0.2.0" and second["installed"]
    assert cluster.run("alice", [*there, "--version"]).stdout.endswith("0.2.0\n")
    # It stays for as long as something needs it, and some time for what is not seen.
    first_name, second_name = (Path(told["folder"]).name for told in (first, second))
    assert re.fullmatch(r"job \d+ uses it", desk.stays()[first_name])
    agents = cluster.run("root", ["pgrep", "-u", "alice", "-af", first["folder"]], node="n1").stdout
    assert agents, "the agent runs with another Python than the one it was submitted from"
    folder = next(Path(env["HPCRUN_WORKSPACE"]).glob(f"users/alice/files/*/{run_id}"))
    (folder / "go").touch()
    eventually(lambda: run()["status"] == "Completed")
    young = "it was the current one until less than a day ago"
    eventually(lambda: desk.stays()[first_name] == young)
    old = ["touch", "-d", "2 days ago", f"{first['folder']}/complete"]
    assert cluster.run("alice", old).returncode == 0
    python = [f"{first['folder']}/bin/python", "-c", "input()"]
    with cluster.popen("alice", python, stdin=subprocess.PIPE) as using:
        eventually(lambda: re.fullmatch(r"process \d+ uses it", desk.stays()[first_name]))
        assert desk.run("--prune", "--yes", "login").returncode == 0
        using.communicate("\n")
    assert first_name in desk.names()
    asked = desk.run("--prune", "login")
    assert asked.returncode == 1 and "nothing was deleted" in asked.stderr
    told = json.loads(desk.run("--prune", "--yes", "--json", "login").stdout)
    assert told["deleted"] == [first_name] and desk.names() == sorted([second_name, "current"])
    assert cluster.run("alice", [*there, "--version"]).stdout.endswith("0.2.0\n")


def test_a_failure_leaves_what_was_there(desk: Desk, wheels: Path) -> None:
    broken = desk.laptop.home / "wheels"
    subprocess.run(["cp", "-r", str(wheels), str(broken)], check=True)
    (h5py,) = broken.glob("h5py-*.whl")
    with zipfile.ZipFile(h5py) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(h5py, "w") as file:
        for name, data in members.items():
            file.writestr(name, BROKEN if name == "h5py/__init__.py" else data)
    done = desk.run("--yes", "login", PIP_FIND_LINKS=str(broken))
    assert done.returncode == 11, done.stderr
    assert "could not be installed on login" in done.stderr
    assert desk.names() == []

    # The link is cut while packages are on their way.
    desk.laptop.slow(20_000)
    with desk.laptop.popen(desk.words("--yes", "login"), env=desk.env) as going:
        eventually(lambda: list(desk.root.glob("*/wheels/*")))
        desk.laptop.restart_login()
        _, said = going.communicate(timeout=180)
    assert going.returncode == 6, said
    assert "nothing is half-installed" in said
    eventually(lambda: desk.names() == [])

    # All has come, and nobody waits any more until it is installed.
    desk.laptop.slow(None)
    with desk.laptop.popen(desk.words("--yes", "login"), env=desk.env) as going:
        eventually(lambda: list(desk.root.glob("*/bin/python")))
        going.send_signal(signal.SIGINT)
        going.communicate(timeout=180)
    assert going.returncode == 130
    eventually(lambda: desk.names() == [])


def test_tcsh_that_talks_has_it_as_well(desk: Desk) -> None:
    try:
        assert desk.run("--yes", "csh").returncode == 0
        hpcrun = f"{desk.lab.venv}/bin/hpcrun"
        done = desk.laptop.run([hpcrun, "-w", "csh:", "list", "--json"])
        assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, [], "")
    finally:
        home = desk.lab.cluster.home("carol")
        desk.lab.cluster.run("root", ["rm", "-rf", str(home / ROOT)])


def test_where_it_cannot_be_it_is_said_why(desk: Desk) -> None:
    site = "schema_version: 1\nid: old\nssh: {{endpoints: {{login: {{host: csh}}}}, python: {}}}\n"
    for python in ("/bin/true", "/no/such/python3"):
        desk.laptop.write(".config/hpcrun/site_configs/old.yaml", site.format(python))
        done = desk.run("--yes", "old/gpu")
        assert done.returncode == 11, done.stderr
        assert f"{python} on old is no Python 3.11 or newer with venv" in done.stderr
    done = desk.run("--yes", "login", PIP_FIND_LINKS=str(desk.laptop.home))
    assert done.returncode == 11, done.stderr
    assert re.search(r"cannot be fetched for x86_64, glibc 2\.\d+, Python 3\.\d+", done.stderr)
    assert "No matching distribution" in done.stderr and desk.names() == []
    profile = desk.lab.cluster.home("alice") / ".bashrc"
    try:
        profile.write_text("exec 1>&2\n")
        done = desk.run("--yes", "login")
    finally:
        profile.unlink()
    assert done.returncode == 6 and "a profile there redirects it" in done.stderr
