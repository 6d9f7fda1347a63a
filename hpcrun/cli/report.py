"""report: what a bug report needs, without what is nobody's business."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

import hpcrun
from hpcrun.cli.main import json_option
from hpcrun.cli.output import print_json, run_object
from hpcrun.workflow.session import open_session

_SECRET = r"(?:token|key|secret|passw|credential|auth)"
_SECRET_NAME = re.compile(_SECRET, re.IGNORECASE)
_SECRET_FLAG = re.compile(rf"(--?[\w-]*{_SECRET}[\w-]*(?:=|\s+))('[^']*'|\S+)", re.IGNORECASE)

_ASSIGNMENT = re.compile(
    r"^(?P<head>(?:export )?(?P<name>[A-Za-z_][A-Za-z0-9_]*)=)(?:'[^']*'|\"'\"|[^'\s])+",
    re.MULTILINE,
)
"""A variable of the script with its one quoted word, which may go over several lines."""


@click.command()
@click.argument("run")
@json_option
@click.pass_obj
def report(workspace: str | None, run: str, as_json: bool) -> None:
    """Print a run's plan and verdict for a bug report: names of people and values of variables
    are scrubbed, file contents are not in it."""
    session = open_session(given=workspace)
    user, run_id = session.store.find(run)
    record = session.record(run_id, user)
    paths = session.store.paths(run_id, user)
    script = Path(paths.script).read_text(encoding="utf-8", errors="replace")
    value = {
        "hpcrun": hpcrun.__version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "run": run_object(record, paths),
        "request": {**record.request, "choices": _choices(record.request.get("choices", ()))},
        "script": scrub_script(script).splitlines(),
    }
    print_json(scrub(value, {str(Path.home()): "~", record.user: "USER"}))


def _choices(choices: Iterable[Sequence[str]]) -> list[list[str]]:
    """The resolved values, without those of variables."""
    return [
        [name, "…" if name.startswith("variable ") else value, origin]
        for name, value, origin in choices
    ]


def scrub(value: Any, words: dict[str, str]) -> Any:
    """The value with words replaced in every text, and what looks like a secret hidden."""
    if isinstance(value, dict):
        return {
            key: "…"
            if isinstance(item, str) and _SECRET_NAME.search(str(key))
            else scrub(item, words)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return _scrub_words([scrub(item, words) for item in value])
    if isinstance(value, str):
        for word, instead in words.items():
            value = re.sub(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])", instead, value)
        return _SECRET_FLAG.sub(r"\1…", value)
    return value


def _scrub_words(items: list[Any]) -> list[Any]:
    """A list in which the word behind a flag such as `--api-key` is hidden."""
    flags = [isinstance(i, str) and i[:1] == "-" and bool(_SECRET_NAME.search(i)) for i in items]
    return [
        "…" if before and "=" not in str(items[n - 1]) else item
        for n, (before, item) in enumerate(zip([False, *flags], items, strict=False))
    ]


def scrub_script(script: str) -> str:
    """The script with the values of the user's variables hidden."""

    def hidden(found: re.Match[str]) -> str:
        name = found["name"]
        return found[0] if name.startswith("HPCRUN_") or name in _PLAIN else f"{found['head']}…"

    return _ASSIGNMENT.sub(hidden, script)


_PLAIN = frozenset(
    {
        "agent",
        "claim",
        "command",
        "step",
        "torchrun",
        "late",
        "status",
        "PATH",
        "PYTHONPATH",
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
    }
)
