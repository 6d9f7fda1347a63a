"""What the nodes tell the agent of their data. Standard library only (Python 3.8+).

A node's word is JSON, which may be long. srun passes a long line on in parts (of 1024 bytes), and
those of several nodes mixed, so it comes in short lines `data HOST PART`, and `data HOST` ends it.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, NamedTuple, Sequence

from hpcrun.agent import signals
from hpcrun.agent.setting import Setting
from hpcrun.errors import HpcrunError

MARK = "data"
"""What such a line begins with."""

PART = 600
"""Characters of a part."""


def lines(setting: Setting) -> List[str]:
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
    return in_lines(setting.host, told)


def in_lines(host: str, told: Dict[str, Any]) -> List[str]:
    """A node's word as lines."""
    text = json.dumps(told)  # ASCII
    parts = [text[begin : begin + PART] for begin in range(0, len(text), PART)]
    return [*(f"{MARK} {host} {part}" for part in parts), f"{MARK} {host}"]


class Told(NamedTuple):
    """What a node has told. problem: why its data are not there; empty: they are."""

    facts: List[Dict[str, Any]]
    problem: str


def count(lines: Sequence[str]) -> int:
    """How many nodes have told all."""
    return sum(line.startswith(f"{MARK} ") and line.count(" ") == 1 for line in lines)


def told(lines: Sequence[str]) -> List[Told]:
    """What nodes have told in their lines, as far as they are through."""
    found: List[Told] = []
    texts: Dict[str, str] = {}
    for line in lines:
        mark, _, rest = line.partition(" ")
        if mark != MARK:
            continue
        host, more, part = rest.partition(" ")
        if more:
            texts[host] = texts.get(host, "") + part
        else:
            found.append(_told(texts.pop(host, "")))
    return found


def _told(text: str) -> Told:
    try:
        value = json.loads(text)
        return Told(list(value["facts"]), str(value["problem"]))
    except (ValueError, KeyError, TypeError):
        return Told([], f"a node told something else of its data: {text[:200]}")
