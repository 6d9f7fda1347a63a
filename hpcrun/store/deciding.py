"""Who makes a submission, and whether a far machine withdraws it: the first word stands."""

from __future__ import annotations

import os
from pathlib import Path

from hpcrun.durable import sync_folder
from hpcrun.faults import told
from hpcrun.layout import UserPaths
from hpcrun.rights import kept_to
from hpcrun.store.publishing import take_name

GOES_ON = "submitted"
WITHDRAWN = "withdrawn"


def decide(own: UserPaths, name: str, word: str) -> str:
    """Writes a word on a submission, unless one stands; gives the one that stands.

    name: the run's id; of a later submission, with its number.

    Exclusive on the file server itself: who reads from another login node gets the same answer.
    StoreError.
    """
    mark = Path(own.active, f".given-{name}")
    aside = mark.with_name(f"{mark.name}.{os.urandom(4).hex()}")
    with told(f"decide about run {name} in {own.active}"), kept_to(own.root):
        try:
            aside.write_text(word)
            if take_name(aside, mark):
                sync_folder(Path(own.active))
                return word
        finally:
            aside.unlink(missing_ok=True)
        return mark.read_text()
