"""Makes a workspace of the formats that this hpcrun writes, and what its commands tell of it.

    python -m tests.golden_workspace tests/golden/workspace_<n>

is done once, before a format changes; then that folder stays as it is for ever. As root, whose
login has the same name everywhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from hpcrun.assets import Assets
from hpcrun.layout import Attempt, RunPaths
from hpcrun.manifest import Entry, Link, Manifest
from hpcrun.record import Fact, encode
from hpcrun.snapshot import push
from hpcrun.store import FileStore
from hpcrun.store.history import make_index
from hpcrun.store.sealing import remove_journals, seal
from hpcrun.store.wanted import Key, Order, Wanted
from hpcrun.workflow.exporting import export
from hpcrun.workflow.listing import list_rows
from hpcrun.workflow.session import Session
from tests.commands import answer

USER = "root"
WORKSPACE = Path("/tmp/history")
"""Where it is made: this name stands in it."""

ACTIVE, SEALED, CHILD = (f"digits_170000000{n}_0123abcd" for n in range(3))
IDS = (ACTIVE, SEALED, CHILD)

ANSWERS, EXPORT = "answers.json", "runs.tgz"
IMAGE = b"GIF87a" + bytes(range(64))
CODE = b"print('hello')\n"


def answers(workspace: Path, user: str) -> Any:
    """What commands tell of all runs. What depends on the place stands for it."""

    def ask(*words: str) -> Any:
        text = answer(workspace, *words, "--json").replace(str(workspace), "WORKSPACE")
        text = text.replace(f"users/{user}/", "users/USER/").replace(f'"{user}"', '"USER"')
        return json.loads(text)

    runs = {
        run_id: {word: ask(word, run_id) for word in ("show", "metrics", "files", "logs")}
        for run_id in IDS
    }
    for told in runs.values():
        del told["show"]["record"]
    # Not by the command, which starts a process that seals.
    session = Session(workspace, Assets.of(workspace, {}))
    by_loss = Order(Key("loss", "last"), descending=True)
    rows = list_rows(session, None, Wanted(children=True), order=by_loss)
    order = [row.record.run_id for row in rows]
    return {"runs": runs, "order": order, "source": ask("snapshot", ACTIVE)}


def make(workspace: Path) -> None:
    """Three runs: one in journals; one sealed, with a word that came later; a sealed child."""
    store = FileStore(workspace, USER)
    store.prepare()
    source = workspace.with_name("source")
    source.mkdir()
    (source / "train.py").write_bytes(CODE)
    entry = Entry("train.py", hashlib.sha256(CODE).hexdigest(), len(CODE))
    manifest = Manifest.of([entry, Link("link.py", "train.py")])
    push(manifest, source, store.own)
    shutil.rmtree(source)
    for number, run_id in enumerate(IDS):
        _make_run(store, run_id, number, manifest.digest)
    for run_id in (SEALED, CHILD):
        seal(store.stored(store.paths(run_id)))
    remove_journals(store.stored(store.paths(CHILD)), before=1e12)
    beside = Path(store.paths(SEALED).record)
    beside.mkdir()
    later = Fact("tags", Attempt(1), 1700009000.0, 1, {"set": {"kind": "best"}})
    (beside / "client-n1-9-18a2.jsonl").write_bytes(encode(later))
    make_index(store.own, lambda run_id, number: store.row(run_id, None, number), 1.8e9)


def _make_run(store: FileStore, run_id: str, number: int, digest: str) -> None:
    begun = 1700000000 + number
    request = {
        "format": 1,
        "run_id": run_id,
        "experiment": "digits",
        "user": USER,
        "target": "cluster/gpu",
        "created": begun + 0.25,
        "display_name": f"run {number}",
        "tags": {"number": str(number)},
        "snapshot": {"digest": digest},
        "agent": {"words": [], "spool": "/tmp/hpcrun-0123abcd"},
        **({"parent": ACTIVE} if run_id == CHILD else {}),
    }
    paths = store.create(request, "#!/bin/sh\nexec true\n")
    end = {"exit_code": number, "signal": None, "cause": "exit_code" if number else "completed"}
    told: list[tuple[str, dict[str, Any]]] = [
        ("started", {"host": "n1", "nodes": ["n1"], "job_id": "17"}),
        ("running", {}),
        ("heartbeat", {"count": 3}),
        ("drained", {"host": "n1"}),
        ("ended", end),
    ]
    if run_id == ACTIVE:
        told.append(("child", {"run_id": CHILD}))
    _write(paths, "agent-1.0.jsonl", begun, told)
    metrics: list[tuple[str, dict[str, Any]]] = [
        ("metric", {"m": "loss", "v": 1 / (step + 1 + number), "s": step}) for step in range(9)
    ]
    name = f"images/dot-{hashlib.sha256(IMAGE).hexdigest()[:12]}.gif"
    sha256 = hashlib.sha256(IMAGE).hexdigest()
    metrics += [
        ("metric", {"m": "nan", "v": {"f": "nan"}}),
        ("metric", {"m": "epoch", "v": 3, "r": 1}),
        ("metric", {"m": "table", "y": "table", "v": {"x": [1, 2], "y": ["a", None]}}),
        ("metric", {"m": "dot", "y": "image", "v": name, "size": len(IMAGE), "sha256": sha256}),
    ]
    _write(paths, "rank-0-1.0.metrics.jsonl", begun, metrics)
    content = base64.b64encode(IMAGE).decode()
    image = [("artifact", {"file": name, "content": content})]
    _write(paths, "rank-0-1.0.artifacts.jsonl", begun, image)
    Path(paths.outputs, "model").write_bytes(bytes(range(number, 200)))
    log = Path(paths.user_logs, "1.0", "rank-0.log")
    log.parent.mkdir()
    log.write_text(f"trained {number}\n")


def _write(paths: RunPaths, name: str, begun: int, told: list[tuple[str, dict[str, Any]]]) -> None:
    facts = [
        Fact(kind, Attempt(1), begun + n / 8, n, data) for n, (kind, data) in enumerate(told, 1)
    ]
    torn = b"0123abcd torn\n" if name.endswith(".metrics.jsonl") else b""
    Path(paths.record, name).write_bytes(b"".join(map(encode, facts)) + torn)


def main(target: Path) -> None:
    """Makes it, and puts it there with the answers and an export."""
    make(WORKSPACE)
    session = Session(WORKSPACE, Assets.of(WORKSPACE, {}))
    told = answers(WORKSPACE, USER)
    target.mkdir()
    export(session, [session.store.read(i) for i in IDS], target / EXPORT, ())
    shutil.move(WORKSPACE, target / "workspace")
    (target / ANSWERS).write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
