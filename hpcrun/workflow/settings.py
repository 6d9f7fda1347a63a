"""What the settings of a project and of a user name: the workspace, and how Slurm is asked."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, get_args

from hpcrun.assets import Assets
from hpcrun.errors import ConfigError, Problem
from hpcrun.layout import WORKSPACE_VARIABLE

if TYPE_CHECKING:
    from hpcrun.site import Adapter

CONFIG = Path(".hpcrun", "config.json")
"""The project's settings: {"workspace": "<folder>", "scheduler_adapter": "auto"}, each if it is
there, found by an upward search. The user's own have the same form."""

DEFAULT = "default"
"""The origin of a workspace that nobody has named: not even the site of this host."""


def find_config(start: Path) -> Path | None:
    """The nearest .hpcrun/config.json in a folder or above it."""
    for folder in (start, *start.parents):
        if (folder / CONFIG).is_file():
            return folder / CONFIG
    return None


class Named(NamedTuple):
    """A workspace as it is named: where the name came from, and what it is relative to."""

    text: str
    origin: str
    start: Path = Path()


def named_workspace(start: Path, environ: Mapping[str, str], given: str | None = None) -> Named:
    """The workspace that counts: flag, variable, project, user, default."""
    if given:
        return Named(given, "--workspace")
    if environ.get(WORKSPACE_VARIABLE):
        return Named(environ[WORKSPACE_VARIABLE], WORKSPACE_VARIABLE)
    home = Path(environ.get("HOME", "/"))
    config_home = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    for file in (find_config(start), config_home / "hpcrun" / "config.json"):
        if file is not None and file.is_file():
            named = _workspace_in(file)
            if named:
                return Named(named, str(file), file.parent.parent)
    return Named(str(home / "hpcrun"), DEFAULT)


def find_workspace(
    start: Path, environ: Mapping[str, str], given: str | None = None
) -> tuple[Path, str]:
    """(the workspace, where its name came from). ConfigError: it is on another machine."""
    named = named_workspace(start, environ, given)
    if is_elsewhere(named.text):
        message = f"the workspace {named.text} (from {named.origin}) is on another machine"
        raise ConfigError(Problem(message, "-w FOLDER names one that is here"))
    return named_folder(*named), named.origin


def is_elsewhere(named: str) -> bool:
    """Whether a workspace is named as `SITE:FOLDER`."""
    if ":" not in named:
        return False
    from hpcrun.workflow.elsewhere import site_and_folder

    return site_and_folder(named) is not None


def named_folder(named: str, origin: str, start: Path = Path()) -> Path:
    """A folder by its name: `~` is a home, and what is relative begins at `start`."""
    try:
        return (start / Path(named).expanduser()).absolute()
    except RuntimeError:
        message = f"there is no home folder {named.partition('/')[0]} (from {origin})"
        raise ConfigError(Problem(message, "name the whole path")) from None


def open_assets(start: Path | None = None, templates: str | None = None) -> Assets:
    """The site files and templates that count in a folder (default: the current one).

    templates: a folder of templates that comes before all others.
    """
    start = (start or Path.cwd()).absolute()
    config = find_config(start)
    if templates is not None and not Path(templates).is_dir():
        raise ConfigError(Problem(f"there is no folder {templates}", "from --templates"))
    first = Path(templates).absolute() if templates is not None else None
    return Assets.of(config.parent.parent if config else start, os.environ, first)


def wanted_adapter(folders: Iterable[Path]) -> Adapter | None:
    """The adapter that the project or the user wants, nearest first. ConfigError if it is none."""
    from hpcrun.site import Adapter

    known: tuple[Adapter, ...] = get_args(Adapter)
    for file in (folder / CONFIG.name for folder in folders):
        named = _settings(file).get("scheduler_adapter") if file.is_file() else None
        if named is not None and named not in known:
            message = f"`scheduler_adapter` is {named!r}"
            raise ConfigError(Problem(message, f"one of {', '.join(known)}", str(file)))
        for adapter in known:
            if adapter == named:
                return adapter
    return None


def _workspace_in(file: Path) -> str:
    named = _settings(file).get("workspace") or ""
    if not isinstance(named, str):
        raise ConfigError(Problem("`workspace` must be the name of a folder", "", str(file)))
    return named


def _settings(file: Path) -> Mapping[str, object]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(Problem(f"not JSON: {error}", "", str(file))) from error
    if not isinstance(value, dict):
        raise ConfigError(Problem("its settings must be one object", "", str(file)))
    return value
