"""store probe: two sides on this machine's disk, what is missing or killed, and what it means."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcrun.agent.probe import locks, measures, sides
from hpcrun.agent.probe.talk import FIRST, SECOND, Talk
from hpcrun.errors import StoreError
from hpcrun.layout import ATTEMPT_VARIABLE, FILES_VARIABLE
from hpcrun.store.settings import change_setting, read_settings
from hpcrun.workflow.honoured import findings
from tests.commands import hpcrun, told
from tests.lab import eventually
from tests.metrics_job import interpreter


def start(sdk: Path, files: Path, rank: int, world: int = 2, python: str = sys.executable) -> Any:
    """A task of the probe's job."""
    (files / "outputs").mkdir(parents=True, exist_ok=True)
    env = {
        FILES_VARIABLE: str(files),
        ATTEMPT_VARIABLE: "1.0",
        "RANK": str(rank),
        "WORLD_SIZE": str(world),
    }
    return subprocess.Popen([python, "-I", "-S", str(sdk), "probe"], env=env)


def outcome(files: Path) -> Any:
    return json.loads((files / sides.OUTCOME).read_text())


def left(files: Path) -> list[str]:
    return [name for name in os.listdir(files) if name != "outputs"]


# -- the two sides --------------------------------------------------------------------------------


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory, as there is much fsync."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def seen(sdk: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What two tasks and an idle third find out about this machine's disk."""
    files = tmp_path_factory.mktemp("probe") / "files"
    tasks = [start(sdk, files, rank, 3) for rank in (1, 0, 2)]
    assert [task.wait(180) for task in tasks] == [0, 0, 0]
    assert left(files) == []
    return outcome(files)


def test_a_disk_of_this_machine_honours_all_of_it(seen: Any) -> None:
    assert seen["errors"] == {} and "silence" not in seen
    assert seen["hosts"] == [os.uname().nodename] * 2
    assert seen["locks"] == {"flock": "excludes", "fcntl": "excludes"}
    assert set(seen["visible_after"]) == {
        *("created", "listed", "renamed", "linked", "replaced"),
        *("synced", "appended", "removed", "unlisted"),
    }
    assert all(0 <= delay < 20 for delay in seen["visible_after"].values())
    for one in seen["one_winner"].values():
        assert (one["both"], one["nobody"], one["error"]) == (0, 0, "")
        assert one["first"] + one["second"] == one["rounds"] == 20
    for reads in seen["whole"].values():
        assert (reads["torn"], reads["missing"], reads["errors"], reads["error"]) == (0, 0, 0, "")
        assert reads["whole"] > 0
    assert seen["names"] == {"case_matters": True, "longest_name": 255}
    assert (seen["holes"], seen["times"]["unit"]) == (True, "ns")
    assert seen["clock"]["least"] <= 0.001 and seen["clock"]["most"] >= -0.001
    assert seen["space"]["bytes_free"] <= seen["space"]["bytes"]
    assert set(seen["latency"]) == {"create", "write and fsync", "rename"}
    assert set(seen["looks"]["looks"]) == {"list", "stat"}
    (mount, same) = seen["file_system"]
    assert mount == same and mount["kind"]


def test_one_process_takes_both_sides_on_an_old_python(sdk: Path, folder: Path) -> None:
    python = interpreter("3.8")
    if python is None:
        pytest.skip("there is no Python 3.8 here")
    assert start(sdk, folder, 0, 1, python).wait(180) == 0
    seen = outcome(folder)
    assert (seen["errors"], left(folder)) == ({}, [])
    assert len(seen["hosts"]) == 2 and seen["locks"]["fcntl"] == "excludes"


def test_a_second_node_that_never_comes_is_a_finding(folder: Path) -> None:
    seen = sides.first(Talk(str(folder / "talk"), FIRST, patience=0.3), limit=0.3)
    assert "the second side was silent for 0.3 s" in seen["silence"]
    assert seen["names"]["longest_name"] == 255
    grades = {finding.subject: finding.grade for finding in findings(seen)}
    assert grades["nodes"] == "error"


@pytest.mark.parametrize("step", ["visible_after-listed", "locks-fcntl"])
def test_a_second_node_that_is_killed_is_a_finding(folder: Path, step: str) -> None:
    """In the middle of a step, from which it never answers."""
    talk = str(folder / "talk")
    code = (
        "import os, signal, sys\n"
        "from hpcrun.agent.probe import sides\n"
        "from hpcrun.agent.probe.talk import Talk\n"
        f"step = sides.STEPS[{step!r}]\n"
        "die = lambda talk, limit: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"sides.STEPS[{step!r}] = step._replace(second=die)\n"
        "print('ready', flush=True)\n"
        "sides.second(Talk(sys.argv[1], 'second', 60.0), 60.0)\n"
    )
    words = [sys.executable, "-c", code, talk]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as second:
        assert second.stdout is not None and second.stdout.readline() == "ready\n"
        seen = sides.first(Talk(talk, FIRST, patience=4.0), limit=4.0)
    assert second.returncode == -signal.SIGKILL
    assert "the second side was silent for 4 s" in seen["silence"]
    assert seen["visible_after"]["created"] < 4


def test_a_first_node_that_is_killed_is_not_waited_for(folder: Path) -> None:
    talk = Talk(str(folder / "talk"), FIRST, patience=60)
    Path(talk.folder).mkdir()
    talk.send("hello", ["n1", {}])
    began = time.monotonic()
    sides.second(Talk(talk.folder, SECOND, patience=0.3), limit=0.3)
    assert 0.3 <= time.monotonic() - began < 60


def test_who_fails_in_a_step_takes_part_in_the_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    here, there = list(sides.STEPS)[2:4]
    monkeypatch.setitem(sides.STEPS, here, sides.STEPS[here]._replace(first=fail))
    monkeypatch.setitem(sides.STEPS, there, sides.STEPS[there]._replace(second=fail))
    talk = str(folder / "talk")
    second = os.fork()
    if not second:
        try:
            sides.second(Talk(talk, SECOND, 60), 60)
        finally:
            os._exit(0)
    seen = sides.first(Talk(talk, FIRST, 60), limit=60)
    os.waitpid(second, 0)
    assert seen["errors"] == {
        here: "EIO, Input/output error",
        there: "on the second side: EIO, Input/output error",
    }
    assert "silence" not in seen and seen["locks"]["flock"] == "excludes"


def test_messages_are_heard_by_either_way(folder: Path) -> None:
    """A file system may be slow to show new names, or what was appended."""
    first, second = (Talk(str(folder), own, patience=0.2) for own in (FIRST, SECOND))
    first.send("name", 1)
    (folder / "first.log").unlink()
    assert second.hear("name") == 1
    first.send("line", 2)
    (folder / "first.0-line").unlink()
    assert second.hear("line") == 2
    with (folder / "first.log").open("a") as log:
        log.write('["0-torn", "x')
    assert second.heard_by_now("torn") is None


# -- what is looked at ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("here", "there", "after", "worth"),
    [
        ("refused", "refused", "got", "excludes"),
        ("refused", "got", "got", "one host only"),
        ("got", "got", "got", "nobody"),
        ("refused", "refused", "refused", "stuck"),
        ("refused", "late", "late", "late"),
        ("refused", "ENOLCK, No locks available", "got", "ENOLCK, No locks available"),
    ],
)
def test_what_a_lock_is_worth(here: str, there: str, after: str, worth: str) -> None:
    assert locks.worth(here, there, after) == worth


def test_a_lock_that_never_answers_is_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE", 0.2)
    path = tmp_path / "lock"
    path.touch()
    holder = locks.Holder(str(path), lambda descriptor: time.sleep(60))
    assert holder.answer == "late"
    holder.release()


MOUNTS = """\
22 1 0:21 / / rw,relatime shared:1 - ext4 /dev/vda rw
36 22 0:34 / /data rw,noatime - nfs4 server:/x rw,vers=4.2,acregmax=60
37 22 0:35 / /data/my\\040lab rw - fuse.sshfs alice@h:/y rw
38 22 0:36 / /database rw - tmpfs tmpfs rw
39 36 0:37 / /data rw - lustre mgs:/fs rw,flock
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/x", "ext4"),
        ("/data/run", "lustre"),
        ("/data", "lustre"),
        ("/data/my lab/x", "fuse.sshfs"),
        ("/database", "tmpfs"),
    ],
)
def test_the_mount_that_a_path_belongs_to(path: str, kind: str) -> None:
    assert measures.mounted(MOUNTS, path)["kind"] == kind


# -- what it means --------------------------------------------------------------------------------


def clean(seen: Any) -> Any:
    """A deep copy, as of two nodes."""
    return {**json.loads(json.dumps(seen)), "hosts": ["n1", "n2"]}


def grades(seen: Any) -> dict[str, str]:
    found = findings(seen)
    assert all(finding.message for finding in found)
    return {finding.subject: finding.grade for finding in found if finding.grade != "ok"}


def test_what_two_nodes_honour_is_well(seen: Any) -> None:
    seen = clean(seen)
    seen["space"] |= {"bytes_free": 1 << 40, "inodes_free": 1 << 20}
    seen["latency"] = {"create": 0.001}
    seen["looks"] = {"looks": {"list": 0.001, "stat": 0.001}}
    assert grades(seen) == {}


Spoil = Callable[[Any], object]


@pytest.mark.parametrize(
    ("spoil", "subject", "grade", "words"),
    [
        (lambda s: s.update(hosts=["n1", "n1"]), "nodes", "warning", "n1 alone"),
        (lambda s: s.update(silence="nothing"), "nodes", "error", "n1 and n2 did not hear"),
        (lambda s: s["file_system"][1].update(options="noac"), "mounts", "warning", "not mounted"),
        (lambda s: s["visible_after"].update(listed=None), "unseen", "error", "listed: not seen"),
        (lambda s: s["visible_after"].update(appended=None), "unsynced", "ok", "hpcrun syncs"),
        (lambda s: s["one_winner"]["link"].update(both=3), "link", "error", "both run"),
        (lambda s: s["one_winner"]["mkdir"].update(nobody=1), "mkdir", "warning", "1 of 20"),
        (lambda s: s["one_winner"]["link"].update(error="EPERM"), "link", "warning", "renames"),
        (lambda s: s["whole"]["rename"].update(torn=2), "publish by rename", "error", "a part"),
        (
            lambda s: s["whole"]["replace"].update(missing=2),
            "publish by replace",
            "warning",
            "no file",
        ),
        (lambda s: s["locks"].update(flock="one host only"), "flock", "warning", "repeat work"),
        (lambda s: s["locks"].update(fcntl="ENOLCK"), "fcntl", "warning", "do not work: ENOLCK"),
        (lambda s: s["latency"].update(create=0.2), "speed", "warning", "200.0 ms"),
        (lambda s: s["space"].update(bytes_free=5), "space", "warning", "0.0 GiB"),
        (lambda s: s["space"].update(inodes_free=12), "space", "warning", "12 inodes"),
        (lambda s: s["names"].update(case_matters=False), "names", "warning", "case alone"),
        (lambda s: s["names"].update(longest_name=143), "names", "warning", "143 bytes"),
        (lambda s: s.update(holes=False), "holes", "ok", "as it is long"),
        (lambda s: s["times"].update(unit="s"), "file times", "ok", "kept to s"),
        (lambda s: s["clock"].update(least=30, most=31), "clocks", "warning", "30.5 s ahead of"),
        (lambda s: s["clock"].update(least=-70, most=70), "clocks", "ok", "± 70.0 s"),
        (lambda s: s.update(errors={"holes": "EIO"}), "holes", "warning", "EIO"),
    ],
)
def test_what_is_not_honoured_is_told(
    seen: Any, spoil: Spoil, subject: str, grade: str, words: str
) -> None:
    seen = clean(seen)
    spoil(seen)
    found = [f for f in findings(seen) if f.subject == subject and words in f.message]
    assert [finding.grade for finding in found] == [grade], findings(seen)


# -- workspace.json -------------------------------------------------------------------------------


def test_a_setting_is_changed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "workspace.json"
    path.write_text('{"format": 1, "policy": {"group": "lab"}, "seen": 1}')
    path.chmod(0o664)
    change_setting(tmp_path, "seen", {"hosts": ["ä"]})
    assert read_settings(tmp_path) == {
        "format": 1,
        "policy": {"group": "lab"},
        "seen": {"hosts": ["ä"]},
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o664
    assert os.listdir(tmp_path) == ["workspace.json"]


@pytest.mark.parametrize("text", ["", "[1]", '{"format": 1', None])
def test_settings_that_are_damaged_stay_as_they_are(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "workspace.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(StoreError):
        change_setting(tmp_path, "seen", 1)
    assert (path.read_text() if path.exists() else None) == text


# -- the command ----------------------------------------------------------------------------------


def test_the_command_removes_what_a_killed_one_left_and_leaves_only_what_it_saw(
    project: Path,
) -> None:
    workspace = Path(os.environ["HPCRUN_WORKSPACE"])
    words = [sys.executable, "-m", "hpcrun", "store", "probe"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
        (talk,) = eventually(lambda: [*(workspace / "users").glob("*/files/*/*/.probe-*")])
        client.kill()
    (run,) = told("list")
    before = read_settings(workspace)
    assert "seen" not in before
    told("wait", run["run_id"])
    assert not talk.exists() and talk.parent.exists()
    done = json.loads(hpcrun("store", "probe", "--json").stdout)
    assert told("list") == []
    assert not talk.parent.exists()
    seen = read_settings(workspace)["seen"]
    assert read_settings(workspace) == {**before, "seen": done["seen"]}
    assert (seen["target"], seen["hosts"]) == ("local", [os.uname().nodename] * 2)
    assert seen["date"].endswith("+00:00") and seen["hpcrun"]
    (nodes,) = (found for found in done["findings"] if found["subject"] == "nodes")
    assert nodes["grade"] == "warning" and "nothing is known of other nodes" in nodes["message"]
    assert [path for path in (workspace / "users").rglob("*probe*") if "sdk" not in str(path)] == []
