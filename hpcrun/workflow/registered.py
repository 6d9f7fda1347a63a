"""Environments that a user has registered by name: versions 1, 2, …, each written once.

environments/names/<name>/<version>.json
environments/names/<name>/<label>.label     the version that it stands for; it can be moved
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from hpcrun.config import CondaDependencies, Environment, is_file
from hpcrun.environments.requirements import read_requirements
from hpcrun.errors import ConfigError, Problem, StoreError
from hpcrun.faults import told
from hpcrun.reading import check_value, nearest, read_value
from hpcrun.rights import kept_to
from hpcrun.store import FileStore
from hpcrun.store.policy import read_policy
from hpcrun.store.publishing import publish
from hpcrun.store.publishing import replace as put

LATEST = "latest"
"""The label that stands for the newest version, whatever that is."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")
_VERSION = re.compile(r"(?P<number>[1-9][0-9]*)\.json\Z")
_LABEL = ".label"


def register(store: FileStore, environment: Environment, folder: Path) -> Environment:
    """Keeps an environment as the next version of its name, unless it is the newest already.

    folder: what relative paths in it are relative to. ConfigError, StoreError.
    """
    whole = _whole(check_value(Environment, environment), folder)
    if not _NAME.match(whole.name):
        message = f"{whole.name!r} is no name for an environment"
        raise ConfigError(Problem(message, "letters, digits, ., _ and - only, at most 200"))
    room = store.prepare(read_policy(store.workspace).private)
    names = Path(room.environments, "names", whole.name)
    with kept_to(room.root), told(f"register the environment {whole.name} in {names}"):
        names.mkdir(parents=True, exist_ok=True)
        while True:
            known = _versions(store, whole.name)
            newest = max(known, default=0)
            if newest and replace(_read(known[newest]), version=None) == whole:
                return replace(whole, version=str(newest))
            version = str(newest + 1)
            data = json.dumps(asdict(replace(whole, version=version)), indent=2).encode() + b"\n"
            if publish(names / f"{version}.json", data, verify=lambda path: None):
                return replace(whole, version=version)


def get(
    store: FileStore, name: str, version: str | None = None, label: str | None = None
) -> Environment:
    """A registered environment; without a version the newest, or that which a label stands for.

    StoreError: there is none, or what stands there is none.
    """
    known = _versions(store, name)
    if not known:
        raise StoreError(f"there is no environment {name!r}", nearest(name, _names(store)))
    if label is not None and label != LATEST:
        version = _labelled(store, name, label)
    number = max(known) if version is None else int(version) if version.isdecimal() else 0
    if number not in known:
        some = ", ".join(str(each) for each in sorted(known)[-5:])
        message = f"there is no environment {name!r}, version {version}"
        raise StoreError(message, f"it has {some}")
    return _read(known[number])


def is_registered(store: FileStore, name: str) -> bool:
    """Whether there is any version of it, sound or not. StoreError: that cannot be known."""
    return bool(_versions(store, name))


def label(store: FileStore, name: str, version: str, labels: Iterable[str]) -> None:
    """Has labels stand for a version, whatever they stood for. ConfigError, StoreError."""
    get(store, name, version)
    wanted = list(labels)
    for each in wanted:
        if not _NAME.match(each) or each == LATEST:
            message = f"{each!r} is no label for an environment"
            hint = f"letters, digits, ., _ and - only; {LATEST} is always the newest version"
            raise ConfigError(Problem(message, hint))
    folder = _versions(store, name)[int(version)].parent
    room = store.prepare(read_policy(store.workspace).private)
    with kept_to(room.root):
        for each in wanted:
            with told(f"label version {version} of environment {name} as {each}"):
                put(folder / f"{each}{_LABEL}", f"{int(version)}\n".encode())


def registered(store: FileStore) -> Mapping[str, Environment]:
    """The newest version of each, by name. StoreError."""
    return {name: get(store, name) for name in _names(store) if _versions(store, name)}


def _names(store: FileStore) -> list[str]:
    names: set[str] = set()
    for room in store.rooms():
        folder = Path(room.environments, "names")
        with told(f"list the environments in {folder}"):
            try:
                names.update(os.listdir(folder))
            except FileNotFoundError:
                continue
    return sorted(names)


def _versions(store: FileStore, name: str) -> dict[int, Path]:
    """Where each version of a name lies."""
    found: dict[int, Path] = {}
    for file in _files(store, name):
        match = _VERSION.match(file.name)
        if match is not None:
            found[int(match["number"])] = file
    return found


def _files(store: FileStore, name: str) -> Iterator[Path]:
    """What is kept of a name. StoreError: it cannot be read."""
    if not _NAME.match(name):
        return
    for room in store.rooms():
        folder = Path(room.environments, "names", name)
        with told(f"read the versions of environment {name} in {folder}"):
            try:
                yield from [*folder.iterdir()]
            except FileNotFoundError:
                continue


def _labelled(store: FileStore, name: str, label: str) -> str:
    """The version that a label stands for."""
    labels = {file.stem: file for file in _files(store, name) if file.suffix == _LABEL}
    if label not in labels:
        message = f"there is no environment {name!r} with the label {label!r}"
        raise StoreError(message, nearest(label, [LATEST, *labels]))
    with told(f"read the label {labels[label]}"):
        version = labels[label].read_text(encoding="utf-8", errors="replace").strip()
    if not version.isdecimal():
        message = f"the label {labels[label]} is damaged: it says {version[:80]!r}"
        raise StoreError(message, f"Environment.label(workspace, {name!r}, VERSION, {label!r})")
    return version


def _read(file: Path) -> Environment:
    with told(f"read the environment {file}"):
        data = file.read_bytes()
    try:
        found: Environment = read_value(Environment, json.loads(data)).sound().value
    except (ValueError, RecursionError) as error:
        raise _damaged(file, str(error)) from error
    except ConfigError as error:
        raise _damaged(file, "; ".join(each.message for each in error.problems)) from error
    if (found.name, found.version) != (file.parent.name, file.stem):
        raise _damaged(file, f"it says that it is {found.name}:{found.version}")
    return found


def _damaged(file: Path, why: str) -> StoreError:
    message = f"the registered environment {file} is damaged, or of a later hpcrun: {why}"
    return StoreError(message, "remove the file, and register it anew; or name another version")


def _whole(environment: Environment, folder: Path) -> Environment:
    """The same, needing no file but archives: paths are whole, requirements are taken in."""

    def full(path: str | None) -> str | None:
        is_path = path is not None and "/" in path
        return str((folder / Path(path).expanduser()).absolute()) if is_path and path else path

    file = environment.requirements
    lines = read_requirements(
        environment.pip, folder / Path(file).expanduser() if file else None, folder
    )
    docker = environment.docker
    image = docker.base_image
    docker = replace(
        docker,
        base_image=full(image) if image and is_file(image) else image,
        volumes=[str(full(volume)) for volume in docker.volumes],
    )
    python = replace(
        environment.python,
        interpreter_path=full(environment.python.interpreter_path),
        conda_dependencies=_conda(environment, folder),
        conda_dependencies_file=None,
    )
    return replace(
        environment,
        python=python,
        docker=docker,
        virtual_environment=full(environment.virtual_environment),
        pip=[each.line for each in lines],
        requirements=None,
        version=None,
    )


def _conda(environment: Environment, folder: Path) -> CondaDependencies | None:
    file = environment.python.conda_dependencies_file
    if file is None:
        return environment.python.conda_dependencies
    return CondaDependencies.load(folder / Path(file).expanduser())
