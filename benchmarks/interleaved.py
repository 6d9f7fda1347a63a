"""Runs commands in turn, A B A B, and times each. Standard library only.

As a program it reads {"commands": {name: words}, "count": n} and prints {name: [seconds]}: users
of the test cluster, who cannot read the checkout, get its text.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence


def interleaved(
    commands: Mapping[str, Sequence[str]], count: int, env: Mapping[str, str] | None = None
) -> dict[str, list[float]]:
    """The wall times of each command in seconds; a first round is run and not counted."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(count + 1):
        for name, words in commands.items():
            began = time.perf_counter()
            done = subprocess.run(
                words, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False
            )
            took = time.perf_counter() - began
            if done.returncode:
                raise RuntimeError(f"{' '.join(words)}: {done.stderr.decode(errors='replace')}")
            if turn:
                times[name].append(took)
    return times


if __name__ == "__main__":
    told = json.load(sys.stdin)
    json.dump(interleaved(told["commands"], told["count"]), sys.stdout)
