"""An environment as one file: what it holds, when it is another, and where it lies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hpcrun.agent import staged
from hpcrun.agent.setting import Setting
from hpcrun.environments.packing import FACTS, is_packed, key_of, pack
from hpcrun.layout import Attempt, RunPaths
from hpcrun.store import FileStore
from hpcrun.store.users import own_name
from hpcrun.workflow.pruning import PACKED, Unneeded, prune, unneeded
from tests.commands import hpcrun
from tests.lab import eventually
from tests.test_stored import REQUEST

SHIM = Path(staged.__file__).with_name("stage.sh")


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """A virtual environment, by a link as those that hpcrun builds have one."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "built"], check=True)
    (tmp_path / "env").symlink_to("built")
    return tmp_path / "env"


def script(prefix: Path, name: str, begin: str) -> Path:
    file = prefix / "bin" / name
    file.write_text(f"{begin}\nimport sys\nprint(sys.prefix, *sys.argv[1:])\n")
    file.chmod(0o755)
    return file


def unpacked(file: Path, folder: Path) -> Path:
    with tarfile.open(file) as tar:
        tar.extractall(folder, filter="fully_trusted")
    return folder


def test_scripts_and_links_lead_to_where_it_is_unpacked(prefix: Path, tmp_path: Path) -> None:
    built = prefix.resolve()
    script(prefix, "by-link", f"#!{prefix}/bin/python3")
    script(prefix, "by-build", f"#!{built}/bin/python")
    script(prefix, "long", f"#!/bin/sh\n'''exec' {built}/bin/python3 \"$0\" \"$@\"\n' '''")
    script(prefix, "of-conda", f"#!/bin/sh\n'''exec' \"{built}/bin/python3\" \"$0\" \"$@\" #'''")
    (prefix / "bin/linked").symlink_to(built / "bin/by-link")
    kept = {"other": "#!/usr/bin/env python3", "none": "not a script", "sh": f"#!{built}/bin/sh"}
    for name, begin in kept.items():
        script(prefix, name, begin)
    pack(prefix, str(tmp_path / "packs/one.tar.gz"))
    there = unpacked(tmp_path / "packs/one.tar.gz", tmp_path / "a folder")
    shutil.rmtree(built)
    for name in ("by-link", "by-build", "long", "of-conda", "linked"):
        words = [there / "bin" / name, "a b", "$c"]
        done = subprocess.run(words, capture_output=True, text=True, cwd="/")
        assert (done.returncode, done.stdout) == (0, f"{there} a b $c\n"), done.stderr
    for name, begin in kept.items():
        assert (there / "bin" / name).read_text().startswith(begin)


def test_a_quoted_path_of_python_is_found_too(tmp_path: Path) -> None:
    prefix = tmp_path / "a b"
    (prefix / "bin").mkdir(parents=True)
    long = f"#!/bin/sh\n'''exec' \"{prefix}/bin/python3\" \"$0\" \"$@\"\n' '''"
    script(prefix, "quoted", long)
    pack(prefix, str(tmp_path / "one.tar.gz"))
    text = (unpacked(tmp_path / "one.tar.gz", tmp_path / "there") / "bin/quoted").read_text()
    assert str(prefix) not in text and "/'python3' \"$0\"" in text and "sys.prefix" in text


def test_compiled_files_stay_valid(prefix: Path, tmp_path: Path) -> None:
    (site,) = prefix.glob("lib/python*/site-packages")
    (site / "one.py").write_text("X = 1\n")
    subprocess.run([prefix / "bin/python", "-m", "compileall", "-q", site], check=True)
    pack(prefix, str(tmp_path / "one.tar.gz"))
    there = unpacked(tmp_path / "one.tar.gz", tmp_path / "there")
    (compiled,) = there.glob("lib/python*/site-packages/__pycache__/one.*.pyc")
    before = compiled.stat()
    done = subprocess.run(
        [there / "bin/python", "-v", "-c", "import one"], capture_output=True, text=True
    )
    assert f"matches {there}" in done.stderr and "wrote" not in done.stderr
    assert compiled.stat().st_mtime_ns == before.st_mtime_ns


def test_any_change_makes_another_key(prefix: Path) -> None:
    keys = {key_of(prefix)}
    assert key_of(prefix.resolve()) in keys
    file = prefix / "bin/one"
    for change in (
        lambda: file.write_text("a"),
        lambda: file.write_text("ab"),
        lambda: file.chmod(0o755),
        lambda: os.utime(file, (1, 1)),
        lambda: file.rename(prefix / "bin/two"),
        lambda: (prefix / "bin/three").symlink_to("two"),
    ):
        change()
        keys.add(key_of(prefix))
    assert len(keys) == 7


def test_one_that_is_not_whole_is_none(prefix: Path, tmp_path: Path) -> None:
    file = tmp_path / "packs/one.tar.gz"
    assert not is_packed(str(file))
    packed = pack(prefix, str(file))
    assert is_packed(str(file)) and packed.size == file.stat().st_size
    assert [path.name for path in file.parent.iterdir() if path.name.startswith(".")] == []
    Path(f"{file}{FACTS}").unlink()
    assert not is_packed(str(file))


OF_JOB = {**os.environ, "SLURM_JOB_ID": "7", "HPCRUN_ATTEMPT": "1.0"}


def stage_words(*words: object) -> list[str]:
    return ["sh", str(SHIM), *map(str, words)]


def stage(*words: object, said: str = "") -> subprocess.CompletedProcess[str]:
    line = stage_words(*words)
    return subprocess.run(line, capture_output=True, text=True, env=OF_JOB, input=said)


def room(place: Path, kib: object) -> subprocess.CompletedProcess[str]:
    """What the task says that looks for room, beside the one that holds the place."""
    assert stage("hold", place, said="\n").returncode == 0
    return stage("room", place, kib)


def test_a_node_takes_what_arrived_whole(prefix: Path, tmp_path: Path) -> None:
    place, file = tmp_path / "node/hpcrun-00000001-env", tmp_path / "one.tar.gz"
    place.parent.mkdir()
    pack(prefix, str(file))
    kib, digest = Path(f"{file}{FACTS}").read_text().split()
    assert room(place, kib).returncode == 0
    assert place.stat().st_mode & 0o777 == 0o700
    shutil.copy(file, place / "packed")
    done = stage("unpack", place, digest, prefix, "no")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in place.iterdir()) == ["job", "root"]
    words = [place / "root/bin/python", "-c", "import sys; print(sys.prefix)"]
    assert subprocess.run(words, capture_output=True, text=True).stdout == f"{place}/root\n"
    assert stage("remove", place).returncode == 0 and not place.exists()


def test_a_node_without_room_says_how_much(tmp_path: Path) -> None:
    place = tmp_path / "hpcrun-00000001-env"
    done = room(place, 1 << 60)
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"hpcrun: cannot stage the environment on {os.uname().nodename}: "
    )
    assert "MiB free, and it needs 1125899906842624: free some" in done.stderr


def old_places(tmp_path: Path) -> dict[str, Path]:
    """What was staged for jobs: of `ended` and `lost` there is nothing else here any more."""
    left = {}
    jobs = ("ended", "4294967"), ("running", "4294968"), ("young", "4294967"), ("coming", "4294967")
    for number, (name, job) in enumerate((*jobs, ("lost", ""))):
        left[name] = tmp_path / f"hpcrun-0000000{number}-env"
        left[name].mkdir()
        if job:
            (left[name] / "job").write_text(f"{job}\n")
        if name == "coming":
            (left[name] / "packed").touch()
        if name != "young":
            os.utime(left[name], (1, 1))
    return left


@pytest.mark.parametrize("by", ["a job that stages as well", "any job"])
def test_what_a_killed_job_left_goes_and_what_a_job_has_stays(tmp_path: Path, by: str) -> None:
    left = old_places(tmp_path)
    environ = {**os.environ, "SLURM_JOB_ID": "4294968"}
    with subprocess.Popen(["sleep", "600"], env=environ) as running:
        try:
            if by == "any job":
                staged.end(staged.begin_sweep(str(tmp_path), None))
            else:
                assert room(tmp_path / "hpcrun-00000009-env", 1).returncode == 0
        finally:
            running.kill()
    stay = [name for name, path in left.items() if path.exists()]
    assert stay == ["running", "young", "coming"]


def test_only_who_holds_a_place_clears_what_an_earlier_job_of_the_run_left_there(
    tmp_path: Path,
) -> None:
    """The task that looks for room may come just after it."""
    own, last = (tmp_path / f"hpcrun-0000000{number}-env" for number in (1, 2))
    for left in (own, last):
        left.mkdir()
        (left / "job").write_text("4294967 1.0\n")
        os.utime(left, (1, 1))
    looking = stage_words("room", own, 1)
    with subprocess.Popen(looking, env=OF_JOB, stderr=subprocess.PIPE) as waits:
        try:
            eventually(lambda: not last.exists())
            assert own.exists()
            assert stage("hold", own, said="\n").returncode == 0
            assert waits.communicate() == (None, b"")
        finally:
            waits.kill()
    assert waits.returncode == 0
    assert (own / "job").read_text() == "7 1.0\n"


def test_the_shared_environment_waits_for_who_holds_its_place(tmp_path: Path) -> None:
    place = tmp_path / "env"
    with subprocess.Popen(stage_words("share", place, "/shared"), env=OF_JOB) as sharing:
        children = Path(f"/proc/{sharing.pid}/task/{sharing.pid}/children")
        eventually(lambda: children.read_text() or sharing.poll() is not None)
        assert stage("hold", place, said="\n").returncode == 0
    assert sharing.returncode == 0
    assert (place / "root").readlink() == Path("/shared")


def test_a_job_that_is_canceled_meanwhile_leaves_nothing(tmp_path: Path) -> None:
    """The packed file is a pipe that nobody writes to: its digest waits."""
    place = tmp_path / "env"
    place.mkdir()
    os.mkfifo(place / "packed")
    words = ["sh", str(SHIM), "unpack", str(place), "0" * 64, "/shared", "yes"]
    with subprocess.Popen(words, start_new_session=True) as staging:
        children = Path(f"/proc/{staging.pid}/task/{staging.pid}/children")
        eventually(children.read_text)

        def has_ended() -> bool:  # a shell that just begins another one may miss its first TERM
            os.killpg(staging.pid, signal.SIGTERM)
            return staging.poll() is not None

        try:
            eventually(has_ended)
        finally:
            os.killpg(staging.pid, signal.SIGKILL) if staging.poll() is None else None
    assert staging.returncode == 143
    assert not place.exists()


@pytest.mark.parametrize(("said", "stays"), [("\n", True), ("", False)])
def test_what_nobody_says_is_there_goes(tmp_path: Path, said: str, stays: bool) -> None:
    place = tmp_path / "env"
    (place / "root").mkdir(parents=True)  # an earlier attempt's
    done = stage("hold", place, said=said)
    assert (done.returncode, place.exists()) == (0, stays)
    assert not (place / "root").exists()


def test_it_is_removed_once_nobody_runs_from_it(tmp_path: Path) -> None:
    place, other = tmp_path / "place", tmp_path / "other"
    for folder in (place, other):
        (folder / "root/bin").mkdir(parents=True)
    shutil.copy("/bin/sleep", place / "root/bin/sleep")
    paths = RunPaths(str(tmp_path), str(tmp_path))
    told = Setting(paths, Attempt(1), "n1", ("n1",), "7", True, kill_wait=600, staged=str(place))
    with subprocess.Popen([place / "root/bin/sleep", "600"]) as user:
        try:
            assert staged.is_used(str(place))
            removal = staged.begin_removal(told)
            staged.end(staged.begin_removal(told._replace(staged=str(other))))
            assert removal is not None and not removal.has_ended()
            assert place.exists() and not other.exists()
        finally:
            user.kill()
    staged.end(removal)
    assert not place.exists() and staged.begin_removal(told) is None


def test_what_no_run_has_is_pruned(project: Path, prefix: Path) -> None:
    workspace = project.parent / "history"
    packs = workspace / "users" / own_name(workspace) / "environments/packs"
    packs.mkdir(parents=True)
    for name in ("old", "new"):
        pack(prefix, str(packs / f"{name}.tar.gz"))
    (packs / ".half.tar.gz.01234567").touch()
    for name in ("old.tar.gz", ".half.tar.gz.01234567"):
        os.utime(packs / name, (1, 1))
    store, now = FileStore(workspace, own_name(workspace)), time.time()
    going = unneeded(store, now, 0)
    assert is_packed(str(packs / "old.tar.gz"))  # somebody wants it since
    assert [Path(each.folder).name for each in prune(going, store, now, 0)] == [
        ".half.tar.gz.01234567"
    ]
    assert is_packed(str(packs / "old.tar.gz"))
    os.utime(packs / "old.tar.gz", (1, 1))
    hpcrun("env", "prune", "--yes")
    assert sorted(path.name for path in packs.iterdir()) == ["new.tar.gz", f"new.tar.gz{FACTS}"]


def test_what_is_pruned_is_not_what_a_run_was_just_submitted_with(tmp_path: Path) -> None:
    """Whoever submits has found it before, and looks once more when the run is there."""
    store = FileStore(tmp_path / "history", own_name(tmp_path / "history"))
    packs = Path(store.prepare().environments, "packs")
    packs.mkdir(parents=True)
    for number in range(30):  # so that it takes a while to see what is in use
        store.create({**REQUEST, "run_id": f"r_{1700000000 + number}_00000000"}, "")
    at_once, lost = threading.Barrier(2), []

    def submit(number: int, file: Path) -> None:
        request = {**REQUEST, "environment": {"packed": str(file)}}
        at_once.wait()
        store.create({**request, "run_id": f"r_{1700000100 + number}_00000000"}, "")
        was_there = file.exists()
        at_once.wait()
        lost.extend([file] if was_there and not file.exists() else [])

    with ThreadPoolExecutor(1) as pool:
        for number in range(20):
            file = packs / f"{number}.tar.gz"
            file.touch()
            os.utime(file, (1, 1))
            submitted = pool.submit(submit, number, file)
            at_once.wait()
            prune([Unneeded(str(file), PACKED, 1, 0)], store, time.time(), 0)
            at_once.wait()
            submitted.result()
    assert lost == []


def test_this_machine_takes_it_from_where_it_is(project: Path, prefix: Path) -> None:
    (project / "run.yaml").write_text(
        f"script: train.py\nenvironment: {{virtual_environment: {prefix}, pack: sbcast}}\n"
    )
    rendered = hpcrun("render").stdout
    assert f"{prefix}/bin" in rendered and "stage.sh" not in rendered
    done = hpcrun("explain").stdout
    assert "no: this is one machine" in done
    other = hpcrun("render", "-t", "test-cluster").stdout
    assert "stage.sh" in other and f"{prefix} yes" in other
    built = hpcrun("env", "build", "--json", "-t", "test-cluster")
    assert is_packed(json.loads(built.stdout)["packed"]) and "packing" in built.stderr
    assert "packing" not in hpcrun("env", "build", "-t", "test-cluster").stderr
    (project / "run.yaml").write_text("script: train.py\nenvironment: {name: own, pack: sbcast}\n")
    refused = hpcrun("render", "-t", "test-cluster", code=3).stderr
    assert "there is no virtual or conda environment to pack" in refused
    (project / "run.yaml").write_text(
        f"script: train.py\nenvironment: {{virtual_environment: {prefix}, pack: sbcast,\n"
        "  docker: {base_image: /images/torch.sif, runtime: apptainer}}\n"
    )
    refused = hpcrun("render", "-t", "test-cluster", code=3).stderr
    assert "an environment on the node's disk is not in it" in refused
