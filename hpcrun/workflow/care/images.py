"""Images that a run has logged, and whether their bytes are there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hpcrun.metrics.images import images_of
from hpcrun.record import Fact
from hpcrun.store.stored import StoredRun
from hpcrun.workflow.care.finding import Finding, count_of, some, wrong


class Images(NamedTuple):
    """The names of images that were logged, and of those whose bytes are there."""

    told: set[str]
    there: set[str]

    def tell(self, facts: Iterable[Fact]) -> None:
        """Adds what facts of metrics tell."""
        self.told.update(image.name for image in images_of(facts))

    def missing(self, run: StoredRun) -> Iterator[Finding]:
        """Those that are nowhere; to be asked when all is read."""
        missing = sorted(self.told - self.there)
        if missing:
            message = f"{count_of(len(missing), 'logged image')} missing: {some(missing)}"
            cure = "hpcrun collect brings what is left on a node"
            yield wrong(run, "image", run.located(), message, cure)
