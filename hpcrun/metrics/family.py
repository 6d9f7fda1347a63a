"""Making child runs. Standard library only (Python 3.8+)."""

from __future__ import annotations

import os
import time
from typing import Any, List, Mapping, Optional, Sequence

from hpcrun.arguments import AnyPath, checked
from hpcrun.errors import StoreError
from hpcrun.forms import as_text
from hpcrun.layout import RUN_ID, RunPaths, UserPaths, sealed_of
from hpcrun.metrics.recording import Recording, texts_of

CHILDREN_LIMIT = 100
"""Children that one call of create_children makes."""


@checked
class Parent(Recording):
    """The part of a Run that makes children: runs without a job, which this process keeps."""

    def child_run(
        self,
        name: Optional[str] = None,
        run_id: Optional[str] = None,
        outputs: Optional[AnyPath] = None,
    ) -> Any:
        """A child of this run, an InteractiveRun that begins now; use it in a `with` statement.

        name: its display name. run_id: an id of one's own, in the usual form. outputs: a folder
        whose files are copied into the child's outputs/ at its end. It waits for the shared file
        system; what the child logs does not. StoreError, ValueError.
        """
        new = child_id(self.experiment_name, run_id)
        if run_id is not None:
            own = UserPaths(os.path.dirname(self._models_folder()))
            _expect_not_sealed(own.run(new))
        folder = os.fspath(outputs) if outputs is not None else None
        child = self._make_child(new, name, {}, folder)
        child.start()
        return child

    def create_children(
        self,
        count: Optional[int] = None,
        tag_key: Optional[str] = None,
        tag_values: Optional[Sequence[Any]] = None,
    ) -> List[Any]:
        """Children that have not begun: each does with start(), or with what it logs first.

        count: how many, each with the tag azureml.batch_child_number. Or tag_key and tag_values:
        one for each value, with that tag. At most 100 a call. StoreError, ValueError.
        """
        many = tags_of_children(count, tag_key, tag_values)
        return [self._make_child(child_id(self.experiment_name), None, t, None) for t in many]


def child_id(experiment: str, run_id: Optional[str] = None) -> str:
    """A new id, or the one that is given. ValueError."""
    if run_id is None:
        return f"{experiment}_{int(time.time())}_{os.urandom(4).hex()}"
    match = RUN_ID.match(run_id)
    if match is None or match.group("experiment") != experiment:
        raise ValueError(f"{run_id!r} is no run id of experiment {experiment!r}")
    return run_id


def _expect_not_sealed(paths: RunPaths) -> None:
    """StoreError where a run of that id was sealed: it has no folder whose name would be taken."""
    try:
        names = os.listdir(paths.sealed)
    except OSError:
        return
    if any(known[0] == paths.run_id for known in map(sealed_of, names) if known is not None):
        raise StoreError(f"there is a run {paths.run_id} already")


def tags_of_children(
    count: Optional[int], tag_key: Optional[str], tag_values: Optional[Sequence[Any]]
) -> List[Mapping[str, str]]:
    """The tags of each child that create_children makes. ValueError."""
    if (count is None) == (tag_key is None or tag_values is None):
        raise ValueError("create_children() takes either count, or tag_key and tag_values")
    many = len(tag_values or ()) if count is None else count
    if not 0 <= many <= CHILDREN_LIMIT:
        raise ValueError(f"{as_text(many)} children; one call makes 0 to {CHILDREN_LIMIT}")
    if count is not None:
        return [{"azureml.batch_child_number": str(number)} for number in range(count)]
    return [texts_of({str(tag_key): value}) for value in tag_values or ()]
