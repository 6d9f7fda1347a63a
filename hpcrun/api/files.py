"""The files, logs and code of a run."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from hpcrun.api.known import KnownRun
from hpcrun.api.model import Model
from hpcrun.arguments import checked
from hpcrun.errors import ConfigError, Problem
from hpcrun.metrics.models import ModelRecord
from hpcrun.workflow.code import code_of, known_digest
from hpcrun.workflow.files import RunFile


@checked
class RunFiles(KnownRun):
    """What can be done with a run's files."""

    def get_files(self) -> Sequence[RunFile]:
        """Its files with their sizes in bytes, and the SHA-256 of what was uploaded or logged."""
        return self._side.files(self.record())

    # -- files --------------------------------------------------------------------------------

    def get_file_names(self) -> Sequence[str]:
        """The names of its files, such as outputs/model.pt, sorted."""
        return [file.name for file in self.get_files()]

    def download_file(self, name: str, output_file_path: str | Path | None = None) -> Path:
        """Copies one file; gives the copy's path.

        output_file_path: a file, or a folder that is there or whose name ends in /, where the
        copy has the last part of its name; default: the current folder.
        """
        target = output_file_path if output_file_path is not None else Path.cwd()
        return self._side.fetch(self._user, self.id, name, target)

    def download_files(
        self,
        prefix: str | None = None,
        output_directory: str | Path | None = None,
        output_paths: Sequence[str | Path] | None = None,
        batch_size: int = 100,
        append_prefix: bool = True,
        timeout_seconds: int | None = None,
    ) -> Sequence[Path]:
        """Copies the files whose name begins with a prefix; gives the copies' paths.

        output_directory: default: the current folder. output_paths: one for each file, in the
        order of get_file_names(). append_prefix: keep the prefix in the copies' names.
        batch_size and timeout_seconds are Azure ML's and have no meaning here.
        """
        names = [name for name in self.get_file_names() if name.startswith(prefix or "")]
        if output_paths is not None and len(output_paths) != len(names):
            raise ConfigError(
                Problem(f"{len(output_paths)} output_paths given for {len(names)} files")
            )
        folder = Path(output_directory) if output_directory is not None else Path.cwd()
        targets = output_paths or [
            folder / (name if append_prefix else name.removeprefix(prefix or "").lstrip("/"))
            for name in names
        ]
        pairs = [(name, Path(target)) for name, target in zip(names, targets, strict=True)]
        return self._side.fetch_all(self._user, self.id, pairs)

    def get_all_logs(self, destination: str | Path | None = None) -> Sequence[Path]:
        """Copies all its logs; gives the copies' paths.

        destination: the folder; default: assets/<run id> in the current one.
        """
        folder = Path(destination) if destination is not None else Path("assets", self.id)
        names = self._log_names()
        return self._side.fetch_all(self._user, self.id, [(name, folder / name) for name in names])

    def _as_model(self, record: ModelRecord) -> Model:
        return Model(self._experiment.workspace, record.name, version=record.version)

    def _log_names(self) -> Sequence[str]:
        return self._side.log_names(self._user, self.id)

    # -- code ---------------------------------------------------------------------------------

    def get_snapshot_id(self) -> str:
        """The digest of its source, as it was submitted. StoreError: the run has none."""
        return known_digest(self.record())

    def restore_snapshot(
        self, snapshot_id: str | None = None, path: str | Path | None = None
    ) -> Path:
        """Writes its source as a zip file `<digest>.zip` into a folder; gives the file's path.

        snapshot_id: another snapshot of the same user. path: default: a new temporary folder.
        """
        from hpcrun.snapshot.archive import archive  # zipfile is slow to import

        self._side.expect_near(
            "the source of a run as a zip file",
            f"`hpcrun -w {self._side.name} snapshot {self.id} --restore FOLDER` brings it",
        )
        code = code_of(self._session.workspace, self.record(), snapshot_id)
        folder = Path(path) if path is not None else Path(tempfile.mkdtemp(prefix="hpcrun-"))
        file = folder / f"{code.manifest.digest}.zip"
        archive(code.manifest, code.objects, file)
        return file
