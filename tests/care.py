"""A small history of one user's, made in this process, to be damaged and looked after."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hpcrun.assets import Assets
from hpcrun.layout import INTERACTIVE, Attempt, JournalKind, RunPaths, UserPaths
from hpcrun.manifest import Manifest
from hpcrun.metrics.images import image
from hpcrun.metrics.uploads import upload
from hpcrun.record import Fact, encode
from hpcrun.rights import kept_to
from hpcrun.snapshot import push, scan
from hpcrun.store.sealing import seal
from hpcrun.store.stored import StoredRun
from hpcrun.workflow.care.check import Asked, check
from hpcrun.workflow.care.finding import Finding, Grade
from hpcrun.workflow.care.mend import mend
from hpcrun.workflow.session import Session

DOT = b"GIF87a" + bytes(range(64))
BEGUN = 1_690_000_000
"""When runs begin: in a month that is over."""


class Own(Session):
    """A session whose cache lies beside its workspace."""

    @property
    def cache(self) -> Path:
        return self.workspace.with_name("cache")


class Care:
    """A history, its runs, and what a check says of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.session = Own(root / "history", Assets.of(root, {}))
        self.store = self.session.store
        self.store.prepare()
        self.own = self.store.own

    def source(
        self, text: str = "print(1)\n", room: UserPaths | None = None
    ) -> tuple[Manifest, Path]:
        """A source folder that was pushed. room: default: the one that others may see."""
        room = room or self.own
        folder = self.root / "source"
        folder.mkdir(exist_ok=True)
        (folder / "train.py").write_text(text)
        manifest = scan(folder)
        with kept_to(room.root):
            push(manifest, folder, room)
        return manifest, folder

    def make(self, number: int = 0, source: str = "print(1)\n", **more: Any) -> RunPaths:
        """A run that has ended: a snapshot, an upload, an image, metrics, one file of its own."""
        room = self.store.prepare(private=True) if more.get("private") else self.own
        manifest, _ = self.source(source, room)
        seconds = BEGUN + number
        request = {
            "run_id": f"digits_{seconds}_{number:08x}",
            "experiment": "digits",
            "user": self.store.user,
            "target": INTERACTIVE,
            "created": seconds + 0.25,
            "snapshot": {"digest": manifest.digest},
            "agent": {"spool": "/tmp/none"},
            **more,
        }
        paths = self.store.create(request, "#!/bin/sh\n")
        (self.root / "model").write_text(f"weights {number}")
        uploaded = upload(paths.files, "outputs/model", self.root / "model")
        (self.root / "dot.gif").write_bytes(DOT)
        dot = image("dot", path=self.root / "dot.gif")
        end = {"exit_code": 0, "cause": "completed"}
        told = [
            ("started", {"host": "n1", "nodes": []}),
            ("uploaded", {"files": [list(uploaded)]}),
            ("tags", {"set": {"kind": "baseline"}}),
            ("ended", end),
        ]
        points: list[tuple[str, Any]] = [
            ("metric", {"m": "loss", "v": 1 / (step + 1), "s": step}) for step in range(20)
        ]
        self._write(paths, "agent.jsonl", told, seconds)
        self._write(
            paths, "rank-0.metrics.jsonl", [*points, ("metric", dot.metric("dot"))], seconds
        )
        self._write(paths, "rank-0.artifacts.jsonl", [("artifact", dot.artifact())], seconds)
        Path(paths.logs, "log.txt").write_text("one line\n")
        return paths

    def _write(
        self, paths: RunPaths, name: str, told: list[tuple[str, Any]], seconds: float
    ) -> None:
        facts = [Fact(k, Attempt(1), seconds + n / 8, n, d) for n, (k, d) in enumerate(told, 1)]
        with kept_to(paths.owner.root):
            Path(paths.record, name).write_bytes(b"".join(map(encode, facts)))

    def sealed(self, number: int = 0, **more: Any) -> RunPaths:
        """A run that is sealed; its journals are kept."""
        paths = self.make(number, **more)
        with kept_to(paths.owner.root):
            seal(self.run(paths))
        return paths

    def run(self, paths: RunPaths) -> StoredRun:
        return self.store.stored(paths)

    def findings(self, digests: bool = False) -> list[Finding]:
        return list(check(self.session, Asked(self.store.user), digests))

    def wrong(self, digests: bool = False) -> list[Finding]:
        return [finding for finding in self.findings(digests) if finding.grade is Grade.WRONG]

    def mend(self) -> list[str]:
        """Mends all that can be; what was said."""
        mends = {f.mend: f for f in self.wrong() if f.mend is not None}
        return [mend(self.session, finding) for finding in mends.values()]

    def facts(self, paths: RunPaths) -> set[str]:
        """All that is told of a run."""
        kinds = [self.store.facts(paths, kind)[0] for kind in JournalKind]
        return {repr(fact) for facts in kinds for fact in facts}


def flip(path: Path, place: int | None = None) -> None:
    """Changes one byte; default: the one in the middle."""
    data = bytearray(path.read_bytes())
    place = len(data) // 2 if place is None else place
    data[place] ^= 0x55
    mode = path.stat().st_mode
    path.chmod(0o600)
    path.write_bytes(data)
    path.chmod(mode)


def long_ago(path: Path, days: float = 10) -> None:
    """As if nobody had touched it, or what is in it, for so long."""
    then = time.time() - days * 86400
    for each in (*path.rglob("*"), path):
        os.utime(each, (then, then), follow_symlinks=False)


def hpcrun(care: Care, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """A command. One that waits for a pipe is killed, and fails the test."""
    done = subprocess.run(
        [sys.executable, "-m", "hpcrun", "-w", str(care.session.workspace), *words],
        env={**os.environ, "XDG_CACHE_HOME": str(care.session.cache)},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
    return done
