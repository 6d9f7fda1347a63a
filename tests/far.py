"""hpcrun on the laptop: its commands go to the login node, by a site file."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.laptop import Laptop
from tests.lab import Lab, without_waiting
from tests.terminal import Terminal

SITE = """\
schema_version: 1
id: {name}
ssh:
  endpoints: {{login: {{host: {host}}}}}
  command: {command}
  connect_gap_seconds: {gap}
  {more}
"""


def other_version(lab: Lab, folder: Path, version: str, protocol: int | None = None) -> str:
    """This hpcrun as another version, in a folder for PYTHONPATH that is made anew."""
    (site,) = lab.venv.glob("lib/python3*/site-packages")
    subprocess.run(["rm", "-rf", folder], check=True)
    folder.mkdir()
    subprocess.run(["cp", "-r", *site.glob("hpcrun*"), str(folder)], check=True)
    told = {"__init__.py": (r'__version__ = "[^"]*"', f'__version__ = "{version}"')}
    if protocol is not None:
        told["transport/wire.py"] = (r"PROTOCOL = \d+", f"PROTOCOL = {protocol}")
    for name, (pattern, text) in told.items():
        file = folder / "hpcrun" / name
        new, count = re.subn(pattern, text, file.read_text())
        assert count == 1, name
        file.write_text(new)
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
    return str(folder)


@dataclass(frozen=True)
class Far:
    """hpcrun of lena's on the laptop; `far:` is the workspace of the lab, by a site file."""

    laptop: Laptop
    lab: Lab

    def site(
        self, name: str, host: str = "login", more: str = "", command: str = "", gap: float = 0
    ) -> None:
        command = command or f"{self.lab.venv}/bin/hpcrun"
        text = SITE.format(name=name, host=host, more=more, command=command, gap=gap)
        self.laptop.write(f".config/hpcrun/site_configs/{name}.yaml", text)

    def words(self, *words: str, site: str = "far") -> list[str]:
        return [f"{self.lab.venv}/bin/hpcrun", "-w", f"{site}:{self.lab.workspace}", *words]

    def run(
        self,
        *words: str,
        site: str = "far",
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        variables = {"COLUMNS": "200", **(env or {})}
        done = self.laptop.run(self.words(*words, site=site), cwd=cwd, env=variables)
        return without_waiting(done)

    def ok(self, *words: str, **more: Any) -> str:
        done = self.run(*words, **more)
        assert done.returncode == 0, (words, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def json(self, *words: str, **more: Any) -> Any:
        command, *rest = words
        return json.loads(self.ok(command, "--json", *rest, **more))

    def project(self, name: str, files: Mapping[str, str]) -> Path:
        """A folder of lena's with these files."""
        for relative, text in files.items():
            self.laptop.write(f"{name}/{relative}", text)
        return self.laptop.home / name

    def terminal(self, words: Sequence[str], cwd: Path | None = None) -> Terminal:
        """A command of lena's at a terminal."""
        return Terminal(
            self.lab.cluster.words(
                "lena",
                ["setsid", "-c", *words],
                cwd=cwd,
                env={"TERM": "xterm-256color"},
                node="laptop",
            )
        )

    def in_front_of_ssh(self, script: str) -> dict[str, str]:
        """The variables with which a shell script of lena's is run in place of ssh."""
        self.laptop.write("bin/ssh", f"#!/bin/bash\n{script}").chmod(0o755)
        return {"PATH": f"{self.laptop.home}/bin:/usr/bin:/bin"}

    def logins(self) -> int:
        """How many times somebody has logged in at the login node."""
        return self.laptop.layout.output("sshd").read_text().count("Accepted publickey")

    def served(self) -> str:
        """What serves somebody on the login node."""
        words = ["pgrep", "-u", "alice", "-f", "hpcrun serve"]
        return self.lab.cluster.run("alice", words).stdout
