"""When a run begins, after what, with which data, and when it is requeued.

Values only; standard library (3.8+).
"""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Optional, Tuple


class Policy(NamedTuple):
    """What the run's user wants.

    exit_code: by which the command asks for a requeue; 0: by none. at_time_limit: whether a
    command that stopped for the time limit goes on in the next attempt. max_attempts: of one
    submission, those that Slurm has requeued by itself among them.
    """

    exit_code: int = 0
    at_time_limit: bool = False
    max_attempts: int = 1


class Preflight(NamedTuple):
    """What a preflight must find. tasks: how many the launcher starts, which are one world.

    gpus: on each node. python: the command's interpreter, where its ranks are an MPI world.
    """

    tasks: int
    gpus: int = 0
    python: Optional[str] = None


class After(NamedTuple):
    """Which runs must have ended before the command starts. records: the folders of their records.

    condition: afterok, they have completed; afterany, they have ended. any_of: one is enough.
    """

    records: Tuple[str, ...]
    condition: str = "afterok"
    any_of: bool = False

    @classmethod
    def of(cls, told: Optional[Mapping[str, Any]]) -> "Optional[After]":
        """As run.json tells it."""
        if not told:
            return None
        records = tuple(run["record"] for run in told["runs"])
        return cls(records, told["condition"], told["any_of"])


class Data(NamedTuple):
    """An input or output. path: where it lies for all nodes. mode: direct, stage or unpack.

    place: what it is called in the node's folder for data; empty: it is used where it lies.
    """

    name: str
    path: str
    mode: str
    place: str
    output: bool

    @property
    def what(self) -> str:
        """As it is called."""
        return f"{'output' if self.output else 'input'} {self.name}"

    @classmethod
    def told(cls, told: "Optional[Mapping[str, Any]]") -> "Tuple[Data, ...]":
        """As run.json tells it."""
        return tuple(cls(**each) for each in (told or {}).get("all", ()))
