"""A run's folders and environment without a scheduler, for tests of what a process records."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcrun.layout import JournalKind, journal_kind
from hpcrun.record import Fact, Page, decode_page

PACKAGE = Path(__file__).resolve().parents[1]
RUN_ID = "digits_1700000000_0123abcd"


@dataclass(frozen=True)
class Job:
    """The folders of one run on one node."""

    root: Path

    @property
    def record(self) -> Path:
        return self.root / "record"

    @property
    def spool(self) -> Path:
        return self.root / "spool"

    def make(self) -> Job:
        self.record.mkdir()
        (self.root / "files").mkdir()
        return self

    def environment(self, spool: bool = True, **more: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HPCRUN_", "SLURM_"))}
        return {
            **kept,
            "PYTHONPATH": str(PACKAGE),
            "HPCRUN_RUN_ID": RUN_ID,
            "HPCRUN_EXPERIMENT": "digits",
            "HPCRUN_RECORD": str(self.record),
            "HPCRUN_FILES": str(self.root / "files"),
            "HPCRUN_ATTEMPT": "1.0",
            **({"HPCRUN_SPOOL": str(self.spool)} if spool else {}),
            **more,
        }

    def python(
        self,
        code: str,
        *arguments: object,
        python: str = sys.executable,
        spool: bool = True,
        status: int = 0,
        **more: str,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a script to its end. more: environment variables."""
        result = subprocess.run(
            [python, "-W", "error", "-c", code, *map(str, arguments)],
            env=self.environment(spool, **more),
            cwd=self.root,
            capture_output=True,
            text=True,
        )
        assert result.returncode == status, result.stderr
        return result

    def mirror(self) -> None:
        """What the agent does: the spool's journals are in the record."""
        for path in self.spool.iterdir():
            shutil.copyfile(path, self.record / path.name)

    def facts(self, *folders: Path, kind: JournalKind = JournalKind.METRICS) -> list[Fact]:
        return [fact for page in self.pages(*folders, kind=kind) for fact in page.facts]

    def pages(self, *folders: Path, kind: JournalKind = JournalKind.METRICS) -> Sequence[Page]:
        pages = []
        for folder in folders or (self.record, self.spool):
            for path in sorted(folder.iterdir()) if folder.is_dir() else []:
                named = journal_kind(path.name)
                if named is not None and named[1] is kind:
                    pages.append(decode_page(path.read_bytes(), path.name))
        return pages


VERSIONS = ("", "3.8", "newest")
"""What travels to nodes is tried on this interpreter, the oldest, and the newest that is here."""


def interpreter(version: str) -> str | None:
    """A Python of that version (of `VERSIONS`), from PATH or pyenv; None if none starts."""
    if not version:
        return sys.executable
    if version == "newest":
        found = (interpreter(f"3.{minor}") for minor in range(20, 10, -1))
        return next((python for python in found if python is not None), None)
    candidates = [shutil.which(f"python{version}")]
    if shutil.which("pyenv"):
        found = subprocess.run(
            ["pyenv", "whence", "--path", f"python{version}"], capture_output=True, text=True
        )
        candidates += found.stdout.split()
    for path in filter(None, candidates):
        if subprocess.run([path, "-c", ""], capture_output=True).returncode == 0:
            return path
    return None
