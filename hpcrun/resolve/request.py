"""What is asked of which target: the choices that are made for it, and the problems found."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import TypeVar

from hpcrun.config import Environment, RunConfiguration, problem_at
from hpcrun.errors import Problem
from hpcrun.plan import Choice, Surroundings
from hpcrun.reading import Origin
from hpcrun.site import SiteConfig, Target

Value = TypeVar("Value")


class Request:
    """What is asked of which target. Collects choices and problems while one plan is made.

    origins: where each field was given. choices: each value that was chosen, with its origin.
    problems: each contradiction. malformed: whether one of them is nothing of the target's.
    """

    def __init__(
        self,
        config: RunConfiguration,
        site: SiteConfig,
        target_name: str,
        around: Surroundings,
        run_id: str,
        origins: Mapping[str, Origin],
    ) -> None:
        self.config = config
        self.site = site
        self.target_name = target_name
        self.target: Target = site.targets[target_name]
        self.around = around
        self.run_id = run_id
        self.origins = origins
        self.choices: list[Choice] = []
        self.problems: list[Problem] = []
        self.malformed = False

    @property
    def local(self) -> bool:
        """Whether there is no scheduler."""
        return self.site.scheduler.kind == "local"

    def choose(self, name: str, *candidates: tuple[Value | None, str]) -> Value | None:
        """The first candidate that is set. Its second part is a config field, or an origin."""
        for value, source in candidates:
            if value is not None and value != ():
                self.note(name, value, source)
                return value
        return None

    def note(self, name: str, value: object, source: str) -> None:
        """Notes a value and its origin: a config field, or the origin itself."""
        self.choices.append(Choice(name, _shown(value), self.origin(source)))

    def refuse(self, message: str, hint: str = "", field_name: str = "") -> None:
        """Notes a contradiction, with the place where the field was given."""
        self.problems.append(problem_at(self.origins, field_name, message, hint))

    def reject(self, message: str, hint: str, field_name: str) -> None:
        """Notes what no target could give: the request itself is malformed."""
        self.malformed = True
        self.refuse(message, hint, field_name)

    def origin(self, source: str) -> str:
        """Where a config field, or what holds it, was given; any other text is one already."""
        if not hasattr(self.config, source.split(".")[0]):
            return source
        while source and source not in self.origins:
            source = source.rpartition(".")[0]
        return str(self.origins[source]) if source else "given"

    @property
    def of_site(self) -> str:
        """The origin of what the site says."""
        return f"site {self.site.id}"

    @property
    def of_target(self) -> str:
        """The origin of what the target says."""
        return f"target {self.site.id}/{self.target_name}"

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

    def note_words(self, field_name: str, words: tuple[str, ...]) -> None:
        """Notes a list of words; those behind the file's come from the command line."""
        for number, word in enumerate(words):
            self.check_text(word, f"{field_name}[{number}]")
        if not words:
            return
        origin = self.origin(field_name)
        if field_name in self.origins and f"{field_name}[{len(words) - 1}]" not in self.origins:
            origin += ", and given"
        self.choices.append(Choice(field_name, shlex.join(words), origin))

    def check_text(self, text: str, field_name: str) -> None:
        """Refuses what no process can be given."""
        if "\0" in text:
            self.reject("a NUL character cannot reach any program", "", field_name)
        try:
            text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            half = f"{error.object[error.start]!a} is half of a character, and has no bytes"
            self.reject(half, "", field_name)

    def parse(self, parse: Callable[[str], Value], text: str, field_name: str) -> Value | None:
        """What a text means; None after a problem."""
        try:
            return parse(text)
        except ValueError as error:
            self.reject(str(error), "", field_name)
            return None


def _shown(value: object) -> str:
    return " ".join(str(v) for v in value) if isinstance(value, tuple) else str(value)
