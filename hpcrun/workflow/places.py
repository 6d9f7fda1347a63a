"""The folders that a site tells of, and whether one of them suits the history of runs. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from string import Template

from hpcrun.site import Storage
from hpcrun.site.storage import Root


def place_of(root: Root, environ: Mapping[str, str]) -> str | None:
    """Where a root lies; a variable that is not set stays as it is written."""
    text = root.path or (f"${{{root.env}}}" if root.env else None)
    return None if text is None else expanded(text, environ)


def expanded(text: str, environ: Mapping[str, str]) -> str:
    """A path of a site file with the variables that are set."""
    return Template(text).safe_substitute(environ).replace("${", "$").replace("}", "")


def innermost(folder: str, places: Mapping[str, str]) -> str | None:
    """The name of the place that holds a folder: of several the one that lies deepest."""
    above = [name for name, place in places.items() if is_below(folder, place)]
    return max(above, key=lambda name: len(places[name]), default=None)


def is_below(folder: str, place: str) -> bool:
    """Whether a folder is that place, or lies in it."""
    return f"{folder}/".startswith(f"{place.rstrip('/')}/")


def objections(
    folder: str, storage: Storage, places: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """What of a site's storage speaks against a history in this folder, and the cure."""
    name = innermost(folder, places)
    if name is None:
        return
    root = storage.roots[name]
    if root.purge is not None:
        told = f"{folder} is in {name}, from which files go after {root.purge.days} days"
        yield told, "choose a folder that is not purged"
    if not root.writable_on_compute:
        yield (
            f"{folder} is in {name}, where jobs cannot write",
            "choose a folder that jobs can write",
        )
    if root.scope == "node":
        told = f"{folder} is in {name}, which each node has for itself"
        yield told, "choose a folder that all nodes share"
