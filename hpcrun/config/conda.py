"""What conda installs, as an environment.yml says it and as Azure ML's scripts write it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

_NAME = re.compile(r"(?:[\w.:/-]+::)?([\w.-]+)")


@dataclass
class PipSection:
    """Among conda's packages, those from pip."""

    pip: list[str] = field(default_factory=list)
    """Packages and options, a line each, as in a requirements file."""


@dataclass
class CondaDependencies:
    """Packages from conda's channels, and from pip: an environment of them is built once."""

    channels: list[str] = field(default_factory=list)
    """Where packages come from, the first first; default: as conda is configured."""
    dependencies: list[PipSection | str] = field(default_factory=list)
    """Packages as conda writes them, such as numpy=1.26; {pip: […]} for pip's."""
    name: str | None = None
    """Means nothing here: the environment has its own."""
    prefix: str | None = None
    """Means nothing here: hpcrun knows where it lies."""
    variables: dict[str, str] = field(default_factory=dict)
    """Variables of the environment, under its environment_variables."""

    @classmethod
    def create(
        cls,
        pip_indexurl: str | None = None,
        pip_packages: Iterable[str] = (),
        conda_packages: Iterable[str] = (),
        python_version: str | None = None,
        pin_sdk_version: bool = True,
    ) -> CondaDependencies:
        """Of these packages. pin_sdk_version: Azure ML's; it means nothing here."""
        del pin_sdk_version
        made = cls(dependencies=list(conda_packages))
        if python_version is not None:
            made.set_python_version(python_version)
        if pip_indexurl is not None:
            made.set_pip_index_url(pip_indexurl)
        for package in pip_packages:
            made.add_pip_package(package)
        return made

    @classmethod
    def load(cls, file: str | Path) -> CondaDependencies:
        """What an environment.yml says; paths in it are relative to it. ConfigError."""
        from hpcrun.config.runfile import file_text
        from hpcrun.reading import read_partly

        path = Path(file)
        made = read_partly(cls, file_text(path), str(path)).sound().value
        made._set_pip([_anchored(line, path.parent.absolute()) for line in made.pip_lines])
        return made

    # -- what there is ----------------------------------------------------------------------------

    @property
    def conda_packages(self) -> list[str]:
        """Those from conda's channels, Python too."""
        return [each for each in self.dependencies if isinstance(each, str)]

    @property
    def pip_lines(self) -> list[str]:
        """What pip is given, a line each: packages and options."""
        sections = [each for each in self.dependencies if isinstance(each, PipSection)]
        return [line for section in sections for line in section.pip]

    @property
    def pip_packages(self) -> list[str]:
        """Those from pip."""
        return [line for line in self.pip_lines if not line.startswith("-")]

    @property
    def pip_options(self) -> list[str]:
        """What else pip is told."""
        return [line for line in self.pip_lines if line.startswith("-")]

    @property
    def conda_channels(self) -> list[str]:
        """The same as channels."""
        return list(self.channels)

    @property
    def python_version(self) -> str | None:
        """Of the interpreter, such as 3.11; None if nothing is said of it."""
        found = [each for each in self.conda_packages if name_of(each) == "python"]
        version = re.search(r"[\d.]+", found[0].partition("python")[2]) if found else None
        return version[0] if version else None

    # -- changing it ------------------------------------------------------------------------------

    def add_conda_package(self, conda_package: str) -> None:
        """Adds a package; one of the same name is replaced."""
        self.remove_conda_package(conda_package)
        self.dependencies.insert(len(self.conda_packages), conda_package)

    def remove_conda_package(self, conda_package: str) -> None:
        """Removes the package of that name."""
        name = name_of(conda_package)
        self.dependencies = [
            each
            for each in self.dependencies
            if isinstance(each, PipSection) or name_of(each) != name
        ]

    def add_pip_package(self, pip_package: str) -> None:
        """Adds a package; one of the same name is replaced."""
        self.remove_pip_package(pip_package)
        self._set_pip([*self.pip_lines, pip_package])

    def remove_pip_package(self, pip_package: str) -> None:
        """Removes the package of that name."""
        name = _pip_name(pip_package)
        self._set_pip([line for line in self.pip_lines if _pip_name(line) != name])

    def add_channel(self, channel: str) -> None:
        """Adds a channel behind the others."""
        if channel not in self.channels:
            self.channels.append(channel)

    def remove_channel(self, channel: str) -> None:
        """Removes a channel."""
        self.channels = [each for each in self.channels if each != channel]

    def set_python_version(self, version: str) -> None:
        """Says which interpreter it has, such as 3.11."""
        self.remove_conda_package("python")
        self.dependencies.insert(0, f"python={version}")

    def set_pip_requirements(self, pip_requirements: Iterable[str]) -> None:
        """Puts these packages in the place of those from pip."""
        self._set_pip([*self.pip_options, *pip_requirements])

    def set_pip_option(self, pip_option: str) -> None:
        """Adds an option for pip, such as --no-index; one of the same name is replaced."""
        word = re.split(r"[ =]", pip_option, maxsplit=1)[0]
        kept = [line for line in self.pip_lines if re.split(r"[ =]", line, maxsplit=1)[0] != word]
        self._set_pip([pip_option, *kept])

    def set_pip_index_url(self, index_url: str) -> None:
        """Says where pip takes packages from."""
        self.set_pip_option(f"--index-url {index_url}")

    def _set_pip(self, lines: list[str]) -> None:
        packages: list[PipSection | str] = [*self.conda_packages]
        self.dependencies = [*packages, PipSection(lines)] if lines else packages

    # -- files ------------------------------------------------------------------------------------

    def as_dict(self) -> dict[str, Any]:
        """As an environment.yml has it, without what is empty."""
        held = {name: value for name, value in vars(self).items() if value}
        sections = [vars(e) if isinstance(e, PipSection) else e for e in self.dependencies]
        return {**held, **({"dependencies": sections} if sections else {})}

    def serialize_to_string(self) -> str:
        """The text of an environment.yml."""
        from ruamel.yaml import YAML

        yaml, text = YAML(), StringIO()
        yaml.default_flow_style = False
        yaml.dump(self.as_dict(), text)
        return text.getvalue()

    def save(self, path: str | Path) -> Path:
        """Writes an environment.yml, and gives it. ConfigError if it cannot be written."""
        from hpcrun.config.runfile import write_text

        return write_text(Path(path), self.serialize_to_string())

    def save_to_file(
        self, base_directory: str | Path, conda_file_path: str = "conda_dependencies.yml"
    ) -> Path:
        """Writes an environment.yml below a folder, and gives it. ConfigError."""
        return self.save(Path(base_directory, conda_file_path))


def name_of(package: str) -> str:
    """The name of a package in `channel::name=version=build` or `name >=1,<2`."""
    found = _NAME.match(package.strip())
    return found[1].lower() if found else package


def _pip_name(line: str) -> str:
    return line if line.startswith("-") else re.split(r"[^\w.-]", line, maxsplit=1)[0].lower()


def _anchored(line: str, folder: Path) -> str:
    """A line of pip's whose path is whole."""
    option, blank, rest = line.partition(" ")
    if option in ("-r", "-c", "--requirement", "--constraint") and "://" not in rest:
        return f"{option}{blank}{folder / rest.strip()}"
    return str(folder / line) if line.startswith(("./", "../")) else line
