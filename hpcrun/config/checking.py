"""What is wrong with a request whatever its target is. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping

from hpcrun.config.distributed import PyTorchConfiguration
from hpcrun.config.model import RunConfiguration
from hpcrun.config.quantities import parse_memory
from hpcrun.errors import Problem
from hpcrun.reading import Origin

EXPERIMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,199}\Z")


def check(config: RunConfiguration, origins: Mapping[str, Origin]) -> list[Problem]:
    """Everything that is wrong, each with its line where it came from a file."""
    return [
        problem_at(origins, key, message, hint)
        for key, message, hint in (
            *_what(config),
            *_numbers(config),
            *_distributed(config),
            *_names(config),
        )
    ]


def problem_at(origins: Mapping[str, Origin], key: str, message: str, hint: str = "") -> Problem:
    """A problem of a key, at the place where the key (or what holds it) was given."""
    while key and key not in origins:
        key = key.rpartition(".")[0]
    origin = origins.get(key, Origin(""))
    return Problem(message, hint, origin.source, origin.line)


_Found = Iterator[tuple[str, str, str]]


def _what(config: RunConfiguration) -> _Found:
    if config.script is None and config.command is None:
        yield "", "neither script nor command is given", "script: train.py"
    if config.script is not None and config.command is not None:
        yield "command", "script and command are both given", "keep one of them"
    elif config.arguments and config.command is not None:
        yield "arguments", "arguments belong to a script", "write them into the command"
    command = config.command
    if (
        command is not None
        and not (command if isinstance(command, str) else "".join(command[:1])).strip()
    ):
        yield "command", "the command is empty", ""
    if config.script is not None:
        script = posixpath.normpath(config.script)
        if script.startswith(("/", "../")) or script in (".", ".."):
            hint = "name it relative to source_directory"
            yield "script", f"the script {config.script} is outside of source_directory", hint


def _numbers(config: RunConfiguration) -> _Found:
    resources, distributed = config.resources, config.distributed_job_config
    for key, number, least in (
        ("resources.node_count", resources.node_count, 1),
        ("resources.gpus_per_node", resources.gpus_per_node, 0),
        ("resources.cpus_per_task", resources.cpus_per_task, 1),
        ("max_run_duration_seconds", config.max_run_duration_seconds, 1),
        ("snapshot.max_files", config.snapshot.max_files, 1),
        *(
            (f"distributed_job_config.{name}", number, _LEAST[name])
            for name, number in (vars(distributed) if distributed is not None else {}).items()
            if name in _LEAST
        ),
    ):
        if number is not None and number < least:
            yield key, f"`{key}` is {number}, and must be at least {least}", ""
    try:
        if parse_memory(config.snapshot.max_bytes) == 0:
            yield "snapshot.max_bytes", "`snapshot.max_bytes` must be above 0", "write 1G or 500M"
    except ValueError as error:
        yield "snapshot.max_bytes", str(error), ""


_LEAST = {
    "node_count": 1,
    "process_count": 1,
    "process_count_per_node": 1,
    "worker_count": 1,
    "parameter_server_count": 0,
}


def _distributed(config: RunConfiguration) -> _Found:
    distributed, nodes = config.distributed_job_config, config.resources.node_count
    if distributed is None:
        return
    if nodes is not None and nodes != distributed.node_count:
        yield (
            "resources.node_count",
            f"{nodes} nodes in resources, and {distributed.node_count} in distributed_job_config",
            "say it in distributed_job_config only",
        )
    if isinstance(distributed, PyTorchConfiguration) and distributed.process_count:
        count, over = distributed.process_count, distributed.node_count
        if over > 0 and count % over:
            yield (
                "distributed_job_config.process_count",
                f"{count} processes cannot be spread evenly over {over} nodes",
                "process_count counts the processes of all nodes together",
            )


def _names(config: RunConfiguration) -> _Found:
    if config.experiment is not None and not EXPERIMENT.match(config.experiment):
        yield "experiment", f"{config.experiment!r} is no name for an experiment", EXPERIMENT_HINT
    if isinstance(config.environment, str) and "/" not in config.environment:
        yield (
            "environment",
            f"there is no environment {config.environment!r}",
            "name the folder of a virtual environment, or write {name: …, modules: […]}",
        )


EXPERIMENT_HINT = "begin with a letter or digit; letters, digits, _ and - only; at most 200"
