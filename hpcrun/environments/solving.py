"""Conda's part of an environment: by a tool that is there, else by py-rattler."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcrun.environments.specification import Specification
from hpcrun.errors import BuildError
from hpcrun.faults import told
from hpcrun.progress import waiting

TOOLS = ("micromamba", "mamba", "conda")
RATTLER = "py-rattler"

FILE = "environment.yml"
EXPLICIT = "conda.lock"
"""The address and digest of each package, as `conda create --file` takes them."""

Run = Callable[[str, Sequence[str]], str]
"""(step, words) → what it prints. BuildError."""


def find_tool(environ: Mapping[str, str]) -> tuple[str, str]:
    """(name, path) of what installs conda's packages; of py-rattler without a path. BuildError."""
    search = environ.get("PATH", os.defpath)
    for name in TOOLS:
        told_of = {"micromamba": "MAMBA_EXE", "mamba": "MAMBA_EXE", "conda": "CONDA_EXE"}[name]
        path = shutil.which(name, path=search) or environ.get(told_of, "")
        if path and Path(path).name == name and os.access(path, os.X_OK):
            return name, path
    try:
        import rattler  # noqa: F401 - whether it is there
    except ImportError:
        message = f"there is no {', '.join(TOOLS)} or {RATTLER} here, one of which installs this"
        hint = "load conda's module before you submit, or pip install 'hpcrun-slurm[conda]'"
        raise BuildError(message, hint) from None
    return RATTLER, ""


def words_of(name: str, path: str, file: str, prefix: str) -> tuple[str, ...]:
    """The command by which a tool makes an environment of a file."""
    if name == "micromamba":
        return (path, "create", "--yes", "--quiet", "--always-copy", "-p", prefix, "-f", file)
    return (path, "env", "create", "--quiet", "-p", prefix, "-f", file)


def install(wanted: Specification, prefix: str, run: Run) -> str:
    """Makes conda's part of an environment in a new folder; gives the tool's name. BuildError."""
    name, path = find_tool(os.environ)
    if name == RATTLER:
        _by_rattler(wanted, prefix)
    else:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, FILE)
            with told(f"write {file}"):
                file.write_text(wanted.text)
            run(f"{name} create", words_of(name, path, str(file), prefix))
    with told(f"write the environment {prefix}"):
        Path(prefix, FILE).write_text(wanted.text)
        records = installed(prefix)
        Path(prefix, EXPLICIT).write_text(_explicit(records))
    if not any(each["name"] == "python" for each in records):
        raise BuildError("conda installed no python", "name it among the dependencies")
    return name


def installed(prefix: str) -> list[dict[str, Any]]:
    """What conda installed there, by name: each package's own record. OSError."""
    found = []
    for file in sorted(Path(prefix, "conda-meta").glob("*.json")):
        file.chmod(file.stat().st_mode | 0o444)  # py-rattler's only its owner could read
        found.append(json.loads(file.read_text(encoding="utf-8")))
    return sorted(found, key=lambda each: str(each["name"]))


def _explicit(records: Sequence[Mapping[str, Any]]) -> str:
    lines = [f"{each['url']}#{each.get('md5', '')}" for each in records if each.get("url")]
    return "\n".join(["@EXPLICIT", *lines, ""])


def _by_rattler(wanted: Specification, prefix: str) -> None:
    import asyncio

    import rattler

    channels = [each for each in wanted.channels if each != "nodefaults"] or ["conda-forge"]
    aside = Path(prefix, ".packages")  # links into a cache would let one change others

    async def make() -> None:
        records = await rattler.solve(
            channels, wanted.packages, virtual_packages=rattler.VirtualPackage.detect()
        )
        await rattler.install(records, prefix, cache_dir=aside, show_progress=False)

    try:
        with waiting(f"{RATTLER} installs"):
            asyncio.run(make())
    except Exception as error:  # its own classes have no common one
        said = " / ".join(str(error).split("\n"))
        message = f"{RATTLER} cannot install this: {said[-600:]}"
        raise BuildError(message, "nothing was submitted; mend the dependencies") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
