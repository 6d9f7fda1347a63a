"""Submission under a hostile hand: one sentence, a documented exit code, nothing half-submitted."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from hpcrun.errors import (
    ConfigError,
    PlanError,
    SchedulerError,
    SiteError,
    SnapshotError,
    StoreError,
    TemplateError,
)
from hpcrun.record import decode_page, encode
from hpcrun.workflow.cut import SETTLING
from tests.cluster.hosts import view
from tests.lab import Lab, eventually
from tests.submission import Place

pytestmark = pytest.mark.cluster

HOSTS = ("login", "n1", "n2", "n3", "n4")


def refused(
    place: Place,
    done: subprocess.CompletedProcess[str],
    code: int,
    *said: str,
    problems: int = 1,
) -> None:
    """A sentence for each problem, with these words in all, and nothing half-submitted."""
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert [line[:8] for line in lines] == ["hpcrun: "] * problems, done.stderr
    assert "fault of hpcrun" not in done.stderr
    for words in said:
        assert words in done.stderr
    nothing_is_left(place)


def nothing_is_left(place: Place, known: frozenset[str] = frozenset()) -> None:
    """No run, no part of one and no job but those that are known."""
    assert set(place.leftovers()) == known
    assert set(place.jobs()) <= known


def ends(place: Place, run_id: str) -> Mapping[str, object]:
    """The run once it has ended."""
    found: Mapping[str, object] = eventually(
        lambda: run if (run := place.json("show", run_id))["verdict"] else None
    )
    return found


# -- what is asked, and what it is asked of -----------------------------------------------------


def test_no_sbatch_on_path(place: Place) -> None:
    done = place.run("submit", PATH=str(place.lab.venv / "bin"))
    refused(place, done, SchedulerError.exit_code, "sbatch", "not found on PATH", "Slurm module")
    assert not Path(place.own.root).exists()


def test_a_missing_script(place: Place) -> None:
    (place.source / "train.py").rename(place.source / "tain.py")
    refused(place, place.run("submit"), ConfigError.exit_code, "no script train.py", "run.yaml:1")


def test_no_run_file(place: Place) -> None:
    (place.source / "run.yaml").unlink()
    refused(place, place.run("submit"), ConfigError.exit_code, "run.yaml")


@pytest.mark.parametrize("target", ["test-cluste", "test-cluster/man"])
def test_a_target_with_a_typo(place: Place, target: str) -> None:
    refused(place, place.run("submit", "-t", target), ConfigError.exit_code, "test-cluster")


SITE = """\
schema_version: 1
id: mine
default_target: main
targets:
  main: {partition: main, time: {default: 5m, max: 1h}}
"""


def mine(place: Place, text: str) -> tuple[str, ...]:
    """The words that submit to a site of the project's own."""
    folder = place.source / ".hpcrun" / "site_configs"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.yaml").write_text(text)
    return ("submit", "-t", "mine")


def test_a_site_file_with_a_typo(place: Place) -> None:
    words = mine(place, SITE.replace("partition", "partiton"))
    said = ("mine.yaml:5", "partiton", "partition")
    refused(place, place.run(*words), SiteError.exit_code, *said)
    # A run that was submitted before somebody broke the file is read all the same.
    run_id = place.json(*mine(place, SITE))["run_id"]
    mine(place, "targets: [")
    assert place.json("show", run_id)["run_id"] == run_id
    assert len(place.runs()) == 1
    mine(place, SITE)
    assert ends(place, run_id)["status"] == "Completed"


def test_more_than_the_target_has(place: Place) -> None:
    done = place.run("submit", "--set", "resources.time=48h")
    refused(place, done, PlanError.exit_code, "1-00:00:00")


LOST_FIRST = """\
{% extends "shipped/sbatch.sh.j2" %}
{% block header %}
{% for line in directives[1:] %}
{{ line }}
{% endfor %}
{% endblock %}
"""

LOST_ALL = """\
#!/bin/bash
echo first
{% for line in directives %}
{{ line }}
{% endfor %}
"""


@pytest.mark.parametrize("text", [LOST_FIRST, LOST_ALL], ids=["left-out", "behind-a-command"])
def test_a_template_that_loses_directives(place: Place, text: str) -> None:
    folder = place.source / ".hpcrun" / "templates"
    folder.mkdir(parents=True)
    (folder / "sbatch.sh.j2").write_text(text)
    done = place.run("submit")
    lost = 1 if text == LOST_FIRST else done.stderr.count("#SBATCH")
    refused(place, done, TemplateError.exit_code, "loses '#SBATCH --job-name", problems=lost)
    assert (lost > 3) is (text == LOST_ALL)


def test_a_source_that_cannot_be_read(place: Place) -> None:
    (place.source / "secret.py").write_text("")
    (place.source / "secret.py").chmod(0)
    done = place.run("submit")
    assert done.returncode == SnapshotError.exit_code
    assert done.stderr.startswith("hpcrun: ") and "secret.py cannot be read" in done.stderr
    nothing_is_left(place)


def test_a_folder_that_is_gone(place: Place) -> None:
    words = ["bash", "-c", 'mkdir gone; cd gone; rmdir ../gone; exec "$@"', "bash"]
    environ = place.environment()
    done = place.lab.cluster.run(
        "alice", [*words, *place.words("submit")], cwd=place.source, env=environ
    )
    refused(place, done, ConfigError.exit_code, "the current folder is gone")


# -- the scheduler ------------------------------------------------------------------------------


def test_a_refusal_is_kept_and_stands(place: Place) -> None:
    done = place.run(*mine(place, SITE.replace("partition: main", "partition: none")))
    assert done.returncode == SchedulerError.exit_code
    assert "invalid partition specified: none" in done.stderr
    ((run_id, run),) = place.runs().items()
    assert (run["status"], run["verdict"]["cause"]) == ("Failed", "submit_failed")
    assert "invalid partition specified: none" in run["verdict"]["sentence"]
    assert place.jobs() == {}
    # Who was told that there is no job can rely on it.
    assert "duplicate" in place.sbatch(run_id, "--partition=main")
    assert place.ran(run_id) == []


SLOW = SITE + "scheduler: {poll: {interval_seconds: 600}}\n"


def test_a_poll_that_is_seldom_hides_neither_a_new_job_nor_a_cancel(place: Place) -> None:
    """Where a site wants to be asked seldom, what this user changed is asked anew at once."""
    words = mine(place, SLOW)
    first = place.json(*words, "--set", "sbatch={hold: null}")["run_id"]
    assert place.json("show", first)["status"] == "Queued"
    second = place.json(*words, "--set", "sbatch={hold: null}")["run_id"]
    scontrol = place.script("scontrol", "echo 'the controller was asked for one job' >&2; exit 1\n")
    asked = json.loads(place.run("show", "--json", second, bin=scontrol).stdout)
    assert (asked["status"], asked["problems"]) == ("Queued", [])
    for run_id in (first, second):
        assert place.run("cancel", run_id).returncode == 0
        assert place.json("show", run_id)["status"] == "Canceled"


def test_an_error_after_the_job_was_taken(place: Place) -> None:
    """The client fails, the job is found by its name: it is not submitted again."""
    said = "echo 'sbatch: error: Batch job submission failed: Socket timed out' >&2; exit 1\n"
    sbatch = place.script("sbatch", f'/usr/bin/sbatch "$@" >/dev/null; {said}')
    done = place.run("submit", bin=sbatch)
    assert done.returncode == 0, done.stderr
    ((run_id, run),) = place.runs().items()
    assert place.jobs() == {run_id: [run["job_id"]]}
    assert ends(place, run_id)["status"] == "Completed"


LATE = """\
(
    for _ in {1..3000}; do [ -e "${0%/*}/../go" ] && break; sleep 0.1; done
    exec /usr/bin/sbatch "$@"
) >/dev/null 2>&1 &
echo odd >&2
exit 1
"""


@pytest.mark.parametrize("wrapper", [LATE, "echo odd >&2; exit 1\n"], ids=["a-job", "no-job"])
def test_an_outcome_that_nobody_knows(place: Place, wrapper: str) -> None:
    done = place.run("submit", bin=place.script("sbatch", wrapper))
    assert done.returncode == SchedulerError.exit_code
    (line,) = done.stderr.splitlines()
    assert "odd" in line and "is not known yet" in line and "do not submit it a second" in line
    ((run_id, run),) = place.runs().items()
    assert (run["status"], run["job_id"]) == ("NotStarted", None)
    assert "not known yet" in run["problems"][0]
    if wrapper == LATE:
        (place.source / "go").touch()
        assert ends(place, run_id)["status"] == "Completed"
        assert len(place.jobs()[run_id]) == 1
        return
    an_age_ago(place, run_id, "submit_unknown", SETTLING + 1)
    run = place.runs()[run_id]
    assert (run["status"], run["verdict"]["cause"]) == ("Failed", "submit_failed")
    assert "duplicate" in place.sbatch(run_id)
    assert place.ran(run_id) == []


def an_age_ago(place: Place, run_id: str, kind: str, seconds: float) -> None:
    """Sets the time of a fact back, as if it had been told so many seconds earlier."""
    for path in (place.active / run_id).glob("client-*.jsonl"):
        facts = decode_page(path.read_bytes()).facts
        if kind in [fact.kind for fact in facts]:
            path.write_bytes(b"".join(encode(f._replace(time=f.time - seconds)) for f in facts))


def test_a_submission_that_goes_on_is_left_alone(place: Place) -> None:
    """Who looks at the run meanwhile takes nothing from it."""
    client = place.start("submit")
    while not place.names() and client.poll() is None:
        time.sleep(0.001)
    client.send_signal(signal.SIGSTOP)
    ((run_id, run),) = place.runs().items()
    client.send_signal(signal.SIGCONT)
    _, error = client.communicate()
    assert client.returncode == 0, error
    assert run["verdict"] is None or run["job_id"]
    assert ends(place, run_id)["status"] == "Completed"
    assert place.ran(run_id)[0] == "begun"


# -- the workspace ------------------------------------------------------------------------------


def uid(user: str, lab: Lab) -> int:
    return lab.cluster.home(user).stat().st_uid


def test_a_folder_of_the_users_name_that_is_anothers(place: Place) -> None:
    """The run lies beside it, and nobody takes what lies in it for the user's."""
    alice = uid("alice", place.lab)
    folder = Path(place.own.root)
    (folder / "active" / f"{place.experiment}_1700000000_0123abcd").mkdir(parents=True)
    folder.parent.chmod(0o1777)
    folder.chmod(0o777)
    os.chown(folder, uid("bob", place.lab), -1)
    done = place.run("submit", "--follow")
    assert done.returncode == 0, (done.stdout, done.stderr)
    ((run_id, run),) = place.runs().items()
    assert run["user"] == f"alice-{alice}"
    record = Path(run["record"])
    assert record.is_relative_to(folder.with_name(f"alice-{alice}"))
    assert record.stat().st_uid == alice
    assert place.ran(run_id) == ["begun", *["logged"] * 3]
    assert [path.name for path in folder.iterdir()] == ["active"]


def test_a_workspace_of_another_user(place: Place) -> None:
    os.chown(place.workspace, uid("bob", place.lab), -1)
    place.workspace.chmod(0o755)
    done = place.run("submit")
    refused(place, done, StoreError.exit_code, "Permission denied", "another workspace")
    assert list(place.workspace.iterdir()) == []


def test_a_workspace_that_is_a_file(place: Place) -> None:
    done = place.run("-w", str(place.source / "train.py"), "submit")
    refused(place, done, StoreError.exit_code, "train.py", "a file stands")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 999}'])
def test_a_workspace_that_is_damaged(place: Place, text: str) -> None:
    (place.workspace / "users").mkdir()
    (place.workspace / "workspace.json").write_text(text)
    refused(place, place.run("submit"), StoreError.exit_code, str(place.workspace))


@contextlib.contextmanager
def mounted(lab: Lab, hosts: tuple[str, ...], folder: Path, *ways: list[str]) -> Iterator[None]:
    """A file system on hosts of the cluster. ways: the words of each `mount`, without folder."""
    done: list[str] = []
    try:
        for host in hosts:
            for way in ways:
                words = ["mount", *way, str(folder)]
                mount = lab.cluster.run("root", words, node=host)
                assert mount.returncode == 0, mount.stderr
                done.append(host)
        yield
    finally:
        for host in done:
            lab.cluster.run("root", ["umount", "-l", str(folder)], node=host)


def test_a_history_root_that_is_read_only(place: Place) -> None:
    first = place.json("submit")["run_id"]
    ends(place, first)
    later = place.script("sbatch", 'exec /usr/bin/sbatch --begin=now+1hour "$@"')
    waiting = json.loads(place.run("submit", "--json", bin=later).stdout)
    ways = (["--bind", str(place.workspace)], ["-o", "remount,ro,bind"])
    with mounted(place.lab, ("login",), place.workspace, *ways):
        done = place.run("submit")
        assert place.json("show", first)["status"] == "Completed"
        assert place.lab.cluster.run("alice", ["scancel", waiting["job_id"]]).returncode == 0
        # What the scheduler says is told, although it cannot be written down.
        ended = ends(place, waiting["run_id"])
    assert ended["status"] == "Canceled"
    assert "not written down" in ended["problems"][0]
    assert ends(place, waiting["run_id"])["problems"] == []
    assert done.returncode == StoreError.exit_code
    (line,) = done.stderr.splitlines()
    assert "Read-only file system" in line and "choose another workspace" in line
    nothing_is_left(place, frozenset((first, waiting["run_id"])))


def test_a_read_only_folder_of_an_ordinary_user(place: Place) -> None:
    first = place.json("submit")["run_id"]
    ends(place, first)
    place.active.chmod(0o555)
    try:
        done = place.run("submit")
        runs = place.runs()
    finally:
        place.active.chmod(0o755)
    assert done.returncode == StoreError.exit_code
    assert "Permission denied" in done.stderr and done.stderr.count("\n") == 1
    assert list(runs) == [first]
    nothing_is_left(place, frozenset((first,)))


def test_a_cut_submission_in_a_history_that_is_read_only(place: Place) -> None:
    """Whether there is a job cannot be made sure of, and the run is shown."""
    place.run("submit", bin=place.script("sbatch", "kill -9 $PPID\n"))
    ways = (["--bind", str(place.workspace)], ["-o", "remount,ro,bind"])
    with mounted(place.lab, ("login",), place.workspace, *ways):
        ((run_id, run),) = place.runs().items()
    assert run["status"] == "NotStarted"
    assert "Read-only file system" in run["problems"][0]
    assert place.runs()[run_id]["verdict"]["cause"] == "submit_failed"


def test_output_that_cannot_be_written(place: Place) -> None:
    words = ["bash", "-c", 'exec "$@" >/dev/full', "bash", *place.words("submit")]
    done = place.lab.cluster.run("alice", words, cwd=place.source, env=place.environment())
    assert done.returncode == 1
    assert done.stderr.startswith("hpcrun: cannot write the output: No space left on device")
    ((run_id, run),) = place.runs().items()
    assert place.jobs() == {run_id: [run["job_id"]]}


# -- a full disk --------------------------------------------------------------------------------

PAGE, DISK = 4096, 8 << 20

STAGES = {
    "cannot prepare the workspace": "workspace",
    "cannot publish hpcrun's in-job part": "in-job part",
    "cannot copy": "snapshot",
    "cannot make the store of snapshots": "snapshot",
    "cannot write the snapshot": "snapshot",
    "cannot write the record of run": "intent",
    "cannot write to the record": "submitting",
}


def leave_room(disk: Path, pages: int) -> None:
    """Fills a tmpfs up to so many pages."""
    assert os.statvfs(disk).f_blocks == DISK // PAGE, "the small disk is not mounted"
    with (disk / "filler").open("ab") as filler:
        os.truncate(filler.fileno(), 0)
        room = os.statvfs(disk).f_bavail - pages
        assert room > 0
        os.posix_fallocate(filler.fileno(), 0, room * PAGE)


def test_a_disk_that_is_full_at_each_stage(place: Place) -> None:
    """Page by page more room, until a submission succeeds."""
    seen = set()
    way = ["-t", "tmpfs", "-o", f"size={DISK},mode=777", "none"]
    with mounted(place.lab, ("login",), place.workspace, way):
        disk = view(place.lab.cluster.layout, "login", place.workspace)
        on_disk = replace(place, seen=disk)
        for pages in (0, 1, 20):
            seen.add(submit_into(on_disk, pages))
        (disk / "filler").unlink()
        # What runs takes pages of its own, so it ends before they are counted.
        ends(place, place.json("submit", "-t", "local")["run_id"])
        for pages in range(40):
            (place.source / "seed.py").write_text(f"{pages}\n")
            stage = submit_into(on_disk, pages)
            seen.add(stage)
            if stage == "submitted":
                break
        (disk / "filler").unlink()
        for run_id in on_disk.names():
            assert ends(place, run_id)["status"] in ("Completed", "Failed")
        assert place.run("submit", "-t", "local").returncode == 0
        eventually(lambda: all(run["verdict"] for run in place.runs().values()))
    assert seen >= {"workspace", "in-job part", "snapshot", "intent", "submitting", "submitted"}


def submit_into(place: Place, pages: int) -> str:
    """Submits with so much room; the stage that failed, or `submitted`."""
    before = frozenset(place.leftovers())
    leave_room(place.seen, pages)
    done = place.run("submit", "-t", "local")
    if done.returncode == 0:
        return "submitted"
    assert done.returncode == StoreError.exit_code, (done.returncode, done.stderr)
    (line,) = done.stderr.splitlines()
    assert "No space left on device" in line
    if "is submitted as job" in line:
        return "submitted, not written down"
    assert "the file system is full" in line
    nothing_is_left(place, before)
    return next(stage for said, stage in STAGES.items() if said in line)


FILL = """\
id=$(/usr/bin/sbatch --hold "$@")
dd if=/dev/zero of={workspace}/filler bs=1k count=16384 2>/dev/null
echo "$id"
"""


def test_a_disk_that_is_full_once_the_job_is_submitted(place: Place, tmp_path: Path) -> None:
    """The job tells its own id when it starts; before, the scheduler does."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(12 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-b", "1024", "-m", "0", str(image)], check=True)
    words = ["losetup", "--find", "--show", str(image)]
    loop = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    try:
        with mounted(place.lab, HOSTS, place.workspace, [loop]):
            root = ["chown", "alice", str(place.workspace)]
            assert place.lab.cluster.run("root", root).returncode == 0
            submitted_and_full(place)
    finally:
        subprocess.run(["losetup", "--detach", loop], check=True)


def submitted_and_full(place: Place) -> None:
    fill = place.script("sbatch", FILL.format(workspace=place.workspace))
    done = place.run("submit", bin=fill)
    assert done.returncode == StoreError.exit_code, (done.stdout, done.stderr)
    (line,) = done.stderr.splitlines()
    assert "is submitted as job" in line and "do not submit it again" in line
    ((run_id, numbers),) = place.jobs().items()
    assert f"run {run_id} is submitted as job {numbers[0]}, which could not be written" in line
    full = place.json("show", run_id)
    assert (full["status"], [full["job_id"]]) == ("Queued", numbers)
    assert "No space left on device" in full["problems"][0]
    words = ["rm", f"{place.workspace}/filler"]
    assert place.lab.cluster.run("alice", words).returncode == 0
    release = ["scontrol", "release", numbers[0]]
    assert place.lab.cluster.run("alice", release).returncode == 0
    ended = ends(place, run_id)
    assert (ended["status"], [ended["job_id"]]) == ("Completed", numbers)
    assert place.ran(run_id) == ["begun", *["logged"] * 3]
