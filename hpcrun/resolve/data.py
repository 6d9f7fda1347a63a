"""The data that a run reads and writes."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping

from hpcrun import variables
from hpcrun.config import DataInput, DataOutput
from hpcrun.plan import Data
from hpcrun.resolve.request import Request


def data(request: Request) -> tuple[Data, ...]:
    """Inputs and outputs; their paths are whole."""
    config = request.config
    return (*_each(request, "inputs", config.inputs), *_each(request, "outputs", config.outputs))


def _each(
    request: Request, section: str, given: Mapping[str, DataInput | DataOutput | str] | None
) -> list[Data]:
    output, found = section == "outputs", []
    for name, told in (given or {}).items():
        key = f"{section}.{name}"
        if isinstance(told, str):
            told = DataOutput(told) if output else DataInput(told)
        path = _of_run(request, name, told.path) if output else told.path
        place = ""
        if told.mode != "direct":
            place = f"{section}/{name}"
        if told.mode == "stage" and not output:  # a file's name may tell what it is
            place += f"/{posixpath.basename(path.rstrip('/')) or name}"
        request.note(f"{section[:-1]} {name}", f"{path} ({told.mode})", key)
        plain = variables.refusal(name) is None
        found.append(Data(name, path, told.mode, place, output, plain))
    return found


def _of_run(request: Request, name: str, path: str) -> str:
    """Azure ML's two placeholders in destinations."""
    return path.replace("{run-id}", request.run_id).replace("{output-name}", name)
