"""The data that a run names: where it lies, and whether it is there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcrun.assets import Assets
from hpcrun.config import DataInput, DataOutput, RunConfiguration
from hpcrun.config.runfile import is_relative
from hpcrun.errors import ConfigError, Problem
from hpcrun.reading import Finding, Read, nearest
from hpcrun.site import SiteConfig

SETTINGS = "config.json"
"""The settings of a project or a user; `data` there names folders."""


def with_data(
    asked: Read[RunConfiguration], site: SiteConfig, assets: Assets, workspace: Path, folder: Path
) -> Read[RunConfiguration]:
    """The same with whole paths of inputs and outputs; what is not there, or closed, is told.

    folder: what relative paths are relative to. ConfigError: settings that are malformed.
    """
    config = asked.value.copy()
    if not config.inputs and not config.outputs:
        return asked
    known = known_data(site, assets, workspace)
    findings: list[Finding] = []
    for section, data in (("inputs", config.inputs), ("outputs", config.outputs)):
        for name, given in (data or {}).items():
            key = f"{section}.{name}"
            path = given if isinstance(given, str) else given.path
            found = _path(path, known, folder)
            if isinstance(found, str):
                _put(data, name, given, found)
                wrong = _of_output(found) if section == "outputs" else _of_input(found, given)
                findings += [Finding(key, message, hint) for message, hint in wrong]
            elif path:
                findings.append(Finding(key, found.message, found.hint))
    findings += _of_ends(config.outputs or {})
    return replace(asked, value=config).with_findings(findings)


def _of_ends(outputs: Mapping[str, DataOutput | str]) -> Iterator[Finding]:
    """Files of one name replace each other, where two outputs are copied to one folder."""
    ends: dict[str, str] = {}
    told = {n: DataOutput(each) if isinstance(each, str) else each for n, each in outputs.items()}
    for name, output in told.items():
        end = output.path.replace("{output-name}", name)
        other = ends.setdefault(end, name)
        if other != name and "stage" in (output.mode, told[other].mode):
            message = f"outputs {other} and {name} end in one folder, {end}"
            yield Finding(f"outputs.{name}", message, "give each its own", (f"outputs.{other}",))


def known_data(site: SiteConfig, assets: Assets, workspace: Path) -> Mapping[str, str]:
    """The folders that have names; the project's count most, then the user's, the workspace's and
    the site's."""
    from hpcrun.store.settings import NAME

    found = dict(site.storage.data)
    files = [folder / SETTINGS for folder in reversed(assets.folders)]
    for file in (workspace / NAME, *files):
        found.update(_named_in(file))
    return found


def _named_in(file: Path) -> Mapping[str, str]:
    import json

    try:
        told: Any = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(Problem(f"cannot be read: {error}", "", str(file))) from error
    data = told.get("data", {}) if isinstance(told, dict) else {}
    if not isinstance(data, dict) or not all(
        isinstance(path, str) and path.startswith("/") for path in data.values()
    ):
        hint = '{"data": {"imagenet": "/shared/data/imagenet"}}'
        raise ConfigError(Problem("`data` must give names to whole paths", hint, str(file)))
    return data


def _path(path: str, known: Mapping[str, str], folder: Path) -> str | Problem:
    """The whole path; or why there is none."""
    if path.startswith(("/", "~")) or is_relative(path):
        try:
            return os.path.normpath((folder / Path(path).expanduser()).absolute())
        except RuntimeError:
            return Problem(f"there is no home folder {path.split('/')[0]}")
    name, _, below = path.partition("/")
    if name in known:
        return os.path.normpath(Path(known[name]) / below)
    hint = nearest(name, known) or "`data` in the site file, or a path that begins with / or ./"
    return Problem(f"no data has the name {name!r}", hint)


def _put(data: Any, name: str, given: DataInput | DataOutput | str, path: str) -> None:
    data[name] = path if isinstance(given, str) else replace(given, path=path)


def _of_input(path: str, given: DataInput | DataOutput | str) -> Iterator[tuple[str, str]]:
    try:
        Path(path).stat()
    except OSError as error:
        yield f"{path}: {error.strerror}", "the nodes must see it as this machine does"
        return
    is_folder = Path(path).is_dir()
    if not os.access(path, os.R_OK | (os.X_OK if is_folder else 0)):
        yield f"{path} cannot be read", "its owner may: chmod g+rX"
    elif is_folder and isinstance(given, DataInput) and given.mode == "unpack":
        yield f"{path} is a folder, and nothing to unpack", "mode: stage"


def _of_output(path: str) -> Iterator[tuple[str, str]]:
    """The folder is made by the job; what is above it must let it."""
    above = Path(path)
    while not os.path.lexists(above) and above != above.parent:
        above = above.parent
    if not above.is_dir():
        yield f"{above} is no folder", ""
    elif not os.access(above, os.W_OK | os.X_OK):
        yield f"{above} cannot be written", "choose another folder"
