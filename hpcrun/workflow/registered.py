"""Environments that a user has registered by name: versions 1, 2, …, each written once.

environments/names/<name>/<version>.json
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from hpcrun.config import CondaDependencies, DockerSection, Environment, is_file
from hpcrun.config.environment import PythonSection
from hpcrun.environments.requirements import read_requirements
from hpcrun.errors import ConfigError, Problem, StoreError
from hpcrun.faults import told
from hpcrun.reading import check_value, nearest, read_value
from hpcrun.rights import kept_to
from hpcrun.store import FileStore
from hpcrun.store.policy import read_policy
from hpcrun.store.publishing import publish

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")


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


def get(store: FileStore, name: str, version: str | None = None) -> Environment:
    """A registered environment; without a version the newest. StoreError: there is none."""
    known = _versions(store, name)
    if not known:
        raise StoreError(f"there is no environment {name!r}", nearest(name, registered(store)))
    number = max(known) if version is None else int(version) if version.isdecimal() else 0
    if number not in known:
        some = ", ".join(str(each) for each in sorted(known)[-5:])
        message = f"there is no environment {name!r}, version {version}"
        raise StoreError(message, f"it has {some}")
    return _read(known[number])


def registered(store: FileStore) -> Mapping[str, Environment]:
    """The newest version of each, by name. StoreError."""
    names: set[str] = set()
    for room in store.rooms():
        folder = Path(room.environments, "names")
        with told(f"list the environments in {folder}"):
            names |= set(os.listdir(folder)) if folder.is_dir() else set()
    return {name: get(store, name) for name in sorted(names) if _versions(store, name)}


def _versions(store: FileStore, name: str) -> dict[int, Path]:
    """Where each version of a name lies."""
    found: dict[int, Path] = {}
    if not _NAME.match(name):
        return found
    for room in store.rooms():
        folder = Path(room.environments, "names", name)
        with told(f"read the versions of environment {name} in {folder}"):
            for file in folder.iterdir() if folder.is_dir() else ():
                if file.stem.isdecimal() and file.suffix == ".json":
                    found[int(file.stem)] = file
    return found


def _read(file: Path) -> Environment:
    with told(f"read the environment {file}"):
        text = file.read_text(encoding="utf-8")
    try:
        value = json.loads(text)
        python = PythonSection(**value["python"])
        if python.conda_dependencies is not None:
            held = value["python"]["conda_dependencies"]
            python.conda_dependencies = read_value(CondaDependencies, held).sound().value
        parts = {
            "python": python,
            "docker": read_value(DockerSection, value.get("docker", {})).sound().value,
        }
        return Environment(**{**value, **parts})
    except (ValueError, TypeError, LookupError) as error:
        message = f"the registered environment {file} is damaged, or of a later hpcrun: {error}"
        raise StoreError(message) from error


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
