"""The independent tasks of a run: a child run for each, all of them in one job array."""

from __future__ import annotations

from dataclasses import replace

from hpcrun import placeholders
from hpcrun.config import ParallelTaskConfiguration
from hpcrun.directives import directives
from hpcrun.layout import task_id
from hpcrun.plan import Plan, Tasks, staged_place
from hpcrun.resolve.container import container_directives
from hpcrun.resolve.request import Request
from hpcrun.site import SchedulerRules

KEY = "distributed_job_config"


def tasks(request: Request) -> Tasks | None:
    """How many there are, and how many at once; None: the run is not made of tasks."""
    asked = request.config.distributed_job_config
    if not isinstance(asked, ParallelTaskConfiguration):
        _refuse_placeholders(request)
        return None
    count = request.choose("tasks", (asked.task_count, f"{KEY}.task_count"))
    assert count is not None
    rules = request.site.scheduler
    at_once = request.choose(
        "tasks at once",
        (asked.max_parallel, f"{KEY}.max_parallel"),
        (rules.max_parallel, request.of_site),
    )
    if rules.max_parallel is not None and at_once is not None and at_once > rules.max_parallel:
        message = f"{at_once} tasks at once asked of {request.of_target}, which runs"
        request.refuse(f"{message} {rules.max_parallel}", "ask for fewer", f"{KEY}.max_parallel")
    if request.local:
        message = "independent tasks are a job array, which target local has not"
        request.refuse(message, "choose a target with Slurm: -t SITE/TARGET", KEY)
    reason = rules.directives.forbid.get("--array")
    if reason is not None or rules.max_array_size == 0:
        message = f"{request.site.id} takes no job arrays, and independent tasks are one"
        request.refuse(message, reason or "scheduler.max_array_size is 0", KEY)
    most, running = rules.max_jobs, rules.max_running_jobs
    if running is not None and min(count, at_once or count) > running:
        request.note("tasks that run at a time", running, request.of_site)
    if most is not None and count > most:
        message = f"{count} tasks asked of {request.of_target}, which takes {most} jobs of a user"
        hint = f"each task is one: at most {most}, each with more to do"
        request.refuse(message, hint, f"{KEY}.task_count")
    return Tasks(count, at_once)


def _refuse_placeholders(request: Request) -> None:
    config = request.config
    for key, words in (("arguments", config.arguments), ("command", config.command)):
        for number, word in enumerate(words if isinstance(words, list | tuple) else ()):
            found = placeholders.of_tasks(str(word))
            if found is not None:
                message = f"{found} is of independent tasks, and this run has none"
                request.refuse(message, f"{KEY}: {{kind: parallel_task}}", f"{key}[{number}]")


def task_of(plan: Plan, index: int, rules: SchedulerRules) -> Plan:
    """The plan of one task: that of an ordinary run, which could be submitted by itself."""
    assert plan.tasks is not None
    run_id = task_id(plan.run_id, index)
    own = replace(plan, run_id=run_id, tasks=replace(plan.tasks, index=index))
    moved = _with_own_outputs(_with_own_environment(own), plan.run_id)
    paths = moved.paths
    job = replace(
        plan.job,
        name=run_id,
        log=paths.batch_log(moved.submission),
        folder=paths.files,
        comment=plan.job.comment and f"hpcrun:{moved.token}",
    )
    lines = (*directives(job, rules), *container_directives(plan.container))
    return replace(moved, job=job, directives=lines)


def _with_own_environment(plan: Plan) -> Plan:
    """Tasks on one node would take the staged environment away from one another."""
    packing = plan.setting.packing
    if packing is None:
        return plan
    place = staged_place(plan.node_tmp, plan.run_id)
    own = replace(packing, place=place)

    def moved(text: str) -> str:
        return text.replace(packing.root, own.root)

    launch, choices = plan.launch, plan.choices
    words = tuple(map(moved, launch.command))
    return replace(
        plan,
        setting=replace(plan.setting, prefix=own.root, packing=own),
        launch=replace(launch, command=words, python=moved(launch.python)),
        choices=tuple(c._replace(value=c.value.replace(packing.place, place)) for c in choices),
    )


def _with_own_outputs(plan: Plan, parent: str) -> Plan:
    """Where {run-id} stands in the path of an output, each task has its own id."""

    def moved(text: str) -> str:
        return text.replace(parent, plan.run_id)

    container = plan.container
    if container is not None:
        container = replace(container, binds=tuple(map(moved, container.binds)))
    data = tuple(
        replace(each, path=moved(each.path)) if each.output else each for each in plan.data
    )
    return replace(plan, data=data, container=container)
