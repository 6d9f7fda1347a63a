"""The sites that ship: what each would submit, and that a source says so.

A site of which nobody says how GPUs are asked for has no PyTorch job here.

UPDATE_GOLDEN=1 pytest tests/test_presets.py    writes tests/golden/sites anew; read the difference.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from hpcrun.assets import Assets
from hpcrun.config import parse_time
from hpcrun.layout import LOCAL
from hpcrun.plan import Plan
from hpcrun.resolve.time_limit import longest
from hpcrun.site import SiteConfig, Target
from hpcrun.workflow.site import choose_target, load_site
from hpcrun.workflow.sites import UNSOURCED, Fact, check_file, facts_of
from tests.make_plan import from_yaml, plan, script

GOLDEN = Path(__file__).with_name("golden") / "sites"

SITES = [site.site for site in Assets().known_sites() if site.status != "abstract"]

OURS = {
    "--job-name",
    "--comment",
    "--chdir",
    "--output",
    "--open-mode",
    "--nodes",
    "--ntasks-per-node",
    "--cpus-per-task",
    "--time",
    "--signal",
}
"""Directives of what is asked, which every sbatch takes."""

SAID_BY = {
    "--gpus-per-node": ("scheduler.gpu.form",),
    "--gres": ("scheduler.gpu.form",),
    "--gpus": ("scheduler.gpu.form",),
    "--mem": ("scheduler.memory.mode", "scheduler.memory.flag"),
    "--mem-per-cpu": ("scheduler.memory.flag",),
    "--mem-per-gpu": ("scheduler.memory.flag",),
    "--gpus-per-task": ("scheduler.gpu.form",),
    "--export": ("scheduler.export",),
    "--account": ("scheduler.account.required", "scheduler.account.default"),
    "--exclusive": ("target.exclusive",),
    "--partition": ("target.partition",),
    "--qos": ("target.qos",),
    "--reservation": ("target.reservation",),
    "--constraint": (
        "target.constraint",
        "scheduler.gpu.by_constraint",
        "scheduler.gpu.none_constraint",
    ),
}
"""The fields of a site file that speak for a directive; one of them must have a source."""


class Asked(NamedTuple):
    """A job on a target that suits it."""

    kind: str
    target: str
    text: str


def jobs(site: SiteConfig) -> Iterator[Asked]:
    """PyTorch on two nodes with all their GPUs, MPI on two nodes, and a job for CPUs."""
    for kind in ("pytorch", "mpi", "cpu"):
        name = _suitable(site, kind)
        if name is not None:
            yield Asked(kind, name, _request(site, site.targets[name], kind))


def _suitable(site: SiteConfig, kind: str) -> str | None:
    nodes = 1 if kind == "cpu" else 2
    fitting = {
        name: target
        for name, target in site.targets.items()
        if target.nodes.min <= nodes and (target.nodes.max is None or target.nodes.max >= nodes)
    }
    if kind == "pytorch":
        known = {fact.key for fact in facts_of(site.id, Assets())}
        forms = [f"{place}scheduler.gpu.form" for place in ("", *_overrides(site))]
        suitable = [name for name, target in fitting.items() if target.node.gpus]
        return next(iter(suitable), None) if known.intersection(forms) else None
    named = {name: target for name, target in fitting.items() if not target.gpus_required}
    of_cpus = [name for name, target in named.items() if target.kind == "cpu"]
    required = fitting if kind == "mpi" else {}
    return next(iter([*of_cpus, *named, *required]), None)


def _overrides(site: SiteConfig) -> list[str]:
    return [f"targets.{name}.override." for name in site.targets]


def _request(site: SiteConfig, target: Target, kind: str) -> str:
    rules, gpus = site.scheduler, target.node.gpus or 0
    resources = {"cpus_per_task": "4"} if kind == "cpu" else {}
    if kind == "pytorch" or (kind == "mpi" and target.gpus_required):
        resources["gpus_per_node"] = str(gpus)
    if rules.account.required:
        resources["account"] = "proj"
    if rules.memory.mode == "required":
        resources["memory"] = "16G"
    most = longest(target.time, 2)
    if most is not None and parse_time(most) < parse_time("1h"):
        resources["time"] = most
    else:
        resources["time"] = target.time.min or "1h"
    text = "script: train.py\n"
    text += f"resources: {{{', '.join(f'{key}: {value}' for key, value in resources.items())}}}\n"
    if kind == "pytorch":
        text += (
            f"distributed_job_config: {{kind: pytorch, node_count: 2, process_count: {2 * gpus}}}\n"
        )
    if kind == "mpi":
        text += "distributed_job_config: {kind: mpi, node_count: 2, process_count_per_node: 2}\n"
    return text


def planned(name: str, asked: Asked) -> Plan:
    site, target = choose_target(f"{name}/{asked.target}", Assets())
    return plan(from_yaml(asked.text), site, target)


@pytest.fixture(params=SITES)
def site(request: pytest.FixtureRequest) -> SiteConfig:
    return load_site(request.param, Assets())


def test_what_is_submitted_is_what_was_read(site: SiteConfig) -> None:
    """Their scripts, as people who know the site have looked at them."""
    folder = GOLDEN / site.id
    made = {f"{asked.kind}.sh": script(planned(site.id, asked)) for asked in jobs(site)}
    if os.environ.get("UPDATE_GOLDEN"):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in made.items():
            (folder / name).write_text(text)
    assert {path.name: path.read_text() for path in folder.iterdir()} == made
    assert made or site.id == LOCAL


def test_a_source_speaks_for_every_directive(site: SiteConfig) -> None:
    facts = {fact.key: fact for fact in facts_of(site.id, Assets())}
    forbidden = site.scheduler.directives.forbid
    for asked in jobs(site):
        for directive in planned(site.id, asked).directives:
            assert directive.flag not in forbidden
            if directive.flag not in OURS:
                found = list(said_by(directive.flag, asked.target, facts))
                assert found, f"{site.id}/{asked.target}: nobody says {directive.text}"


def said_by(flag: str, target: str, facts: dict[str, Fact]) -> Iterator[Fact]:
    """What of a site's files speaks for a directive, with the grade of what may be written."""
    fields = SAID_BY.get(flag, ("scheduler.directives.always", "scheduler.directives.multi_node"))
    for field in fields:
        own, override = f"targets.{target}.", f"targets.{target}.override."
        places = (
            (field.replace("target.", own),) if "target." in field else (field, override + field)
        )
        for key, fact in facts.items():
            if key.startswith(places) and fact.source is not None and fact.source.grade != "C":
                yield fact


def test_every_value_has_a_source_that_may_be_written(site: SiteConfig) -> None:
    for fact in facts_of(site.id, Assets()):
        if not fact.key.startswith(UNSOURCED):
            assert fact.source is not None, fact
            assert fact.source.grade in ("A", "B") and fact.source.url, fact


def test_every_file_is_sound() -> None:
    for known in Assets().known_sites():
        path = Path(known.file)
        wrong = [finding for finding in check_file(path, Assets()) if finding.grade == "error"]
        assert not wrong, (known.site, wrong)


def test_every_golden_folder_is_of_a_site() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(SITES)
