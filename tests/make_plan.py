"""Plans and scripts, made as `hpcrun render` makes them, from values alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from hpcrun.assets import Assets
from hpcrun.config import RunConfiguration, checked
from hpcrun.errors import ConfigError, PlanError
from hpcrun.plan import Plan
from hpcrun.reading import Read, read_partly
from hpcrun.resolve import resolve
from hpcrun.resolve.surroundings import Surroundings
from hpcrun.script import render
from hpcrun.site import SiteConfig
from hpcrun.workflow.site import load_site

SCRIPT = "script: train.py\n"
"""All that a run.yaml needs."""

RUN_ID = "digits_1700000000_0123abcd"

AROUND = Surroundings(
    user="ada",
    host="login1",
    created=1700000000.0,
    version="0.1.0",
    python="/opt/hpcrun/bin/python",
    workspace="/lab/history",
    source="/home/ada/digits",
)

SDK = "/lab/history/users/ada/sdk/0.1.0-0123456789ab"

SITE = """\
schema_version: 1
id: lab
default_target: gpu
scheduler:
  gpu: {form: gres, typed: optional, types: {A100: a100}}
launch:
  mpi: {starter: srun, type: pmix, env: {OMPI_MCA_pml: ucx}}
  multi_node_env: {NCCL_SOCKET_IFNAME: ib0}
targets:
  gpu:
    partition: gpu
    qos: normal
    node: {cpus: 64, gpus: 4, gpu_model: a100, memory: 500G}
    nodes: {max: 8}
    time: {default: 1h, max: 1-00:00:00, min: 5m}
"""

TOLD = SITE.replace(
    "launch:\n",
    "launch:\n  pytorch: torchrun_ibrun\n"
    "  master_address: {variable: HEAD_NODE}\n  master_port: {variable: FREE_PORT}\n",
)
"""The site, where variables of its jobs tell how the first process is reached."""


def site(text: str = SITE) -> SiteConfig:
    """The site of a site file's text."""
    return read_partly(SiteConfig, text, "lab.yaml").sound().value


def of_site(**rules: str) -> str:
    """The site, with rules for its scheduler."""
    lines = "".join(f"  {name}: {rule}\n" for name, rule in rules.items())
    return SITE.replace("  gpu: {form: gres, typed: optional, types: {A100: a100}}\n", lines)


def with_scratch(folder: str) -> str:
    """The site, with a folder for scratch."""
    return f"{SITE}storage: {{node_tmp: /local, scratch: {folder}}}\n"


def shipped(name: str) -> SiteConfig:
    """A site that ships."""
    return load_site(name, Assets())


def plan(
    config: RunConfiguration | Read[RunConfiguration],
    where: SiteConfig | None = None,
    target: str | None = None,
    packed: str | None = None,
    **around: Any,
) -> Plan:
    """The plan of a request: of one that was read as it is checked, of a value as it is.

    packed: the file that its environment is packed into. around: what is different in the
    surroundings.
    """
    where = where or site()
    name = target or where.default_target
    assert name is not None
    asked = checked(config) if isinstance(config, Read) else Read(config, {})
    return resolve(asked, where, name, replace(AROUND, **around), RUN_ID, SDK, packed=packed)


def script(made: Plan, assets: Assets | None = None, *sites: str) -> str:
    """The script of a plan. sites: whose templates count."""
    return render(made, (assets or Assets()).templates(*sites).load).text


def from_yaml(text: str) -> Read[RunConfiguration]:
    """What a run.yaml of this text asks for."""
    return read_partly(RunConfiguration, text, "run.yaml")


def plan_of(text: str, where: str = SITE, target: str | None = None, **around: object) -> Plan:
    """The plan of a run.yaml of this text, on a site of a site file's text."""
    return plan(from_yaml(text), site(where), target, **around)


def choices(made: Plan) -> Mapping[str, tuple[str, str]]:
    """Name → (value, origin) of all that a plan tells."""
    return {choice.name: (choice.value, choice.origin) for choice in made.choices}


def refused(text: str, where: str = SITE, target: str | None = None) -> list[str]:
    """The problems of a request, each with its place."""
    with pytest.raises((PlanError, ConfigError)) as caught:
        plan_of(text, where, target)
    return [str(problem) for problem in caught.value.problems]
