"""What conda is to install, read whole before anything is built."""

from __future__ import annotations

import json
import re
import sysconfig
from pathlib import Path
from typing import NamedTuple

from hpcrun.config.conda import CondaDependencies, name_of
from hpcrun.environments.requirements import Requirement, read_requirements
from hpcrun.errors import ConfigError, Problem

_LOGIN = re.compile(r"://[^/\s]*@|/t/[^/\s]+/")


class Specification(NamedTuple):
    """channels: the first counts most; empty: as conda is configured. packages: as conda writes
    them. platform: such as linux-x86_64."""

    channels: tuple[str, ...]
    packages: tuple[str, ...]
    platform: str

    @property
    def text(self) -> str:
        """As an environment.yml, which YAML's JSON is."""
        told = {"channels": self.channels} if self.channels else {}
        return json.dumps({**told, "dependencies": self.packages}, indent=1) + "\n"


def read_specification(
    dependencies: CondaDependencies, version: str | None, default: str
) -> tuple[Specification, list[Requirement]]:
    """What conda installs, and behind it what pip does.

    version: of Python, where it is given beside; default: where nobody says it. ConfigError.
    """
    packages = [" ".join(each.split()) for each in dependencies.conda_packages]
    if not any(name_of(each) == "python" for each in packages):
        packages.insert(0, f"python={version or default}")
    for text in (*packages, *dependencies.channels):
        if _LOGIN.search(text):
            message = "a channel holds a login, which would stand in the run history"
            raise ConfigError(Problem(message, "keep it in conda's own configuration"))
    made = Specification(
        tuple(dict.fromkeys(dependencies.channels)), tuple(packages), sysconfig.get_platform()
    )
    return made, read_requirements(dependencies.pip_lines, None, Path())
