"""Which checkpoints of a working folder the history has only in part. Standard library only (3.8+).

A checkpoint that is a folder comes file by file, the small ones first, its marker among them. Where
the node fails meanwhile, the next attempt must not go on from what has come. So what is on its way
is told before the first of its files comes, and that it is there once all of them have.
"""

from __future__ import annotations

import os
from typing import Callable, Dict, Iterable, List, Sequence, Set, Tuple

from hpcrun.agent.checkpoints import Rules, matching
from hpcrun.layout import COLLECTED, Attempt
from hpcrun.record import Fact

OUTPUTS = COLLECTED[0]


class Partial:
    """Tells what is on its way. root: the working folder. tell: takes all names, when they change.

    Names are those of folders, such as outputs/checkpoint-5.
    """

    def __init__(self, root: str, rules: Rules, tell: Callable[[Sequence[str]], None]) -> None:
        self._outputs = os.path.join(root, OUTPUTS)
        self._rules = rules
        self._tell = tell
        self._told: List[str] = []

    def look(self, waiting: Iterable[str]) -> None:
        """waiting: the names of files that the history does not have as they are."""
        folders = {os.path.dirname(name) for name in waiting if name.startswith(f"{OUTPUTS}/")}
        folders |= {above for folder in folders for above in _above(folder)}
        now: List[str] = []
        if folders:
            root = os.path.dirname(self._outputs)
            found = matching(self._outputs, self._rules.patterns)
            now = sorted(folders.intersection(os.path.relpath(path, root) for path in found))
        if now != self._told:
            self._told = now
            self._tell(now)


def _above(folder: str) -> Iterable[str]:
    while folder:
        yield folder
        folder = os.path.dirname(folder)


def partial_names(facts: Iterable[Fact]) -> Set[str]:
    """What the history has only in part, as far as those who brought it have told.

    The newest attempt that brings a checkpoint tells of it. What nodes left is there once somebody
    has drained them.
    """
    last: Dict[Tuple[Attempt, str], Tuple[int, Set[str]]] = {}
    newest: Dict[str, Attempt] = {}
    drained = set()
    for fact in facts:
        if fact.kind == "drained":
            drained.add((fact.attempt, fact.data["host"].split(".")[0]))
        elif fact.kind == "partial":
            key = fact.attempt, fact.data["host"].split(".")[0]
            names = set(fact.data["names"])
            last[key] = max(last.get(key, (0, set())), (fact.number, names), key=lambda one: one[0])
            for name in names:
                newest[name] = max(newest.get(name, fact.attempt), fact.attempt)
    return {
        name
        for key, (_, names) in last.items()
        for name in names
        if key not in drained and newest[name] == key[0]
    }
