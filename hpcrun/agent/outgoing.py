"""Outputs that a node wrote on its own disk, and where they end. Standard library only (3.8+).

The first node's files have their own names there. Another node's stand below `.nodes/<host>/`
until all have come, and then have their own names, unless the first node's, or an earlier one's,
have them. What is collected of an earlier attempt stays below `.nodes/<host>-<attempt>/`. In
`.hpcrun/` a mark for each run and node says whether all has come.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, NamedTuple, Optional, Set, Tuple

from hpcrun.agent import copying, spool
from hpcrun.agent.lay import clear
from hpcrun.agent.place import State, remove_empty, remove_if_empty
from hpcrun.agent.policy import Data
from hpcrun.agent.trees import copy, tree
from hpcrun.layout import NODES

if TYPE_CHECKING:
    import threading

MARKS = ".hpcrun"

Tell = Callable[[str, Dict[str, Any]], None]


class Node(NamedTuple):
    """Whose outputs they are. first: whether it is the job's first node. late: whether there has
    been a later attempt, whose files are newer."""

    run_id: str
    attempt: str
    host: str
    first: bool
    late: bool = False

    @property
    def name(self) -> str:
        """What its files stand apart by."""
        return f"{self.host}-{self.attempt}" if self.late else self.host


class Output:
    """One output of a node: what has come so far. left: what could not be brought, and why."""

    def __init__(self, data: Data, folder: str, node: Node) -> None:
        self.data = data
        self.files = 0
        self.bytes = 0
        self.left: Dict[str, str] = {}
        self._source = os.path.join(folder, data.place)
        self._node = node
        self._known: Dict[str, State] = {}

    def bring(self) -> None:
        """Brings what is new or has changed. OSError only where nothing can be brought at all."""
        self._mark(False)
        self.left = {}
        for file in tree(self._source, self._leave):
            if file.is_folder:
                continue
            source = os.path.join(self._source, file.name)
            try:
                state = State.of(os.lstat(source))
                if self._known.get(file.name) == state:
                    continue
                aside = self._aside()
                copy(source, aside, file)
                place = self._place(file.name)
                os.makedirs(os.path.dirname(place), exist_ok=True)
                os.replace(aside, place)
            except (OSError, copying.SourceError, ValueError) as error:
                told = error.__cause__ if isinstance(error, copying.SourceError) else error
                self.left[file.name] = getattr(told, "strerror", None) or str(told)
                continue
            self.files += file.name not in self._known
            self.bytes += file.size
            self._known[file.name] = state

    def _leave(self, problem: str) -> None:
        self.left[problem] = ""

    def tidy(self, hosts: Tuple[str, ...]) -> Set[str]:
        """All nodes' have come: gives those of others their own names; those that cannot be."""
        taken, stay = set(self._known), set()
        for host in hosts:
            below = os.path.join(self.data.path, NODES, host)
            for where, _, names in os.walk(below):
                for each in names:
                    path = os.path.join(where, each)
                    name = os.path.relpath(path, below)
                    if name in taken:
                        stay.add(f"{NODES}/{host}/{name}")
                        continue
                    taken.add(name)
                    place = os.path.join(self.data.path, name)
                    os.makedirs(os.path.dirname(place), exist_ok=True)
                    os.replace(path, place)
            remove_empty(below)
        remove_if_empty(os.path.join(self.data.path, NODES))
        return stay

    def close(self) -> bool:
        """Marks it; whether all has come."""
        complete = not self.left
        self._mark(complete)
        return complete

    def fact(self) -> Dict[str, Any]:
        """The data of a `data` fact."""
        told = {"host": self._node.host, "name": self.data.name, "output": True}
        return {**told, "files": self.files, "bytes": self.bytes, "complete": not self.left}

    def _place(self, name: str) -> str:
        own = () if self._node.first and not self._node.late else (NODES, self._node.name)
        return os.path.join(self.data.path, *own, name)

    def _aside(self) -> str:
        path = os.path.join(self.data.path, MARKS, f"{self._node.run_id}.{self._node.name}.part")
        clear(os.fsencode(path))
        return path

    def _mark(self, complete: bool) -> None:
        node = self._node
        folder = os.path.join(self.data.path, MARKS)
        os.makedirs(folder, exist_ok=True)
        told = {**node._asdict(), "complete": complete, "files": self.files, "left": [*self.left]}
        path = os.path.join(folder, f"{node.run_id}.{node.name}.json")
        with open(f"{path}.new", "w", encoding="utf-8", errors="surrogateescape") as file:
            json.dump(told, file)
        os.replace(f"{path}.new", path)


class Outgoing:
    """A node's part in a run's data, at the end of the attempt: brings its outputs, removes the
    rest. A thread copies, so that records go on meanwhile.

    folder: the node's, for this attempt; None: there is none. tell: takes the kind and the data of
    a fact. hosts: the other nodes, where this is the first.
    """

    def __init__(
        self,
        data: Tuple[Data, ...],
        folder: Optional[str],
        node: Node,
        hosts: Tuple[str, ...],
        tell: Tell,
    ) -> None:
        self._folder = folder if any(each.place for each in data) else None
        staged = [each for each in data if each.output and each.place]
        self._outputs = [Output(each, self._folder or "", node) for each in staged]
        self._hosts = hosts
        self._node = node
        self._tell = tell
        self._thread: Optional[threading.Thread] = None
        self._early = self._last = False
        self._problem = ""
        self._seen = 0

    @property
    def progress(self) -> bool:
        """Whether something came since it was last asked."""
        came = sum(output.bytes + output.files for output in self._outputs)
        before, self._seen = self._seen, came
        return came != before

    def stop_is_near(self) -> None:
        """Brings what is there: there may be no time at the end."""
        if not self._early and self._outputs and self._thread is None:
            self._early = True
            self._start()

    def finish(self) -> bool:
        """All has ended: brings the rest; whether that is over."""
        if not self._outputs:
            return True
        if self._thread is not None and self._thread.is_alive():
            return False
        if not self._last:
            self._last = True
            self._start()
            return False
        return True

    def join(self) -> None:
        """Waits for what is being brought."""
        if self._thread is not None:
            self._thread.join()

    def close(self) -> bool:
        """Tells what came, and removes the folder; False where something stays in it."""
        complete = not self._problem
        for output in self._outputs:
            complete = self._close(output) and complete
        if self._problem:
            self._tell("problem", {"message": self._problem})
        if self._folder is None or not complete:
            return complete
        try:
            if spool.is_own(self._folder):
                clear(os.fsencode(self._folder))
        except OSError as error:
            message = f"cannot remove {self._node.host}:{self._folder}: {error.strerror}"
            self._tell("problem", {"message": message})
        return True

    def tell_waiting(self) -> None:
        """Tells where outputs stay that could not be brought in time."""
        if self._outputs and not self._last_is_done():
            names = ", ".join(output.data.name for output in self._outputs)
            where = f"{self._node.host}:{self._folder}"
            message = f"the outputs {names} may not have come as a whole: they stay in {where}"
            self._tell("problem", {"message": message})

    def _last_is_done(self) -> bool:
        return self._last and self._thread is not None and not self._thread.is_alive()

    def _start(self) -> None:
        import threading  # most runs have no outputs of this kind

        self._thread = threading.Thread(target=self._bring, daemon=True)
        self._thread.start()

    def _bring(self) -> None:
        self._problem = ""
        for output in self._outputs:
            try:
                output.bring()
            except OSError as error:
                where = f"{self._node.host}:{self._folder}"
                self._problem = f"{output.data.what} stays in {where}: {error}"

    def _close(self, output: Output) -> bool:
        try:
            complete = output.close()
            stay = output.tidy(self._hosts) if self._node.first else set()
        except OSError as error:
            self._problem = self._problem or f"{output.data.what}: {error}"
            return False
        self._tell("data", output.fact())
        for name, why in list(output.left.items())[:10]:
            message = f"{output.data.what}: {': '.join(filter(None, (name, why)))}"
            where = f"it stays in {self._node.host}:{self._folder}"
            self._tell("problem", {"message": f"{message}; {where}"})
        for name in sorted(stay)[:10]:
            message = f"{output.data.what}: another node has a file of this name: {name}"
            self._tell("problem", {"message": message})
        return complete


def bring_left(told: Mapping[str, Any]) -> str:
    """Brings the outputs that a killed job left on this node, and removes the folder; what came, as
    JSON. told: data, folder, node. What could not be brought stays."""
    facts = []

    def tell(kind: str, data: Dict[str, Any]) -> None:
        facts.append([kind, data])

    folder = told["folder"]
    if spool.is_own(folder):
        data = tuple(Data(**each) for each in told["data"])
        outgoing = Outgoing(data, folder, Node(**told["node"]), (), tell)
        while not outgoing.finish():
            outgoing.join()
        outgoing.close()
    return json.dumps(facts)
