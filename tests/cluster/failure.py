"""The one error of this tool."""

from __future__ import annotations

from pathlib import Path


class ClusterError(Exception):
    """Something of the cluster did not come up, in one sentence and a log's last lines."""


class NotHere(ClusterError):
    """This machine lacks what a part of the cluster needs; that is no fault of the cluster's."""


class InUse(ClusterError):
    """Another process uses the cluster: it stays as it is."""


def tail(path: Path, lines: int = 8) -> str:
    """The last lines of a log, for a message."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return f"(no {path})"
