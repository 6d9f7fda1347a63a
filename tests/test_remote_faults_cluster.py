"""What breaks between a laptop and a cluster while a run is submitted: one job or none, and the
client says which."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.campaign import Figures, seeded, times
from tests.cluster.hosts import view
from tests.far import Far
from tests.lab import eventually
from tests.test_remote_submit_cluster import FILES, RUN_YAML, jobs, new_id

pytestmark = [pytest.mark.cluster, pytest.mark.campaign]

SOON = 'exec /usr/bin/ssh -oServerAliveInterval=1 -oConnectTimeout=4 "$@"\n'
"""ssh that notices within three seconds what it would notice within fifteen."""

ASKED = "it is asked what became of run"
CUT = re.compile(r"(is|was) lost|does not answer|no connection to|refuses|closed|there is no run")


class Submission:
    """A submission of lena's that is cut off at some moment, and what all are told of it."""

    def __init__(self, far: Far, project: Path) -> None:
        self._far, self._project = far, project
        self._env = far.in_front_of_ssh(SOON)
        self._pending = far.laptop.home / ".cache/hpcrun/pending"
        self.run_id = new_id()
        self.code, self.out, self.err, self.said_next = 0, "", "", ""

    def run(self, is_time: Callable[[], bool], fault: str, leaves: bool) -> None:
        """Runs it; when it is time, a fault comes. leaves: who has noticed it is killed."""
        laptop, err = self._far.laptop, self._far.laptop.home / "err"
        words = self._far.words("submit", "--json", "--run-id", self.run_id)
        with (
            err.open("w") as told,
            laptop.popen(words, cwd=self._project, env=self._env, stderr=told) as going,
        ):
            try:
                while going.poll() is None and not is_time():
                    time.sleep(0.001)
                self._break(fault)
                eventually(lambda: going.poll() is not None or ASKED in err.read_text())
                if leaves:
                    going.kill()
                if fault == "link":
                    laptop.link(True)
                self.out, _ = going.communicate(timeout=120)
            finally:
                going.kill()
        self.code, self.err = going.returncode, err.read_text()
        eventually(self._is_settled)

    def _break(self, fault: str) -> None:
        if fault == "link":
            self._far.laptop.link(False)
        elif fault == "login node":
            self._far.laptop.restart_login()
        else:  # a signal to what serves there, or to all of it
            words = ["pkill", f"-{fault}", "-u", "alice", *["-o"] * (fault != "KILL")]
            self._far.lab.cluster.run("alice", [*words, "-f", "hpcrun serve"])

    def is_sent(self) -> bool:
        return self._pending.is_dir() and any(self._pending.glob("*.json"))

    def _is_settled(self) -> bool:
        """Whether nothing is open after the next command."""
        self.said_next += self._far.run("list", "-n", "1").stderr
        return not self.is_sent()

    def check(self) -> str:
        """How it ended."""
        there = jobs(self._far.lab, self.run_id)
        told = (self.code, self.out, self.err, self.said_next, there)
        number = "one" if there else "none"
        assert len(there) <= 1, told
        assert there or self._far.run("show", self.run_id).returncode == 9, told
        if self.code == -9:
            became = f"it has one job, {there[0]}" if there else "there is no run"
            assert f"the submission of {self.run_id} was cut: {became}" in self.said_next, told
            return f"left with {number}"
        assert self.said_next == "", told
        if self.code == 0:
            assert json.loads(self.out)["job_id"] == there[0], told
            return "told of one"
        assert self.code == 6 and not there and CUT.search(self.err.splitlines()[-1]), told
        return "told of none"


FAULTS = ("link", "TERM", "login node", "KILL", "link", "HUP")


def test_a_submission_that_is_cut_off_by_what_lies_between(far: Far, figures: Figures) -> None:
    project = far.project("project", FILES)
    far.laptop.write("project/lib/words.py", f"WORDS = '{os.urandom(8).hex()}'\n")

    def traffic() -> int:
        return far.laptop.sent() + far.laptop.received()

    before, logins = traffic(), far.logins()
    far.ok("submit", cwd=project)
    whole = traffic() - before
    far.ok("submit", cwd=project)
    # Of a site that shares none: the command and rsync; then all of the source is there.
    assert far.logins() == logins + 2 + 1
    ended: Counter[str] = Counter()
    for number, chance in enumerate(seeded("cut off during submit", times(60, 4))):
        far.laptop.write("project/lib/words.py", f"WORDS = '{os.urandom(8).hex()}'\n")
        submission = Submission(far, project)
        last, pause = traffic() + chance.randrange(whole), chance.random()

        def at_a_byte(last: int = last) -> bool:
            return traffic() >= last

        def once_sent(submission: Submission = submission, pause: float = pause) -> bool:
            return submission.is_sent() and time.sleep(pause) is None

        is_time = chance.choice([once_sent, at_a_byte])
        submission.run(is_time, FAULTS[number % len(FAULTS)], leaves=chance.random() < 0.4)
        ended[submission.check()] += 1
    figures.tell("a submission from a laptop is cut off", **ended)


def fill(disk: Path, pages: int) -> None:
    """Fills a tmpfs up to so many pages."""
    with (disk / "filler").open("ab") as filler:
        os.truncate(filler.fileno(), 0)
        room = os.statvfs(disk).f_bavail - pages
        os.posix_fallocate(filler.fileno(), 0, room * 4096)


def test_a_disk_that_is_full_there_during_a_submission(far: Far, figures: Figures) -> None:
    """Pages are left by chance: no room for what is sent, the snapshot, the record, or its end."""
    project = far.project(
        "project", {**FILES, "run.yaml": f"{RUN_YAML}sbatch: {{begin: now+1hour}}\n"}
    )
    ended: Counter[str] = Counter()
    submitted: list[str] = []

    def submit(at: Far, site: str = "far") -> tuple[str, str]:
        """What is wrong, and the id of the run."""
        run_id = new_id()
        done = at.run("submit", "--json", "--run-id", run_id, cwd=project, site=site)
        there = jobs(at.lab, run_id)
        if done.returncode == 0 or "is submitted as job" in done.stderr:
            assert len(there) == 1 and f"{there[0]}" in done.stdout + done.stderr, done
            submitted.extend(there)
            return "", run_id
        (line,) = done.stderr.splitlines()
        assert (done.returncode, there) == (8, []), (line, there)
        assert "No space left on device" in line or " are free in " in line, line
        assert "free space" in line, line
        return line, run_id

    with far.laptop.small_disk(8 << 20) as disk:
        here = view(far.laptop.layout, "login", disk)
        small = dataclasses.replace(
            far, lab=dataclasses.replace(far.lab, workspace=disk / "history")
        )
        far.site("no-tmp", command=f"env TMPDIR={disk} {far.lab.venv}/bin/hpcrun")
        fill(here, 0)
        line, _ = submit(far, "no-tmp")
        assert re.match(f"hpcrun: cannot write {disk}/hpcrun-on-login-\\w+ on login: No sp", line)
        assert not list(here.glob("hpcrun-*"))
        for number, chance in enumerate(seeded("full there", times(40, 3))):
            body = random.Random(number).randbytes(chance.randrange(30_000)).hex()
            far.laptop.write("project/lib/words.py", f"WORDS = {body!r}\n")
            fill(here, chance.randrange(25))
            line, run_id = submit(small)
            ended["refused" if line else "submitted"] += 1
            if line:
                assert not list(here.glob(f"history/users/alice/active/*{run_id}*"))
                assert not list(here.glob("history/users/alice/snapshots/.incoming-*"))
            (here / "filler").unlink()
            if line:
                assert submit(small)[0] == ""
        words = ["scancel", *submitted]
        assert far.lab.cluster.run("alice", words).returncode == 0
    figures.tell("the disk there is full during a submission", **ended)
