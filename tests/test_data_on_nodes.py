"""What a node is given of a run's data before the command, and where its outputs end after it."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from hpcrun.agent.data import DataError, prepare
from hpcrun.agent.outgoing import Node, Outgoing
from hpcrun.agent.policy import Data
from tests.lab import eventually
from tests.ordinary_user import as_ordinary_user, let_everybody_reach, needs_root
from tests.trees import NASTY, tree


def node_folder(tmp_path: Path) -> str:
    return str(tmp_path / "node-data-1.0")


def staged(tmp_path: Path, source: Path, mode: str = "stage") -> Path:
    """What a node is given of an input; where."""
    data = Data("x", str(source), mode, "inputs/x", False)
    prepare((data,), node_folder(tmp_path), "n1")
    return Path(node_folder(tmp_path), "inputs/x")


# -- what a node is given ----------------------------------------------------------------------


def test_a_tree_arrives_as_it_is(tmp_path: Path) -> None:
    source, outside = tmp_path / "source", tmp_path / "outside"
    (source / NASTY / "deep").mkdir(parents=True)
    (source / NASTY / "deep/run.sh").write_text("x")
    Path(os.fsdecode(bytes(source) + b"/-rf \n\xff")).write_text("x")
    (source / NASTY / "deep/run.sh").chmod(0o755)
    (source / "closed").write_bytes(os.urandom(100_000))
    (source / "closed").chmod(0o400)
    (source / "within").symlink_to(f"{NASTY}/deep")
    (source / "absolute").symlink_to(source / "closed")
    outside.mkdir()
    (outside / "far").write_text("far")
    (outside / "none").mkdir()
    (source / "empty/one").mkdir(parents=True)
    (source / "folder").symlink_to(outside)
    (source / "file").symlink_to(outside / "far")
    with (source / "holes").open("wb") as file:
        file.truncate(10_000_000)
    where = staged(tmp_path, source)
    wanted = tree(source) | {
        "absolute": ("link", "closed"),
        "file": b"far",
        "folder/far": b"far",
        "folder/none": "empty",
    }
    del wanted["folder"]
    assert tree(where) == wanted
    assert (where / NASTY / "deep/run.sh").stat().st_mode & 0o777 == 0o755
    assert (where / "holes").stat().st_blocks == 0


@pytest.fixture(params=["newer", "older"])
def python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With or without the filters that tarfile has in newer releases of each Python."""
    if request.param == "older":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
        trusting = staticmethod(getattr(tarfile, "fully_trusted_filter", None))
        monkeypatch.setattr(tarfile.TarFile, "extraction_filter", trusting, raising=False)


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize("mode", ["tar.gz", "tar", "zip"])
def test_an_archive_is_unpacked(tmp_path: Path, mode: str) -> None:
    archive = tmp_path / f"a.{mode}"
    (tmp_path / "in").write_text("in")
    (tmp_path / "in").chmod(0o755)
    if mode == "zip":
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.write(tmp_path / "in", "deep/in")
    else:
        with tarfile.open(archive, "w:gz" if mode == "tar.gz" else "w") as packed:
            packed.add(tmp_path / "in", "deep/in")
            for kind, name, target in (
                (tarfile.SYMTYPE, "deep/link", "in"),
                (tarfile.LNKTYPE, "twin", "deep/in"),
            ):
                link = tarfile.TarInfo(name)
                link.type, link.linkname, link.mode = kind, target, 0o755
                packed.addfile(link)
    where = staged(tmp_path, archive, "unpack")
    links = {} if mode == "zip" else {"deep/link": ("link", "in"), "twin": b"in"}
    assert tree(where) == {"deep/in": b"in", **links}
    assert (where / "deep/in").stat().st_mode & 0o777 == 0o755


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize(
    "led",
    [
        [("../out", tarfile.REGTYPE, "")],
        [("up", tarfile.SYMTYPE, "..")],
        [("whole", tarfile.SYMTYPE, "/etc")],
        [("twin", tarfile.LNKTYPE, "../../x")],
        [("here", tarfile.SYMTYPE, "."), ("here/on", tarfile.SYMTYPE, "here/..")],
        [("pipe", tarfile.FIFOTYPE, "")],
    ],
)
def test_what_leads_out_of_a_tar_is_refused(
    tmp_path: Path, led: list[tuple[str, bytes, str]]
) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as packed:
        for name, kind, target in led:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            packed.addfile(member)
    with pytest.raises(DataError, match=f"input x.*{led[-1][0]}"):
        staged(tmp_path, tmp_path / "a.tar", "unpack")
    assert [path.name for path in tmp_path.iterdir() if path.name in ("out", "pipe")] == []


def test_what_leads_out_of_an_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        zipped.writestr("../out", "x")
    with pytest.raises(DataError, match=r"\.\./out in it leads outside"):
        staged(tmp_path, tmp_path / "a.zip", "unpack")
    (tmp_path / "none").write_text("no archive")
    with pytest.raises(DataError, match="input x"):
        staged(tmp_path, tmp_path / "none", "unpack")


def test_all_that_cannot_be_copied_is_told_at_once(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    os.mkfifo(source / "pipe")
    (source / "gone").symlink_to("/no/such/file")
    (source / "sub/up").symlink_to(tmp_path)
    with pytest.raises(DataError) as raised:
        staged(tmp_path, source)
    for said in ("pipe is neither", "gone: No such file", "up/source leads back"):
        assert said in str(raised.value)


@needs_root
def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    (tmp_path / "open").mkdir(mode=0o755)
    wanted = (
        Data("x", str(tmp_path / "closed"), "direct", "", False),
        Data("y", str(tmp_path / "closed/out"), "direct", "", True),
        Data("z", str(tmp_path / "open"), "direct", "", True),
    )
    let_everybody_reach(tmp_path)
    said = as_ordinary_user(lambda: prepare(wanted, "", "n1"))
    for words in ("closed cannot be read", "closed/out: Permission denied", "cannot be written"):
        assert words in said


def test_a_disk_that_is_too_small_is_told_before_anything_is_copied(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 43)
    with pytest.raises(DataError, match=r"inputs x have 8796093022208 bytes, and .* free"):
        staged(tmp_path, tmp_path / "huge")
    assert tree(Path(node_folder(tmp_path))) == {"inputs": "empty"}


def test_what_a_killed_attempt_left_goes_but_for_its_outputs(tmp_path: Path) -> None:
    for attempt, name in (("0.1", "outputs"), ("0.2", "")):
        old = tmp_path / f"node-data-{attempt}"
        (old / "inputs/x").mkdir(parents=True)
        (old / "inputs/x/big").touch()
        if name:
            (old / name / "y").mkdir(parents=True)
            (old / name / "y/kept").touch()
    (tmp_path / "source").touch()
    staged(tmp_path, tmp_path / "source")
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("node-data-0*/**/*"))
    assert left == [f"node-data-0.1/outputs{end}" for end in ("", "/y", "/y/kept")]


def test_what_killed_jobs_of_other_runs_left_goes_once_they_are_over(tmp_path: Path) -> None:
    names = {f"hpcrun-{number}1234567-data-1.0" for number in range(4)}
    for name in names:
        (tmp_path / name / "inputs").mkdir(parents=True)
        (tmp_path / name / "inputs/big").touch()
        if not name.startswith("hpcrun-0"):
            os.utime(tmp_path / name, (1.7e9, 1.7e9))
    (tmp_path / "hpcrun-21234567-data-1.0/outputs").mkdir()
    os.utime(tmp_path / "hpcrun-21234567-data-1.0", (1.7e9, 1.7e9))
    (tmp_path / "source").touch()
    environ = {**os.environ, "HPCRUN_RUN_ID": "exp_1700000000_11234567"}
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, env=environ) as going_on:
        eventually(lambda: b"_11234567" in Path(f"/proc/{going_on.pid}/environ").read_bytes())
        staged(tmp_path, tmp_path / "source")
        going_on.communicate()
    left = {path.parent.name for path in tmp_path.glob("hpcrun-*/inputs")}
    assert left == {"hpcrun-01234567-data-1.0", "hpcrun-11234567-data-1.0"}
    assert (tmp_path / "hpcrun-21234567-data-1.0/outputs").is_dir()
    assert not (tmp_path / "hpcrun-31234567-data-1.0").exists()


# -- where outputs end ----------------------------------------------------------------------


class Side:
    """One node's outputs."""

    def __init__(self, tmp_path: Path, host: str, others: tuple[str, ...] = ()) -> None:
        self.ends = tmp_path / "ends"
        self.folder = tmp_path / host
        self.facts: list[tuple[str, dict[str, Any]]] = []
        data = (Data("y", str(self.ends), "stage", "outputs/y", True),)
        prepare(data, str(self.folder), host)
        node = Node("r", "1.0", host, host == "n1")
        tell = lambda kind, data: self.facts.append((kind, data))  # noqa: E731
        self.outgoing = Outgoing(data, str(self.folder), node, others, tell)

    def write(self, name: str, text: str) -> None:
        path = self.folder / "outputs/y" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def finish(self) -> bool:
        eventually(self.outgoing.finish)
        return self.outgoing.close()

    def mark(self, host: str = "n1") -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.ends / f".hpcrun/r.{host}.json").read_text())
        return found

    def found(self) -> dict[str, Any]:
        return {n: text for n, text in tree(self.ends).items() if not n.startswith(".hpcrun/")}


def test_outputs_of_two_nodes_end_in_one_folder(tmp_path: Path) -> None:
    first, second = Side(tmp_path, "n1", ("n2",)), Side(tmp_path, "n2")
    (first.ends / "same").write_text("of an earlier run")
    for side, text in ((first, "1"), (second, "2")):
        side.write("same", text)
        side.write(f"{text}/{NASTY}", text)
    assert second.finish()
    assert first.finish()
    assert first.found() == {
        "same": b"1",
        f"1/{NASTY}": b"1",
        f"2/{NASTY}": b"2",
        ".nodes/n2/same": b"2",
    }
    assert first.mark()["complete"] and first.mark("n2")["complete"]
    assert not first.folder.exists() and not second.folder.exists()
    (problem,) = [data["message"] for kind, data in first.facts if kind == "problem"]
    assert problem.endswith("another node has a file of this name: .nodes/n2/same")


def test_a_warning_brings_what_is_there_and_the_end_the_rest(tmp_path: Path) -> None:
    side = Side(tmp_path, "n1")
    side.write("early", "half")
    side.outgoing.stop_is_near()
    eventually(lambda: side.found() == {"early": b"half"})
    side.outgoing.join()
    assert side.mark()["complete"] is False
    side.write("early", "whole")
    side.write("late", "late")
    assert side.finish()
    assert side.found() == {"early": b"whole", "late": b"late"}
    ((kind, data),) = side.facts
    assert (kind, data["files"], data["complete"]) == ("data", 2, True)


def test_what_cannot_be_brought_stays_and_is_told(tmp_path: Path) -> None:
    side = Side(tmp_path, "n1")
    side.write("taken", "x")
    side.write("fine", "y")
    (side.ends / "taken").mkdir()
    assert not side.finish()
    assert side.found() == {"fine": b"y", "taken": "empty"}
    assert (side.mark()["complete"], side.mark()["left"]) == (False, ["taken"])
    assert (side.folder / "outputs/y/taken").read_text() == "x"
    (problem,) = [data["message"] for kind, data in side.facts if kind == "problem"]
    assert problem.startswith("output y: taken: Is a directory; it stays in n1:")


def test_an_end_that_is_gone_loses_nothing(tmp_path: Path) -> None:
    side = Side(tmp_path, "n1")
    side.write("a", "x")
    side.ends.rmdir()
    side.ends.write_text("a file now")
    assert not side.finish()
    assert (side.folder / "outputs/y/a").read_text() == "x"
    assert any("stays in n1:" in data["message"] for kind, data in side.facts if kind == "problem")
