"""A site file from what the Slurm of this host tells, and what it could not tell."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

from hpcrun.assets import Assets
from hpcrun.errors import ConfigError, Problem
from hpcrun.layout import LOCAL
from hpcrun.scheduler.inventory import Inventory, JobLimits, Node, Partition, take_inventory
from hpcrun.workflow.site import load_site

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*\Z")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_WORDS_OF_YAML = ("true", "false", "null", "yes", "no", "on", "off")

MODULE_SYSTEMS = {"LMOD_CMD": "Lmod", "MODULESHOME": "Environment Modules"}
"""By the variable that each sets in a login shell."""

_SYSTEMS = {"Lmod": "lmod", "Environment Modules": "tmod"}


class Discovered(NamedTuple):
    """A site file, and what nobody told, in words."""

    name: str
    text: str
    targets: Sequence[str]
    unknown: Sequence[str]


def discover(environ: Mapping[str, str], host: str, name: str | None = None) -> Discovered:
    """Asks the Slurm of this host. name: the site's; default: the cluster's own.

    SchedulerError if Slurm does not answer.
    """
    system = next((text for key, text in MODULE_SYSTEMS.items() if key in environ), None)
    return site_file(take_inventory(environ), host, name, system)


def site_file(
    found: Inventory, host: str, name: str | None = None, modules: str | None = None
) -> Discovered:
    """The site file of a cluster. host: who told it. modules: the module system's name."""
    name = name or re.sub(r"[^a-z0-9]+", "-", found.name.lower()).strip("-") or "cluster"
    partitions = [one for one in found.partitions if one.is_open]
    unknown = [*found.unknown, *_unknown(found, modules)]
    lines = [*_head(found, name, host, partitions), *_scheduler(found), *_launch(found)]
    if modules in _SYSTEMS:
        lines.append(f"modules: {{system: {_SYSTEMS[modules]}}}")
    lines += ["targets:", *(line for one in partitions for line in _target(one, found, partitions))]
    lines += [f"# Not learned: {text}" for text in unknown]
    targets = [f"{name}/{one.name}" for one in partitions]
    return Discovered(name, "\n".join(lines) + "\n", targets, unknown)


def keep(discovered: Discovered, assets: Assets) -> Path:
    """Writes the file among the user's own; it hides none of that name. Gives its path."""
    assert assets.user is not None  # `Assets.of` names one
    if not _NAME.match(discovered.name) or discovered.name == LOCAL:
        why = "it is this machine's" if discovered.name == LOCAL else "letters, digits and - . _"
        raise ConfigError(Problem(f"{discovered.name!r} is no name for a site", why))
    path = assets.user / "site_configs" / f"{discovered.name}.yaml"
    if discovered.name in assets.sites() and not path.exists():
        _, hidden = assets.site(discovered.name)[0]
        hint = f"use that, hpcrun sites show {discovered.name}; or give another name: --name"
        message = f"what is known of {discovered.name} already would be hidden: {hidden}"
        raise ConfigError(Problem(message, hint))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(discovered.text)
    except FileExistsError as error:
        hint = "remove it, or give another name: --name"
        raise ConfigError(Problem(f"there is a site file {path} already", hint)) from error
    except OSError as error:
        raise ConfigError(Problem(f"{path} cannot be written: {error.strerror}")) from error
    load_site(discovered.name, assets)
    return path


def _head(found: Inventory, name: str, host: str, partitions: Sequence[Partition]) -> Iterator[str]:
    yield f"# What Slurm {found.release} told on {host}. Change what you know better."
    yield "schema_version: 1"
    yield f"id: {_word(name)}"
    yield f"title: {_word(f'The cluster {found.name}')}"
    yield "sources:"
    today = date.today().isoformat()
    yield f'  - {{url: {_word(f"scontrol and sacctmgr on {host}")}, date: "{today}", grade: B}}'
    default = next((one.name for one in partitions if one.is_default), None)
    if default is not None:
        yield f"default_target: {_word(default)}"


def _scheduler(found: Inventory) -> Iterator[str]:
    yield "scheduler:"
    form = "gpus_per_node" if "cons_tres" in found.config.get("SelectType", "") else "gres"
    yield f"  gpu: {{form: {form}}}"
    yield f"  memory: {{mode: {'optional' if found.tracks_memory else 'ignored'}}}"
    yield from _of_jobs(found)
    if len(found.accounts) > 1:
        yield f"  # Your accounts: {', '.join(found.accounts)}; the first is the default."
        yield f"  account: {{default: {_word(found.accounts[0])}}}"


def _of_jobs(found: Inventory) -> Iterator[str]:
    """What becomes of jobs: how many there may be, and what is known when they have ended."""
    config = found.config
    if found.keeps_records is not None:
        yield f"  accounting: {'true' if found.keeps_records else 'false'}"
    if config.get("JobRequeue") in ("0", "1"):
        exempt = _seconds(config.get("PreemptExemptTime", ""))
        guaranteed = f", guaranteed_seconds: {exempt}" if exempt else ""
        requeued = "true" if config["JobRequeue"] == "1" else "false"
        yield f"  requeue: {{default: {requeued}{guaranteed}}}"
    if config.get("MaxArraySize", "").isdecimal():
        yield f"  max_array_size: {config['MaxArraySize']}"
    yield from (f"  {line}" for line in _limits(found.limits or JobLimits()))


def _limits(limits: JobLimits) -> Iterator[str]:
    submitted, running = limits
    if submitted:
        yield f"max_jobs: {submitted}"
    if running and (not submitted or running <= submitted):
        yield f"max_running_jobs: {running}"


def _seconds(text: str) -> int:
    """The seconds of a time as Slurm's configuration has it, D-HH:MM:SS or HH:MM:SS; 0: none."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", text)
    if match is None:
        return 0
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _launch(found: Inventory) -> Iterator[str]:
    default = found.config.get("MpiDefault", "none")
    known = [kind for kind in (default, "pmix", "pmi2") if kind != "none" and kind in found.mpi]
    if known:
        yield "launch:"
        yield f"  # srun knows {', '.join(found.mpi)}; its default is {default}."
        yield f"  mpi: {{type: {_word(known[0])}}}"


def _target(one: Partition, found: Inventory, partitions: Sequence[Partition]) -> Iterator[str]:
    nodes = found.nodes_of(one.name)
    yield f"  {_word(one.name)}:"
    yield f"    partition: {_word(one.name)}"
    if one.is_preempted and any(other.tier > one.tier for other in partitions):
        yield "    preemptible: true"
    if one.is_exclusive:
        yield "    exclusive: true"
    if nodes:
        models = sorted({node.gpu for node in nodes if node.gpus})
        if len({_shape(node) for node in nodes}) > 1:
            yield "    # Its nodes differ: this is the most that one of them has."
        yield f"    node: {{{', '.join(_of_node(nodes, models))}}}"
    least = f"min: {one.nodes_min}, " if one.nodes_min > 1 else ""
    most = min(filter(None, (one.nodes_max, len(nodes))), default=None)
    if least or most:
        yield f"    nodes: {{{least}{f'max: {most}' if most else ''}}}".replace(", }", "}")
    times = {"default": one.time_default, "max": one.time_max}
    told = [f'{key}: "{value}"' for key, value in times.items() if value is not None]
    if told:
        yield f"    time: {{{', '.join(told)}}}"
    of_qos = found.of_qos.get(one.qos or "")
    own = [*_limits((found.limits or JobLimits()).within(of_qos))] if of_qos else []
    if one.grace_seconds and one.is_preempted:
        own.append(f"requeue: {{signal: TERM, notice_seconds: {one.grace_seconds}}}")
    if own:
        yield f"    override: {{scheduler: {{{', '.join(own)}}}}}"


def _of_node(nodes: Sequence[Node], models: Sequence[str]) -> Iterator[str]:
    yield f"cpus: {max(node.cpus for node in nodes)}"
    yield f"gpus: {max(node.gpus for node in nodes)}"
    if len(models) == 1 and models[0]:
        yield f"gpu_model: {_word(models[0])}"
    memory = max(node.memory for node in nodes)
    if memory:
        yield f"memory: {memory}M"


def _shape(node: Node) -> tuple[int, int, int, str]:
    return node.cpus, node.memory, node.gpus, node.gpu


def _unknown(found: Inventory, modules: str | None) -> Iterator[str]:
    yield "which folder all nodes share and nobody empties (storage.run_history_root)"
    yield "how often it may be asked (scheduler.poll; 60 s unless told)"
    yield f"which modules a run needs (modules; {modules or 'no module system is set up'} here)"
    yield "which folders are emptied, and where jobs cannot write (storage.roots)"
    yield "whether jobs may submit jobs (scheduler.submit_from)"
    yield "how processes are bound, and which GPUs they see (launch.cpu_bind, gpu_visibility)"
    told = {"AccountingStorageType": "accounting", "JobRequeue": "requeue"}
    for setting, key in {**told, "MaxArraySize": "max_array_size"}.items():
        if setting not in found.config:
            yield f"what its configuration leaves out, {setting} (scheduler.{key})"
    if found.config.get("JobSubmitPlugins", "(null)") not in ("(null)", ""):
        yield f"what its own check wants ({found.config['JobSubmitPlugins']})"
    if any(
        len({node.gpu for node in found.nodes_of(one.name) if node.gpus}) > 1
        for one in found.partitions
    ):
        yield "which GPUs you want of a partition that has several (resources.gpu_type)"


def _word(text: str) -> str:
    """A text as YAML."""
    plain = _PLAIN.match(text) and text.lower() not in _WORDS_OF_YAML
    return text if plain else json.dumps(text)
