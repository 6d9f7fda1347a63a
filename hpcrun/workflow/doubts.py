"""What speaks against a submission and does not forbid it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import date

from hpcrun.errors import SchedulerError
from hpcrun.plan import FORCE, Plan
from hpcrun.resolve.storage import holds
from hpcrun.site import SiteConfig
from hpcrun.site.scheduler import RequeueRules
from hpcrun.workflow.places import objections, place_of


def doubts_here(plan: Plan, site: SiteConfig) -> Iterator[str]:
    """Those of today on this host."""
    yield from doubts_of_site(plan, site, date.today(), os.uname().machine)
    yield from doubts_of_target(plan, site)
    yield from doubts_of_history(plan, site, os.environ)
    yield from (f"{each.name} is {each.value}" for each in plan.choices if each.origin == FORCE)


def doubts_of_history(plan: Plan, site: SiteConfig, environ: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each thing that the site says against folders where the workspace lies."""
    roots = site.storage.roots.items()
    told = {name: place for name, root in roots if (place := place_of(root, environ)) is not None}
    places = {
        name: os.path.realpath(place) for name, place in told.items() if place.startswith("/")
    }
    for message, cure in objections(os.path.realpath(plan.workspace), site.storage, places):
        yield f"the history {message}: {cure}, by -w"


def doubts_of_target(plan: Plan, site: SiteConfig) -> Iterator[str]:
    """A sentence for each thing that the run asks of a target which is there for others."""
    target = site.targets.get(plan.target.partition("/")[2])
    if target is None:
        return
    gpus = plan.job.gpus_per_node
    if target.kind == "gpu" and not gpus and target.node.gpus != 0:
        yield f"{plan.target} is there for its GPUs, and the run asks for none: they would idle"
    if target.kind == "cpu" and gpus:
        yield f"{plan.target} is there for its CPUs, and the run asks for {gpus} GPUs on each node"
    if target.preemptible:
        yield from _pushed_off(plan, site.scheduler.requeue)


def _pushed_off(plan: Plan, rules: RequeueRules) -> Iterator[str]:
    """What a run had better know on nodes that others may take."""
    told = f"other jobs may push those of {plan.target} off their nodes"
    if plan.job.requeue is False:
        told_so = "this one is not to be requeued then: it would end there (requeue.allowed)"
        yield f"{told}, and {told_so}"
    elif plan.job.requeue is None and rules.default is False:
        yield f"{told}, and only those that ask for it are requeued: requeue.allowed: true"
    notice, checkpoint = rules.notice_seconds, plan.stopping.checkpoint
    if notice is not None and checkpoint is not None and checkpoint.total_seconds() > notice:
        yield (
            f"{told} {notice} s after they are told, and a checkpoint takes"
            f" {checkpoint.total_seconds():.0f} s (stop.checkpoint_time): save some on the way"
        )


def doubts_of_site(plan: Plan, site: SiteConfig, today: date, arch: str) -> Iterator[str]:
    """A sentence for each, whatever the run asks for. arch: what `uname -m` says on this host."""
    reason = site.launch.discouraged.get(plan.launch.launcher)
    if reason is not None:
        yield f"launcher {plan.launch.launcher} is discouraged at {site.id}: {reason}"
    if closed(site, today):
        yield f"{site.id} was said to close on {site.valid_until}"
    yield from _of_disks(plan, site)
    yield from _elsewhere(plan, site, arch)


def _of_disks(plan: Plan, site: SiteConfig) -> Iterator[str]:
    """What the site says of where the environment lies, and of the disks that the job works on."""
    storage, packing = site.storage, plan.setting.packing
    pack = storage.pack_environment
    if pack is not None and plan.launch.nodes > 1 and plan.setting.prefix and packing is None:
        yield f"{site.id} wants environments on the nodes' own disks: environment.pack: {pack}"
    works_there = plan.working_root == storage.node_tmp or packing is not None or plan.stages
    for name, root in storage.roots.items():
        if root.counts_as_memory and works_there and holds(root, storage.node_tmp):
            yield f"what lies in {storage.node_tmp} ({name}) counts as memory of the job"


def jobs_of_jobs(site: SiteConfig, environ: Mapping[str, str]) -> SchedulerError | None:
    """Why nothing can be submitted from here; None: it can."""
    job = environ.get("SLURM_JOB_ID")
    if site.scheduler.submit_from == "anywhere" or job is None:
        return None
    message = f"{site.id} takes jobs from its login hosts alone, and this is within job {job}"
    return SchedulerError(message, "submit from a login host")


def closed(site: SiteConfig, today: date) -> bool:
    """Whether the last day of a site is over."""
    return site.valid_until is not None and site.valid_until < today.isoformat()


def _elsewhere(plan: Plan, site: SiteConfig, arch: str) -> Iterator[str]:
    """Slurm takes a job for nodes of another architecture; what was built here fails there."""
    target = site.targets.get(plan.target.partition("/")[2])
    if target is None or target.endpoint is None or target.node.arch in (None, arch):
        return
    endpoint = site.ssh.endpoints.get(target.endpoint)
    if endpoint is not None and endpoint.arch == arch:
        return
    where = endpoint.host if endpoint is not None else f"its login host {target.endpoint}"
    yield (
        f"the nodes of {plan.target} are {target.node.arch} and this host is {arch}: "
        f"submit from {where}, where programs and environments are built for them"
    )
