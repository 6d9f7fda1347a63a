"""What is asked of which target: the choices that are made for it, and the problems found."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import TypeVar

from hpcrun.config import DockerSection, Environment, RunConfiguration
from hpcrun.errors import Problem
from hpcrun.plan import Choice, staged_place, staged_root
from hpcrun.reading import Finding, Read
from hpcrun.resolve.surroundings import Surroundings
from hpcrun.site import SiteConfig, Target
from hpcrun.site.target import Override

Value = TypeVar("Value")


class Request:
    """What is asked of which target. Collects choices and problems while one plan is made.

    origins: where each key was given. choices: each value that was chosen, with its origin.
    problems: each contradiction with the target. packed: the file that the environment is, or will
    be, packed into.
    """

    def __init__(
        self,
        asked: Read[RunConfiguration],
        site: SiteConfig,
        target_name: str,
        around: Surroundings,
        run_id: str,
        packed: str | None = None,
    ) -> None:
        self.asked = asked
        self.config = asked.value
        self.origins = asked.origins
        self.site = site
        self.target_name = target_name
        self.target: Target = site.targets[target_name]
        self.around = around
        self.run_id = run_id
        self.packed = packed
        self.choices: list[Choice] = []
        self.problems: list[Problem] = []

    @property
    def is_private(self) -> bool:
        """Whether nobody else may see the run."""
        told = self.config.private
        return self.around.private if told is None else told

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

    def refuse(self, message: str, hint: str, key: str, *beside: str) -> None:
        """Notes a contradiction between a key, others beside it, and the target."""
        if self.asked.is_sure_of(key, *beside):
            self.problems.append(self.asked.problem(Finding(key, message, hint)))

    def origin(self, source: str) -> str:
        """Where a config field, or what holds it, was given; any other text is one already."""
        if not hasattr(self.config, source.split(".")[0].partition("[")[0]):
            return source
        while source and source not in self.origins:
            source = source.rpartition(".")[0]
        return str(self.origins[source]) if source else "given"

    @property
    def of_site(self) -> str:
        """The origin of what the site says; of both where its target wants some of it otherwise."""
        told = f"site {self.site.id}"
        is_its_own = self.target.override == Override()
        return told if is_its_own else f"{told}, as its target {self.target_name} wants it"

    @property
    def of_target(self) -> str:
        """The origin of what the target says."""
        return f"target {self.site.id}/{self.target_name}"

    @property
    def for_tests(self) -> str:
        """What a hint begins with at a target that is there for tests."""
        return "it is there for tests: " if self.target.kind == "test" else ""

    @property
    def environment(self) -> Environment:
        """The environment as a value."""
        environment = self.config.environment
        if isinstance(environment, str):
            return Environment(environment, virtual_environment=environment)
        if not self.config.uses_image:
            return replace(environment, docker=DockerSection())
        return environment

    @property
    def place(self) -> str | None:
        """The folder on each node that holds the environment, if it is staged."""
        if self.packed is None or self.environment.pack is None or self.local:
            return None
        return staged_place(self.site.storage.node_tmp, self.run_id)

    @property
    def prefix(self) -> str | None:
        """The folder of the virtual or conda environment on a node, if one is used."""
        return staged_root(self.place) if self.place is not None else self.shared_prefix

    @property
    def shared_prefix(self) -> str | None:
        """The folder of the environment that all nodes see, if one is used."""
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
        if not words:
            return
        origin = self.origin(field_name)
        if field_name in self.origins and f"{field_name}[{len(words) - 1}]" not in self.origins:
            origin += ", and given"
        self.choices.append(Choice(field_name, shlex.join(words), origin))


def _shown(value: object) -> str:
    return " ".join(str(v) for v in value) if isinstance(value, tuple) else str(value)
