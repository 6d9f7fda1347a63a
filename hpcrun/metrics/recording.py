"""What the parts of a Run stand on. Standard library only (Python 3.8+)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Dict, Mapping, Optional

from hpcrun.forms import as_text


def texts_of(values: Mapping[str, Any]) -> Dict[str, str]:
    """Tags or properties as texts; None is the empty text, as of a tag without a value."""
    return {name: "" if value is None else as_text(value) for name, value in values.items()}


class Recording(ABC):
    """A run that facts and files can be added to."""

    @property
    @abstractmethod
    def id(self) -> str:
        """The run's id."""

    @property
    @abstractmethod
    def experiment_name(self) -> str:
        """The experiment it belongs to, and its children."""

    @abstractmethod
    def _append(self, kind: str, data: Dict[str, Any]) -> None:
        """Records a fact."""

    @abstractmethod
    def _is_silent(self) -> bool:
        """Whether this rank records nothing."""

    @abstractmethod
    def _files_folder(self) -> str:
        """Where its files stand."""

    @abstractmethod
    def _may_replace(self, name: str, source: Any) -> bool:
        """Whether an upload may replace another file that stands under its name."""

    @abstractmethod
    def _models_folder(self) -> str:
        """Where its user's models stand."""

    @abstractmethod
    def _make_child(
        self, run_id: str, name: Optional[str], tags: Mapping[str, str], outputs: Optional[str]
    ) -> Any:
        """A child that has not begun."""
