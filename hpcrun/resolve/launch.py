"""How the command is started."""

from __future__ import annotations

from hpcrun import placeholders
from hpcrun.config import (
    DistributedConfiguration,
    HorovodConfiguration,
    MpiConfiguration,
    ParallelTaskConfiguration,
    PyTorchConfiguration,
    TensorflowConfiguration,
    nodes_key,
    processes_key,
)
from hpcrun.container import Container
from hpcrun.plan import Launch
from hpcrun.resolve.container import rules_of
from hpcrun.resolve.request import Request
from hpcrun.site import MasterAddress

OVER_MPI = (MpiConfiguration, HorovodConfiguration)
TORCHRUN = ("torchrun", "torchrun_static", "torchrun_mpirun", "torchrun_ibrun")
OVER_SRUN = TORCHRUN[:2]
"""Those whose torchruns are started by srun."""

_WITHOUT_STEPS = ("plain", "mpirun", "ibrun", *TORCHRUN[2:])
_ONE_EACH = (type(None), ParallelTaskConfiguration)
_CHOOSING = (PyTorchConfiguration, HorovodConfiguration)
"""Their programs choose the GPU of their local rank, among all."""


def launch(request: Request, container: Container | None = None) -> Launch:
    """How the command is started. container: in which."""
    distributed = request.config.distributed_job_config
    nodes = request.choose(
        "nodes",
        (getattr(distributed, "node_count", None), nodes_key(distributed)),
        (request.config.resources.node_count, "resources.node_count"),
        (1, "default"),
    )
    assert nodes is not None
    launcher, processes = _launcher(request, distributed, nodes, container)
    reason = request.site.launch.discouraged.get(launcher)
    if reason is not None:
        request.note(f"launcher {launcher} is discouraged", reason, request.of_site)
    one_task = launcher in TORCHRUN
    tasks = 1 if one_task else processes
    cpus = _cpus(request, processes if one_task else 1)
    rules = request.site.launch
    srun_args = rules.srun_args
    by_step = container is not None and container.by_step
    if launcher in ("srun", "tensorflow"):
        srun_args += _bindings(request, tasks)
    if launcher in ("srun", "tensorflow") or (launcher in OVER_SRUN and (nodes > 1 or by_step)):
        request.choose("srun arguments", (srun_args, request.of_site))
    if nodes > 1:
        _note_master(request)
    mpi_type = None
    if isinstance(distributed, OVER_MPI) and launcher == "srun":
        mpi_type = _mpi_type(request, distributed, container)
    before, words = _command(request)
    return Launch(
        launcher=launcher,
        command=(*before, *words),
        nodes=nodes,
        tasks_per_node=tasks,
        processes_per_node=processes,
        cpus_per_task=cpus,
        python=request.python,
        kind=distributed.kind if distributed is not None else None,
        mpi_type=mpi_type,
        srun_args=srun_args,
        master_address=rules.master_address,
        master_port=rules.master_port,
        placeholders=len(before) if placeholders.are_in(words) else None,
        parameter_servers=getattr(distributed, "parameter_server_count", 0),
        gpu_order=_gpu_order(request),
        gpu_visibility=_gpu_visibility(request, launcher, distributed),
    )


def _launcher(
    request: Request,
    distributed: DistributedConfiguration | None,
    nodes: int,
    container: Container | None,
) -> tuple[str, int]:
    """(template, processes per node)."""
    if isinstance(distributed, TensorflowConfiguration):
        return _tensorflow(request, distributed)
    rules, of_site = request.site.launch, request.of_site
    default: tuple[str, str] = ("srun", "default")
    counted = "default"
    if isinstance(distributed, OVER_MPI):
        default, counted = (rules.mpi.starter, of_site), processes_key(distributed)
    elif isinstance(distributed, PyTorchConfiguration) and distributed.process_count:
        default, counted = (rules.pytorch, of_site), processes_key(distributed)
    elif container is not None and container.by_step:
        default = ("srun", f"container runtime {container.runtime}")
    elif request.local or (isinstance(distributed, _ONE_EACH) and nodes == 1):
        default = ("plain", "default")
    asked = getattr(distributed, "launcher", None)
    key = "distributed_job_config.launcher"
    launcher = request.choose("launcher", (asked, key), default)
    processes = distributed.process_count_of_node if distributed is not None else 1
    if isinstance(distributed, HorovodConfiguration):
        gpus = request.config.resources.gpus_per_node
        if distributed.process_count_per_node is None and gpus:
            processes, counted = gpus, "one for each GPU"
        if launcher in TORCHRUN:
            message = f"Horovod speaks over MPI, and {launcher} begins none"
            request.refuse(message, "use launcher srun or mpirun", key)
    assert launcher is not None
    if request.local and launcher == "srun":
        request.refuse("target local has no srun", "use launcher mpirun or torchrun", key)
    if container is not None and container.by_step and launcher in _WITHOUT_STEPS:
        message = f"{container.runtime} is started by srun, and launcher {launcher} starts tasks"
        request.refuse(f"{message} without it", "use launcher srun or torchrun", key)
    if launcher == "plain" and nodes * processes > 1:
        request.refuse(
            f"launcher plain starts 1 process, and {nodes * processes} are asked for",
            "use launcher srun, mpirun or torchrun",
            key,
            nodes_key(distributed),
            processes_key(distributed),
        )
    request.note("processes per node", processes, counted)
    return launcher, processes


def _gpu_order(request: Request) -> str | None:
    """How a process's GPUs are numbered, where that is not as Slurm does it."""
    if not request.config.resources.gpus_per_node:
        return None
    return request.choose("order of GPUs", (request.target.node.gpu_order, request.of_target))


def _gpu_visibility(
    request: Request, launcher: str, distributed: DistributedConfiguration | None
) -> str | None:
    """Which GPUs each process sees, where that is not as Slurm has it."""
    told = request.site.launch.gpu_visibility
    by_itself = isinstance(distributed, _CHOOSING) or launcher != "srun"
    if told == "slurm" or not request.config.resources.gpus_per_node:
        return None
    if launcher not in ("srun", "tensorflow") or (told == "localid" and by_itself):
        return None
    request.note("visible GPUs", told, request.of_site)
    return told


def _bindings(request: Request, tasks: int) -> tuple[str, ...]:
    """What srun is told to bind each of so many processes on a node to."""
    rules, resources = request.site.launch, request.config.resources
    # A list of CPUs, or masks of them, means those of a whole node.
    whole = request.target.exclusive or resources.exclusive
    cpus = rules.cpu_binds.get(str(tasks), rules.cpu_bind) if whole else rules.cpu_bind
    told = {"cpu-bind": cpus}
    if resources.gpus_per_node:
        told |= {"gpu-bind": rules.gpu_bind, "gres-flags": rules.gres_flags}
    return tuple(f"--{flag}={to}" for flag, to in told.items() if to is not None)


def _note_master(request: Request) -> None:
    """Where the first process of several nodes is reached, where the site says so."""
    address, port, of_site = (
        request.site.launch.master_address,
        request.site.launch.master_port,
        request.of_site,
    )
    named = f"the first node's name{address.suffix and f', with {address.suffix} behind it'}"
    if address.resolve is not None:
        named = f"the {address.resolve} of {named}"
    if address.variable is not None:
        named = f"${address.variable}"
    if address != MasterAddress():
        request.note("master address", named, of_site)
    variable = f"${port.variable}" if port.variable is not None else None
    command = f"by {port.command}" if port.command is not None else None
    ports = f"of {port.first} to {port.last}" if port.first is not None else None
    told = (port.number, variable, command, ports)
    request.choose("master port", *((each, of_site) for each in told))


def _mpi_type(
    request: Request,
    distributed: MpiConfiguration | HorovodConfiguration,
    container: Container | None,
) -> str | None:
    """srun's --mpi, by the MPI that the run names, or that of its container."""
    rules, named = request.site.launch.mpi, distributed.implementation
    if named is not None and rules.types and named not in rules.types:
        others = ", ".join(rules.types)
        message = f"{request.site.id} does not say how srun starts {named}, only {others}"
        key = "distributed_job_config.implementation"
        request.refuse(message, "add it to launch.mpi.types in the site file, or use mpirun", key)
    own = rules.types.get(named) if named is not None else None
    inside = rules_of(request, container.runtime).mpi_type if container is not None else None
    known = [(each, request.of_site) for each in (own, inside, rules.type)]
    return request.choose("srun --mpi", *known)


def _tensorflow(request: Request, distributed: TensorflowConfiguration) -> tuple[str, int]:
    key = "distributed_job_config"
    if request.local:
        message = "the processes of a TensorFlow cluster are started by srun, which local has not"
        request.refuse(message, "leave distributed_job_config out to train in one process", key)
    request.note("launcher", "tensorflow", key)
    request.note("processes per node", 1, "default")
    servers = distributed.parameter_server_count
    request.note("parameter servers", servers, f"{key}.parameter_server_count")
    return "tensorflow", 1


def _cpus(request: Request, processes: int) -> int | None:
    """CPUs of a task: a torchrun task holds all processes of its node."""
    asked = request.config.resources.cpus_per_task
    if asked is None:
        if processes == 1 or request.local:
            return None
        request.note("cpus per task", processes, "one for each process")
        return processes
    request.choose("cpus per task", (asked, "resources.cpus_per_task"))
    return asked * processes


def _command(request: Request) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words that stand as they are, and behind them those that may hold placeholders."""
    config = request.config
    if isinstance(config.command, str):
        request.note("command", config.command, "command")
        # Without --, bash would read a line that begins with - or + as its options.
        return ("bash", "-c", "--", config.command), ()
    if config.command is not None:
        words = tuple(str(word) for word in config.command)
        request.note_words("command", words)
        return (), words
    script = str(config.script)
    request.note("script", script, "script")
    arguments = tuple(str(word) for word in config.arguments or ())
    request.note_words("arguments", arguments)
    return (request.python, f"./{script}" if script.startswith("-") else script), arguments
