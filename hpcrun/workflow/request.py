"""run.json: what the agent, the readers and a bug report need of the plan. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from hpcrun.directives import WITHOUT_GPUS, one_on_each
from hpcrun.layout import LOCAL
from hpcrun.plan import Plan


def request_of(plan: Plan, digest: str, properties: Mapping[str, str]) -> dict[str, Any]:
    """run.json of a run. digest: of its snapshot."""
    packing = plan.setting.packing
    return {
        "format": 1,
        "run_id": plan.run_id,
        "experiment": plan.experiment,
        "display_name": plan.display_name,
        "description": plan.description,
        "user": plan.user,
        "target": plan.target,
        "created": plan.created,
        "tags": dict(plan.tags),
        "properties": dict(properties),
        "snapshot": {
            "digest": digest,
            "manifest": plan.room.manifest(digest),
            "objects": plan.room.objects,
        },
        **({"private": True} if plan.private else {}),
        "agent": agent_settings(plan),
        **(
            {"working_directory": {"folder": plan.work, "shared": plan.work_is_shared}}
            if plan.work is not None
            else {}
        ),
        **({"data": data_settings(plan)} if plan.data else {}),
        **({"after": plan.awaiting.told()} if plan.awaiting is not None else {}),
        "job": {
            name: value
            for name in ("partition", "qos", "account", "reservation")
            if (value := getattr(plan.job, name)) is not None
        },
        "launch": {
            "launcher": plan.launch.launcher,
            "command": list(plan.launch.command),
            "nodes": plan.launch.nodes,
            "processes_per_node": plan.launch.processes_per_node,
        },
        "environment": {
            "python": plan.launch.python,
            "virtual_environment": plan.setting.shared_prefix,
            "modules": list(plan.setting.modules),
            **({"packed": packing.file} if packing is not None else {}),
            **(
                {"image": plan.container.image, "container_runtime": plan.container.runtime}
                if plan.container is not None
                else {}
            ),
        },
        "choices": [list(choice) for choice in plan.choices],
        "hpcrun": plan.version,
    }


def request_of_task(task: Plan, request: Mapping[str, Any]) -> dict[str, Any]:
    """That of one of a run's independent tasks. request: the run's; what names a place on a node's
    disk is the task's own."""
    own = request_of(task, "", {})
    kept = {name: request[name] for name in ("properties", "snapshot")}
    return {
        **request,
        **own,
        **kept,
        "agent": {**request["agent"], **own["agent"]},
        "environment": {**request["environment"], **own["environment"]},
    }


def data_settings(plan: Plan) -> dict[str, Any]:
    """What the agent is told of the run's data."""
    names = ("name", "path", "mode", "place", "output")
    told = [{name: getattr(each, name) for name in names} for each in plan.data]
    return {"folder": plan.data_folder, "all": told}


def agent_settings(plan: Plan) -> dict[str, Any]:
    """What the agent is told. On `local` it also keeps the time limit: nobody else does."""
    local = plan.target == LOCAL
    others = plan.launch.nodes - 1
    return {
        "words": [plan.agent_python, "-I", "-S", plan.sdk],
        "spool": plan.spool,
        "heartbeat_seconds": 30,
        "kill_wait_seconds": 30,
        "metric_files": [vars(files) for files in plan.metric_files],
        "sample_seconds": plan.system_metrics_seconds,
        "time_limit_seconds": _seconds(plan.time_limit) if local else None,
        "stop_after_seconds": _stop_after(plan),
        "stop_signal": plan.stopping.signal,
        "stop_lead_seconds": _seconds(plan.stopping.lead),
        "requeue": {
            "exit_code": plan.requeueing.exit_code,
            "at_time_limit": plan.requeueing.at_time_limit,
            "max_attempts": plan.requeueing.max_attempts,
        },
        "preflight": asdict(plan.preflight) if plan.preflight is not None else None,
        "max_duration_seconds": _seconds(plan.requeueing.max_duration),
        "checkpoints": {
            "patterns": list(plan.resuming.patterns),
            "marker": plan.resuming.marker,
        },
        "node_helpers": []
        if local or not others
        else ["env", *WITHOUT_GPUS, *one_on_each(others, "--relative=1"), "--mpi=none"],
    }


def _seconds(time: timedelta | None) -> float | None:
    return None if time is None else time.total_seconds()


def _stop_after(plan: Plan) -> float | None:
    """After how many seconds the agent says that time is nearly over; None where Slurm does."""
    stopping, time = plan.stopping, plan.time_limit
    if stopping.lead is None or time is None or not stopping.own_clock:
        return None
    return (time - stopping.lead).total_seconds()
