"""What the nodes tell the agent of their data. Standard library only (Python 3.8+).

A node's word is JSON, which may be long. srun passes a long line on in parts (of 1024 bytes), and
those of several nodes mixed, so it comes in short lines `data HOST PART`, and `data HOST` ends it.
"""

from __future__ import annotations

import json
from signal import SIGKILL
from typing import Any, Callable, Dict, List, NamedTuple, Sequence

from hpcrun.agent import process
from hpcrun.agent.setting import Setting
from hpcrun.errors import HpcrunError

MARK = "data"
"""What such a line begins with."""

PART = 600
"""Characters of a part."""


def bring(setting: Setting, own_words: Sequence[str], is_over: Callable[[], bool]) -> List[str]:
    """Has a child bring the run's data to this node, and tell how that went.

    Gives what the child cannot tell. own_words: those that start the agent. is_over: asked again
    and again; where it says yes, the child is killed.
    """
    try:
        child = process.start((*own_words, "stage"), "/")
    except OSError as error:
        problem = f"{setting.host}: data cannot be staged: {error.strerror}"
        return in_lines(setting.host, {"facts": [], "problem": problem})
    while not child.has_ended():
        if is_over():
            child.send(SIGKILL)
    if child.exit_code == 0:
        return []
    problem = f"{setting.host}: what brings data ended with status {child.shell_status}"
    return in_lines(setting.host, {"facts": [], "problem": problem})


def lines(setting: Setting) -> List[str]:
    """Brings the run's data to this node, and tells how that went."""
    told: Dict[str, Any] = {"facts": [], "problem": ""}
    try:
        from hpcrun.agent import data  # the agent and the keepers do without

        folder = setting.data_folder or ""
        told["facts"] = data.prepare(setting.data, folder, setting.host)
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
