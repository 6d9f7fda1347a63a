"""What the batch shell prepares before the launch."""

from __future__ import annotations

from string import Template

from hpcrun.config import HorovodConfiguration, MpiConfiguration
from hpcrun.container import Container
from hpcrun.directives import WITHOUT_GPUS, one_on_each
from hpcrun.plan import Packing, Setting
from hpcrun.reading import nearest
from hpcrun.resolve.container import rules_of
from hpcrun.resolve.request import Request
from hpcrun.site import Runtime


def setting(request: Request, nodes: int, container: Container | None = None) -> Setting:
    """What the batch shell prepares before the launch. container: in which the command runs."""
    environment = request.environment
    origin = "environment"
    name = environment.name
    if environment.version is not None:
        name = f"{name}:{environment.version}"
    if environment.is_default:
        origin = "default"
        found = "active where you submit" if request.prefix else "first python3 on the job's PATH"
        name = f"{name} ({found})"
    request.note("environment", name, origin)
    told = environment.python.interpreter_path
    request.note(
        "python", request.python, "environment.python.interpreter_path" if told else origin
    )
    request.choose("conda", (environment.conda, "environment.conda"))
    request.choose("requirements", (environment.requirements, "environment.requirements"))
    request.choose("pip", (tuple(environment.pip), "environment.pip"))
    python, key = environment.python, "environment.python.conda_dependencies"
    request.choose("conda dependencies file", (python.conda_dependencies_file, f"{key}_file"))
    named = python.conda_dependencies.conda_packages if python.conda_dependencies else ()
    request.choose("conda dependencies", (tuple(named), key))
    rules, of_site = request.site.modules, request.of_site
    own = tuple(environment.modules)
    for line in request.site.setup:
        request.note("setup", line, of_site)
    request.choose("module folders", (rules.use, of_site))
    request.choose("modules", (rules.load, of_site))
    profile = _profile(request, environment.module_profile)
    request.choose("modules", (profile, "environment.module_profile"))
    request.choose("modules", (own, "environment.modules"))
    runtime = rules_of(request, container.runtime) if container is not None else Runtime()
    request.choose("modules", (runtime.modules, of_site))
    if rules.system == "none" and (own or environment.module_profile):
        message = f"{request.site.id} has no modules, and {', '.join(own or profile)} asked"
        key = "environment.modules" if own else "environment.module_profile"
        request.refuse(message, "leave them out", key)
    launch, exports = request.site.launch, request.site.scheduler.export in ("none", "reset")
    request.choose("unset variables", (launch.unset, of_site))
    if exports and not request.local:
        request.note("environment of steps", "that of the batch script", of_site)
    values = _variables(request, nodes, runtime)
    secrets = dict(request.config.secrets or {})
    for secret, file in secrets.items():
        request.note(f"secret {secret}", f"in {file}", f"secrets.{secret}")
    active = environment.is_default and not request.around.environ.get("VIRTUAL_ENV")
    conda = active or environment.conda or environment.is_of_conda
    return Setting(
        lines=request.site.setup,
        module_purge=rules.purge,
        module_use=rules.use,
        modules=(*rules.load, *profile, *own, *runtime.modules),
        prefix=request.prefix,
        prefix_variable="CONDA_PREFIX" if conda and request.prefix else "VIRTUAL_ENV",
        variables=values,
        secrets=secrets,
        packing=_packing(request, nodes),
        unset=launch.unset,
        exports=exports and not request.local,
    )


def _packing(request: Request, nodes: int) -> Packing | None:
    """How the environment comes to each node's own disk; None: it is used where it is."""
    environment, key = request.environment, "environment.pack"
    if environment.pack is None:
        return None
    if request.local:
        request.note("packed", "no: this is one machine", "target local")
        return None
    if environment.docker.image:
        message = "the tasks run in a container, and an environment on the node's disk is not in it"
        request.refuse(message, "leave out pack, or the image", key)
        return None
    if environment.python.interpreter_path is not None or request.shared_prefix is None:
        message = "there is no virtual or conda environment to pack"
        request.refuse(message, "name one, or packages", key)
        return None
    if request.place is None or request.packed is None:
        return None  # it could not be read, which is told
    request.note("packed", f"by {environment.pack}, to {request.place} on each node", key)
    fails = environment.pack_failure == "fail"
    otherwise = (environment.pack_failure, "environment.pack_failure")
    request.choose("where it cannot be staged", otherwise, ("share", "default"))
    launcher = _one_on_each(request, nodes) if environment.pack == "mpi4py" else ()
    prefix, place = request.shared_prefix, request.place
    return Packing(environment.pack, prefix, place, request.packed, fails, launcher)


def _one_on_each(request: Request, nodes: int) -> tuple[str, ...]:
    """The words that start one process of an MPI world on each node."""
    rules = request.site.launch.mpi
    variables = tuple(f"{name}={value}" for name, value in rules.env.items())
    if rules.starter != "srun":
        return ("env", *variables, rules.starter, "-np", str(nodes), "--map-by", "ppr:1:node")
    mpi_type = (f"--mpi={rules.type}",) if rules.type is not None else ()
    return ("env", *WITHOUT_GPUS, *variables, *one_on_each(nodes), *mpi_type)


def _profile(request: Request, name: str | None) -> tuple[str, ...]:
    """The modules of a named set of the site's."""
    known = request.site.modules.profiles
    if name is None:
        return ()
    if name not in known:
        message = f"{request.site.id} has no module profile {name!r}"
        hint = nearest(name, known) or "add modules.profiles to the site file, or list the modules"
        request.refuse(message, hint, "environment.module_profile")
    return known.get(name, ())


def _variables(request: Request, nodes: int, runtime: Runtime) -> dict[str, str]:
    """All variables; a later source wins over an earlier one."""
    launch, of_site = request.site.launch, request.of_site
    config = request.config
    found: dict[str, tuple[str, str]] = {}
    horovod = isinstance(config.distributed_job_config, HorovodConfiguration)
    if horovod:
        found["HOROVOD_CONTROLLER"] = ("mpi", "distributed_job_config")
    over_mpi = horovod or isinstance(config.distributed_job_config, MpiConfiguration)
    for of_rules, applies in (
        (_caches(request), True),
        (launch.mpi.env, over_mpi),
        (launch.env, True),
        (launch.gpu_env, bool(config.resources.gpus_per_node)),
        (launch.single_node_env, nodes == 1),
        (launch.multi_node_env, nodes > 1),
        (runtime.env, True),
    ):
        if applies:
            found |= {name: (value, of_site) for name, value in of_rules.items()}
    for prefix, given in (
        ("environment.environment_variables", request.environment.environment_variables),
        ("environment_variables", config.environment_variables or {}),
    ):
        for name, value in given.items():
            found[name] = (value, f"{prefix}.{name}")
    for name, (value, source) in found.items():
        request.note(f"variable {name}", value, source)
    return {name: value for name, (value, _) in found.items()}


def _caches(request: Request) -> dict[str, str]:
    """The variables for folders of caches, with what stands in them where the run is submitted."""
    found = {}
    own = {
        *request.environment.environment_variables,
        *(request.config.environment_variables or ()),
    }
    for name, text in request.site.storage.caches.items():
        if name in own:
            continue
        try:
            found[name] = Template(text).substitute(request.around.environ)
        except (KeyError, ValueError) as error:
            message = f"{request.site.id} keeps {name} in {text}: {error} is not set"
            request.refuse(message, f"submit from where it is, or set {name} yourself", "")
    return found
