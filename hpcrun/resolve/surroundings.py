"""What resolving needs besides what is asked and the site."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Surroundings:
    """Everything that resolving needs from outside, so that it can be a function of its arguments.

    environ holds VIRTUAL_ENV, CONDA_PREFIX and the like. private: whether runs are, by the
    workspace's policy. python is hpcrun's own interpreter, which runs the agent. created is Unix
    seconds.
    """

    user: str
    host: str
    created: float
    version: str
    python: str
    workspace: str
    source: str
    environ: Mapping[str, str] = field(default_factory=dict)
    private: bool = False
