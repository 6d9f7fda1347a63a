"""What differs between two runs, and what came of it. Pure, but for the files of the snapshots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from hpcrun.metrics import Metric
from hpcrun.record import RunRecord
from hpcrun.snapshot.difference import FileChange, Side, changes
from hpcrun.workflow.code import digest_of
from hpcrun.workflow.summary import Summary, summary_of


class ComparedRun(NamedTuple):
    """One of the two. code: None if it has no snapshot, or one that cannot be read."""

    record: RunRecord
    metrics: Mapping[str, Metric]
    code: Side | None

    @property
    def command(self) -> Sequence[str]:
        """The words of its command, without the launcher; none of an interactive run."""
        return self.record.command


class MetricChange(NamedTuple):
    """A metric whose last value differs, or that only one has."""

    name: str
    a: Summary | None
    b: Summary | None

    @property
    def difference(self) -> float | None:
        """b − a, where both are numbers."""
        a, b = self.a and self.a.numbers.last, self.b and self.b.numbers.last
        return b - a if a is not None and b is not None else None


class ValueChange(NamedTuple):
    """A value that differs. None: it has none. section: run, values, environment, git or tags."""

    section: str
    name: str
    a: str | None
    b: str | None


@dataclass(frozen=True)
class Difference:
    """All that differs between run a and run b.

    same_metrics: how many metrics have the same last value. files: of the code; None where there
    are not two snapshots to compare.
    """

    a: ComparedRun
    b: ComparedRun
    metrics: Sequence[MetricChange]
    same_metrics: int
    values: Sequence[ValueChange]
    files: Sequence[FileChange] | None


def difference(a: ComparedRun, b: ComparedRun) -> Difference:
    """What differs between two runs."""
    names = sorted(a.metrics.keys() | b.metrics.keys())
    compared = [
        MetricChange(n, _summary(a.metrics.get(n)), _summary(b.metrics.get(n))) for n in names
    ]
    changed = [change for change in compared if _exactly(change.a) != _exactly(change.b)]
    return Difference(
        a=a,
        b=b,
        metrics=changed,
        same_metrics=len(compared) - len(changed),
        values=list(_values(a.record, b.record)),
        files=_files(a, b),
    )


def _summary(metric: Metric | None) -> Summary | None:
    return None if metric is None else summary_of(metric)


def _exactly(summary: Summary | None) -> str:
    """As text, since nan is not nan. Python writes no int of many digits in decimal."""
    if summary is not None and isinstance(summary.last, int):
        summary = summary._replace(last=hex(summary.last))
    return repr(summary)


def _files(a: ComparedRun, b: ComparedRun) -> Sequence[FileChange] | None:
    if digest_of(a.record) == digest_of(b.record):
        return []
    return list(changes(a.code, b.code)) if a.code and b.code else None


def _values(a: RunRecord, b: RunRecord) -> Iterator[ValueChange]:
    told = (_told(a), _told(b))
    for section in told[0]:
        before, after = told[0][section], told[1][section]
        for name in dict.fromkeys([*before, *after]):
            if before.get(name) != after.get(name):
                yield ValueChange(section, name, before.get(name), after.get(name))


def _told(record: RunRecord) -> Mapping[str, Mapping[str, str]]:
    """What is told of a run, as texts: section → name → value."""
    choices = _choices(record.request)
    verdict = record.verdict
    variables = {n: v for n, v in choices.items() if n.startswith("variable ")}
    apart = {*variables, "arguments", "modules", "environment", "python", "experiment"}
    apart |= {name for name in choices if name.startswith("tag ")}
    return {
        "run": {
            "experiment": record.experiment,
            "user": record.user,
            "target": record.target,
            "status": str(record.state),
            **({"verdict": verdict.sentence} if verdict is not None else {}),
            "attempts": str(len(record.attempts)),
            **_some("nodes", " ".join(record.attempt.nodes) or record.attempt.host),
        },
        "values": {name: value for name, value in choices.items() if name not in apart},
        "environment": _environment(record.request, choices) | variables,
        "git": {
            name.removeprefix("azureml.git."): value
            for name, value in record.properties.items()
            if name.startswith("azureml.git.")
        },
        "tags": record.tags,
    }


def _environment(request: Mapping[str, Any], choices: Mapping[str, str]) -> dict[str, str]:
    told = request.get("environment")
    found = told if isinstance(told, dict) else {}
    modules = found.get("modules")
    return {
        **_some("name", choices.get("environment", "").partition(" (")[0]),
        **_some("python", found.get("python")),
        **_some("virtual environment", found.get("virtual_environment")),
        **_some("image", found.get("image")),
        **_image_file(found.get("image_file")),
        **{f"module {name}": "loaded" for name in (modules if isinstance(modules, list) else ())},
        **_packages(found.get("packages")),
        **_some("hpcrun", request.get("hpcrun")),
    }


def _image_file(told: object) -> dict[str, str]:
    """An image that was replaced has its name still."""
    if not isinstance(told, dict):
        return {}
    return _some("image file", f"{told.get('bytes')} bytes of {told.get('modified')}")


def _packages(told: object) -> dict[str, str]:
    """What was installed in an environment that hpcrun built, by its lock."""
    lock = told.get("lock") if isinstance(told, dict) else None
    found = {}
    for line in lock if isinstance(lock, list) else ():
        name, _, version = str(line).replace(" @ ", "==", 1).partition("==")
        found[f"package {name}"] = version
    return found


def _some(name: str, value: object) -> dict[str, str]:
    return {name: str(value)} if value else {}


def _choices(request: Mapping[str, Any]) -> dict[str, str]:
    """What was resolved, name → value."""
    told = request.get("choices")
    rows = told if isinstance(told, list) else []
    return {str(row[0]): str(row[1]) for row in rows if isinstance(row, list) and len(row) == 3}
