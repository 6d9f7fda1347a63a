"""What is wrong with a request whatever its target is. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator

from hpcrun import flags, placeholders, variables
from hpcrun.agent.follow.patterns import FOLDERS, FORMATS, format_of
from hpcrun.config.distributed import (
    LAUNCHERS,
    HorovodConfiguration,
    ParallelTaskConfiguration,
    PyTorchConfiguration,
    TensorflowConfiguration,
    nodes_key,
    processes_key,
)
from hpcrun.config.environment_checking import of_environment
from hpcrun.config.model import RunConfiguration
from hpcrun.config.quantities import parse_memory, parse_time
from hpcrun.errors import ConfigError
from hpcrun.layout import MOST_TASKS
from hpcrun.reading import Finding, Read, nearest

EXPERIMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,199}\Z")


def checked(asked: Read[RunConfiguration]) -> Read[RunConfiguration]:
    """The same with everything that is wrong with it whatever its target is."""
    config = asked.value
    return asked.with_findings(
        (
            *_what(config),
            *_numbers(config),
            *_quantities(config),
            *_distributed(config),
            *_placeholders(config),
            *_data(config),
            *_names(config),
            *of_environment(config.environment),
            *_variables(config),
            *_directives(config),
            *_metric_files(config),
            *_requeue(config),
            *_checkpoints(config),
            *_after(config),
        )
    )


def readable(asked: Read[RunConfiguration]) -> RunConfiguration:
    """What is asked, if all of it could be read. ConfigError with all that is wrong if not."""
    if asked.problems:
        raise ConfigError(*checked(asked).problems)
    return asked.value


def _what(config: RunConfiguration) -> Iterator[Finding]:
    script, command = config.script, config.command
    if script is None and command is None:
        message = "neither script nor command is given"
        yield Finding("script", message, "script: train.py", ("command",))
    if script is not None and command is not None:
        yield Finding("command", "script and command are both given", "keep one of them")
    elif config.arguments and command is not None:
        message, hint = "arguments belong to a script", "write them into the command"
        yield Finding("arguments", message, hint, ("script", "command"))
    if command is not None:
        first = command if isinstance(command, str) else "".join(command[:1])
        if not first.strip():
            yield Finding("command", "the command is empty")
    if script is not None:
        path = posixpath.normpath(script)
        if path.startswith(("/", "../")) or path in (".", ".."):
            hint = "name it relative to source_directory"
            yield Finding("script", f"the script {script} is outside of source_directory", hint)


def _numbers(config: RunConfiguration) -> Iterator[Finding]:
    resources, distributed = config.resources, config.distributed_job_config
    for key, number, least in (
        ("resources.node_count", resources.node_count, 1),
        ("resources.gpus_per_node", resources.gpus_per_node, 0),
        ("resources.cpus_per_task", resources.cpus_per_task, 1),
        ("max_run_duration_seconds", config.max_run_duration_seconds, 1),
        ("snapshot.max_files", config.snapshot.max_files, 1),
        ("requeue.exit_code", config.requeue.exit_code, 0),
        ("requeue.max_attempts", config.requeue.max_attempts, 1),
        ("system_metrics_seconds", config.system_metrics_seconds, 0),
        *(
            (f"distributed_job_config.{name}", number, _LEAST[name])
            for name, number in (vars(distributed) if distributed is not None else {}).items()
            if name in _LEAST
        ),
    ):
        if number is not None and number < least:
            yield Finding(key, f"`{key}` is {number}, and must be at least {least}")


_LEAST = {
    "node_count": 1,
    "process_count": 1,
    "process_count_per_node": 1,
    "worker_count": 1,
    "parameter_server_count": 0,
    "task_count": 1,
    "max_parallel": 1,
}


def _quantities(config: RunConfiguration) -> Iterator[Finding]:
    """Times and sizes that are none."""
    resources, seconds = config.resources, config.max_run_duration_seconds
    quantities: tuple[tuple[str, str | None, Callable[[str], object]], ...] = (
        ("resources.time", resources.time, parse_time),
        ("max_run_duration_seconds", f"{seconds}s" if (seconds or 0) > 0 else None, parse_time),
        ("stop.lead", config.stop.lead, parse_time),
        ("stop.checkpoint_time", config.stop.checkpoint_time, parse_time),
        ("resources.memory", resources.memory, parse_memory),
        ("snapshot.max_bytes", config.snapshot.max_bytes, parse_memory),
    )
    for key, text, parse in quantities:
        try:
            size = None if text is None else parse(text)
        except ValueError as error:
            yield Finding(key, str(error))
        else:
            if size == 0 and key == "snapshot.max_bytes":
                yield Finding(key, f"`{key}` must be above 0", "write 1G or 500M")


def _distributed(config: RunConfiguration) -> Iterator[Finding]:
    distributed, nodes = config.distributed_job_config, config.resources.node_count
    if distributed is None:
        return
    if nodes is not None and nodes != distributed.node_count:
        yield Finding(
            "resources.node_count",
            f"{nodes} nodes in resources, and {distributed.node_count} in distributed_job_config",
            "say it in distributed_job_config only",
            (nodes_key(distributed),),
        )
    launcher = getattr(distributed, "launcher", None)
    if launcher is not None and not re.fullmatch(r"[A-Za-z0-9_-]+", launcher):
        yield Finding(
            "distributed_job_config.launcher",
            f"{launcher!r} is no name of a launcher",
            nearest(launcher, LAUNCHERS),
        )
    if isinstance(distributed, HorovodConfiguration):
        yield from _horovod(config)
    if isinstance(distributed, ParallelTaskConfiguration):
        count = distributed.task_count
        if count > MOST_TASKS:
            key = "distributed_job_config.task_count"
            yield Finding(
                key, f"{count} tasks; a run has at most {MOST_TASKS}", "make several runs"
            )
    if isinstance(distributed, TensorflowConfiguration):
        servers, workers = distributed.parameter_server_count, distributed.worker_count
        if servers > workers > 0:
            yield Finding(
                "distributed_job_config.parameter_server_count",
                f"{servers} parameter servers for {workers} workers: a node has one at most",
                "0 for MultiWorkerMirroredStrategy",
                (nodes_key(distributed),),
            )
        if servers and config.stop.signal == "USR2":
            message = "USR2 tells parameter servers to end, and cannot tell the workers as well"
            yield Finding("stop.signal", message, "USR1", ("distributed_job_config",))
    if isinstance(distributed, PyTorchConfiguration) and distributed.process_count:
        count, over = distributed.process_count, distributed.node_count
        if over > 0 and count % over:
            yield Finding(
                processes_key(distributed),
                f"{count} processes cannot be spread evenly over {over} nodes",
                "process_count counts the processes of all nodes together",
                (nodes_key(distributed),),
            )


def _horovod(config: RunConfiguration) -> Iterator[Finding]:
    environment = config.environment
    for section, values in (
        (
            "environment.environment_variables",
            {} if isinstance(environment, str) else environment.environment_variables,
        ),
        ("environment_variables", config.environment_variables or {}),
    ):
        if values.get("HOROVOD_CONTROLLER", "mpi").lower() != "mpi":
            message = (
                "Horovod's Gloo controller finds its processes through a server that horovodrun"
                " starts, and horovodrun reaches nodes by ssh"
            )
            hint = "leave it out: Horovod is started over MPI, and needs one that was built with it"
            yield Finding(f"{section}.HOROVOD_CONTROLLER", message, hint)


def _data(config: RunConfiguration) -> Iterator[Finding]:
    """Each name is a part of variables' names, and one of its own."""
    inputs, outputs = config.inputs or {}, config.outputs or {}
    for section, given in (("inputs", inputs), ("outputs", outputs)):
        seen: dict[str, str] = {}
        for name, data in given.items():
            key, path = f"{section}.{name}", data if isinstance(data, str) else data.path
            if not DATA_NAME.match(name):
                hint = "a letter first, then letters, digits and _; at most 64"
                yield Finding(key, f"{name!r} is no name for data", hint)
            elif section == "outputs" and name.upper() == "DIRECTORY":
                message = "HPCRUN_OUTPUT_DIRECTORY is another variable"
                yield Finding(key, message, "give the output another name")
            other = seen.setdefault(name.upper(), name)
            if other != name:
                message = f"the variables of {section} {other} and {name} have one name"
                yield Finding(key, message, "give one another name")
            if not path:
                yield Finding(key, f"`{key}` has no path", "a folder that all nodes see")
            for character in "\n\0":
                if character in path:
                    yield Finding(key, f"the path {path!r} holds a {character!r}")
    for name in outputs:
        if name in inputs:
            message, hint = f"{name} is both an input and an output", "give one another name"
            yield Finding(f"outputs.{name}", message, hint, (f"inputs.{name}",))


DATA_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}\Z")


def _placeholders(config: RunConfiguration) -> Iterator[Finding]:
    line = isinstance(config.command, str)
    data = [f"inputs.{name}" for name in config.inputs or ()]
    data += [f"outputs.{name}" for name in config.outputs or ()]
    for key, words in (
        ("arguments", config.arguments or ()),
        ("command", () if line else config.command or ()),
    ):
        for number, word in enumerate(words):
            refused = placeholders.refusal(str(word), data)
            if refused is not None:
                yield Finding(f"{key}[{number}]", refused.message, refused.hint)


def _names(config: RunConfiguration) -> Iterator[Finding]:
    name = config.experiment
    if name is not None and not EXPERIMENT.match(name):
        yield Finding("experiment", f"{name!r} is no name for an experiment", EXPERIMENT_HINT)
    if config.compute_target == "":
        hint = "site/target, or local: an unset variable in -t would run it on this machine"
        yield Finding("compute_target", "the target is empty", hint)


def _variables(config: RunConfiguration) -> Iterator[Finding]:
    environment, own = config.environment, config.environment_variables or {}
    secrets = config.secrets or {}
    of_environment = {} if isinstance(environment, str) else environment.environment_variables
    for section, given in (
        ("environment.environment_variables", of_environment),
        ("environment_variables", own),
        ("secrets", dict.fromkeys(secrets, "")),
    ):
        for name, value in given.items():
            refused = variables.refusal(name, value)
            if refused is not None:
                yield Finding(f"{section}.{name}", refused.message, refused.hint)
    for name in secrets:
        if name in own:
            message, beside = f"{name} is both a variable and a secret", "environment_variables"
            hint = "keep one of them"
            yield Finding(f"secrets.{name}", message, hint, (f"{beside}.{name}",))


def _directives(config: RunConfiguration) -> Iterator[Finding]:
    given = set()
    for name, value in (config.sbatch or {}).items():
        key, flag = f"sbatch.{name}", f"--{name.lstrip('-')}"
        refused = flags.refusal(name, value)
        if refused is not None:
            yield Finding(key, refused.message, refused.hint)
        elif flag in given:
            yield Finding(key, f"{flag} is given twice")
        given.add(flag)
        for what in flags.obstacles(value or ""):
            yield Finding(key, f"the value of {flag} holds {what}: {value!r}")
    resources = config.resources
    for key, value in (
        *((f"resources.{name}", getattr(resources, name)) for name in _WRITTEN),
        ("mail.address", config.mail.address if config.mail else None),
    ):
        for what in flags.obstacles(value or ""):
            yield Finding(key, f"`{key}` holds {what}: {value!r}")


_WRITTEN = ("gpu_type", "partition", "qos", "account", "constraint", "reservation")


def _requeue(config: RunConfiguration) -> Iterator[Finding]:
    requeue = config.requeue
    if requeue.exit_code > 125:
        message = f"`requeue.exit_code` is {requeue.exit_code}, and must be at most 125"
        yield Finding("requeue.exit_code", message, "shells use those above for themselves")
    if requeue.at_time_limit and requeue.allowed is False:
        message = "requeue.at_time_limit asks for what requeue.allowed forbids"
        yield Finding("requeue.at_time_limit", message, "keep one of them", ("requeue.allowed",))


def _checkpoints(config: RunConfiguration) -> Iterator[Finding]:
    for number, pattern in enumerate(config.checkpoints.patterns):
        if not pattern.strip("/") or pattern.startswith("/") or ".." in pattern.split("/"):
            key, message = f"checkpoints.patterns[{number}]", f"{pattern!r} is no pattern"
            yield Finding(key, message, "names below outputs/, such as checkpoint-* or **/*.pt")
    marker = config.checkpoints.marker
    if marker is not None and (not marker or "/" in marker):
        yield Finding("checkpoints.marker", f"{marker!r} is no name of a file", "such as complete")
    if config.resume_from == "":
        yield Finding("resume_from", "`resume_from` is empty", "a path, or auto")


def _after(config: RunConfiguration) -> Iterator[Finding]:
    if config.after is None:
        return
    if not config.after.runs:
        yield Finding("after.runs", "`after` names no run", "after: {runs: [RUN]}", ("after",))
    for name in config.sbatch or {}:
        if name.lstrip("-") in ("dependency", "d"):
            message = "both `after` and the directive say what the job waits for"
            yield Finding(f"sbatch.{name}", message, "keep one of them", ("after",))


def _metric_files(config: RunConfiguration) -> Iterator[Finding]:
    for number, given in enumerate(config.metric_files or ()):
        pattern, known = (given, None) if isinstance(given, str) else (given.pattern, given.format)
        key, parts = f"metric_files[{number}]", pattern.split("/")
        if parts[0] not in FOLDERS or len(parts) < 2:
            folders = " or ".join(f"{folder}/" for folder in FOLDERS)
            message = f"the metric files {pattern!r} are not below {folders}"
            yield Finding(key, message, f"logs/{pattern}")
        elif not all(parts) or {".", ".."} & set(parts):
            message = f"{pattern!r} is no pattern of names"
            yield Finding(key, message, "logs/**/events.out.tfevents.*")
        elif known is None and not format_of(pattern) and not pattern.endswith("*"):
            message = f"the name {parts[-1]!r} does not tell the format of these metric files"
            yield Finding(key, message, f"{{pattern: {pattern}, format: {FORMATS[2]}}}")


EXPERIMENT_HINT = "begin with a letter or digit; letters, digits, _ and - only; at most 200"
