"""What is asked of the scheduler, and whether the target can give it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from hpcrun.config import PyTorchConfiguration, nodes_key, parse_memory, parse_time, processes_key
from hpcrun.directives import Job, format_memory, format_time
from hpcrun.layout import LOCAL, RunPaths, UserPaths
from hpcrun.plan import Choice, Launch
from hpcrun.resolve.request import Request
from hpcrun.resolve.storage import storage
from hpcrun.site.storage import Request as Disk
from hpcrun.site.target import TimeLimits

COMES_WITH = {"by_cpus": "the CPUs", "by_gpus": "the GPUs", "whole_node": "the whole node"}
"""What memory comes with at sites where it is not asked for."""


def job(request: Request, launch: Launch) -> Job:
    """What is asked of the scheduler."""
    resources, target, paths = request.config.resources, request.target, _paths(request)
    pick = request.choose
    in_target = request.of_target
    mail = request.config.mail
    _check_nodes(request, launch.nodes)
    _check_cpus(request, launch.tasks_per_node * (launch.cpus_per_task or 1))
    gpus, model = _gpus(request, launch.nodes, launch.tasks_per_node), _gpu_type(request)
    disks = storage(request)
    by_constraint = request.site.scheduler.gpu.by_constraint.get(model or "")
    pick("internet", (target.internet, in_target))
    pick("preemptible", (target.preemptible or None, in_target))
    if mail is not None and mail.on:
        request.note("mail", ", ".join(mail.on), "mail.on")
        pick("mail to", (mail.address, "mail.address"))
    return Job(
        name=request.run_id,
        log=paths.batch_log(1),
        folder=paths.files,
        nodes=launch.nodes,
        tasks_per_node=launch.tasks_per_node,
        cpus_per_task=launch.cpus_per_task,
        gpus_per_node=gpus,
        gpu_type=None if by_constraint else model,
        memory=_memory(request, gpus, launch.tasks_per_node * (launch.cpus_per_task or 1)),
        exclusive=_exclusive(request),
        time=_time(request, launch.nodes),
        partition=pick(
            "partition",
            (resources.partition, "resources.partition"),
            (target.partition, in_target),
        ),
        qos=pick("qos", (resources.qos, "resources.qos"), (target.qos, in_target)),
        account=_account(request),
        constraint=_constraint(request, gpus, by_constraint, disks),
        reservation=pick(
            "reservation",
            (resources.reservation, "resources.reservation"),
            (target.reservation, in_target),
        ),
        mail_types=tuple(t.upper() for t in mail.on) if mail else (),
        mail_user=mail.address if mail else None,
        comment=f"hpcrun:{request.run_id}.1" if request.site.scheduler.comment else None,
        gres=tuple(disk.gres for disk in disks if disk.gres is not None),
        of_storage=tuple(disk.directive for disk in disks if disk.directive is not None),
        extra=_extra(request, launch.nodes),
    )


def _exclusive(request: Request) -> bool:
    return bool(
        request.choose(
            "whole nodes",
            (request.config.resources.exclusive or None, "resources.exclusive"),
            (request.target.exclusive or None, request.of_target),
            (False, "default"),
        )
    )


def _constraint(
    request: Request, gpus: int, of_model: str | None, disks: Sequence[Disk]
) -> str | None:
    """What the run or the target asks for, and what the site's GPUs and disks are chosen by."""
    asked = request.choose(
        "constraint",
        (request.config.resources.constraint, "resources.constraint"),
        (request.target.constraint, request.of_target),
    )
    of_gpus = request.choose(
        "constraint for GPUs",
        (of_model if gpus else None, request.of_site),
        (None if gpus else request.site.scheduler.gpu.none_constraint, request.of_site),
    )
    every = [*(asked or "").split("&"), *(of_gpus or "").split("&")]
    every += [disk.constraint for disk in disks if disk.constraint is not None]
    return "&".join(dict.fromkeys(filter(None, every))) or None


def _paths(request: Request) -> RunPaths:
    own = UserPaths.of(request.around.workspace, request.around.user)
    return (own.private if request.is_private else own).run(request.run_id)


def _gpus(request: Request, nodes: int, tasks: int) -> int:
    given = request.config.resources.gpus_per_node
    asked = request.choose("gpus per node", (given, "resources.gpus_per_node"), (0, "default"))
    assert asked is not None
    available = request.target.node.gpus
    if available is not None and asked > available:
        request.refuse(
            f"{asked} GPUs per node asked of {request.of_target}, whose nodes have {available}",
            "ask for fewer, or choose another target",
            "resources.gpus_per_node",
        )
    allowed = request.site.scheduler.gpu.allowed_counts
    if asked and allowed and asked not in allowed:
        counts = " or ".join(str(n) for n in allowed)
        request.refuse(
            f"{asked} GPUs per node asked, but {request.site.id} gives {counts}",
            "",
            "resources.gpus_per_node",
        )
    if not asked and request.target.gpus_required:
        message = f"{request.of_target} takes no jobs without GPUs"
        request.refuse(message, "ask for some, or choose another target", "resources.gpus_per_node")
    whole = nodes > 1 and request.site.scheduler.gpu.whole_nodes
    if whole and available and 0 < asked < available:
        request.refuse(
            f"{asked} GPUs on each of {nodes} nodes asked of {request.of_target}, which gives "
            f"jobs of several nodes all {available}",
            f"ask for {available}",
            "resources.gpus_per_node",
            nodes_key(request.config.distributed_job_config),
        )
    if request.site.scheduler.gpu.form == "per_task" and asked % tasks:
        message = f"{request.site.id} gives GPUs to tasks, and {tasks} cannot share {asked}"
        distributed = request.config.distributed_job_config
        hint = "ask for as many on each node as there are processes, or a multiple"
        request.refuse(message, hint, "resources.gpus_per_node", processes_key(distributed))
    _check_backend(request, asked)
    if asked:
        in_target = request.of_target
        request.choose("memory of a GPU", (request.target.node.gpu_memory, in_target))
    return asked


def _check_backend(request: Request, gpus: int) -> None:
    distributed = request.config.distributed_job_config
    if not isinstance(distributed, PyTorchConfiguration) or not gpus:
        return
    processes = distributed.process_count_of_node
    if distributed.communication_backend == "Nccl" and processes > gpus:
        request.refuse(
            f"{processes} processes on each node for NCCL, and {gpus} GPUs per node",
            "two processes cannot share a GPU in NCCL: ask for more GPUs, or for Gloo",
            processes_key(distributed),
            nodes_key(distributed),
            "distributed_job_config.communication_backend",
            "resources.gpus_per_node",
        )


def _gpu_type(request: Request) -> str | None:
    rules, resources = request.site.scheduler.gpu, request.config.resources
    asked, there = resources.gpu_type, request.target.node.gpu_model
    in_target, key = request.of_target, "resources.gpu_type"
    if asked is None and not (rules.typed == "required" and resources.gpus_per_node):
        return None
    model = request.choose("gpu type", (asked, key), (there, in_target))
    if model is None:
        request.refuse(
            f"{request.site.id} wants the model of the GPUs",
            "set resources.gpu_type",
            "resources.gpus_per_node",
            key,
        )
        return None
    model, known = rules.types.get(model, model), rules.types.get(there or "", there)
    if asked is not None and not request.local:
        if not resources.gpus_per_node:
            message = f"GPUs of type {asked} asked, but none per node"
            request.refuse(message, "set resources.gpus_per_node", key, "resources.gpus_per_node")
        if known is not None and model.lower() != known.lower():
            message = f"GPUs of type {asked} asked of {in_target}, whose nodes have {there}"
            request.refuse(message, "choose another target", key)
        elif known is None and rules.typed == "never":
            message = f"{request.site.id} takes no model of GPUs, and {asked} is asked"
            request.refuse(message, "choose a target that has them, without gpu_type", key)
    return model


def _memory(request: Request, gpus: int, cpus: int) -> int | None:
    """Bytes on each node. gpus, cpus: how many a node gives."""
    asked, key = request.config.resources.memory, "resources.memory"
    rules, whole = request.site.scheduler.memory, _is_whole(request)
    mode = rules.mode
    if asked is None and rules.default is not None and (mode == "required" or not whole):
        share = {"mem": 1, "mem_per_cpu": cpus, "mem_per_gpu": gpus}[rules.flag]
        if share:
            size = parse_memory(rules.default) * share
            request.note("memory per node", format_memory(size), request.of_site)
            _check_memory(request, size, f", {rules.default} as the site has it ({rules.flag})")
            return size
    if asked is None:
        if mode == "required":
            request.refuse(f"{request.site.id} wants a memory request", f"set {key}", key)
        return None
    size = parse_memory(asked)
    if mode in COMES_WITH:
        told = f"{format_memory(size)} is not asked for: it comes with {COMES_WITH[mode]}"
        request.note("memory per node", told, request.of_site)
        return None
    told = "" if size or whole else " (all of it: on shared nodes the job waits for empty ones)"
    request.note("memory per node", format_memory(size) + told, key)
    if mode == "forbidden":
        message = f"{request.site.id} does not accept memory requests"
        request.refuse(message, f"remove {key}", key)
    _check_memory(request, size)
    return size


def _check_memory(request: Request, size: int, told: str = "") -> None:
    """Bytes on each node. told: where they come from, if not from the run."""
    limit = request.target.node.memory
    if limit is not None and size > parse_memory(limit):
        request.refuse(
            f"{format_memory(size)} of memory{told} asked of {request.of_target}, whose nodes "
            f"have {limit}",
            "ask for less, or choose another target",
            "resources.memory",
        )


def _is_whole(request: Request) -> bool:
    """Whether nobody else is on the nodes."""
    return bool(request.config.resources.exclusive or request.target.exclusive or request.local)


def _time(request: Request, nodes: int) -> timedelta | None:
    limits = request.target.time
    most = longest(limits, nodes)
    text, source = next(
        (text, source)
        for text, source in (
            (request.config.resources.time, "resources.time"),
            (_duration(request, most), "max_run_duration_seconds"),
            (limits.default, request.of_target),
            ("", ""),
        )
        if text is not None
    )
    if not source:
        if limits.required:
            message, hint = f"{request.site.id} wants a time limit", "set resources.time"
            request.refuse(message, hint, "resources.time", "max_run_duration_seconds")
        return None
    time = parse_time(text)
    request.note("time limit", format_time(time), source)
    _check_time(request, time, most, source)
    return time


def longest(limits: TimeLimits, nodes: int) -> str | None:
    """The longest time limit of a job of so many nodes."""
    fits = (
        rule.max
        for rule in limits.rules
        if rule.nodes_min <= nodes and (rule.nodes_max is None or nodes <= rule.nodes_max)
    )
    given = [next(fits, limits.max)]
    if limits.node_minutes is not None:
        given.append(f"{max(limits.node_minutes // nodes, 1)}m")
    return min(filter(None, given), key=parse_time, default=None)


def _duration(request: Request, limit: str | None) -> str | None:
    """Of all attempts together; one of several takes what the target gives at most."""
    seconds = request.config.max_run_duration_seconds
    if seconds is None:
        return None
    if limit is not None and request.config.requeue.at_time_limit:
        seconds = min(seconds, int(parse_time(limit).total_seconds()))
    return f"{seconds}s"


def _check_time(request: Request, time: timedelta, most: str | None, source: str) -> None:
    limits, nodes_too = request.target.time, ""
    if limits.rules or limits.node_minutes is not None:
        nodes_too = nodes_key(request.config.distributed_job_config)
    if most is not None and time > parse_time(most):
        request.refuse(
            f"a time limit of {format_time(time)} asked of {request.of_target}, which "
            f"gives at most {format_time(parse_time(most))}"
            + (" for so many nodes" if nodes_too else ""),
            f"{_for_tests(request)}above the limit a job waits for ever instead of failing",
            source,
            nodes_too,
        )
    if limits.min is not None and time < parse_time(limits.min):
        request.refuse(
            f"a time limit of {format_time(time)} asked of {request.of_target}, which "
            f"wants at least {format_time(parse_time(limits.min))}",
            "",
            source,
        )


def _check_nodes(request: Request, nodes: int) -> None:
    limits, key = request.target.nodes, nodes_key(request.config.distributed_job_config)
    place = LOCAL if request.local else request.of_target
    if limits.max is not None and nodes > limits.max:
        message = f"{nodes} nodes asked of {place}, which gives at most {limits.max}"
        hint = f"{_for_tests(request)}{_set(key, limits.max)}, or another target: -t SITE/TARGET"
        request.refuse(message, hint, key)
    minutes = request.target.time.node_minutes
    if minutes is not None and nodes > minutes:
        message = f"{nodes} nodes asked of {place}, which gives {minutes} minutes times nodes"
        request.refuse(message, "ask for fewer, or choose another target", key)
    if nodes < limits.min:
        message = f"{nodes} nodes asked of {place}, which wants at least {limits.min}"
        request.refuse(message, _set(key, limits.min), key)


def _for_tests(request: Request) -> str:
    """What a hint begins with at a target that is there for tests."""
    return "it is there for tests: " if request.target.kind == "test" else ""


def _set(key: str, value: int) -> str:
    return f"--set {key}={value}"


def _check_cpus(request: Request, asked: int) -> None:
    available = request.target.node.cpus
    if available is not None and asked > available:
        distributed = request.config.distributed_job_config
        told = request.config.resources.cpus_per_task is not None
        spread = isinstance(distributed, PyTorchConfiguration)  # processes are over all nodes
        request.refuse(
            f"{asked} CPUs per node asked of {request.of_target}, whose nodes have {available}",
            "ask for fewer tasks or CPUs per task",
            "resources.cpus_per_task" if told else processes_key(distributed),
            nodes_key(distributed) if spread else "",
        )


def _account(request: Request) -> str | None:
    rules, suffix = request.site.scheduler.account, request.target.account_suffix
    asked = request.config.resources.account
    named = request.around.environ.get(rules.variable or "")
    account = asked or named or rules.default
    if account is None:
        if rules.required:
            message, key = f"{request.site.id} wants an account", "resources.account"
            variable = f", or {rules.variable} where you submit" if rules.variable else ""
            request.refuse(message, f"set {key}{variable}{rules.known_by}", key)
        return None
    origin = request.origin("resources.account") if asked else request.of_site
    if not asked and named:
        origin = f"{request.of_site}, ${rules.variable}"
    for name, target in request.site.targets.items():
        other = target.account_suffix
        wrong = suffix and other and other != suffix and account.endswith(other)
        if wrong and not account.endswith(suffix):
            message = f"account {account} is for {request.site.id}/{name}, by its end {other}"
            request.refuse(message, "leave its end out, or choose that target", "resources.account")
            return account
    if not account.endswith(suffix):
        account, origin = account + suffix, f"{origin}, {request.of_target}"
    request.choices.append(Choice("account", account, origin))
    return account


def _extra(request: Request, nodes: int) -> Mapping[str, str | None]:
    extra: dict[str, str | None] = {}
    rules = request.site.scheduler.directives
    for text in (*rules.always, *(rules.multi_node if nodes > 1 else ())):
        request.note("always", text, request.of_site)
    for name, value in (request.config.sbatch or {}).items():
        flag = f"--{name.lstrip('-')}"
        extra[flag] = value
        request.note(flag, value or "", f"sbatch.{name}")
    return extra
