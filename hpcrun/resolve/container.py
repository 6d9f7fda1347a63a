"""In which container the tasks run, if they do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from string import Template

from hpcrun.config import is_file
from hpcrun.container import Container
from hpcrun.directives import Directive
from hpcrun.plan import Data, Setting
from hpcrun.resolve.request import Request
from hpcrun.site import Runtime

STEPS = ("pyxis", "container_engine", "uenv")
"""Those that srun starts, by flags of their own."""

_KEY = "environment.docker"

_GPU: Mapping[str, tuple[str, ...]] = {
    "apptainer": ("--nv",),
    "singularity": ("--nv",),
    "podman_hpc": ("--gpu",),
    "podman": ("--device", "nvidia.com/gpu=all"),
    "shifter": ("gpu",),
}

_ODD = ',;"\\$\n'
"""What ends a path for one runtime or another."""

_REGISTRIES_ONLY = ("podman_hpc", "podman", "shifter")


def container(request: Request) -> Container | None:
    """The container of the tasks; None: they run on the node as it is."""
    docker, switch = request.environment.docker, request.config.docker
    image = docker.image
    if not image:
        return None
    rules, of_site = request.site.containers, request.of_site
    runtime = request.choose(
        "container runtime", (docker.runtime, f"{_KEY}.runtime"), (rules.runtime, of_site)
    )
    if runtime is None:
        message = f"{request.site.id} does not say what makes containers of images"
        hint = "environment.docker.runtime, or containers.runtime of the site file"
        request.refuse(message, hint, f"{_KEY}.base_image")
        return None
    told = rules_of(request, runtime)
    by_step = told.how == "step" or (told.how is None and runtime in STEPS)
    if by_step and request.local:
        message = f"target local has no srun, whose flags {runtime} is"
        request.refuse(message, "name another runtime, or another target", f"{_KEY}.runtime")
    if docker.view is not None and runtime != "uenv":
        message = f"only a uenv has views, and the runtime is {runtime}"
        request.refuse(message, "leave it out", f"{_KEY}.view")
    gpus = bool(request.config.resources.gpus_per_node)
    shares = docker.shared_volumes and (switch is None or switch.shared_volumes)
    arguments = (*told.arguments, *docker.arguments, *(switch.arguments if switch else ()))
    request.choose("container arguments", (arguments, f"{_KEY}.arguments"))
    made = Container(
        runtime=runtime,
        image=_image(request, image, runtime, told),
        by_step=by_step,
        view=docker.view,
        gpu_arguments=_gpu_arguments(request, runtime, told) if gpus else (),
        arguments=arguments,
        binds=tuple(_binds(request, runtime, told)),
        volumes=(*map(_whole, told.binds), *map(_whole, docker.volumes)),
        folders=tuple(_folders(request)) if shares else (),
        variables=(),
    )
    request.note("image", made.image, f"{_KEY}.base_image")
    request.choose("volumes", (made.volumes, f"{_KEY}.volumes"))
    request.choose("site's folders in the container", (made.folders, of_site))
    _check_words(request, made)
    return made


def rules_of(request: Request, runtime: str) -> Runtime:
    """What the site says of a runtime."""
    return request.site.containers.runtimes.get(runtime, Runtime())


def completed(
    container: Container | None, setting: Setting, root: str | None, data: Sequence[Data] = ()
) -> Container | None:
    """The same with what is known of the rest. root: the folder that holds the working folder."""
    if container is None:
        return None
    own = container.binds if root is None else (*container.binds, _whole(root))
    own = (*own, *(_whole(each.path) for each in data if not each.place))
    names = (*setting.variables, *setting.secrets)
    names += tuple(f"AZUREML_DATAREFERENCE_{each.name}" for each in data)
    names += tuple(each.name for each in data if each.plain)
    return replace(container, binds=tuple(dict.fromkeys(own)), variables=names)


def check_data(request: Request, container: Container | None, data: Sequence[Data]) -> None:
    """That the container can be shown what is used where it lies."""
    if container is None or container.runtime in ("uenv", "shifter"):  # they see what the node does
        return
    for each in data:
        odd = next((character for character in f":{_ODD}" if character in each.path), None)
        if not each.place and odd is not None:
            key = f"{'outputs' if each.output else 'inputs'}.{each.name}"
            message = f"the path {each.path!r} holds a {odd!r}, which containers cannot be told"
            request.refuse(message, "mode: stage", key)


def container_directives(container: Container | None) -> tuple[Directive, ...]:
    """What sbatch is told: Shifter prepares the nodes as the job begins."""
    if container is None or container.runtime != "shifter":
        return ()
    lines = [Directive("--image", f"docker:{container.image}")]
    if container.gpu_arguments:
        lines.append(Directive("--module", ",".join(container.gpu_arguments)))
    if container.volumes:
        lines.append(Directive("--volume", ";".join(container.volumes)))
    return tuple(lines)


def _image(request: Request, image: str, runtime: str, told: Runtime) -> str:
    key, file = f"{_KEY}.base_image", is_file(image)
    if file and runtime in _REGISTRIES_ONLY:
        message = f"{runtime} takes images by what a registry calls them, and {image} is a file"
        request.refuse(message, "such as docker.io/library/python:3.12", key)
    if image.endswith((".sif", ".simg")) and runtime in STEPS:
        message = f"{runtime} cannot read {image}, which is Apptainer's"
        request.refuse(message, "a squashfs file, or what a registry calls it", key)
    if not file or image.startswith("/"):
        return image
    if told.image_root is None:
        message = f"{request.site.id} does not say in which folder {image} lies"
        request.refuse(message, "write its whole path, or ./ before it", key)
        return image
    try:
        root = Template(told.image_root).substitute(request.around.environ)
    except (KeyError, ValueError) as error:
        message = f"the folder of images {told.image_root} of {request.site.id}: {error} is not set"
        request.refuse(message, "write the image's whole path", key)
        return image
    return f"{root.rstrip('/')}/{image}"


def _gpu_arguments(request: Request, runtime: str, told: Runtime) -> tuple[str, ...]:
    if told.gpu_arguments is not None:
        return told.gpu_arguments
    model = (request.config.resources.gpu_type or request.target.node.gpu_model or "").lower()
    if model.startswith("mi") and runtime in ("apptainer", "singularity"):
        return ("--rocm",)  # AMD's
    return _GPU.get(runtime, ())


def _binds(request: Request, runtime: str, told: Runtime) -> Iterator[str]:
    """What a run needs: its workspace, which holds snapshot, record and sdk; and where it works."""
    site = request.site.storage
    folders = [request.around.workspace, site.node_tmp]
    if request.prefix and request.environment.virtual_environment:
        folders.append(request.prefix)
    for folder in dict.fromkeys(folders):
        yield f"{folder}:{folder}"


def _folders(request: Request) -> Iterator[str]:
    """The site's own folders, as the batch script writes them: a path, or $NAME."""
    for root in request.site.storage.roots.values():
        found = request.around.environ.get(root.env or "")
        if found:
            yield found
        elif root.env:
            yield f"${root.env}"
        elif root.path:
            try:
                yield Template(root.path).substitute(request.around.environ)
            except (KeyError, ValueError):
                continue


def _whole(volume: str) -> str:
    """PATH as PATH:PATH."""
    return volume if ":" in volume else f"{volume}:{volume}"


def _check_words(request: Request, made: Container) -> None:
    """Characters that a runtime would read as an end of the path."""
    for what, key, texts in (
        ("the image", "base_image", (made.image,)),
        ("the folder", "base_image", [bind.partition(":")[0] for bind in made.binds]),
        ("the volume", "volumes", made.volumes),
    ):
        for text in texts:
            odd = next((character for character in _ODD if character in text), None)
            if odd is not None:
                message = f"{what} {text!r} holds a {odd!r}, which containers cannot be told"
                request.refuse(message, "", f"{_KEY}.{key}")
    for volume in made.volumes:
        source, place, *how = volume.split(":")
        if not source.startswith("/") or not place.startswith("/") or how not in ([], ["ro"]):
            message = f"{volume!r} is no volume"
            hint = "/PATH, /PATH:/PLACE or /PATH:/PLACE:ro"
            request.refuse(message, hint, f"{_KEY}.volumes")
