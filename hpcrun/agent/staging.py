"""What the nodes tell the agent of their data. Standard library only (Python 3.8+)."""

from __future__ import annotations

import json
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from hpcrun.agent import signals
from hpcrun.agent.setting import Setting
from hpcrun.errors import HpcrunError

MARK = "data "
"""What such a line begins with."""


def line(setting: Setting) -> str:
    """Brings the run's data to this node, and tells how that went."""
    told: Dict[str, Any] = {"facts": [], "problem": ""}
    try:
        from hpcrun.agent import data  # the agent, which waits for this, does without

        folder = setting.data_folder or ""
        stopped = signals.stop_is_pending
        told["facts"] = data.prepare(setting.data, folder, setting.host, stopped)
    except HpcrunError as error:
        told["problem"] = error.message
    except Exception as error:  # noqa: BLE001 - the agent waits for a word
        told["problem"] = f"{setting.host}: {error!r}"
    return MARK + json.dumps(told)


class Told(NamedTuple):
    """What a node has told. problem: why its data are not there; empty: they are."""

    facts: List[Dict[str, Any]]
    problem: str


def told(lines: Sequence[str]) -> List[Told]:
    """What nodes have told in their lines."""
    found = (_told(line[len(MARK) :]) for line in lines if line.startswith(MARK))
    return [each for each in found if each is not None]


def _told(text: str) -> Optional[Told]:
    try:
        value = json.loads(text)
        return Told(list(value["facts"]), str(value["problem"]))
    except (ValueError, KeyError, TypeError):
        return Told([], f"a node told something else of its data: {text[:200]}")
