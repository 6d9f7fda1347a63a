"""Joins what is asked with what the site is, into a Plan.

Pure: the clock, the user, the environment and new ids come in as `Surroundings`. All
contradictions between the run and its target are found at once, before anything is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TypeVar

from hpcrun.config import (
    DistributedConfiguration,
    Environment,
    MpiConfiguration,
    RunConfiguration,
    TensorflowConfiguration,
    parse_memory,
    parse_time,
    problem_at,
)
from hpcrun.directives import (
    RESERVED_FLAGS,
    Job,
    directives,
    forbidden,
    format_memory,
    format_time,
    unprintable,
)
from hpcrun.errors import PlanError, Problem
from hpcrun.layout import RunPaths, UserPaths
from hpcrun.plan import LOCAL, Choice, Launch, Plan, Setting, Surroundings, experiment_name
from hpcrun.reading import Origin
from hpcrun.site import SiteConfig, Target

Value = TypeVar("Value")

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def resolve(
    config: RunConfiguration,
    site: SiteConfig,
    target_name: str,
    around: Surroundings,
    run_id: str,
    sdk: str,
    origins: Mapping[str, Origin] | None = None,
) -> Plan:
    """Joins what is asked with what the site is. Raises PlanError with every contradiction."""
    return _Resolver(config, site, target_name, around, run_id, sdk, origins or {}).plan()


class _Resolver:
    """Collects choices and problems while one plan is made."""

    def __init__(
        self,
        config: RunConfiguration,
        site: SiteConfig,
        target_name: str,
        around: Surroundings,
        run_id: str,
        sdk: str,
        origins: Mapping[str, Origin],
    ) -> None:
        self.config = config
        self.site = site
        self.target_name = target_name
        self.target: Target = site.targets[target_name]
        self.around = around
        self.run_id = run_id
        self.sdk = sdk
        self.origins = origins
        self.choices: list[Choice] = []
        self.problems: list[Problem] = []

    def plan(self) -> Plan:
        config, around = self.config, self.around
        full_target = LOCAL if self.local else f"{self.site.id}/{self.target_name}"
        self.choose("target", (config.compute_target, "compute_target"), (full_target, "default"))
        experiment = experiment_name(config, around.source)
        self.choose("experiment", (config.experiment, "experiment"), (experiment, "source folder"))
        launch = self._launch()
        job = self._job(launch)
        lines = directives(job, self.site.scheduler)
        self.problems += forbidden(lines, self.site.scheduler, self.site.id)
        self.problems += unprintable(lines)
        setting = self._setting(launch.nodes)
        if self.problems:
            raise PlanError(*self.problems)
        return Plan(
            run_id=self.run_id,
            experiment=experiment,
            display_name=config.display_name or "",
            description=config.description or "",
            tags=dict(config.tags or {}),
            user=around.user,
            created=around.created,
            target=full_target,
            submission=1,
            workspace=around.workspace,
            sdk=self.sdk,
            agent_python=around.python,
            node_tmp=self.site.storage.node_tmp,
            shebang=self.site.shebang,
            version=around.version,
            job=job,
            directives=lines,
            setting=setting,
            launch=launch,
            time_limit=job.time,
            choices=tuple(self.choices),
        )

    @property
    def local(self) -> bool:
        return self.site.scheduler.kind == "local"

    def choose(self, name: str, *candidates: tuple[Value | None, str]) -> Value | None:
        """The first candidate that is set. Its second part is a config field, or an origin."""
        for value, source in candidates:
            if value is not None and value != ():
                self.choices.append(Choice(name, _shown(value), self._origin(source)))
                return value
        return None

    def refuse(self, message: str, hint: str = "", field_name: str = "") -> None:
        """Notes a contradiction, with the place where the field was given."""
        self.problems.append(problem_at(self.origins, field_name, message, hint))

    def _origin(self, source: str) -> str:
        if source in self.origins:
            return str(self.origins[source])
        return "given" if hasattr(self.config, source.split(".")[0]) else source

    def _site_origin(self) -> str:
        return f"site {self.site.id}"

    def _target_origin(self) -> str:
        return f"target {self.site.id}/{self.target_name}"

    # -- the launch ---------------------------------------------------------------------------

    def _launch(self) -> Launch:
        distributed = self.config.distributed_job_config
        nodes = self.choose(
            "nodes",
            (getattr(distributed, "node_count", None), "distributed_job_config.node_count"),
            (self.config.resources.node_count, "resources.node_count"),
            (1, "default"),
        )
        assert nodes is not None
        launcher, processes = self._launcher(distributed, nodes)
        one_task = launcher == "torchrun"
        tasks = 1 if one_task else processes
        cpus = self._cpus(processes if one_task else 1)
        rules = self.site.launch
        srun_args = self.choose("srun arguments", (rules.srun_args, self._site_origin())) or ()
        mpi_type = None
        if isinstance(distributed, MpiConfiguration) and launcher == "srun":
            mpi_type = self.choose("srun --mpi", (rules.mpi.type, self._site_origin()))
        self._check_nodes(nodes)
        self._check_cpus(tasks, cpus)
        return Launch(
            launcher=launcher,
            command=self._command(),
            nodes=nodes,
            tasks_per_node=tasks,
            processes_per_node=processes,
            cpus_per_task=cpus,
            python=self.python,
            mpi_type=mpi_type,
            srun_args=srun_args,
        )

    def _launcher(
        self, distributed: DistributedConfiguration | None, nodes: int
    ) -> tuple[str, int]:
        """(template, processes per node)."""
        if isinstance(distributed, TensorflowConfiguration):
            self.refuse("TensorFlow clusters cannot be launched yet", "", "distributed_job_config")
            return "plain", 1
        rules, of_site = self.site.launch, self._site_origin()
        default: tuple[str, str] = ("srun", "default")
        if isinstance(distributed, MpiConfiguration):
            default = (rules.mpi.starter, of_site)
        elif distributed is not None and distributed.process_count:
            default = (rules.pytorch, of_site)
        elif self.local or (distributed is None and nodes == 1):
            default = ("plain", "default")
        asked = distributed.launcher if distributed is not None else None
        field_name = "distributed_job_config.launcher"
        launcher = self.choose("launcher", (asked, field_name), default)
        processes = distributed.process_count_of_node if distributed is not None else 1
        assert launcher is not None
        if self.local and launcher == "srun":
            self.refuse("target local has no srun", "use launcher mpirun or torchrun", field_name)
        self.choices.append(
            Choice(
                "processes per node",
                str(processes),
                self._origin("distributed_job_config" if distributed else "default"),
            )
        )
        return launcher, processes

    def _cpus(self, processes: int) -> int | None:
        """CPUs of a task: a torchrun task holds all processes of its node."""
        asked = self.config.resources.cpus_per_task
        if asked is None:
            return processes if processes > 1 and not self.local else None
        self.choose("cpus per task", (asked, "resources.cpus_per_task"))
        return asked * processes

    def _command(self) -> tuple[str, ...]:
        config = self.config
        if isinstance(config.command, str):
            return ("bash", "-c", config.command)
        if config.command is not None:
            return tuple(str(word) for word in config.command)
        arguments = tuple(str(word) for word in config.arguments or ())
        return (self.python, str(config.script), *arguments)

    # -- the job ------------------------------------------------------------------------------

    def _job(self, launch: Launch) -> Job:
        resources, target, paths = self.config.resources, self.target, self._paths()
        pick = self.choose
        in_target = self._target_origin()
        exclusive = bool(resources.exclusive or target.exclusive)
        mail = self.config.mail
        return Job(
            name=self.run_id,
            log=paths.batch_log(1),
            folder=paths.files,
            nodes=launch.nodes,
            tasks_per_node=launch.tasks_per_node,
            cpus_per_task=launch.cpus_per_task,
            gpus_per_node=self._gpus(),
            gpu_type=self._gpu_type(),
            memory=self._memory(),
            exclusive=exclusive,
            time=self._time(),
            partition=pick(
                "partition",
                (resources.partition, "resources.partition"),
                (target.partition, in_target),
            ),
            qos=pick("qos", (resources.qos, "resources.qos"), (target.qos, in_target)),
            account=self._account(),
            constraint=pick(
                "constraint",
                (resources.constraint, "resources.constraint"),
                (target.constraint, in_target),
            ),
            reservation=pick(
                "reservation",
                (resources.reservation, "resources.reservation"),
                (target.reservation, in_target),
            ),
            mail_types=tuple(t.upper() for t in mail.on) if mail else (),
            mail_user=mail.address if mail else None,
            comment=f"hpcrun:{self.run_id}.1" if self.site.scheduler.comment else None,
            extra=self._extra(),
        )

    def _paths(self) -> RunPaths:
        return UserPaths.of(self.around.workspace, self.around.user).run(self.run_id)

    def _gpus(self) -> int:
        asked = self.config.resources.gpus_per_node or 0
        self.choose("gpus per node", (asked or None, "resources.gpus_per_node"), (0, "default"))
        available = self.target.node.gpus
        if available is not None and asked > available:
            self.refuse(
                f"{asked} GPUs per node asked of {self._target_origin()}, whose nodes have "
                f"{available}",
                "ask for fewer, or choose another target",
                "resources.gpus_per_node",
            )
        allowed = self.site.scheduler.gpu.allowed_counts
        if asked and allowed and asked not in allowed:
            counts = " or ".join(str(n) for n in allowed)
            self.refuse(
                f"{asked} GPUs per node asked, but {self.site.id} gives {counts}",
                "",
                "resources.gpus_per_node",
            )
        return asked

    def _gpu_type(self) -> str | None:
        rules = self.site.scheduler.gpu
        asked = self.config.resources.gpu_type
        default = self.target.node.gpu_model if rules.typed == "required" else None
        model = self.choose(
            "gpu type", (asked, "resources.gpu_type"), (default, self._target_origin())
        )
        return rules.types.get(model, model) if model else None

    def _memory(self) -> int | None:
        asked = self.config.resources.memory
        mode = self.site.scheduler.memory.mode
        if asked is None:
            if mode == "required":
                self.refuse(f"{self.site.id} wants a memory request", "set resources.memory")
            return None
        size = self._parse(parse_memory, asked, "resources.memory")
        if size is None:
            return None
        self.choose("memory per node", (format_memory(size), "resources.memory"))
        if mode == "forbidden":
            self.refuse(
                f"{self.site.id} does not accept memory requests",
                "remove resources.memory",
                "resources.memory",
            )
        limit = self.target.node.memory
        if limit is not None and size > parse_memory(limit):
            self.refuse(
                f"{format_memory(size)} of memory asked of {self._target_origin()}, whose nodes "
                f"have {limit}",
                "ask for less, or choose another target",
                "resources.memory",
            )
        return size

    def _time(self) -> timedelta | None:
        limits = self.target.time
        seconds = self.config.max_run_duration_seconds
        text = self.choose(
            "time limit",
            (self.config.resources.time, "resources.time"),
            (f"{seconds}s" if seconds else None, "max_run_duration_seconds"),
            (limits.default, self._target_origin()),
        )
        if text is None:
            if limits.required:
                self.refuse(f"{self.site.id} wants a time limit", "set resources.time")
            return None
        time = self._parse(parse_time, text, "resources.time")
        if time is not None:
            self._check_time(time)
        return time

    def _check_time(self, time: timedelta) -> None:
        limits = self.target.time
        if limits.max is not None and time > parse_time(limits.max):
            self.refuse(
                f"a time limit of {format_time(time)} asked of {self._target_origin()}, which "
                f"gives at most {format_time(parse_time(limits.max))}",
                "above the limit a job waits for ever instead of failing",
                "resources.time",
            )
        if limits.min is not None and time < parse_time(limits.min):
            self.refuse(
                f"a time limit of {format_time(time)} asked of {self._target_origin()}, which "
                f"wants at least {format_time(parse_time(limits.min))}",
                "",
                "resources.time",
            )

    def _parse(self, parse: Callable[[str], Value], text: str, field_name: str) -> Value | None:
        try:
            return parse(text)
        except ValueError as error:
            self.refuse(str(error), "", field_name)
            return None

    def _check_nodes(self, nodes: int) -> None:
        limits = self.target.nodes
        place = LOCAL if self.local else self._target_origin()
        if limits.max is not None and nodes > limits.max:
            self.refuse(
                f"{nodes} nodes asked of {place}, which gives at most {limits.max}",
                "ask for fewer, or choose another target",
                "distributed_job_config.node_count",
            )
        if nodes < limits.min:
            self.refuse(
                f"{nodes} nodes asked of {place}, which wants at least {limits.min}",
                "",
                "distributed_job_config.node_count",
            )

    def _check_cpus(self, tasks: int, cpus: int | None) -> None:
        available = self.target.node.cpus
        if available is not None and tasks * (cpus or 1) > available:
            self.refuse(
                f"{tasks * (cpus or 1)} CPUs per node asked of {self._target_origin()}, whose "
                f"nodes have {available}",
                "ask for fewer tasks or CPUs per task",
                "resources.cpus_per_task",
            )

    def _account(self) -> str | None:
        rules = self.site.scheduler.account
        account = self.choose(
            "account",
            (self.config.resources.account, "resources.account"),
            (rules.default, self._site_origin()),
        )
        if account is None:
            if rules.required:
                self.refuse(f"{self.site.id} wants an account", "set resources.account")
            return None
        suffix = self.target.account_suffix
        return account if account.endswith(suffix) else account + suffix

    def _extra(self) -> Mapping[str, str | None]:
        extra: dict[str, str | None] = {}
        for name, value in (self.config.sbatch or {}).items():
            flag = f"--{name.lstrip('-')}"
            if flag in RESERVED_FLAGS:
                self.refuse(f"{flag} is hpcrun's own to write", "remove it from sbatch", "sbatch")
            extra[flag] = value
            self.choices.append(Choice(flag, value or "", self._origin("sbatch")))
        return extra

    # -- the setting --------------------------------------------------------------------------

    @property
    def environment(self) -> Environment:
        """The environment as a value."""
        environment = self.config.environment
        if isinstance(environment, str):
            return Environment(environment, virtual_environment=environment)
        return environment

    @property
    def prefix(self) -> str | None:
        """The folder of the virtual or conda environment, if one is used."""
        if self.environment.is_default:
            around = self.around.environ
            return around.get("VIRTUAL_ENV") or around.get("CONDA_PREFIX") or None
        return self.environment.virtual_environment

    @property
    def python(self) -> str:
        """The interpreter for the script: a path, or a name to be found on the job's PATH."""
        told = self.environment.python.interpreter_path
        return told or (f"{self.prefix}/bin/python" if self.prefix else "python3")

    def _setting(self, nodes: int) -> Setting:
        environment = self.environment
        origin = "environment"
        name = environment.name
        if environment.is_default:
            origin = "default"
            found = "active where you submit" if self.prefix else "first python3 on the job's PATH"
            name = f"{name} ({found})"
        self.choose("environment", (name, origin))
        self.choose("python", (self.python, origin))
        rules, launch = self.site.modules, self.site.launch
        own = tuple(environment.modules)
        self.choose("modules", (own, "environment.modules"), (rules.load, self._site_origin()))
        variables = {
            **launch.env,
            **(launch.multi_node_env if nodes > 1 else {}),
            **environment.environment_variables,
            **(self.config.environment_variables or {}),
        }
        if isinstance(self.config.distributed_job_config, MpiConfiguration):
            variables = {**launch.mpi.env, **variables}
        secrets = dict(self.config.secrets or {})
        self._check_variables(variables, secrets)
        conda = environment.is_default and not self.around.environ.get("VIRTUAL_ENV")
        return Setting(
            lines=self.site.setup,
            module_purge=rules.purge,
            module_use=rules.use,
            modules=(*rules.load, *own),
            prefix=self.prefix,
            prefix_variable="CONDA_PREFIX" if conda and self.prefix else "VIRTUAL_ENV",
            variables=variables,
            secrets=secrets,
        )

    def _check_variables(self, variables: Mapping[str, str], secrets: Mapping[str, str]) -> None:
        for name in (*variables, *secrets):
            if not VARIABLE.match(name):
                self.refuse(
                    f"{name!r} is no name for an environment variable",
                    "letters, digits and _ only",
                    "environment_variables",
                )
            elif name.startswith(("HPCRUN_", "SLURM_")):
                self.refuse(
                    f"the variable {name} is not yours to set",
                    "names that begin with HPCRUN_ or SLURM_ are reserved",
                    "environment_variables",
                )


def _shown(value: object) -> str:
    return " ".join(str(v) for v in value) if isinstance(value, tuple) else str(value)
