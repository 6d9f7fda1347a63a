"""Files that come to a laptop: what a run left, and what commands write for their user."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.hosts import view
from tests.far import Far
from tests.lab import Lab, eventually

pytestmark = pytest.mark.cluster

MIB = 1 << 20

RUN_YAML = "script: train.py\ncompute_target: local\nexperiment: files\n"

TRAIN = """\
import base64, pathlib, random
from hpcrun import Run

PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
run = Run.get_context()
for step in range(3):
    run.log("loss", 1 / (step + 1), step=step)
pathlib.Path("dot.png").write_bytes(base64.b64decode(PNG))
run.log_image("dot", path="dot.png")
run.upload_file("weights.bin", "dot.png")
deep = pathlib.Path("outputs/deep")
deep.mkdir(parents=True, exist_ok=True)
(deep / "caf\\u00e9 'n \\n line").write_text("odd")
(deep / "model").write_bytes(random.Random(7).randbytes(1 << 20))
pathlib.Path("outputs/big").write_bytes(random.Random(8).randbytes(3 << 20))
print("done")
"""


@pytest.fixture(scope="module")
def source(lab: Lab) -> Path:
    files = {"run.yaml": RUN_YAML, "train.py": TRAIN, "lib/words.py": "WORDS = 1\n"}
    folder = lab.folder("files", files)
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("lib/words.py")
    return folder


@pytest.fixture(scope="module")
def sealed(lab: Lab, source: Path) -> Any:
    """A run that has ended, of which the record is sealed and the files are known by digest."""
    run_id = lab.submit(source)
    assert lab.wait(run_id)["status"] == "Completed"
    lab.ok("files", "--check", run_id)
    eventually(lambda: lab.run("store", "seal", run_id).returncode == 0)
    run = lab.json("show", run_id)
    assert run["record"].endswith(".h5")
    return run


@pytest.fixture
def desk(far: Far) -> Iterator[Path]:
    """A folder of lena's. No part of a file is left there, nor anything on the login node."""
    before = left(far)
    yield far.project("desk", {"other": "hers"})
    assert not [*far.laptop.home.rglob("*.part")]
    eventually(lambda: left(far) <= before)


def left(far: Far) -> set[str]:
    """The folders of commands that run for somebody, or have."""
    words = ["find", "/tmp", "-maxdepth", "1", "-user", "alice", "-name", "hpcrun-on-*"]
    return {*far.lab.cluster.run("alice", words).stdout.splitlines()}


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_file_comes_as_from_a_folder_of_this_machine(far: Far, desk: Path, sealed: Any) -> None:
    run_id = sealed["run_id"]
    (image,) = (f["name"] for f in far.json("files", run_id) if f["name"].startswith("images/"))
    home = far.lab.folder("copies", {})
    for words in (
        ("download", run_id, "outputs/deep/model"),
        ("download", run_id, "outputs/deep/caf\u00e9 'n \n line", "odd"),
        ("download", "--json", run_id, image, "new/deep/"),
        ("download", run_id, "outputs/none"),
        ("download", "--prefix", "outputs/deep", run_id, "many"),
    ):
        here, there = far.lab.run(*words, cwd=home), far.run(*words, cwd=desk)
        told = (there.returncode, there.stdout.replace(str(desk), str(home)), there.stderr)
        assert told == (here.returncode, here.stdout, here.stderr), words
    (desk / "other").unlink()
    assert tree(desk) == tree(home)
    # Also where Python there is told that names are ASCII.
    ascii = "env LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0"
    far.site("ascii", command=f"{ascii} {far.lab.venv}/bin/hpcrun")
    name = "outputs/deep/caf\u00e9 'n \n line"
    far.ok("download", run_id, name, "once more", site="ascii", cwd=desk)
    assert (desk / "once more").read_bytes() == (desk / "odd").read_bytes()
    model = desk / "model"
    assert model.stat().st_mtime == Path(sealed["files"], "outputs/deep/model").stat().st_mtime


def test_all_files_come_at_once(far: Far, desk: Path, sealed: Any) -> None:
    before = far.logins()
    told = json.loads(far.ok("download", "--all", "--json", sealed["run_id"], cwd=desk))
    assert far.logins() == before + 2  # of a site that shares none: the command, and rsync
    assert {(f["name"], f["size"]) for f in told} == {
        (f["name"], f["size"]) for f in far.json("files", sealed["run_id"])
    }
    for name in ("outputs/big", "outputs/deep/model"):
        assert (desk / name).read_bytes() == Path(sealed["files"], name).read_bytes()
    assert (desk / "other").read_text() == "hers"
    assert all(f["new"] for f in told)


def test_what_is_here_already_does_not_come_again(far: Far, desk: Path, sealed: Any) -> None:
    words = ("download", "--prefix", "outputs/", sealed["run_id"], "copies")
    assert far.ok(*words, cwd=desk).endswith(" in copies\n")
    big, model = desk / "copies/outputs/big", desk / "copies/outputs/deep/model"
    whole, made = model.read_bytes(), big.stat().st_ino
    model.write_bytes(whole[: MIB // 2] + b"!" + whole[MIB // 2 + 1 :])
    before = far.laptop.received()
    assert far.ok(*words, cwd=desk).endswith(" in copies, 2 of them were here already\n")
    assert far.laptop.received() - before < MIB // 2
    assert model.read_bytes() == whole and big.stat().st_ino == made
    # Nor is it taken for the same by its size and time alone.
    status = model.stat()
    model.write_bytes(whole[::-1])
    os.utime(model, ns=(status.st_atime_ns, status.st_mtime_ns))
    told = json.loads(far.ok(*words, "--json", cwd=desk))
    assert [f["name"] for f in told if f["new"]] and model.read_bytes() == whole
    home = far.lab.folder("copied", {})
    assert far.lab.ok(*words, cwd=home).endswith(" in copies\n")
    assert far.lab.ok(*words, cwd=home).endswith(" in copies, 3 of them were here already\n")


def test_after_a_cut_the_rest_comes(far: Far, desk: Path, sealed: Any) -> None:
    words = ("download", sealed["run_id"], "outputs/big")

    def come() -> int:
        with contextlib.suppress(FileNotFoundError):  # it has just got its name
            return sum(f.stat().st_size for f in desk.rglob(".hpcrun-*.part/*"))
        return 0

    far.laptop.slow(4_000)
    at = far.terminal(far.words(*words), cwd=desk)
    at.shows(r"big from far.* [kM]B/s")
    eventually(lambda: come() > 3 * MIB // 2)
    far.laptop.link(False)
    at.shows("was lost while 3 MiB were brought")
    assert at.ends() == 6
    assert sorted(os.listdir(desk))[1:] == ["other"] and 3 * MIB // 2 < come() < 3 * MIB
    far.laptop.slow(None)
    far.laptop.link(True)
    before = far.laptop.received()
    assert far.ok(*words, cwd=desk) == f"{desk}/big\n"
    assert far.laptop.received() - before < 2 * MIB
    assert (desk / "big").read_bytes() == Path(sealed["files"], "outputs/big").read_bytes()


def test_what_is_not_what_its_record_says_is_refused(far: Far, desk: Path, sealed: Any) -> None:
    path = Path(sealed["files"], "outputs/deep/model")
    data, status = path.read_bytes(), path.stat()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    done = far.run("download", sealed["run_id"], "outputs/deep/model", "model", cwd=desk)
    assert done.returncode == 8 and "model is not what the record says: its SHA-256" in done.stderr
    assert not (desk / "model").exists()
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert far.ok("download", sealed["run_id"], "outputs/deep/model", "model", cwd=desk)


def test_what_a_command_writes_comes_here(far: Far, desk: Path, sealed: Any, source: Path) -> None:
    run_id = sealed["run_id"]
    for words, told in (
        (("--restore", "other"), "other is no folder (name a folder)"),
        (("--restore", "/proc/1/x"), "(name another place)"),
    ):
        done = far.run("snapshot", run_id, *words, cwd=desk)
        assert done.returncode == 8 and told in done.stderr, done.stderr
    told = far.ok("snapshot", run_id, "--restore", "code", cwd=desk)
    assert told.endswith(" in code\n")
    assert tree(desk / "code") == tree(source)
    assert (desk / "code/link").readlink() == Path("lib/words.py")
    assert os.access(desk / "code/run.sh", os.X_OK)
    done = far.run("snapshot", run_id, "--restore", "code", cwd=desk)
    assert (done.returncode, done.stdout) == (8, "") and "code is not empty" in done.stderr
    # Of two at once, one makes the new folder.
    both = far.words("snapshot", run_id, "--restore", "new")
    with far.laptop.popen(both, cwd=desk) as one, far.laptop.popen(both, cwd=desk) as other:
        said = [going.communicate(timeout=180)[1] for going in (one, other)]
    assert sorted([one.returncode, other.returncode]) == [0, 8], said
    assert any("new is not empty" in text for text in said) and tree(desk / "new") == tree(source)
    words = ("metrics", run_id, "loss", "--export", "events")
    told = far.json(*words, cwd=desk)
    assert told["values"] == 3 and (desk / told["path"]).stat().st_size > 0
    assert "already" in far.run(*words, cwd=desk).stderr
    words = ("store", "export", run_id, "-o", "runs.tar.gz")
    assert far.ok(*words, cwd=desk).endswith(" in runs.tar.gz\n")
    own = [f"{far.lab.venv}/bin/hpcrun", "-w", str(desk / "history")]
    (taken,) = json.loads(
        far.laptop.run([*own, "store", "import", "--json", str(desk / "runs.tar.gz")]).stdout
    )
    assert (taken["run_id"], taken["imported"]) == (run_id, True)
    words = [*own, "download", run_id, "outputs/big", f"{desk}/again"]
    assert far.laptop.run(words).returncode == 0
    assert (desk / "again").read_bytes() == Path(sealed["files"], "outputs/big").read_bytes()


def test_each_login_of_a_command_may_ask_for_a_code(far: Far, desk: Path, sealed: Any) -> None:
    far.site("code", host="code", more="auth: publickey_otp\n  multiplex: refused")
    at = far.terminal(far.words("download", sealed["run_id"], "outputs/big", site="code"), cwd=desk)
    for _ in ("the command", "rsync"):
        at.shows("One-time password")
        at.type(f"{far.laptop.code()}\n")
    at.shows(f"{desk}/big")
    assert at.ends() == 0
    assert (desk / "big").read_bytes() == Path(sealed["files"], "outputs/big").read_bytes()


def test_a_full_disk_of_the_laptop_is_told(far: Far, desk: Path, sealed: Any) -> None:
    with far.laptop.small_disk(2 * MIB, here=True) as small:
        seen = view(far.laptop.layout, "laptop", small)
        words = ("download", sealed["run_id"], "outputs/big", f"{small}/big")
        done = far.run(*words, cwd=desk)
        assert done.returncode == 8, done.stderr
        assert "no room here for 3 MiB" in done.stderr and "No space left" in done.stderr
        assert not (seen / "big").exists()
        far.laptop.enlarge_disk(8 * MIB)
        before = far.laptop.received()
        far.ok(*words, cwd=desk)
        assert far.laptop.received() - before < 2 * MIB
        assert os.listdir(seen) == ["big"]
        assert (seen / "big").read_bytes() == Path(sealed["files"], "outputs/big").read_bytes()


def test_a_command_that_is_killed_leaves_no_folder(far: Far, desk: Path) -> None:
    code = "import time\nprint('begun', flush=True)\ntime.sleep(300)\n"
    files = {"run.yaml": RUN_YAML.replace("local", "test-cluster"), "train.py": code}
    project = far.project("project", files)
    before, err = left(far), desk / "err"
    words = far.words("submit", "--follow")
    with (
        err.open("w") as told,
        far.laptop.popen(words, cwd=project, stderr=told) as going,
    ):
        try:
            (run,) = eventually(lambda: far.lab.json("list", "-e", "files", "-s", "Running"))
            for number, name in enumerate(("TERM", "HUP"), 1):
                made = eventually(lambda: left(far) - before)
                end = ["pkill", "-o", f"-{name}", "-u", "alice", "-f", "hpcrun serve"]
                assert far.lab.cluster.run("alice", end).returncode == 0
                eventually(lambda: not left(far) & made)  # noqa: B023
                eventually(lambda: err.read_text().count("it is tried again") == number)  # noqa: B023
            eventually(lambda: left(far) - before)
        finally:
            going.kill()
            going.communicate()
    eventually(lambda: left(far) <= before)
    far.lab.ok("cancel", run["run_id"])
