"""A run's data as `get_details` tells it."""

from __future__ import annotations

from typing import Any

from hpcrun.record import RunRecord


def datasets_of(record: RunRecord, output: bool) -> list[dict[str, Any]]:
    """The inputs or outputs of a run: name, path, mode, and of each node what was brought.

    nodes: host, files, bytes, complete, and of inputs the seconds it took; none where nothing is
    brought.
    """
    told = (record.request.get("data") or {}).get("all", ())
    return [
        {
            "name": each["name"],
            "path": each["path"],
            "mode": each["mode"],
            "nodes": [
                {key: value for key, value in data.items() if key not in ("name", "output")}
                for data in record.attempt.data
                if (data["name"], data.get("output", False)) == (each["name"], output)
            ],
        }
        for each in told
        if each["output"] == output
    ]
