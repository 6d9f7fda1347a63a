"""The image in which a run's command works. Azure ML's word for it is docker."""

from __future__ import annotations

from dataclasses import dataclass, field

RUNTIMES = (
    *("apptainer", "singularity", "pyxis", "podman_hpc", "podman", "shifter"),
    *("container_engine", "uenv", "charliecloud"),
)
"""The container runtimes that have a template; a template of one's own makes another."""

_FILES = (".sif", ".simg", ".img", ".sqsh", ".squashfs", ".toml")


def is_file(image: str) -> bool:
    """Whether an image is named by its file or folder, not by what a registry calls it."""
    named = image.endswith(_FILES) and "://" not in image
    return named or image.startswith(("/", "./", "../", "~"))


@dataclass
class ContainerRegistry:
    """Where an image comes from."""

    address: str | None = None
    """The registry's name, such as lab.azurecr.io; it is put before the image."""
    username: str | None = None
    """Refused: logins belong into the runtime's own configuration."""
    password: str | None = None
    """Refused, as the username."""


@dataclass
class DockerSection:
    """The image of an environment, and what the command sees of the node besides."""

    base_image: str | None = None
    """A reference such as docker.io/library/python:3.12, or a file such as /images/torch.sif; an
    EDF of the container engine, or a uenv, by its name or file."""
    runtime: str | None = None
    """What makes a container of it, such as apptainer; default: as the site says."""
    volumes: list[str] = field(default_factory=list)
    """What else it sees of the node: PATH, PATH:PLACE or PATH:PLACE:ro."""
    arguments: list[str] = field(default_factory=list)
    """Further words for the runtime, in its own language."""
    shared_volumes: bool = True
    """Whether it sees the site's own folders, such as home and scratch."""
    view: str | None = None
    """The views of a uenv, such as default."""
    base_image_registry: ContainerRegistry = field(default_factory=ContainerRegistry)
    """The registry that holds the image, where its name does not say it."""
    shm_size: str | None = None
    """Means nothing here: containers have the /dev/shm of their node."""
    enabled: bool | None = None
    """Azure ML's older switch: whether the image is used; default: if there is one."""

    @property
    def image(self) -> str | None:
        """The image, with its registry."""
        registry = self.base_image_registry.address
        if not self.base_image or not registry or is_file(self.base_image):
            return self.base_image
        return f"{registry.rstrip('/')}/{self.base_image}"


@dataclass
class DockerConfiguration:
    """Azure ML's switch of one run for the image of its environment."""

    use_docker: bool = False
    """Whether the command runs in the image."""
    shared_volumes: bool = True
    """As that of the environment's docker section; both must be true."""
    arguments: list[str] = field(default_factory=list)
    """Further words for the runtime, behind those of the environment."""
    shm_size: str | None = "2g"
    """Means nothing here: containers have the /dev/shm of their node."""
