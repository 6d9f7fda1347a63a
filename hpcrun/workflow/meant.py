"""The target and the environment that a run means by their names, and where it lies or will lie."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpcrun.assets import Assets
from hpcrun.config import DockerSection, Environment, RunConfiguration
from hpcrun.config.environment import PythonSection
from hpcrun.errors import BuildError, ConfigError, HpcrunError, SiteError, StoreError
from hpcrun.reading import Finding, Read, nearest
from hpcrun.site import CuratedEnvironment, SiteConfig
from hpcrun.store import FileStore
from hpcrun.workflow.site import choose_target

if TYPE_CHECKING:
    from hpcrun.environments.cache import Wanted


def target_of(asked: Read[RunConfiguration], assets: Assets) -> tuple[SiteConfig, str]:
    """The site and target that are meant. ConfigError if that cannot be known, with all else."""
    if not asked.is_sure_of("compute_target"):
        raise ConfigError(*asked.problems)
    try:
        return choose_target(asked.value.compute_target, assets)
    except ConfigError as error:
        unknown = [Finding("compute_target", p.message, p.hint) for p in error.problems]
        raise ConfigError(*asked.with_findings(unknown).problems) from error
    except SiteError as error:
        if not asked.problems:
            raise
        raise ConfigError(*asked.problems, *error.problems) from error


def with_named(
    asked: Read[RunConfiguration], store: FileStore, assets: Assets
) -> Read[RunConfiguration]:
    """The same with the environment that a name stands for: a registered one, else the site's."""
    name = asked.value.environment
    if not isinstance(name, str) or "/" in name:
        return asked
    from hpcrun.workflow.registered import get, is_registered

    config = asked.value.copy()
    plain, at, label = name.partition("@")
    plain, colon, version = plain.partition(":")
    try:
        config.environment = get(store, plain, version if colon else None, label if at else None)
    except StoreError as error:
        if is_registered(store, plain):  # the site's of that name is not what is meant
            return asked.with_findings([Finding("environment", error.message, error.hint)])
        of_site = _curated(asked, assets)
        if name in of_site:
            config.environment = of_site[name]
            return replace(asked, value=config)
        near = nearest(name, of_site) if of_site and name == plain else error.hint
        hint = near or "name the folder of a virtual environment, or write {name: …, modules: […]}"
        finding = Finding("environment", error.message, hint)
        return asked.with_findings([finding])
    return replace(asked, value=config)


def _curated(asked: Read[RunConfiguration], assets: Assets) -> Mapping[str, Environment]:
    """The environments that the site of the run keeps, by name."""
    try:
        site, _ = target_of(asked, assets)
    except HpcrunError:
        return {}  # that is told later
    return {name: _environment(name, found) for name, found in site.environments.items()}


def _environment(name: str, found: CuratedEnvironment) -> Environment:
    return Environment(
        name,
        PythonSection(found.interpreter_path),
        virtual_environment=found.virtual_environment,
        modules=list(found.modules),
        module_profile=found.module_profile,
        environment_variables=dict(found.environment_variables),
        docker=DockerSection(found.image, found.runtime, list(found.volumes), view=found.view),
    )


def with_conda(asked: Read[RunConfiguration]) -> Read[RunConfiguration]:
    """The same with the folder of the conda environment that is named."""
    environment = asked.value.environment
    if isinstance(environment, str) or not environment.conda or environment.virtual_environment:
        return asked
    from hpcrun.environments.conda import find_conda

    name, by_folder = environment.conda, "give its folder as virtual_environment"
    found = find_conda(name, os.environ, Path.home())
    message = ""
    if not found:
        message = f"there is no conda environment {name!r} here"
        by_folder = f"load conda's module before you submit, or {by_folder}"
    elif len(found) > 1:
        message = f"{name!r} may be any of {len(found)} conda environments: {', '.join(found)}"
    elif not Path(found[0], "bin/python").exists():
        message = f"the conda environment {found[0]} has no python"
        by_folder = "install one into it"
    if message:
        return asked.with_findings([Finding("environment.conda", message, by_folder)])
    config = asked.value.copy()
    config.environment = replace(environment, virtual_environment=found[0])
    return replace(asked, value=config)


def with_built(
    asked: Read[RunConfiguration], store: FileStore, private: bool, folder: Path
) -> tuple[Read[RunConfiguration], Wanted | None]:
    """The same with the folder in which the packages of its environment are, or will be."""
    environment = asked.value.environment
    if isinstance(environment, str) or not environment.is_managed:
        return asked, None
    if environment.virtual_environment or not asked.is_sure_of("environment"):
        return asked, None
    from hpcrun.workflow.environments import dependencies_of, folder_of, wanted_of

    try:
        wanted = wanted_of(environment, folder)
        dependencies = dependencies_of(environment)
    except ConfigError as error:
        return replace(asked, problems=(*asked.problems, *error.problems)), None
    config = asked.value.copy()
    python = replace(environment.python, interpreter_path=None)
    built = folder_of(wanted, store, private)
    own = {**(dependencies.variables if dependencies else {}), **environment.environment_variables}
    config.environment = replace(
        environment, python=python, virtual_environment=built, environment_variables=own
    )
    return replace(asked, value=config), wanted


def packed_file(
    asked: Read[RunConfiguration], store: FileStore, private: bool, is_managed: bool
) -> tuple[Read[RunConfiguration], str | None]:
    """The file that the environment is, or will be, packed into; None: it is not, or not known."""
    environment = asked.value.environment
    if isinstance(environment, str) or environment.pack is None:
        return asked, None
    if not asked.is_sure_of("environment"):
        return asked, None
    from hpcrun.workflow.packs import file_of

    active = os.environ.get("VIRTUAL_ENV") or os.environ.get("CONDA_PREFIX")
    prefix = environment.virtual_environment or (active if environment.is_default else None)
    if not prefix:
        return asked, None
    try:
        return asked, file_of(prefix, store, private, is_managed)
    except BuildError as error:
        finding = Finding("environment.pack", error.message, error.hint)
        return asked.with_findings([finding]), None
