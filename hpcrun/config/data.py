"""The data that a run reads and writes outside of its own folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

InputMode = Literal["direct", "stage", "unpack"]
OutputMode = Literal["stage", "direct"]


@dataclass
class DataInput:
    """Data that the run reads."""

    path: str
    """A file or folder that all nodes see; or a name for one, and what lies below it."""
    mode: InputMode = "direct"
    """Used where it lies, or copied to each node's own disk first, or unpacked there."""


@dataclass
class DataOutput:
    """A folder that the run writes."""

    path: str
    """Where it ends: a folder that all nodes see; {run-id} in it is the run's id."""
    mode: OutputMode = "stage"
    """Written on each node's own disk and copied at the end, or written where it ends."""


@dataclass(frozen=True)
class DatasetConsumptionConfig:
    """Azure ML's name for an input that stands among the arguments: its folder is that word.

    dataset: as `DataInput.path`. mode: direct or mount, where it lies; download, on the node.
    """

    name: str
    dataset: str | Path
    mode: Literal["direct", "mount", "download"] = "direct"

    def as_mount(self) -> DatasetConsumptionConfig:
        """The same, used where it lies."""
        return replace(self, mode="mount")

    def as_download(self) -> DatasetConsumptionConfig:
        """The same, copied to each node's own disk."""
        return replace(self, mode="download")

    @property
    def data(self) -> DataInput:
        """As a value of `inputs`."""
        return DataInput(str(self.dataset), "stage" if self.mode == "download" else "direct")


@dataclass(frozen=True)
class OutputFileDatasetConfig:
    """Azure ML's name for an output that stands among the arguments: its folder is that word.

    destination: as `DataOutput.path`. mode: mount, written there; upload, copied at the end.
    """

    name: str
    destination: str | Path
    mode: Literal["mount", "upload"] = "mount"

    def as_mount(self) -> OutputFileDatasetConfig:
        """The same, written where it ends."""
        return replace(self, mode="mount")

    def as_upload(self) -> OutputFileDatasetConfig:
        """The same, written on each node's own disk and copied at the end."""
        return replace(self, mode="upload")

    @property
    def data(self) -> DataOutput:
        """As a value of `outputs`."""
        return DataOutput(str(self.destination), "stage" if self.mode == "upload" else "direct")
