"""What stands in outputs/ and logs/ of a working folder. Standard library only (Python 3.8+)."""

from __future__ import annotations

import os
import stat
from typing import Callable, Dict, NamedTuple, Optional

from hpcrun.agent.place import State
from hpcrun.layout import COLLECTED, NODES

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Found(NamedTuple):
    """The files and links by name (outputs/model.pt). whole: whether every folder could be read."""

    files: Dict[str, State]
    links: Dict[str, State]
    whole: bool


def scan(root: str, refuse: Callable[[str, str], None]) -> Found:
    """Looks once at every entry, and opens none. refuse: takes a name and why it is left out."""
    found = Found({}, {}, True)
    waiting = list(COLLECTED)
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(os.path.join(root, folder)) as entries:
                for entry in entries:
                    name = f"{folder}/{entry.name}"
                    if folder in COLLECTED and entry.name == NODES:
                        refuse(name, "the name is hpcrun's own")
                    elif entry.is_dir(follow_symlinks=False):
                        waiting.append(name)
                    else:
                        _add(found, name, entry, refuse)
        except (FileNotFoundError, NotADirectoryError):
            # Gone meanwhile. Without one of the two themselves nothing tells what was removed.
            found = found._replace(whole=found.whole and folder not in COLLECTED)
        except OSError as error:
            refuse(folder, f"it cannot be read: {error.strerror}")
            found = found._replace(whole=False)
    return found


def _add(
    found: Found, name: str, entry: "os.DirEntry[str]", refuse: Callable[[str, str], None]
) -> None:
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISREG(status.st_mode):
        found.files[name] = State.of(status)
    elif stat.S_ISLNK(status.st_mode):
        found.links[name] = State.of(status)
    else:
        refuse(name, f"it is {_KINDS.get(stat.S_IFMT(status.st_mode), 'no file')}")


def link_text(root: str, files: str, name: str) -> Optional[str]:
    """What a link is to say in the run's files; empty: it leads there already. None: outside.

    Inside is what is brought as well, and the run's files themselves.
    """
    text = os.readlink(os.path.join(root, name))
    target = os.path.realpath(os.path.join(root, name))
    home = os.path.realpath(files)
    for base in (os.path.realpath(root), home):
        inside = os.path.relpath(target, base)
        if inside.split("/")[0] in COLLECTED:
            break
    else:
        return None
    if base == home and (inside == name or f"/{NODES}/" in inside):
        return ""
    if os.path.isabs(text) or base == home:
        return os.path.relpath(inside, os.path.dirname(name))
    return text
