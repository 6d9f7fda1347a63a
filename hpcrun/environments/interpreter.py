"""The Python that packages are installed for: found here, and asked once what it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

from hpcrun.errors import ConfigError, Problem

_ASK = """\
import json, os, sys, sysconfig
version = "%d.%d" % sys.version_info[:2]
prefix = os.path.realpath(sys.base_prefix)
print(json.dumps([sys.implementation.name, version, sysconfig.get_platform(), prefix]))
"""


class Interpreter(NamedTuple):
    """path: its real path, outside of any virtual environment. version: such as 3.11. platform:
    such as linux-x86_64. prefix: where its library lies."""

    path: str
    implementation: str
    version: str
    platform: str
    prefix: str


def find_interpreter(
    path: str | None, version: str | None, search: str, cache: Path
) -> Interpreter:
    """The interpreter of a path, of a name or a version on the PATH, or the one that runs hpcrun:
    that one the nodes have for the agent.

    cache: the file in which answers are kept, as long as the interpreter is the same file.
    ConfigError: there is none.
    """
    own = _own()
    if path is None and version in (None, own.version):
        return own
    name = path or f"python{version}"
    found = shutil.which(name, path=search)
    if found is None:
        hint = "load its module before you submit, or give python.interpreter_path"
        raise ConfigError(Problem(f"there is no interpreter {name} here", hint))
    real = os.path.realpath(found)
    status = Path(real).stat()
    key = f"{real} {status.st_size} {status.st_mtime_ns}"
    known = _kept(cache)
    if key not in known:
        known[key] = _asked(real)
        if not _is_script(real):  # one of those chooses an interpreter anew each time
            _keep(cache, known)
    return Interpreter(real, *known[key])


def _own() -> Interpreter:
    prefix = os.path.realpath(sys.base_prefix)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    python = (sys.implementation.name, version, sysconfig.get_platform(), prefix)
    return Interpreter(os.path.realpath(sys.executable), *python)


def _asked(path: str) -> list[str]:
    try:
        done = subprocess.run(
            [path, "-I", "-S", "-c", _ASK], capture_output=True, text=True, timeout=60, check=True
        )
        facts = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise ConfigError(Problem(f"{path} is no Python that can be asked: {error}")) from error
    return [str(fact) for fact in facts]


def _is_script(path: str) -> bool:
    with Path(path).open("rb") as file:
        return file.read(2) == b"#!"


def _kept(cache: Path) -> dict[str, list[str]]:
    try:
        known = json.loads(cache.read_text())
    except (OSError, ValueError):
        return {}
    whole = isinstance(known, dict) and all(len(facts) == 4 for facts in known.values())
    return known if whole else {}


def _keep(cache: Path, known: dict[str, list[str]]) -> None:
    aside = cache.with_name(f".{cache.name}.{os.urandom(4).hex()}")
    try:
        cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        aside.write_text(json.dumps(known))
        aside.rename(cache)
    except OSError:
        aside.unlink(missing_ok=True)  # asked again next time
