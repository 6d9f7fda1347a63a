"""The environment that a run's command finds."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

from hpcrun.config.conda import CondaDependencies
from hpcrun.config.container import ContainerRegistry, DockerSection
from hpcrun.errors import ConfigError, Problem

DEFAULT_ENVIRONMENT = "default-environment"
"""The name of the environment of a run that names none (Azure ML's name for it)."""


Texts = list[str]
"""Where a class has a `list` of its own."""


class Registry(Protocol):
    """A workspace, as far as it keeps environments by name and version."""

    def register_environment(self, environment: Environment) -> Environment: ...

    def environment(
        self, name: str, version: str | int | None = None, label: str | None = None
    ) -> Environment: ...

    def label_environment(self, name: str, version: str | int, labels: Iterable[str]) -> None: ...

    @property
    def environments(self) -> Mapping[str, Environment]: ...

    def build_environment(self, environment: Environment) -> EnvironmentBuild: ...


@dataclass(frozen=True)
class EnvironmentBuild:
    """An environment that is built. folder: where runs find it. packages: what is in it."""

    folder: str
    packages: Texts
    status: str = "Succeeded"

    def wait_for_completion(self, show_output: bool = False) -> EnvironmentBuild:
        """Itself: whoever has it has waited. show_output: prints what is in it."""
        if show_output:
            sys.stdout.write("".join(f"{line}\n" for line in self.packages))
        return self


@dataclass
class PythonSection:
    """Which Python runs the script."""

    interpreter_path: str | None = None
    """The interpreter: a path, or a name to be found on the job's PATH."""
    user_managed_dependencies: bool | None = None
    """Azure ML's switch: true installs nothing; default: an environment of what is named."""
    version: str | None = None
    """Of the interpreter that packages are installed for, such as 3.11."""
    conda_dependencies: CondaDependencies | None = None
    """What conda installs: an environment of it is built once."""
    conda_dependencies_file: str | None = None
    """The same as a file, an environment.yml."""


@dataclass
class Environment:
    """What the command finds: an interpreter or an environment, modules, variables.

    One that names neither interpreter, virtual environment nor modules and has the default name
    is the virtual or conda environment that is active where the run is submitted, else the first
    python3 on the job's PATH.
    """

    name: str = DEFAULT_ENVIRONMENT
    """A name for people, shown by explain."""
    python: PythonSection = field(default_factory=PythonSection)
    """Which Python runs the script."""
    virtual_environment: str | None = None
    """The folder of a virtual or conda environment that the nodes can see."""
    modules: Texts = field(default_factory=list)
    """Modules to load, in order, after the site's own."""
    environment_variables: dict[str, str] = field(default_factory=dict)
    """Variables, exactly as they are written: nothing in them is expanded."""
    pip: Texts = field(default_factory=list)
    """Packages to install, as pip's requirements: an environment of them is built once."""
    requirements: str | None = None
    """A requirements file of pip's, whose packages are installed as well."""
    conda: str | None = None
    """The name of a conda environment that is there; it is looked for where you submit."""
    module_profile: str | None = None
    """A set of modules that the site file names, loaded before the run's own."""
    version: str | None = None
    """Of a registered one: a number from 1."""
    pack: Literal["sbcast", "mpi4py"] | None = None
    """How it is brought, as one file, to each node's own disk: by Slurm, or by its own mpi4py."""
    pack_failure: Literal["share", "fail"] | None = None
    """What a job does that cannot stage it: `fail`, or `share`, the default: it takes the
    environment from where it is."""
    docker: DockerSection = field(default_factory=DockerSection)
    """The image in which the command runs."""

    @property
    def is_default(self) -> bool:
        """Whether it says nothing of where Python comes from."""
        python = (self.python.interpreter_path, self.virtual_environment, self.conda)
        told = (*python, self.modules, self.module_profile, self.is_managed, self.docker.base_image)
        return self.name == DEFAULT_ENVIRONMENT and not any(told)

    @property
    def is_managed(self) -> bool:
        """Whether its packages are installed by hpcrun, into an environment of its own."""
        named = (self.pip, self.requirements, self.is_of_conda)
        return any(named) and self.python.user_managed_dependencies is not True

    @property
    def is_of_conda(self) -> bool:
        """Whether conda's packages are among them."""
        python = self.python
        return python.conda_dependencies is not None or python.conda_dependencies_file is not None

    @classmethod
    def from_pip_requirements(
        cls, name: str, file_path: str | Path, pip_version: str | None = None
    ) -> Environment:
        """One whose packages a requirements file names; it is read when a run is submitted.

        pip_version: the release of pip that stands in it, such as 24.0.
        """
        pinned = [f"pip=={pip_version}"] if pip_version else []
        return cls(name, requirements=str(file_path), pip=pinned)

    @classmethod
    def from_conda_specification(cls, name: str, file_path: str | Path) -> Environment:
        """One whose packages an environment.yml names; it is read now. ConfigError."""
        return cls(name, PythonSection(conda_dependencies=CondaDependencies.load(file_path)))

    @classmethod
    def from_existing_conda_environment(cls, name: str, conda_environment_name: str) -> Environment:
        """A conda environment that is there, used as it is; it is looked for at submission."""
        return cls(name, conda=conda_environment_name)

    @classmethod
    def from_docker_image(
        cls, name: str, image: str, container_registry: ContainerRegistry | None = None
    ) -> Environment:
        """One whose command runs in an image: what a registry calls it, or its file.

        container_registry: where it comes from, if the image does not say it.
        """
        registry = container_registry or ContainerRegistry()
        return cls(name, docker=DockerSection(image, base_image_registry=registry))

    @classmethod
    def from_dockerfile(cls, name: str, dockerfile: str | Path) -> Environment:
        """Azure ML's; hpcrun builds no images. ConfigError."""
        message = f"hpcrun builds no images, not of {dockerfile} either"
        hint = f"build it elsewhere, and Environment.from_docker_image({name!r}, IMAGE)"
        raise ConfigError(Problem(message, hint))

    @staticmethod
    def add_private_pip_wheel(
        workspace: Registry, file_path: str | Path, exist_ok: bool = False
    ) -> str:
        """What names a wheel of one's own among pip's packages; it stays where it is, and counts
        as its bytes. workspace, exist_ok: Azure ML's; they mean nothing here. ConfigError."""
        del workspace, exist_ok
        if not Path(file_path).is_file():
            raise ConfigError(Problem(f"there is no wheel {file_path}"))
        return Path(file_path).absolute().as_uri()

    def clone(self, new_name: str) -> Environment:
        """The same under another name, and not registered; it shares nothing with this one."""
        return replace(copy.deepcopy(self), name=new_name, version=None)

    def save_to_directory(self, path: str | Path, overwrite: bool = False) -> Path:
        """Writes it into a folder, and gives that: azureml_environment.json, and what conda
        installs as conda_dependencies.yml. ConfigError: the folder has one already."""
        from hpcrun.config.environment_files import save_environment

        return save_environment(self, Path(path), overwrite)

    @staticmethod
    def load_from_directory(path: str | Path) -> Environment:
        """What save_to_directory has written, hpcrun's or Azure ML's. ConfigError."""
        from hpcrun.config.environment_files import load_environment

        return load_environment(Path(path))

    def build(self, workspace: Registry) -> EnvironmentBuild:
        """Builds it on this machine, unless that has been done, and waits for it.

        ConfigError: it has no packages. BuildError: with the builder's last words.
        """
        return workspace.build_environment(self)

    def register(self, workspace: Registry) -> Environment:
        """Keeps it under its name as the next version, and gives that one.

        The same content as the newest version is no new one. What a requirements file says is kept
        with it. ConfigError: its name or what it says is malformed; StoreError.
        """
        return workspace.register_environment(self)

    @staticmethod
    def get(
        workspace: Registry,
        name: str,
        version: str | int | None = None,
        label: str | None = None,
    ) -> Environment:
        """A registered one of this user's; without a version the newest, or that of a label.

        ConfigError: both are given. StoreError: there is none.
        """
        if version is not None and label is not None:
            message = f"version {version} and label {label!r} both say which {name!r} is meant"
            raise ConfigError(Problem(message, "keep one of them"))
        return workspace.environment(name, version, label)

    @staticmethod
    def label(
        workspace: Registry, name: str, version: str | int, labels: str | Iterable[str]
    ) -> None:
        """Has labels stand for a version of a registered one, whatever they stood for before.

        ConfigError: one is malformed, or `latest`, which always is the newest. StoreError.
        """
        several = [labels] if isinstance(labels, str) else labels
        workspace.label_environment(name, version, several)

    @staticmethod
    def list(workspace: Registry) -> Mapping[str, Environment]:
        """The newest version of each that this user has registered, by name."""
        return workspace.environments
