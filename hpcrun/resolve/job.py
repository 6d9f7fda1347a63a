"""What is asked of the scheduler, and whether the target can give it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpcrun.config import PyTorchConfiguration, nodes_key, processes_key
from hpcrun.directives import Job
from hpcrun.layout import LOCAL, RunPaths, UserPaths
from hpcrun.plan import Choice, Launch
from hpcrun.resolve.gpus import gpu_type, gpus_of
from hpcrun.resolve.memory import memory_of
from hpcrun.resolve.request import Request
from hpcrun.resolve.storage import storage
from hpcrun.resolve.time_limit import time_limit
from hpcrun.site.storage import Request as Disk


def job(request: Request, launch: Launch) -> Job:
    """What is asked of the scheduler."""
    resources, target, paths = request.config.resources, request.target, _paths(request)
    pick = request.choose
    in_target = request.of_target
    mail = request.config.mail
    _check_nodes(request, launch.nodes)
    _check_cpus(request, launch.tasks_per_node * (launch.cpus_per_task or 1))
    gpus, model = gpus_of(request, launch.nodes, launch.tasks_per_node), gpu_type(request)
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
        memory=memory_of(request, gpus, launch.tasks_per_node * (launch.cpus_per_task or 1)),
        exclusive=_exclusive(request),
        time=time_limit(request, launch.nodes),
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


def _check_nodes(request: Request, nodes: int) -> None:
    limits, key = request.target.nodes, nodes_key(request.config.distributed_job_config)
    place = LOCAL if request.local else request.of_target
    if limits.max is not None and nodes > limits.max:
        message = f"{nodes} nodes asked of {place}, which gives at most {limits.max}"
        hint = f"{request.for_tests}{_set(key, limits.max)}, or another target: -t SITE/TARGET"
        request.refuse(message, hint, key)
    minutes = request.target.time.node_minutes
    if minutes is not None and nodes > minutes:
        message = f"{nodes} nodes asked of {place}, which gives {minutes} minutes times nodes"
        request.refuse(message, "ask for fewer, or choose another target", key)
    if nodes < limits.min:
        message = f"{nodes} nodes asked of {place}, which wants at least {limits.min}"
        request.refuse(message, _set(key, limits.min), key)


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
