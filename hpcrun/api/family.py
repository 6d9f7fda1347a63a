"""The parent and the children of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hpcrun.api.known import KnownRun
from hpcrun.arguments import checked
from hpcrun.errors import RunNotFound, StoreError
from hpcrun.metrics.interactive import InteractiveRun as LiveRun
from hpcrun.metrics.interactive import interactive_context, make_child
from hpcrun.store.wanted import EVERY, Names, Wanted, check_type, names_of, state_of
from hpcrun.workflow.listing import is_wanted

if TYPE_CHECKING:
    from hpcrun.api.run import Run
    from hpcrun.config import RunConfiguration, ScriptRunConfig


@checked
class RunFamily(KnownRun):
    """What a run can do with its parent and children."""

    @property
    def parent(self) -> Run | None:
        """The run whose child it is; None if it is no child, or the parent was deleted."""
        parent = self.record().parent
        return self._relative(parent) if parent is not None else None

    def get_children(
        self,
        recursive: bool = False,
        tags: Names = None,
        properties: Names = None,
        type: str | None = None,
        status: str | None = None,
    ) -> Iterator[Run]:
        """Its children, newest first; recursive: after each child its own.

        tags, properties: a name that a child must have, or names with their values. type,
        status: only children of these. Reads the run and its children, and no other run.
        """
        wanted = EVERY._replace(
            type=check_type(type),
            tags=names_of(tags),
            properties=names_of(properties),
            status=state_of(status),
        )
        return self._children(wanted, recursive)

    def _children(self, wanted: Wanted, recursive: bool) -> Iterator[Run]:
        seen = {self.id}
        waiting = list(self.record().children)
        while waiting:
            run_id = waiting.pop()
            child = self._relative(run_id) if run_id not in seen else None
            if child is None:
                continue
            seen.add(run_id)  # a record may say that it is its own child
            record = child.record()
            if is_wanted(self._session, record, wanted):
                yield child
            if recursive:
                waiting += record.children

    def submit_child(
        self,
        config: ScriptRunConfig | RunConfiguration | str,
        tags: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Run:
        """Submits a run of the same experiment as a child of this one; see `Experiment.submit`."""
        self._must_be_own()
        child = self.experiment.submit(config, tags, parent=self.id, **more)
        self._append("child", {"run_id": child.id})
        return child

    def _make_child(
        self, run_id: str, name: str | None, tags: Mapping[str, str], outputs: str | None
    ) -> Any:
        from hpcrun.api.interactive import InteractiveRun

        self._side.expect_near("a child that is no job")
        self._must_be_own()
        context = interactive_context(self.paths.owner.run(run_id), run_id)
        make_child(context, self.id, name, tags)
        self._append("child", {"run_id": run_id})
        return InteractiveRun(self.experiment, LiveRun(context, outputs))

    def _descendants(self) -> Iterator[Run]:
        return self.get_children(recursive=True)

    def _relative(self, run_id: str) -> Run | None:
        """The run of that id, if it is there."""
        from hpcrun.api.run import Run

        run = Run(self.experiment, run_id, self._user)
        try:
            run.record()
        except RunNotFound:
            return None
        except StoreError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise
        return run
