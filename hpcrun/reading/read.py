"""A value that was read, with all that is known of it: where it stands, and what is wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, NamedTuple, TypeVar

from hpcrun.errors import ConfigError, HpcrunError, Problem
from hpcrun.reading.kinds import default_of, fields_of, has_default
from hpcrun.reading.tree import Origin

Kind = TypeVar("Kind")

Raised = Callable[..., HpcrunError]
"""An error that takes problems, such as ConfigError."""


class Finding(NamedTuple):
    """What is wrong with a key, such as `resources.time`.

    beside: further keys without whose values it would not be wrong.
    """

    key: str
    message: str
    hint: str = ""
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Read(Generic[Kind]):
    """A value, and where each of its parts was given (`resources.time` → run.yaml:7).

    problems: all that is wrong. wrong: the keys that it is wrong with; the value is without them,
    as if they had not been given. misread: the sections in which a key was not understood, so that
    what is not given there may be what was meant; "" is the whole file.
    """

    value: Kind
    origins: Mapping[str, Origin]
    problems: tuple[Problem, ...] = ()
    wrong: frozenset[str] = frozenset()
    misread: frozenset[str] = frozenset()

    def sound(self, error: Raised = ConfigError) -> Read[Kind]:
        """Itself. Raises `error` with every problem if there is one."""
        if self.problems:
            raise error(*self.problems)
        return self

    def with_findings(self, findings: Iterable[Finding]) -> Read[Kind]:
        """The same with what else is wrong. What only follows from something wrong is not told."""
        told = [finding for finding in findings if self.is_sure_of(finding.key, *finding.beside)]
        value = self.value
        for finding in told:
            value = _without(value, finding.key)
        problems = (*self.problems, *(self.problem(finding) for finding in told))
        wrong = self.wrong | {finding.key for finding in told}
        return replace(self, value=value, problems=problems, wrong=wrong)

    def is_sure_of(self, *keys: str) -> bool:
        """Whether it is known what was asked there, if only that nothing was."""
        return all(self._is_sure_of(key) for key in keys)

    def _is_sure_of(self, key: str) -> bool:
        holders = list(_holders(key))
        is_known = key in self.origins or self.misread.isdisjoint(("", *holders))
        return is_known and self.wrong.isdisjoint((key, *holders))

    def problem(self, finding: Finding) -> Problem:
        """A finding at the place where its key, or what holds it, was given."""
        keys = (finding.key, *_holders(finding.key), "")
        origin = next((self.origins[key] for key in keys if key in self.origins), Origin(""))
        return Problem(finding.message, finding.hint, origin.source, origin.line)


def _holders(key: str) -> Iterable[str]:
    """`a.b` and `a` of `a.b.c`."""
    while "." in key:
        key = key.rpartition(".")[0]
        yield key


def _without(value: Any, key: str) -> Any:
    """A copy in which a key is as if it had not been given."""
    if isinstance(value, Mapping):
        return {name: item for name, item in value.items() if name != key}
    name, _, rest = key.partition(".")
    field = fields_of(value).get(name) if dataclasses.is_dataclass(value) else None
    if field is None or not has_default(field):
        return value
    inner = getattr(value, name)
    part = rest and (isinstance(inner, Mapping) or dataclasses.is_dataclass(inner))
    return replace(value, **{name: _without(inner, rest) if part else default_of(field)})
