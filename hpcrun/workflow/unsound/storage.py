"""What is wrong with where things lie."""

from __future__ import annotations

from collections.abc import Iterator

from hpcrun.reading import Finding
from hpcrun.site import SiteConfig
from hpcrun.site.storage import Root
from hpcrun.workflow.unsound.values import at_least, heeded, names, one_word, settable, sizes


def storage(site: SiteConfig) -> Iterator[Finding]:
    """Its folders, and what they hold."""
    rules = site.storage
    # These are written as they stand, variables and all: no node would find them.
    folders = {"node_tmp": rules.node_tmp}
    folders |= {f"data.{name}": path for name, path in rules.data.items()}
    for key, folder in folders.items():
        if not folder.startswith("/") or any(character in folder for character in "$:\n"):
            told = f"{folder!r} is no whole path"
            yield Finding(f"storage.{key}", told, "it begins with /, and has no $, : or line break")
    mine = {"run_history_root": rules.run_history_root, "scratch": rules.scratch}
    mine |= {f"caches.{name}": folder for name, folder in rules.caches.items()}
    for key, place in mine.items():
        if place is not None:
            yield from _whole_path(f"storage.{key}", place)
    yield from settable("storage.caches", rules.caches)
    yield from heeded("storage.scratch", rules.scratch)
    for name, folder in rules.caches.items():
        yield from heeded(f"storage.caches.{name}", folder)
    for name, root in rules.roots.items():
        yield from _root(f"storage.roots.{name}", root)


def _root(key: str, root: Root) -> Iterator[Finding]:
    if root.path is not None:
        yield from _whole_path(f"{key}.path", root.path)
        if root.env is not None:
            yield Finding(
                f"{key}.env", "a folder is told by its path and by a variable", "keep one"
            )
    if root.env is not None:
        for finding in names(key, (root.env,)):
            yield Finding(f"{key}.env", finding.message)
    if root.env_after is not None and root.env is None:
        yield Finding(f"{key}.env_after", "there is no variable that it brings", f"{key}.env")
    yield from at_least({f"{key}.purge.days": (root.purge.days if root.purge else None, 1)})
    yield from at_least({f"{key}.files": (root.files, 1)})
    yield from sizes({f"{key}.size": root.size})
    request = root.request
    if request is None:
        return
    if request.gres is request.constraint is request.directive is None:
        yield Finding(f"{key}.request", "it asks for nothing", "gres, constraint or directive")
    for word in ("gres", "constraint"):
        yield from one_word(f"{key}.request.{word}", getattr(request, word))
    if (request.gres or "").partition(":")[0] == "gpu":
        yield Finding(f"{key}.request.gres", "it asks for GPUs", "those are a run's to ask for")
    if request.directive is not None and not request.directive.startswith("--"):
        told = f"{request.directive!r} is no directive"
        yield Finding(f"{key}.request.directive", told, "such as --bb=…")


def _whole_path(key: str, place: str) -> Iterator[Finding]:
    if not place.startswith(("/", "$")):
        yield Finding(key, f"{place!r} is no whole path", "it begins with / or a variable")
