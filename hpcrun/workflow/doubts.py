"""What speaks against a submission and does not forbid it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import date

from hpcrun.plan import FORCE, Plan
from hpcrun.site import SiteConfig
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
    if target.preemptible and plan.job.requeue is False:
        yield (
            f"other jobs may push those of {plan.target} off their nodes, and this one is not to be"
            " requeued then: it would end there (requeue.allowed)"
        )


def doubts_of_site(plan: Plan, site: SiteConfig, today: date, arch: str) -> Iterator[str]:
    """A sentence for each, whatever the run asks for. arch: what `uname -m` says on this host."""
    reason = site.launch.discouraged.get(plan.launch.launcher)
    if reason is not None:
        yield f"launcher {plan.launch.launcher} is discouraged at {site.id}: {reason}"
    if closed(site, today):
        yield f"{site.id} was said to close on {site.valid_until}"
    yield from _elsewhere(plan, site, arch)


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
