"""A build that is killed: what it left is never used, and the next one is whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from hpcrun.environments.build import build
from hpcrun.environments.cache import Built, Wanted, find, listed, place
from hpcrun.environments.interpreter import find_interpreter
from hpcrun.environments.requirements import read_requirements
from tests.campaign import Figures, seeded, times
from tests.lab import eventually
from tests.wheels import make_wheel

BUILDS = """\
import sys
from pathlib import Path
from tests.test_environment_kills import built_in
built_in(Path(sys.argv[1]))
"""


def wanted_in(folder: Path) -> Wanted:
    lines = ["--no-index", str(folder / "tinypack-1.0-py3-none-any.whl")]
    python = find_interpreter(None, None, "", folder / "interpreters.json")
    return Wanted("tiny", python, read_requirements(lines, None, folder))


def built_in(folder: Path) -> str:
    """Builds what is wanted where the next one belongs, and gives its folder."""
    wanted, room = wanted_in(folder), str(folder / "room")
    return build(wanted, place(wanted.key, room), lambda text: None).folder


def installed(built: Built) -> list[str]:
    """The packages of its lock, which names wheels by their place."""
    return [line.partition(" @ ")[0] for line in built.lock]


def written(folder: Path) -> int:
    """How many files and folders the builds of a room have made."""
    return sum(len(folders) + len(files) for _, folders, files in os.walk(folder))


def test_a_build_killed_at_seeded_moments_is_never_used(tmp_path: Path, figures: Figures) -> None:
    make_wheel(tmp_path, "tinypack", "1.0")
    (tmp_path / "one").mkdir()
    make_wheel(tmp_path / "one", "tinypack", "1.0")
    whole = built_in(tmp_path / "one")
    total = written(Path(whole).resolve())
    room, key = tmp_path / "room", wanted_in(tmp_path).key
    room.mkdir()
    killed = 0
    for chance in seeded("environment", times(60)):
        before, least = written(room), chance.randrange(total)
        words = [sys.executable, "-c", BUILDS, str(tmp_path)]
        with subprocess.Popen(words, start_new_session=True) as builder:
            enough = before + least
            eventually(lambda p=builder, n=enough: p.poll() is not None or written(room) > n)
            time.sleep(chance.random() / 2)
            with suppress(ProcessLookupError):  # it was faster than the kill
                os.killpg(builder.pid, signal.SIGKILL)
            builder.wait()
        assert all(installed(built) == ["tinypack"] for built in listed(str(room)))
        if builder.returncode == -signal.SIGKILL and not listed(str(room)):
            killed += 1
            assert find(key, [str(room)]) is None
        for link in room.glob("*.1"):
            link.unlink()
    left = set(room.glob(".build-*"))
    folder = built_in(tmp_path)
    assert Path(folder).resolve() not in left
    done = subprocess.run(
        [f"{folder}/bin/python", "-c", "import tinypack; print(tinypack.VERSION)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "1.0\n"
    figures.tell("an environment's build killed", killed=killed, used=0)
    assert killed >= times(60) // 3


@pytest.mark.parametrize("locks", [True, False])
def test_of_two_builders_at_once_one_is_published(tmp_path: Path, locks: bool) -> None:
    make_wheel(tmp_path, "tinypack", "1.0")
    room = tmp_path / "room"
    room.mkdir()
    if not locks:  # what cannot be opened cannot be locked, as on a file system without locks
        (room / f".{wanted_in(tmp_path).key}.lock").mkdir()
    words = [sys.executable, "-c", BUILDS, str(tmp_path)]
    with (
        subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as one,
        subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as two,
    ):
        said = [builder.communicate()[1] for builder in (one, two)]
    assert (one.returncode, two.returncode) == (0, 0), said
    (built,) = listed(str(room))
    assert (built.number, installed(built)) == (1, ["tinypack"])
    assert list(room.glob(".build-*")) == [Path(built.folder).resolve()]
    assert any("no lock on" in text for text in said) is not locks
