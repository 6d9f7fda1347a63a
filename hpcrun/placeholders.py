"""What a run's words may leave to each of its processes: ${{rank}} is that one's number. Pure.

The agent's task.sh fills them in, in each process, after everything that could split or expand a
word: what stands there arrives exactly, whatever else the word holds. `$${{` is `${{` itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from hpcrun.errors import Problem
from hpcrun.reading import nearest

NAMES = (
    *("rank", "world_size", "local_rank", "local_world_size", "node_rank"),
    *("master_addr", "master_port"),
)
"""The variables of the same names in capitals."""

OF_TASKS = ("task_index", "task_count")
"""Those of independent tasks: the variables with HPCRUN_ before."""

_PLACEHOLDER = re.compile(r"(?P<literal>\$?)\$\{\{ ?(?P<name>[^{}]*?) ?\}\}")


def refusal(word: str, data: Sequence[str] = ()) -> Problem | None:
    """What is wrong with the placeholders of a word; None if nothing is.

    data: the names of the run's inputs and outputs, such as inputs.imagenet.
    """
    names = (*NAMES, *OF_TASKS, *data)
    for match in _PLACEHOLDER.finditer(word):
        name = match["name"]
        if not match["literal"] and name not in names:
            hint = f"{nearest(name, names)}; as a text it is written ${match[0]}"
            return Problem(f"there is no placeholder {match[0]}", hint)
    return None


def of_tasks(word: str) -> str | None:
    """The first placeholder in a word that only an independent task has a value for."""
    found = (match for match in _PLACEHOLDER.finditer(word) if not match["literal"])
    return next((match[0] for match in found if match["name"] in OF_TASKS), None)


def are_in(words: Sequence[str]) -> bool:
    """Whether any of the words is another one to the process that gets it."""
    return any(_PLACEHOLDER.search(word) for word in words)
