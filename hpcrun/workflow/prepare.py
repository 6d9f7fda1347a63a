"""From what is asked to a plan and its script: everything that can be known, nothing written."""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpcrun.assets import Assets
from hpcrun.config import (
    AUTO,
    Environment,
    RunConfiguration,
    checked,
    parse_memory,
)
from hpcrun.directives import forbidden
from hpcrun.errors import ConfigError, PlanError, Problem, RunNotFound, StoreError
from hpcrun.layout import UserPaths
from hpcrun.manifest import Limits
from hpcrun.names import experiment_name, new_run_id, refusal_of_id
from hpcrun.plan import FORCE, Awaited, Choice, Plan
from hpcrun.reading import Finding, Read
from hpcrun.resolve import resolve
from hpcrun.resolve.tasks import task_of
from hpcrun.script import Script, no_template, render
from hpcrun.site import SchedulerRules, SiteConfig
from hpcrun.store import FileStore
from hpcrun.store.sdk import sdk_name
from hpcrun.store.users import own_name
from hpcrun.templating import Compiled, Load
from hpcrun.workflow.data import with_data
from hpcrun.workflow.meant import packed_file, target_of, with_built, with_conda, with_named
from hpcrun.workflow.site import templates_of
from hpcrun.workflow.surroundings import here, new_token

if TYPE_CHECKING:
    from hpcrun.environments.cache import Wanted
    from hpcrun.workflow.sent import Sent

Find = Callable[[str], tuple[str, str]]
"""(user, run id) of the run that a name means. RunNotFound, StoreError."""


@dataclass(frozen=True)
class Prepared:
    """A run that could be submitted: its plan, its script, and where its source lies.

    entry_point: the user's script, relative to the source folder; None for a command. load: what
    finds the templates. compiled: what they were compiled to. environment: what has to be built
    before it is submitted, unless it is there. sent: the source is another machine's, and its
    snapshot is here.
    """

    plan: Plan
    script: Script
    site: SiteConfig
    source: Path
    entry_point: str | None
    limits: Limits
    load: Load
    compiled: Compiled
    environment: Wanted | None = None
    sent: Sent | None = None

    def task(self, index: int) -> tuple[Plan, Script]:
        """The plan and the script of one of its independent tasks."""
        plan = task_of(self.plan, index, self.site.scheduler)
        return plan, render(plan, self.load, self.compiled)


def prepare(
    asked: Read[RunConfiguration],
    workspace: Path,
    assets: Assets,
    *,
    run_id: str | None = None,
    folder: Path | None = None,
    find: Find | None = None,
    sent: Sent | None = None,
    force: bool = False,
    compiled: Compiled | None = None,
) -> Prepared:
    """Resolves and renders. Refuses, all at once, what could not be read, what is malformed, what
    is missing on this machine, and what the target cannot give.

    folder: what relative paths are relative to. find: (user, run id) of a run by what it is named,
    for those that this one waits for. sent: the source, where another machine has brought it.
    force: what the site forbids is written. compiled: what templates were compiled to before.
    """
    folder, compiled = folder or Path(), compiled or Compiled()
    asked = with_named(asked, FileStore(workspace, own_name(workspace)), assets)
    asked = checked(replace(asked, value=_with_full_paths(asked.value, folder)))
    config = asked.value
    source = folder / _at_home(config.source_directory)
    asked = asked.with_findings(_missing(config, source))
    around = here(workspace, source)
    if sent is None:
        asked = asked.with_findings(missing_source(config, source))
    else:
        around = replace(around, source=sent.folder)
        asked = asked.with_findings(Finding(*told) for told in sent.missing)
    experiment = experiment_name(config, around.source)
    refused = refusal_of_id(run_id, experiment) if run_id is not None else None
    if refused is not None and asked.is_sure_of("experiment"):
        asked = replace(asked, problems=(*asked.problems, refused))
    store = FileStore(Path(around.workspace), around.user)
    private = around.private if config.private is None else config.private
    asked = asked.with_findings(_no_checkpoint(config, store, private))
    asked, awaited = _awaited(asked, store, private, find)
    asked = with_conda(asked)
    asked, wanted = with_built(asked, store, private, folder)
    asked, packed = packed_file(asked, store, private, wanted is not None)
    site, target = target_of(asked, assets)
    asked = with_data(asked, site, assets, workspace, folder)
    if run_id is None or refused is not None:  # what else is wrong is told with an id that is one
        run_id = new_run_id(experiment, around.created, new_token())
    sdk = posixpath.join(UserPaths.of(around.workspace, around.user).sdk, sdk_name())
    rules, site = site.scheduler, _lenient(site) if force else site
    plan = resolve(asked, site, target, around, run_id, sdk, awaited, packed)
    if force:
        plan = _with_forced(plan, rules, site.id)
    problems = asked.with_findings([*_unsearchable(plan), *_no_image(plan)]).problems
    if problems:
        raise ConfigError(*problems)
    limits = Limits(parse_memory(config.snapshot.max_bytes), config.snapshot.max_files)
    load = templates_of(site, assets).load
    missing = no_template(plan, load)
    if missing is not None:
        is_launcher = missing.message.startswith("there is no launcher")
        key = "distributed_job_config.launcher" if is_launcher else "environment.docker.runtime"
        raise PlanError(asked.problem(Finding(key, missing.message, missing.hint)))
    script = render(plan, load, compiled)
    prepared = Prepared(
        plan, script, site, source, config.script, limits, load, compiled, wanted, sent
    )
    if plan.tasks is not None:
        prepared.task(0)  # a template that is refused is refused before anything is written
    return prepared


def _lenient(site: SiteConfig) -> SiteConfig:
    """A site that forbids nothing."""
    rules = site.scheduler
    directives = replace(rules.directives, forbid={})
    return replace(site, scheduler=replace(rules, directives=directives))


def _with_forced(plan: Plan, rules: SchedulerRules, site: str) -> Plan:
    """The same, which tells what it writes though the site forbids it."""
    found = forbidden(plan.directives, rules, site)
    told = (
        Choice(each.key, f"written, though {each.message}: {each.hint}", FORCE) for each in found
    )
    return replace(plan, choices=(*plan.choices, *told))


def _awaited(
    asked: Read[RunConfiguration], store: FileStore, private: bool, find: Find | None
) -> tuple[Read[RunConfiguration], list[Awaited]]:
    """The runs that `after` names; a name that is none, or of several, is a problem."""
    found: list[Awaited] = []
    unknown = []
    after = asked.value.after
    if after is None or find is None:
        return asked, found
    for number, name in enumerate(after.runs):
        try:
            user, run_id = find(name)
        except (RunNotFound, StoreError) as error:
            unknown.append(Finding(f"after.runs[{number}]", error.message, error.hint))
        else:
            paths = store.paths(run_id, user)
            if paths.owner.is_private and not private:
                message = f"run {run_id} is private, and this one, which would name it, is not"
                unknown.append(Finding(f"after.runs[{number}]", message, "private: true"))
            found.append(Awaited(user, run_id, paths.record))
    return asked.with_findings(unknown), found


def _no_checkpoint(config: RunConfiguration, store: FileStore, private: bool) -> Iterator[Finding]:
    if config.resume_from and config.resume_from != AUTO:
        hint = "private: true, or copy the checkpoint elsewhere"
        refused = refusal_of_checkpoint(Path(config.resume_from), store, private, hint)
        if refused is not None:
            yield Finding("resume_from", refused.message, refused.hint)


def refusal_of_checkpoint(path: Path, store: FileStore, private: bool, hint: str) -> Problem | None:
    """Why a run cannot begin with it; None: it can. private: whether the run is. hint: what to do
    where it lies in a run that is, and the run is not."""
    if not _kind(path):
        return Problem(f"there is no checkpoint {path}")
    if store.hides(path) and not private:
        message = f"{path} lies in a private run, and this one, which would name it, is not"
        return Problem(message, hint)
    return None


def missing_source(config: RunConfiguration, source: Path) -> Iterator[Finding]:
    """What is not there of the source."""
    if _kind(source) != stat.S_IFDIR:
        yield Finding("source_directory", f"there is no folder {source}")
    elif config.script and _kind(source / config.script) != stat.S_IFREG:
        message = f"there is no script {config.script} in {source.resolve()}"
        yield Finding("script", message, "script is relative to source_directory")


def _missing(config: RunConfiguration, source: Path) -> Iterator[Finding]:
    """What else is not there on this machine."""
    yield from _check_environment(config.environment)
    for name, text in (config.secrets or {}).items():
        yield from _check_secret(name, Path(text), source)


def _unsearchable(plan: Plan) -> Iterator[Finding]:
    """What cannot stand in the job's PATH and PYTHONPATH, where `:` ends a folder."""
    for key, what, folder, hint in (
        ("", "the workspace", plan.workspace, "choose another folder: -w FOLDER"),
        ("environment", "the environment", plan.setting.prefix or "", "make it in another folder"),
    ):
        for character in ":\n":
            if character in folder:
                message = f"{what} {folder!r} holds a {character!r}, which no search path can"
                yield Finding(key, message, hint)


def _no_image(plan: Plan) -> Iterator[Finding]:
    """What of its container is not here: the image, or a volume that it must see."""
    container = plan.container
    if container is None:
        return
    if container.is_file and not _kind(Path(container.image)):
        message = f"there is no image {container.image}"
        yield Finding("environment.docker.base_image", message, "the nodes must see it, too")
    for volume in container.volumes:
        source = volume.partition(":")[0]
        if not _kind(Path(source)):
            yield Finding("environment.docker.volumes", f"there is no {source}")


def _with_full_paths(config: RunConfiguration, folder: Path) -> RunConfiguration:
    """A copy in which virtual environment, interpreter, checkpoint and secrets are absolute."""
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
        if environment.requirements:
            environment.requirements = _full(environment.requirements, folder)
        if environment.python.conda_dependencies_file:
            file = _full(environment.python.conda_dependencies_file, folder)
            environment.python.conda_dependencies_file = file
        image = environment.docker.base_image or ""
        if image.startswith(("./", "../", "~")):
            environment.docker.base_image = _full(image, folder)
        environment.docker.volumes = [
            _full(volume, folder) if volume.startswith((".", "~")) else volume
            for volume in environment.docker.volumes
        ]
    if config.resume_from and config.resume_from != AUTO:
        config.resume_from = _full(config.resume_from, folder)
    if config.secrets:
        config.secrets = {name: _full(text, folder) for name, text in config.secrets.items()}
    return config


def _full(text: str, folder: Path) -> str:
    return str((folder / _at_home(text)).absolute())


def _at_home(text: str) -> Path:
    """A path with `~` made one; of a user who is not known it stays."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def _kind(path: Path) -> int:
    """Which kind of file is there; 0 if none can be found."""
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except OSError:
        return 0


def _check_environment(environment: Environment | str) -> Iterator[Finding]:
    folder, key = environment, "environment"
    if isinstance(environment, Environment):
        folder, key = environment.virtual_environment or "", "environment.virtual_environment"
    if isinstance(folder, str) and "/" in folder and not _kind(Path(folder, "bin/python")):
        yield Finding(key, f"there is no virtual environment {folder}", "it must hold bin/python")


def _check_secret(name: str, path: Path, source: Path) -> Iterator[Finding]:
    key = f"secrets.{name}"
    try:
        mode = path.stat().st_mode
    except OSError as error:
        yield Finding(key, f"secret {name}: {path}: {error.strerror}")
        return
    if not stat.S_ISREG(mode):
        yield Finding(key, f"secret {name}: {path} is no file")
    elif stat.S_IMODE(mode) & 0o077:
        message = f"secret {name}: {path} can be read by others (mode {stat.S_IMODE(mode):o})"
        yield Finding(key, message, f"chmod 600 {path}")
    if path.resolve().is_relative_to(source.resolve()):
        message = f"secret {name}: {path} lies in the source folder, which is copied"
        yield Finding(key, message, "keep it elsewhere, such as in your home")
