"""Joins what is asked with what the site is, into a Plan.

Pure: the clock, the user, the environment and new ids come in as `Surroundings`. All
contradictions between the run and its target are found at once, before anything is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from string import Template

from hpcrun.config import MetricFiles, RunConfiguration, SnapshotLimits
from hpcrun.directives import directives, forbidden, unwritable, written_twice
from hpcrun.errors import ConfigError, PlanError
from hpcrun.layout import LOCAL
from hpcrun.names import experiment_name
from hpcrun.plan import Awaited, Plan
from hpcrun.reading import Read
from hpcrun.resolve.awaiting import awaiting
from hpcrun.resolve.container import check_data, completed, container, container_directives
from hpcrun.resolve.data import data
from hpcrun.resolve.job import job
from hpcrun.resolve.launch import launch
from hpcrun.resolve.preflight import preflight
from hpcrun.resolve.request import Request
from hpcrun.resolve.requeueing import may_requeue, requeueing
from hpcrun.resolve.resuming import resuming
from hpcrun.resolve.setting import setting
from hpcrun.resolve.stopping import stopping
from hpcrun.resolve.surroundings import Surroundings
from hpcrun.resolve.tasks import tasks
from hpcrun.site import SiteConfig


def resolve(
    asked: Read[RunConfiguration],
    site: SiteConfig,
    target_name: str,
    around: Surroundings,
    run_id: str,
    sdk: str,
    awaited: Sequence[Awaited] = (),
    packed: str | None = None,
) -> Plan:
    """Joins what is asked with what the site is. Raises PlanError with every contradiction.

    asked: as it is `checked`. If it has problems, ConfigError with them and every contradiction.
    awaited: the runs that `after` names. packed: the file that the environment is packed into.
    """
    config, request = asked.value, Request(asked, site, target_name, around, run_id, packed)
    full_target = LOCAL if request.local else f"{site.id}/{target_name}"
    named = full_target if config.compute_target else None
    request.choose("target", (named, "compute_target"), (full_target, "default"))
    experiment = experiment_name(config, around.source)
    request.choose("experiment", (config.experiment, "experiment"), (experiment, "source folder"))
    _describe(request)
    contained = container(request)
    launching = launch(request, contained)
    independent = tasks(request)
    wanted = job(request, launching)
    told = stopping(request, wanted.time)
    if told.lead is not None and not told.own_clock:
        wanted = replace(wanted, warning=told.lead)
    wanted = replace(wanted, requeue=may_requeue(request))
    prepared = setting(request, launching.nodes, contained)
    measured = _metric_files(request)
    of_data = data(request)
    check_data(request, contained, of_data)
    root = _working_root(request)
    contained = completed(contained, prepared, root, of_data)
    lines = (*directives(wanted, site.scheduler), *container_directives(contained))
    own = {f"--{name.lstrip('-')}": f"sbatch.{name}" for name in config.sbatch or {}}
    for finding in (
        *forbidden(lines, site.scheduler, site.id),
        *written_twice(lines, site.id),
        *unwritable(lines),
    ):
        request.refuse(finding.message, finding.hint, own.get(finding.key, ""))
    if asked.problems:
        raise ConfigError(*asked.problems, *request.problems)
    if request.problems:
        raise PlanError(*request.problems)
    return Plan(
        run_id=run_id,
        experiment=experiment,
        display_name=config.display_name or "",
        description=config.description or "",
        tags=dict(config.tags or {}),
        private=request.is_private,
        user=around.user,
        created=around.created,
        target=full_target,
        submission=1,
        workspace=around.workspace,
        sdk=sdk,
        agent_python=around.python,
        node_tmp=site.storage.node_tmp,
        working_root=root,
        work_is_shared=config.working_directory == "scratch",
        shebang=site.shebang,
        version=around.version,
        job=wanted,
        directives=lines,
        forbidden=site.scheduler.directives.forbid,
        setting=prepared,
        launch=launching,
        preflight=preflight(request, launching, wanted, contained),
        time_limit=wanted.time,
        metric_files=measured,
        system_metrics_seconds=config.system_metrics_seconds,
        stopping=told,
        requeueing=requeueing(request),
        resuming=resuming(request),
        awaiting=awaiting(request, awaited),
        choices=tuple(request.choices),
        tasks=independent,
        container=contained,
        data=of_data,
    )


def _working_root(request: Request) -> str | None:
    """The folder that holds the working folder; None: the job works in the run's own."""
    key, storage = "working_directory", request.site.storage
    place = request.config.working_directory
    if place == "history":
        source = key if key in request.origins else "default"
        request.note("working directory", "the run's own folder", source)
        return None
    if place == "node":
        root = storage.node_tmp
    elif storage.scratch is None:
        message = f"{request.site.id} tells no scratch folder"
        request.refuse(message, "add storage.scratch to the site file, or choose node", key)
        return None
    else:
        try:
            root = Template(storage.scratch).substitute(request.around.environ)
        except (KeyError, ValueError) as error:
            message = (
                f"the scratch folder {storage.scratch} of {request.site.id}: {error} is not set"
            )
            request.refuse(message, "submit from where it is", key)
            return None
    if not root.startswith("/") or ":" in root or "\n" in root:
        request.refuse(
            f"no job can work in {root!r}", "it must be an absolute path without `:`", key
        )
    request.note("working directory", f"{place}: {root}", key)
    return root.rstrip("/")


def _metric_files(request: Request) -> tuple[MetricFiles, ...]:
    """The files to follow; notes them, and how often nodes are measured."""
    config, key = request.config, "system_metrics_seconds"
    given = [MetricFiles(f) if isinstance(f, str) else f for f in config.metric_files or ()]
    for number, files in enumerate(given):
        more = [
            f"{name} {text}" for name, text in vars(files).items() if text and name != "pattern"
        ]
        told = f"{files.pattern} ({', '.join(more)})" if more else files.pattern
        request.note("metric files", told, f"metric_files[{number}]")
    seconds = config.system_metrics_seconds
    told = f"every {seconds} s" if seconds else "off"
    default = seconds == RunConfiguration().system_metrics_seconds and key not in request.origins
    request.note("system metrics", told, "default" if default else key)
    return tuple(given)


def _describe(request: Request) -> None:
    """Notes what is only for people, and what is frozen."""
    config, limits = request.config, SnapshotLimits()
    request.choose("display name", (config.display_name, "display_name"))
    request.choose("description", (config.description, "description"))
    for name, text in (config.tags or {}).items():
        request.note(f"tag {name}", text, f"tags.{name}")
    by_policy = request.around.private or None
    request.choose("private", (config.private, "private"), (by_policy, "workspace"))
    told = config.source_directory != "." or "source_directory" in request.origins
    source = "source_directory" if told else "default"
    request.note("source folder", request.around.source, source)
    for name, default in (("max_bytes", limits.max_bytes), ("max_files", limits.max_files)):
        value, key = getattr(config.snapshot, name), f"snapshot.{name}"
        told = value != default or key in request.origins
        request.note(f"snapshot {name.replace('_', ' ')}", value, key if told else "default")
