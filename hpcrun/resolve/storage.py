"""The disks of nodes that a job only has when it asks for them."""

from __future__ import annotations

from collections.abc import Sequence

from hpcrun.reading import nearest
from hpcrun.resolve.request import Request
from hpcrun.site.storage import Request as Disk
from hpcrun.site.storage import Root

KEY = "resources.storage"


def storage(request: Request) -> Sequence[Disk]:
    """How the job asks for those that the run names, and for those that it works on."""
    roots = request.site.storage.roots
    wanted = dict.fromkeys(request.config.resources.storage or (), KEY)
    for name in wanted:
        if name not in roots or roots[name].request is None:
            known = [each for each, root in roots.items() if root.request is not None]
            message = f"{request.site.id} has no storage {name!r} that a job asks for"
            request.refuse(message, nearest(name, known) or "leave it out", KEY)
    if _works_on_nodes(request):
        for name, root in roots.items():
            if root.scope == "node" and holds(root, request.site.storage.node_tmp):
                wanted.setdefault(name, request.of_site)
    disks = {name: roots[name].request for name in wanted if name in roots}
    for name, disk in disks.items():
        if disk is not None:
            request.note("storage", name, wanted[name])
    return [disk for disk in disks.values() if disk is not None]


def holds(root: Root, folder: str) -> bool:
    """Whether a folder lies in a root that is told by its path."""
    return root.path is not None and f"{folder}/".startswith(f"{root.path.rstrip('/')}/")


def _works_on_nodes(request: Request) -> bool:
    """Whether more than logs on their way lies on the nodes' own disks."""
    inputs, outputs = request.config.inputs or {}, request.config.outputs or {}
    staged = any(not isinstance(one, str) and one.mode != "direct" for one in inputs.values())
    staged |= any(isinstance(one, str) or one.mode != "direct" for one in outputs.values())
    at_work = request.config.working_directory == "node" or request.place is not None
    return not request.local and (at_work or staged)
