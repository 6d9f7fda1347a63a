"""How runs, experiments and targets are named. Pure."""

from __future__ import annotations

import re

from hpcrun.config import EXPERIMENT, EXPERIMENT_HINT, RunConfiguration
from hpcrun.errors import ConfigError, Problem
from hpcrun.layout import LOCAL, RUN_ID


def token_of(run_id: str, submission: int) -> str:
    """Names a submission, and no other."""
    return f"{run_id}.{submission}"


def new_run_id(experiment: str, seconds: float, token: str) -> str:
    """`<experiment>_<unix seconds>_<8 hex>`, as Azure ML makes them."""
    return f"{experiment}_{int(seconds)}_{token}"


def split_target(name: str | None) -> tuple[str, str | None]:
    """(site, target) of `site/target`; no target means the site's default one."""
    site, _, target = (name or LOCAL).partition("/")
    return site, target or None


def experiment_name(config: RunConfiguration, source: str) -> str:
    """The run's experiment: as given, else the source folder's name made legal."""
    if config.experiment:
        return config.experiment
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", source.rstrip("/").rsplit("/", 1)[-1]).strip("-_")
    return name[:64] or "experiment"


def refusal_of_id(run_id: str, experiment: str) -> Problem | None:
    """Why an id given by hand is none of this experiment's: it is a path. None if it is one."""
    match = RUN_ID.match(run_id)
    if match is None or not EXPERIMENT.match(match["experiment"]):
        hint = f"such as {new_run_id(experiment, 1700000000, '0123abcd')}"
        return Problem(f"{run_id!r} is no run id", hint)
    if match["experiment"] != experiment:
        hint = f"the run's experiment is {experiment!r}"
        return Problem(f"{run_id!r} is an id of another experiment", hint)
    return None


def check_experiment(name: str) -> None:
    """Raises ConfigError unless the name is legal: it becomes a part of ids and file names."""
    if not EXPERIMENT.match(name):
        raise ConfigError(Problem(f"{name!r} is no name for an experiment", EXPERIMENT_HINT))
