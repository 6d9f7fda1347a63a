"""What a site file says that no job could be made of. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from hpcrun.reading import Finding
from hpcrun.site import SiteConfig
from hpcrun.workflow.unsound.access import access
from hpcrun.workflow.unsound.contradictions import contradictions
from hpcrun.workflow.unsound.launch import launch
from hpcrun.workflow.unsound.scheduler import scheduler
from hpcrun.workflow.unsound.site import whole
from hpcrun.workflow.unsound.storage import storage
from hpcrun.workflow.unsound.target import targets
from hpcrun.workflow.unsound.values import values


def unsound(site: SiteConfig) -> Iterator[Finding]:
    """Each such thing, with its key; of several about one key the first."""
    told = set()
    for part in (whole, access, storage, scheduler, launch, targets, values):
        for finding in part(site):
            if finding.key not in told:
                told.add(finding.key)
                yield finding


__all__ = ["contradictions", "unsound"]
