"""Registering files of a run as a model. Standard library only (Python 3.8+)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping, Optional

from hpcrun.arguments import checked
from hpcrun.metrics.recording import Recording, texts_of
from hpcrun.metrics.uploads import place_of

if TYPE_CHECKING:
    from hpcrun.metrics.models import ModelRecord


@checked
class Registering(Recording):
    """The part of a Run that registers models."""

    def register_model(
        self,
        model_name: str,
        model_path: Optional[str] = None,
        tags: Optional[Mapping[str, Any]] = None,
        properties: Optional[Mapping[str, Any]] = None,
        model_framework: Optional[str] = None,
        model_framework_version: Optional[str] = None,
        description: str = "",
    ) -> Any:
        """Copies files of the run as the next version of a model; gives it.

        model_name: letters, digits, dots, _ and -. model_path: a file or folder among the run's
        files, such as outputs/model; default: the model's name. Deleting the run leaves the model.
        It waits for the shared file system. ValueError: the name; StoreError: no such files.
        """
        if self._is_silent():
            return None
        from hpcrun.metrics.models import register  # slow to import, and seldom needed

        source = place_of(self._files_folder(), model_path or model_name)
        details = {
            "run_id": self.id,
            "description": description,
            "tags": texts_of(tags or {}),
            "properties": texts_of(properties or {}),
            "framework": model_framework,
            "framework_version": model_framework_version,
        }
        model = register(self._models_folder(), model_name, source, details)
        self._append("model", {"name": model.name, "version": model.version})
        return self._as_model(model)

    def _as_model(self, record: ModelRecord) -> Any:
        return record
