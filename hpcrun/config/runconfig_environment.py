"""The environment in Azure ML's .runconfig and environment files. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from hpcrun.config.conda import CondaDependencies
from hpcrun.config.container import DockerSection
from hpcrun.config.environment import DEFAULT_ENVIRONMENT, Environment, PythonSection
from hpcrun.errors import ConfigError, Problem
from hpcrun.reading import Finding, check_value, read_partly


@dataclass
class _Python:
    """Azure ML's, and what hpcrun adds."""

    user_managed_dependencies: bool | None = None
    interpreter_path: str | None = None
    conda_dependencies: CondaDependencies | None = None
    conda_dependencies_file: str | None = None
    base_conda_environment: str | None = None
    version: str | None = None


@dataclass
class _Docker(DockerSection):
    """With what is Azure ML's there."""

    base_dockerfile: str | None = None
    build_context: Any = None
    platform: Any = None
    gpu_support: Any = None


@dataclass
class FileEnvironment:
    """An environment as it is written. What is Any is Azure ML's and means nothing here, or is
    refused."""

    name: str | None = None
    version: str | None = None
    python: _Python = field(default_factory=_Python)
    environment_variables: dict[str, str] = field(default_factory=dict)
    virtual_environment: str | None = None
    pip: list[str] = field(default_factory=list)
    requirements: str | None = None
    modules: list[str] = field(default_factory=list)
    module_profile: str | None = None
    pack: Literal["sbcast", "mpi4py"] | None = None
    pack_failure: Literal["share", "fail"] | None = None
    conda: str | None = None
    docker: _Docker = field(default_factory=_Docker)
    spark: Any = None
    r: Any = None
    databricks: Any = None
    inferencing_stack_version: Any = None
    asset_id: Any = None
    auto_rebuild: Any = None


def environment_of(text: str, file: str) -> Environment:
    """The environment that a text tells, whose keys are those of a .runconfig. ConfigError."""
    read = read_partly(FileEnvironment, text, file, rename=snake).sound().value
    refused = [Problem(each.message, each.hint, file) for each in not_honoured(read)]
    if refused:
        raise ConfigError(*refused)
    made = environment_in(read)
    if read.python.user_managed_dependencies is True:
        made.python.user_managed_dependencies = True
    return made


def not_honoured(read: FileEnvironment) -> Iterator[Finding]:
    """What Azure ML would do for it, and hpcrun does not. Keys as in the file, from its root."""
    no_image = "build it elsewhere, and name it as baseImage"
    if read.docker.base_dockerfile:
        yield Finding("docker.base_dockerfile", "hpcrun builds no images", no_image)
    if _says(read.docker.build_context):
        yield Finding("docker.build_context", "hpcrun builds no images", no_image)
    base = read.python.base_conda_environment
    if base and read.python.user_managed_dependencies is not True:
        message = f"hpcrun adds no packages to the conda environment {base!r}"
        hint = "name its packages in condaDependencies, or use it as it is: conda: NAME"
        yield Finding("python.base_conda_environment", message, hint)
    for name, section in {"r": read.r, "databricks": read.databricks}.items():
        if _says(section):
            message = f"hpcrun installs nothing of the section {name}"
            yield Finding(name, message, "leave it out; conda has packages of R and of Java too")


def _says(value: Any) -> bool:
    """Whether there is anything but empty values in it."""
    if isinstance(value, dict):
        return any(map(_says, value.values()))
    return any(map(_says, value)) if isinstance(value, list) else bool(value)


def environment_in(read: FileEnvironment) -> Environment:
    """What is meant by it."""
    python = read.python
    conda = python.user_managed_dependencies is not True and bool(
        python.conda_dependencies or python.conda_dependencies_file
    )
    # Azure ML ignores the path otherwise; here packages are installed for that interpreter.
    own = python.user_managed_dependencies is not False or read.pip or read.requirements
    return Environment(
        name=read.name or DEFAULT_ENVIRONMENT,
        python=PythonSection(
            python.interpreter_path if own and not conda else None,
            version=python.version,
            conda_dependencies=python.conda_dependencies if conda else None,
            conda_dependencies_file=python.conda_dependencies_file if conda else None,
        ),
        virtual_environment=read.virtual_environment,
        pip=read.pip,
        requirements=read.requirements,
        modules=read.modules,
        module_profile=read.module_profile,
        pack=read.pack,
        pack_failure=read.pack_failure,
        conda=read.conda,
        environment_variables=read.environment_variables,
        docker=DockerSection(
            **{f.name: getattr(read.docker, f.name) for f in fields(DockerSection)}
        ),
    )


def environment_written(environment: Environment) -> dict[str, Any]:
    """An environment by the keys of a .runconfig, without what is empty. ConfigError."""
    found = written(check_value(Environment, environment))
    return {
        name: {key: inner for key, inner in value.items() if inner is not None}
        if isinstance(value, dict)
        else value
        for name, value in found.items()
        if value is not None
    }


def written(environment: Environment) -> dict[str, Any]:
    """The keys that are hpcrun's to write, with None for those to be emptied."""
    python = {**plain(environment.python), "userManagedDependencies": not environment.is_managed}
    for name in ("condaDependencies", "condaDependenciesFile"):
        if python[name] is None:
            del python[name]  # Azure ML's own stays; nothing is installed of it
    if environment.python.conda_dependencies is not None:
        python["condaDependencies"] = environment.python.conda_dependencies.as_dict()
    named = {n: None if v in ([], {}) else v for n, v in plain(environment).items()}
    if named["version"] is None:
        del named["version"]  # Azure ML's own stays
    named["docker"] = _docker(environment.docker)
    return {**named, "python": python}


def _docker(section: DockerSection) -> dict[str, Any]:
    """An image that nobody has named is emptied, and Azure ML's other keys stay."""
    if section == DockerSection():
        return {"baseImage": None}
    return {name: None if value == [] else value for name, value in plain(section).items()}


def snake(name: str) -> str:
    """A key of a file as an attribute's name."""
    name = re.sub(r"(?<=[a-z0-9])([A-Z])", lambda m: f"_{m[1].lower()}", name)
    return JOINED.get(name, name)


JOINED = {"py_torch": "pytorch", "parallel_task": "paralleltask", "aml_compute": "amlcompute"}
"""Words that the service's answers write with a capital inside, and the SDK's files without."""


def camel(name: str) -> str:
    """An attribute's name as a key of a file."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def plain(value: Any) -> Any:
    """Dataclasses as mappings with camelCase keys."""
    if hasattr(value, "__dataclass_fields__"):
        return {camel(f.name): plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value
