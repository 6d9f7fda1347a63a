"""report: what a bug report needs, without what is nobody's business."""

from __future__ import annotations

import platform
import re
import sys
from pathlib import Path
from typing import Any

import click

import hpcrun
from hpcrun.cli.main import json_option
from hpcrun.cli.output import print_json, run_object
from hpcrun.workflow.session import open_session

_SECRET = re.compile(r"(?i)(token|key|secret|passw|credential|auth)")
_EXPORT = re.compile(r"^(export )?([A-Za-z_][A-Za-z0-9_]*)=(.*)$")


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
        "request": dict(record.request),
        "script": [_scrub_line(line) for line in script.splitlines()],
    }
    print_json(scrub(value, {str(Path.home()): "~", record.user: "USER"}))


def scrub(value: Any, words: dict[str, str]) -> Any:
    """The value with words replaced in every text, and values of secret-looking names hidden."""
    if isinstance(value, dict):
        return {
            key: "…" if isinstance(item, str) and _SECRET.search(str(key)) else scrub(item, words)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [scrub(item, words) for item in value]
    if isinstance(value, str):
        for word, instead in words.items():
            value = re.sub(rf"(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])", instead, value)
    return value


def _scrub_line(line: str) -> str:
    match = _EXPORT.match(line)
    if match is None or match.group(2).startswith("HPCRUN_") or match.group(2) in _PLAIN:
        return line
    return f"{match.group(1) or ''}{match.group(2)}=…"


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
