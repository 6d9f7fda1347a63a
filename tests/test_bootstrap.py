"""What is brought to a cluster: which wheels fit, and hpcrun's own. pip and files are real."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hpcrun.errors import BuildError, TransportError
from hpcrun.transport import install
from hpcrun.transport.bootstrap import found_in, install_name, probe_text
from hpcrun.transport.wheels import Platform, fetch, own_wheel
from tests.lab import build_wheel, eventually
from tests.wheels import make_wheel

ANSWER = """\
welcome

hpcrun-probe-begins
machine aarch64
system Linux
glibc 2.28
home /home/me
python 3.9 /usr/bin/python3
python 3.12 /opt/python/bin/python3.12
current 0.1.0-aaaaaaaaaaaa
there 0.1.0-aaaaaaaaaaaa
there 0.1.0-bbbbbbbbbbbb
free 2048
end
"""


def test_what_a_login_node_says_is_understood() -> None:
    found = found_in(ANSWER, "there", None)
    assert found.platform == Platform("aarch64", (2, 28), (3, 12))
    assert found.python == "/opt/python/bin/python3.12"
    assert found.current == "0.1.0-aaaaaaaaaaaa"
    assert found.there == {"0.1.0-aaaaaaaaaaaa", "0.1.0-bbbbbbbbbbbb"}
    assert found.free == 2 << 20


@pytest.mark.parametrize(
    ("line", "instead", "words"),
    [
        ("python 3.12 /opt/python/bin/python3.12", "", "no Python 3.11 or newer .*3 is 3.9"),
        ("glibc 2.28", "glibc ", "glibc 2 only"),
        ("system Linux", "system Darwin", "is Darwin"),
    ],
)
def test_a_login_node_that_cannot_run_hpcrun_is_told(line: str, instead: str, words: str) -> None:
    with pytest.raises(BuildError, match=words):
        found_in(ANSWER.replace(line, instead), "there", None)


def test_an_answer_that_is_cut_is_none() -> None:
    with pytest.raises(TransportError, match="does not say what it is"):
        found_in(ANSWER.removesuffix("end\n"), "there", None)


def test_the_python_that_the_site_names_is_the_only_one_asked_for() -> None:
    text = probe_text("/opt/my python/bin/python3")
    assert "for p in '/opt/my python/bin/python3'; do" in text
    with pytest.raises(BuildError, match=r"/opt/none on there is no Python 3.11 or newer"):
        found_in(ANSWER.replace("python 3", "nothing 3"), "there", "/opt/none")


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_questions_are_answered_by_this_machine(shell: str) -> None:
    done = subprocess.run([shell], input=probe_text(None), capture_output=True, text=True)
    found = found_in(done.stdout, "here", None)
    machine = subprocess.run(["uname", "-m"], capture_output=True, text=True).stdout.strip()
    assert found.platform.machine == machine
    assert found.platform.python >= (3, 11)
    assert Path(found.python).exists()
    assert found.free


def test_tags_are_those_that_run_there_the_best_first() -> None:
    assert Platform("aarch64", (2, 18), (3, 11)).tags == [
        "manylinux_2_18_aarch64",
        "manylinux_2_17_aarch64",
        "manylinux2014_aarch64",
    ]
    tags = Platform("x86_64", (2, 17), (3, 11)).tags
    assert tags[:2] == ["manylinux_2_17_x86_64", "manylinux2014_x86_64"]
    assert tags[-2:] == ["manylinux_2_5_x86_64", "manylinux1_x86_64"]


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packages of which there are wheels for several machines, C libraries and Pythons."""
    folder = tmp_path / "index"
    for version, tag in (
        ("1.0", "cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64"),
        ("2.0", "cp311-cp311-manylinux_2_28_aarch64"),
        ("3.0", "cp312-cp312-manylinux_2_17_aarch64"),
        ("1.5", "cp311-abi3-manylinux_2_17_x86_64"),
        ("4.0", "cp311-cp311-manylinux_2_34_x86_64"),
        ("9.0", "cp311-cp311-macosx_11_0_arm64"),
    ):
        make_wheel(folder, "compiled", version, tag)
    make_wheel(folder, "pip", "24.0")
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def wanting(tmp_path: Path) -> Path:
    """A wheel that needs the compiled package."""
    wheel = make_wheel(tmp_path / "own", "wanting", "1.0")
    with zipfile.ZipFile(wheel, "a") as file:
        about = "Metadata-Version: 2.1\nName: wanting\nVersion: 1.0\nRequires-Dist: compiled\n"
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("wanting-1.0.dist-info/METADATA", about)
    return wheel


@pytest.mark.parametrize(
    ("platform", "chosen"),
    [
        (Platform("aarch64", (2, 28), (3, 11)), "2.0"),
        (Platform("aarch64", (2, 26), (3, 11)), "1.0"),
        (Platform("aarch64", (2, 17), (3, 11)), "1.0"),
        (Platform("aarch64", (2, 36), (3, 12)), "3.0"),
        (Platform("x86_64", (2, 28), (3, 11)), "1.5"),
        (Platform("x86_64", (2, 17), (3, 13)), "1.5"),
        (Platform("x86_64", (2, 36), (3, 11)), "4.0"),
    ],
)
def test_wheels_are_chosen_for_the_far_machine(
    index: Path, wanting: Path, tmp_path: Path, platform: Platform, chosen: str
) -> None:
    found = fetch(wanting, platform, tmp_path / "fetched")
    names = [wheel.name.split("-")[:2] for wheel in found]
    assert names == [["compiled", chosen], ["pip", "24.0"], ["wanting", "1.0"]]


def test_a_machine_that_there_are_no_wheels_for_is_told(
    index: Path, wanting: Path, tmp_path: Path
) -> None:
    platform = Platform("ppc64le", (2, 28), (3, 11))
    with pytest.raises(BuildError, match=r"for ppc64le, glibc 2.28, Python 3.11: .*compiled"):
        fetch(wanting, platform, tmp_path / "fetched")


def test_the_own_wheel_is_what_a_build_makes(tmp_path: Path) -> None:
    built, own = build_wheel(tmp_path / "build"), own_wheel(tmp_path)
    with zipfile.ZipFile(built) as a, zipfile.ZipFile(own) as b:
        only = {"licenses/LICENSE", "top_level.txt"}
        names = {name for name in a.namelist() if not name.endswith(tuple(only))}
        assert set(b.namelist()) == names
        told = (".dist-info/RECORD", ".dist-info/WHEEL", ".dist-info/METADATA")
        for name in names:
            assert name.endswith(told) or a.read(name) == b.read(name), name
        about = "hpcrun_slurm-0.1.0.dist-info/METADATA"
        needs = [
            [line for line in w.read(about).decode().splitlines() if line.startswith("Requires-D")]
            for w in (a, b)
        ]
        assert sorted(needs[0]) == sorted(needs[1])
        assert any("h5py" in line for line in needs[1])
    again = own.read_bytes()
    assert own_wheel(tmp_path).read_bytes() == again


def test_who_installs_the_same_at_once_waits(tmp_path: Path) -> None:
    """What the other has made so far is no rest of one that was killed."""
    place = tmp_path / ".local/share/hpcrun/v1"
    place.mkdir(parents=True)
    (place / "begun").touch()
    with (place.parent / ".v1.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        words = [sys.executable, install.__file__]
        with subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"HOME": str(tmp_path)}
        ) as process:
            process.stdin.write(b'{"name": "v1", "python": "python3"}\n')
            process.stdin.flush()
            waits = re.compile(rf"-> FLOCK .* {process.pid} ")
            eventually(
                lambda: (
                    waits.search(Path("/proc/locks").read_text()) or not (place / "begun").exists()
                )
            )
            (place / "complete").touch()
            fcntl.flock(held, fcntl.LOCK_UN)
            said = process.communicate()[0]
    assert said.split() == [b"installed", b'"%s"' % os.fsencode(place)]
    assert (place / "begun").exists()
    assert sorted(path.name for path in place.parent.iterdir()) == ["current", "v1"]


def test_the_folder_is_another_for_another_python(tmp_path: Path) -> None:
    wheel = own_wheel(tmp_path)
    found = found_in(ANSWER, "there", None)
    other = found_in(ANSWER.replace("3.12", "3.13"), "there", None)
    assert install_name(wheel, found) == install_name(wheel, found)
    assert install_name(wheel, found) != install_name(wheel, other)
