"""The GPUs of each node, and whether the target has them."""

from __future__ import annotations

from hpcrun.config import PyTorchConfiguration, nodes_key, processes_key
from hpcrun.resolve.request import Request


def gpus_of(request: Request, nodes: int, tasks: int) -> int:
    """How many each node gives. tasks: those of the scheduler on each of the nodes."""
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


def gpu_type(request: Request) -> str | None:
    """Their model, as the site names it; None: any will do."""
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
