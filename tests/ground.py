"""A folder in which whole scripts run in bash; its agent only looks at what it is handed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpcrun.config import RunConfiguration
from hpcrun.layout import UserPaths
from hpcrun.plan import Plan
from tests.make_plan import RUN_ID, SITE, plan, shipped, site

AGENT = """\
#!/bin/sh
[ "$4" = run ] || exit 0
cat "/proc/$$/cmdline" > "$HPCRUN_RECORD/words"
cat "/proc/$$/environ" > "$HPCRUN_RECORD/environ"
"""


ECHO = """\
#!/bin/sh
cat "/proc/$$/cmdline" > "$HPCRUN_RECORD/started"
"""


@dataclass(frozen=True)
class Seen:
    """What the agent was handed."""

    words: tuple[str, ...]
    environ: Mapping[str, str]


@dataclass(frozen=True)
class Ground:
    """A folder in which scripts run, with an agent that only looks."""

    root: Path

    def plan(self, config: RunConfiguration, text: str = SITE) -> Plan:
        where = site(text) if text else shipped("local")
        return plan(config, where, workspace=str(self.root), python=str(self.root / "agent"))

    @property
    def path(self) -> str:
        """The PATH of its scripts."""
        return f"{self.root}/bin:/usr/bin:/bin"

    @property
    def record(self) -> Path:
        """The record of the run whose script runs."""
        return Path(UserPaths.of(str(self.root), "ada").run(RUN_ID).record)

    def clear(self) -> None:
        """Makes the record anew, with nothing in it."""
        shutil.rmtree(self.root / "users", ignore_errors=True)
        self.record.mkdir(parents=True)

    def run(self, text: str, **env: str) -> Seen:
        """Runs a script; what its agent was handed."""
        self.clear()
        file = self.root / "script.sh"
        file.write_text(text, encoding="utf-8")
        whole = {"PATH": self.path, "LANG": "C.UTF-8", **env}
        done = subprocess.run(["bash", str(file)], env=whole, capture_output=True, timeout=180)
        assert (done.returncode, done.stderr) == (0, b"")
        return self.seen()

    def seen(self) -> Seen:
        """What the agent has left of what it was handed."""
        pairs = (item.partition("=") for item in split(self.record / "environ"))
        return Seen(split(self.record / "words"), {name: value for name, _, value in pairs})

    def start(self, words: Sequence[str], **env: str) -> tuple[str, ...]:
        """Runs words whose last program is `echo-words`; the words that it was started with."""
        whole = {"PATH": self.path, "HPCRUN_RECORD": str(self.record), **env}
        done = subprocess.run(list(words), env=whole, capture_output=True, timeout=180)
        assert (done.returncode, done.stderr) == (0, b"")
        return split(self.record / "started")


def make_ground(root: Path) -> Ground:
    """Lays the programs that scripts find there; a job has the nodes n1 and n2."""
    (root / "bin").mkdir()
    hosts = "#!/bin/sh\nprintf 'n1\\nn2\\n'\n"
    programs = {"agent": AGENT, "bin/scontrol": hosts, "bin/echo-words": ECHO}
    for name, text in programs.items():
        (root / name).write_text(text)
        (root / name).chmod(0o755)
    return Ground(root)


def split(file: Path) -> tuple[str, ...]:
    """The items of a file that ends each with a NUL."""
    return tuple(os.fsdecode(item) for item in file.read_bytes().split(b"\0")[:-1])
