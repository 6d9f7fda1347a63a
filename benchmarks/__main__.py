"""python -m benchmarks: prints one table of what hpcrun costs. docs/benchmarks.md explains it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator

from benchmarks import (
    agent,
    command_line,
    environments,
    faults,
    first_instruction,
    history,
    lab,
    launches,
    network,
    poll,
    remote,
    rendering,
    run_log,
    show,
    sizes,
    staging,
    submission,
    upload,
)
from benchmarks.row import Row, table
from tests.lab import Lab

LOCAL = ("commands", "environments", "render", "history", "sizes", "agent", "log", "faults", "show")
MOST = {"log": 5, "show": 3}
"""The most runs of each, of rows whose runs take seconds."""

CLUSTER: dict[str, Callable[[Lab, int], Iterator[Row]]] = {
    "submit": submission.rows,
    "start": first_instruction.rows,
    "launch": launches.rows,
    "fuse": network.rows,
    "poll": poll.rows,
    "upload": upload.rows,
    "remote": remote.rows,
    "staging": staging.rows,
}


def main() -> int:
    """0 once all that was asked for is measured, whether aims are met or not."""
    asked = _arguments()
    print(table([*_local(asked), *_on_cluster(asked)]))
    return 0


def _local(asked: argparse.Namespace) -> Iterator[Row]:
    if "commands" in asked.rows:
        _tell(f"commands: {asked.count} times each")
        yield from _measured("commands", command_line.rows(asked.count))
    if "environments" in asked.rows:
        _tell(f"environments: {asked.count} times each")
        yield from _measured("environments", environments.rows(asked.count))
    if "render" in asked.rows:
        _tell(f"render: {asked.count} times each")
        yield from _measured("render", rendering.rows(asked.count))
    if "history" in asked.rows:
        _tell(f"history: {asked.count} times each")
        yield from _measured("history", history.rows(asked.count))
    if "sizes" in asked.rows:
        _tell("sizes")
        yield from _measured("sizes", sizes.rows())
    if "agent" in asked.rows:
        _tell(f"agent: {asked.seconds:g} s")
        yield from _measured("agent", agent.rows(asked.seconds))
    if "log" in asked.rows:
        yield from _measured("log", run_log.rows(_turns("log", asked.count)))
    if "faults" in asked.rows:
        _tell("faults")
        yield from _measured("faults", faults.rows())
    if "show" in asked.rows:
        yield from _measured("show", show.rows(_turns("show", asked.count)))


def _turns(name: str, count: int) -> int:
    turns = min(count, MOST[name])
    _tell(f"{name}: {turns} times each")
    return turns


def _on_cluster(asked: argparse.Namespace) -> Iterator[Row]:
    chosen = [name for name in CLUSTER if name in asked.rows]
    if not chosen:
        return
    try:
        with lab.bench() as bench:
            for name in chosen:
                _tell(f"{name}: {asked.count} times each")
                yield from _measured(name, CLUSTER[name](bench, asked.count))
    except lab.Unavailable as why:
        for name in chosen:
            yield Row.skipped(name, str(why))


def _measured(name: str, rows: Iterator[Row]) -> Iterator[Row]:
    try:
        yield from rows
    except RuntimeError as error:
        yield Row.skipped(name, str(error).strip().splitlines()[-1])


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    names = (*LOCAL, *CLUSTER)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", help=f"which: {', '.join(names)} (default: all)")
    parser.add_argument("--count", type=int, default=20, help="runs of each (default: 20)")
    parser.add_argument(
        "--seconds", type=float, default=60, help="how long the agent is watched (default: 60)"
    )
    asked = parser.parse_args()
    if unknown := set(asked.rows) - set(names):
        parser.error(f"there is no row {min(unknown)!r}; there are {', '.join(names)}")
    asked.rows = asked.rows or list(names)
    return asked


if __name__ == "__main__":
    sys.exit(main())
