"""Whether the launch is tried before the command, and what that must find."""

from __future__ import annotations

from hpcrun.container import Container
from hpcrun.directives import Job
from hpcrun.plan import Launch, Preflight
from hpcrun.resolve.request import Request


def preflight(
    request: Request, launch: Launch, job: Job, container: Container | None = None
) -> Preflight | None:
    """What a preflight must find; None: there is none, as on one node or without a scheduler.

    It looks at the nodes themselves, so an MPI that is in a container is not tried.
    """
    if request.local or not _is_wanted(request, launch.nodes):
        return None
    speaks_mpi = getattr(request.config.distributed_job_config, "kind", "") in ("mpi", "horovod")
    return Preflight(
        tasks=launch.nodes * launch.tasks_per_node,
        gpus=job.gpus_per_node,
        python=launch.python if speaks_mpi and container is None else None,
    )


def _is_wanted(request: Request, nodes: int) -> bool:
    for told, source in (
        (request.config.preflight, "preflight"),
        (request.site.launch.preflight, request.of_site),
        (nodes > 1 or None, "default"),
    ):
        if told is not None:
            request.note("preflight", "on" if told else "off", source)
            return told
    return False
