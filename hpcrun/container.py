"""The container of a run, and how each runtime names its image. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Container:
    """The container in which tasks run.

    runtime: names a template. image: as it is named, a file by its whole path. by_step: whether
    flags of srun start it, and no words before the command's. gpu_arguments: the runtime's words
    for GPUs; empty if the run has none. binds, volumes: what is seen of the node, by hpcrun's need
    and by the site's and the run's wish, as SOURCE:PLACE or SOURCE:PLACE:ro. folders: what is seen
    where it is there: a path, or $NAME. variables: names of those that the image must not change.
    """

    runtime: str
    image: str
    by_step: bool
    view: str | None
    gpu_arguments: tuple[str, ...]
    arguments: tuple[str, ...]
    binds: tuple[str, ...]
    volumes: tuple[str, ...]
    folders: tuple[str, ...]
    variables: tuple[str, ...]

    @property
    def is_file(self) -> bool:
        """Whether the image is a file or a folder."""
        return self.image.startswith("/")

    @property
    def uri(self) -> str:
        """As Apptainer names it."""
        return self.image if self.is_file or "://" in self.image else f"docker://{self.image}"

    @property
    def reference(self) -> str:
        """As registries and podman name it."""
        return self.image.removeprefix("docker://")

    @property
    def enroot(self) -> str:
        """As enroot names it: `#` stands behind the registry."""
        registry, slash, rest = self.reference.partition("/")
        is_registry = "." in registry or ":" in registry or registry == "localhost"
        if self.is_file or not slash or not is_registry:
            return self.reference
        return f"{registry}#{rest}"
