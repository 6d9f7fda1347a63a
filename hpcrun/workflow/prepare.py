"""From what is asked to a plan and its script: everything that can be known, nothing written."""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hpcrun.assets import Assets
from hpcrun.config import Environment, RunConfiguration, check, parse_memory, problem_at
from hpcrun.errors import ConfigError, Problem, SiteError
from hpcrun.layout import UserPaths
from hpcrun.manifest import Limits
from hpcrun.plan import Plan, check_experiment, check_run_id, experiment_name, new_run_id
from hpcrun.reading import Origin
from hpcrun.resolve import resolve
from hpcrun.script import Script, render
from hpcrun.site import SiteConfig
from hpcrun.store.sdk import sdk_name
from hpcrun.workflow.site import choose_target
from hpcrun.workflow.surroundings import here, new_token

Origins = Mapping[str, Origin]


@dataclass(frozen=True)
class Prepared:
    """A run that could be submitted: its plan, its script, and where its source lies."""

    plan: Plan
    script: Script
    site: SiteConfig
    source: Path
    limits: Limits


def prepare(
    config: RunConfiguration,
    workspace: Path,
    assets: Assets,
    *,
    run_id: str | None = None,
    origins: Origins | None = None,
    folder: Path | None = None,
) -> Prepared:
    """Resolves and renders. folder: what relative paths are relative to."""
    origins = origins or {}
    folder = folder or Path()
    config = _with_full_paths(config, folder)
    source = folder / Path(config.source_directory).expanduser()
    site, target = check_here(config, source, assets, origins)
    around = here(workspace, source)
    experiment = experiment_name(config, around.source)
    check_experiment(experiment)
    if run_id is not None:
        check_run_id(run_id, experiment)
    run_id = run_id or new_run_id(experiment, around.created, new_token())
    sdk = posixpath.join(UserPaths.of(around.workspace, around.user).sdk, sdk_name())
    plan = resolve(config, site, target, around, run_id, sdk, origins)
    limits = Limits(parse_memory(config.snapshot.max_bytes), config.snapshot.max_files)
    return Prepared(plan, render(plan, assets.template), site, source, limits)


def check_here(
    config: RunConfiguration, source: Path, assets: Assets, origins: Origins
) -> tuple[SiteConfig, str]:
    """The site and target that are meant. Refuses, all at once, what is wrong with the request,
    missing on this machine, or no target."""
    problems = check(config, origins)
    if not source.is_dir():
        problems.append(problem_at(origins, "source_directory", f"there is no folder {source}"))
    elif config.script and not (source / config.script).is_file():
        message = f"there is no script {config.script} in {source.resolve()}"
        hint = "script is relative to source_directory"
        problems.append(problem_at(origins, "script", message, hint))
    problems += _check_environment(config.environment, origins)
    for name, text in (config.secrets or {}).items():
        problems += _check_secret(name, Path(text), source, origins)
    try:
        chosen = choose_target(config.compute_target, assets)
    except (ConfigError, SiteError) as error:
        if not problems:
            raise
        problems += error.problems
    if problems:
        raise ConfigError(*problems)
    return chosen


def _with_full_paths(config: RunConfiguration, folder: Path) -> RunConfiguration:
    """A copy in which virtual environment, interpreter and secrets are absolute paths."""
    config = config.copy()
    if isinstance(config.environment, str):
        if "/" in config.environment:
            config.environment = _full(config.environment, folder)
    else:
        environment = config.environment
        if environment.virtual_environment:
            environment.virtual_environment = _full(environment.virtual_environment, folder)
        if "/" in (environment.python.interpreter_path or ""):
            python = environment.python
            python.interpreter_path = _full(str(python.interpreter_path), folder)
    if config.secrets:
        config.secrets = {name: _full(text, folder) for name, text in config.secrets.items()}
    return config


def _full(text: str, folder: Path) -> str:
    return str((folder / Path(text).expanduser()).absolute())


def _check_environment(environment: Environment | str, origins: Origins) -> Iterator[Problem]:
    folder, key = environment, "environment"
    if isinstance(environment, Environment):
        folder, key = environment.virtual_environment or "", "environment.virtual_environment"
    if isinstance(folder, str) and "/" in folder and not Path(folder, "bin/python").exists():
        message = f"there is no virtual environment {folder}"
        yield problem_at(origins, key, message, "it must hold bin/python")


def _check_secret(name: str, path: Path, source: Path, origins: Origins) -> Iterator[Problem]:
    key = f"secrets.{name}"
    try:
        mode = path.stat().st_mode
    except OSError as error:
        yield problem_at(origins, key, f"secret {name}: {path}: {error.strerror}")
        return
    if not stat.S_ISREG(mode):
        yield problem_at(origins, key, f"secret {name}: {path} is no file")
    elif stat.S_IMODE(mode) & 0o077:
        message = f"secret {name}: {path} can be read by others (mode {stat.S_IMODE(mode):o})"
        yield problem_at(origins, key, message, f"chmod 600 {path}")
    if path.resolve().is_relative_to(source.resolve()):
        message = f"secret {name}: {path} lies in the source folder, which is copied"
        yield problem_at(origins, key, message, "keep it elsewhere, such as in your home")
