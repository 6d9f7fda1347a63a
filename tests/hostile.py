"""What a hostile member of the group plants in their own folder of a shared workspace.

A program: `python hostile.py USERS OWN SECRET VICTIM UID`, run as that member, with hpcrun at hand.
It makes a run for each trick, and prints their names and ids as JSON. USERS: the folder users/ of
the workspace; OWN: the member's folder in it; SECRET: a file that only the victim can read.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py

from hpcrun.journal import Journal
from hpcrun.layout import Attempt, RunPaths, UserPaths
from hpcrun.store.hdf5 import HEAD, Head, encode

TERA = 1 << 40
STEER = "\x1b]0;owned\x07\x1b[31m"
OUT = "../../../../../../../../tmp/hpcrun-owned"

RUNS: dict[str, Callable[[RunPaths], None]] = {}


def trick(act: Callable[[RunPaths], None]) -> Callable[[RunPaths], None]:
    RUNS[act.__name__] = act
    return act


def sparse(path: str | Path, size: int = TERA, begin: bytes = b"") -> None:
    with open(path, "wb") as file:
        file.write(begin)
        file.truncate(size)


def request(paths: RunPaths, **more: Any) -> dict[str, Any]:
    told = {"run_id": paths.run_id, "experiment": "bad", "user": "bob", "target": "local"}
    return {"format": 1, **told, "created": 1700000000.0, "agent": {}, "job": {}, **more}


def good(paths: RunPaths, **more: Any) -> None:
    Path(paths.request).write_text(json.dumps(request(paths, **more)))


def tell(paths: RunPaths, suffix: str, *facts: tuple[str, Any]) -> None:
    journal = Journal(f"{paths.record}/a{suffix}", Attempt(1))
    for kind, data in facts:
        journal.append(kind, data)
    journal.close()


@trick
def sparse_request(paths: RunPaths) -> None:
    sparse(paths.request)


@trick
def deep_request(paths: RunPaths) -> None:
    Path(paths.request).write_text("[" * 200_000)


@trick
def nested_request(paths: RunPaths) -> None:
    inner: Any = 1
    for _ in range(400):
        inner = {"x": [inner]}
    good(paths, choices=inner, agent=inner, launch=inner)


@trick
def odd_request(paths: RunPaths) -> None:
    odd = {"agent": 5, "snapshot": [1], "choices": [[1], 2, {}], "launch": "x", "environment": [3]}
    good(paths, **odd, working_directory=7, private=True, parent=None, job=[], hpcrun={})


@trick
def odd_snapshot(paths: RunPaths) -> None:
    good(paths, snapshot={"digest": "../../" + "a" * 58, "manifest": paths.request, "objects": 4})


@trick
def parent_elsewhere(paths: RunPaths) -> None:
    good(paths, parent="../../x_1700000000_01234567")


@trick
def pipes(paths: RunPaths) -> None:
    os.mkfifo(paths.request)
    os.mkfifo(f"{paths.record}/a.jsonl")


@trick
def piped_journals(paths: RunPaths) -> None:
    good(paths)
    for suffix in (".jsonl", ".metrics.jsonl", ".artifacts.jsonl"):
        os.mkfifo(f"{paths.record}/a{suffix}")
    os.mkfifo(f"{paths.record}/files.json")
    os.mkfifo(f"{paths.record}/exit-1.0")


@trick
def sockets(paths: RunPaths) -> None:
    good(paths)
    os.chdir(paths.record)  # the path of a socket is short
    for name in ("a.jsonl", "a.metrics.jsonl"):
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(name)


@trick
def sparse_journals(paths: RunPaths) -> None:
    good(paths)
    for suffix in (".jsonl", ".metrics.jsonl", ".artifacts.jsonl"):
        sparse(f"{paths.record}/a{suffix}")
    sparse(f"{paths.record}/files.json")


@trick
def many_sparse_journals(paths: RunPaths) -> None:
    good(paths)
    for number in range(300):
        sparse(f"{paths.record}/{number}.metrics.jsonl", 500 << 20)


@trick
def links(paths: RunPaths) -> None:
    os.symlink(SECRET, paths.request)


@trick
def linked_files(paths: RunPaths) -> None:
    good(paths)
    os.rename(paths.files, f"{paths.files}.aside")
    os.symlink(os.path.dirname(SECRET), paths.files)


@trick
def linked_root(paths: RunPaths) -> None:
    good(paths)
    os.rmdir(paths.outputs)
    os.symlink("/", paths.outputs)
    os.symlink(SECRET, f"{paths.logs}/secret")
    os.symlink("loop", f"{paths.logs}/loop")


@trick
def odd_names(paths: RunPaths) -> None:
    good(paths, display_name=STEER, tags={STEER: STEER}, description="\r\n" * 99)
    tell(
        paths,
        ".metrics.jsonl",
        ("metric", {"m": STEER, "v": 1.0, "s": 1}),
        ("metric", {"m": OUT, "v": 1.0, "s": 2**62}),
        ("metric", {"m": "x" * 1024, "v": {"i": "0x" + "f" * 100_000}}),
        ("metric", {"m": "i", "y": "image", "v": f"images/{OUT}", "size": 1, "sha256": ""}),
        ("metric", {"m": "i", "y": "image", "v": "images/..", "size": 1, "sha256": ""}),
        ("metric", {"m": "deep", "y": "table", "v": {"d": "[" * 9000}}),
    )
    tell(paths, ".artifacts.jsonl", ("artifact", {"file": f"images/{OUT}", "content": "AAAA"}))
    files = [[OUT, 1, None], ["outputs/../../x", 1, "z"], [STEER, 10**400, None]]
    tell(
        paths,
        ".jsonl",
        ("uploaded", {"files": files}),
        ("child", {"run_id": "../../x_1700000000_01234567"}),
        ("child", {"run_id": paths.run_id}),
        ("problem", {"message": STEER}),
        ("started", {"host": STEER, "nodes": [OUT], "job_id": 10**30}),
        ("rank_ended", {"rank": 2**31 - 1, "status": -(2**62), "host": "", "time": 1e10}),
        ("uncollected", {"host": "h", "files": 10**300, "bytes": 10**300, "where": OUT}),
        ("ended", {"exit_code": 10**18, "signal": -5, "cause": "signal", "message": STEER}),
        ("later", {"x": [[[[[1]]]]]}),
    )
    with open(f"{paths.record}/b.jsonl", "wb") as file:
        for body in (b"[" * 100_000, b"{}", b'{"k":1,"a":[1e99,0],"t":1,"n":1}', b"1" * 9000):
            file.write(b"%08x %s\n" % (zlib.crc32(body), body))


@trick
def odd_files(paths: RunPaths) -> None:
    good(paths)
    Path(paths.logs, f"{STEER}\n").touch()
    Path(os.fsdecode(os.fsencode(paths.logs) + b"/\xff\xfe")).touch()
    os.mkfifo(f"{paths.logs}/pipe")


@trick
def sparse_logs(paths: RunPaths) -> None:
    good(paths)
    os.makedirs(f"{paths.user_logs}/1.0")
    sparse(f"{paths.user_logs}/1.0/node-a.log", TERA, b"no line")


@trick
def piped_logs(paths: RunPaths) -> None:
    good(paths)
    os.makedirs(f"{paths.user_logs}/1.0")
    os.mkfifo(f"{paths.user_logs}/1.0/rank-0.log")
    os.mkfifo(f"{paths.user_logs}/1.0/node-a.log")


def snapshot(paths: RunPaths, path: str, link: str | None = None) -> str:
    """A manifest of one file, whatever its paths lead to."""
    from hpcrun.manifest import Entry, Link, Manifest

    entries = [Entry(path, "0" * 64, 10), *([Link("link", link)] if link else [])]
    manifest = Manifest.of(entries)
    own = paths.owner
    os.makedirs(f"{own.objects}/00", exist_ok=True)
    Path(own.manifest(manifest.digest)).write_bytes(manifest.encode())
    good(paths, snapshot={"digest": manifest.digest, "manifest": "/", "objects": "/"})
    return manifest.digest


@trick
def sparse_object(paths: RunPaths) -> None:
    snapshot(paths, "a.py")
    sparse(f"{paths.owner.objects}/00/{'0' * 62}")


@trick
def snapshot_elsewhere(paths: RunPaths) -> None:
    snapshot(paths, OUT, "/")


@trick
def piped_manifest(paths: RunPaths) -> None:
    digest = snapshot(paths, "b.py")
    os.unlink(paths.owner.manifest(digest))
    os.mkfifo(paths.owner.manifest(digest))


@trick
def sparse_manifest(paths: RunPaths) -> None:
    digest = snapshot(paths, "c.py")
    sparse(paths.owner.manifest(digest))


# -- sealed files -------------------------------------------------------------------------------


def seal(paths: RunPaths, image: bytes, kind: str = "run") -> None:
    """A sealed file, whose head fits whatever follows."""
    os.rmdir(paths.record)
    os.makedirs(paths.sealed, exist_ok=True)
    head = Head(kind, 1, HEAD + len(image), zlib.crc32(image)).encode()
    Path(paths.sealed, f"{paths.run_id}.h5").write_bytes(head + image)


def lying(paths: RunPaths, add: Callable[[Any], None]) -> None:
    os.makedirs(paths.sealed, exist_ok=True)
    aside = Path(paths.sealed, ".aside")
    with h5py.File(aside, "w", userblock_size=HEAD) as file:
        add(file)
    image = aside.read_bytes()[HEAD:]
    aside.unlink()
    seal(paths, image)


def columns(paths: RunPaths, **catalog: Any) -> None:
    text = json.dumps(request(paths)).encode()
    told = {
        "run_id": paths.run_id,
        "texts": [["run.json", 0, len(text)]],
        "artifacts": [],
        "journals": [],
        "series": [],
        "origins": [],
        **catalog,
    }
    seal(paths, encode("run", 1, {"catalog": json.dumps(told).encode(), "text": text})[HEAD:])


@trick
def sealed_sparse(paths: RunPaths) -> None:
    seal(paths, b"")
    head = Head("run", 1, TERA, 0).encode()
    sparse(Path(paths.sealed, f"{paths.run_id}.h5"), TERA, head)


@trick
def sealed_pipe(paths: RunPaths) -> None:
    seal(paths, b"")
    os.unlink(f"{paths.sealed}/{paths.run_id}.h5")
    os.mkfifo(f"{paths.sealed}/{paths.run_id}.h5")


@trick
def sealed_link(paths: RunPaths) -> None:
    seal(paths, b"")
    os.unlink(f"{paths.sealed}/{paths.run_id}.h5")
    os.symlink(SECRET, f"{paths.sealed}/{paths.run_id}.h5")


@trick
def sealed_bomb(paths: RunPaths) -> None:
    lying(paths, lambda f: f.create_dataset("catalog", (4 << 30,), "u1", compression="gzip"))


@trick
def sealed_chunk(paths: RunPaths) -> None:
    many = {"chunks": (2**31,), "maxshape": (None,), "compression": "gzip"}
    lying(paths, lambda f: f.create_dataset("catalog", (9,), "u1", **many))


@trick
def sealed_elsewhere(paths: RunPaths) -> None:
    lying(paths, lambda f: f.create_dataset("catalog", (9,), "u1", external=[(SECRET, 0, 9)]))


@trick
def sealed_external_link(paths: RunPaths) -> None:
    def add(file: Any) -> None:
        file["catalog"] = h5py.ExternalLink(SECRET, "x")

    lying(paths, add)


@trick
def sealed_virtual(paths: RunPaths) -> None:
    def add(file: Any) -> None:
        layout = h5py.VirtualLayout((9,), "u1")
        layout[:] = h5py.VirtualSource(SECRET, "x", shape=(9,))
        file.create_virtual_dataset("catalog", layout)

    lying(paths, add)


@trick
def sealed_catalog(paths: RunPaths) -> None:
    series: list[Any] = ["loss", 0, 10**30, STEER, {"a": 1}, [1], True, True, "x"]
    columns(paths, series=[series], origins=[["w", [1, 0], "x"]], artifacts=[[1, 2, 3]])


@trick
def sealed_series(paths: RunPaths) -> None:
    series = [["loss", 0, 0, "scalar", "many", "last", False, True, None]]
    columns(paths, series=[*series, ["x", 0, 0, "row", -5, {}, True, True, 7]])


@trick
def sealed_journals(paths: RunPaths) -> None:
    columns(paths, journals=[["a.jsonl", "x", [], None, "many"], [[], 1, 2, 3, 4]])


@trick
def sealed_texts(paths: RunPaths) -> None:
    columns(paths, texts=[["run.json", -3, 10**30], [OUT, 0, 5]])


# -----------------------------------------------------------------------------------------------


def index_rows(own: UserPaths) -> None:
    """A generation that tells of runs elsewhere, and of odd records."""
    from hpcrun.store.index import generation_path

    def row(run_id: str, **more: Any) -> bytes:
        attempt = {"attempt": [1, 0], "state": "Completed", "submitted": 1.0, "started": 1.0}
        record = {
            **{"run_id": run_id, "experiment": "x", "user": "bob", "target": "local"},
            **{"created": 1.0, "state": "Completed", "display_name": "", "description": ""},
            **{"attempts": [{**attempt, "ended": 1.0}], "tags": {}, "properties": {}},
            **{"request": {}, **more},
        }
        value = {"record": record, "number": 0, "metrics": {"loss": STEER}}
        return json.dumps(value).encode()

    ids = [f"{OUT}_1700000000_01234567", "x_1700000000_01234568"]
    texts = [row(ids[0]), row(ids[1], problems=[5], children=7, models={}, verdict="x")]
    ends = [sum(len(t) for t in texts[: n + 1]) for n in range(2)]
    id_texts = [f"{run_id}\n".encode() for run_id in ids]
    id_ends = [sum(len(t) for t in id_texts[: n + 1]) for n in range(2)]
    from array import array

    told: dict[str, Any] = {
        "run_id": b"".join(id_texts),
        "run_id_end": array("q", id_ends),
        "number": array("I", [0, 0]),
        "row": b"".join(texts),
        "row_end": array("q", ends),
        **{name: array("d", [1.0, 1.0]) for name in ("created", "started", "ended", "took")},
        **{name: array("B", [0, 0]) for name in ("child", "archived")},
        **{name: array("I", [0, 0]) for name in ("experiment", "target", "status", "verdict")},
        "metric_row": array("q", [99, -7]),
        "metric_value": array("d", [1.0, 2.0]),
    }
    catalog = {
        "count": 2,
        "months": {"2023-11": [0, 2, 1]},
        "words": {n: ["x"] for n in ("experiment", "target", "status", "verdict")},
        "metrics": {"loss": [0, 2]},
    }
    path = generation_path(own.indexes, 90_000_000)
    path.write_bytes(encode("index", 1, {"catalog": json.dumps(catalog).encode(), **told}))


def beside_runs(own: UserPaths, users: Path, victim: str, uid: int) -> None:
    """What lies beside runs: an index, months, experiments, and names of others."""
    os.makedirs(own.indexes, exist_ok=True)
    index_rows(own)
    sparse(f"{own.indexes}/g99999999.h5", TERA, Head("index", 1, TERA, 0).encode())
    os.mkfifo(f"{own.indexes}/g99999998.h5")
    os.symlink(SECRET, f"{own.indexes}/g99999997.h5")
    for number in range(2000):
        Path(own.indexes, f"g{99_990_000 - number:08d}.h5").touch()
    for month in ("2023-13", "x", "2023-12", "9999-99"):
        os.makedirs(f"{own.runs}/{month}", exist_ok=True)
    os.symlink("/", f"{own.runs}/2023-10")
    os.makedirs(f"{own.experiments}/bad")
    os.mkfifo(f"{own.experiments}/bad/a.jsonl")
    os.symlink("/", f"{own.experiments}/up")
    for number in range(3000):
        os.mkdir(f"{own.active}/bad_17000{number:05d}_aaaaaaaa")
    for name in (f"{STEER}_1700000000_01234567", "..x_1700000000_01234567"):
        os.mkdir(f"{own.active}/{name}")
    os.symlink("/", f"{own.active}/root_1700000000_01234567")
    os.symlink("/", f"{own.active}/.sealed-root_1700000000_01234567.0")
    for name in (f"{victim}-{uid}", "root", "nobody"):
        with contextlib.suppress(FileExistsError):
            os.symlink(os.path.dirname(SECRET), users / name)
    (users / "daemon").mkdir()
    os.mkfifo(users / "pipe")


def main() -> None:
    users, own = Path(sys.argv[1]), UserPaths(sys.argv[2])
    made = {}
    for number, (name, act) in enumerate(RUNS.items()):
        paths = own.run(f"{name}_1700000{number:03d}_0000000{number % 10}")
        for folder in (paths.record, paths.outputs, paths.logs):
            os.makedirs(folder)
        act(paths)
        made[name] = paths.run_id
    beside_runs(own, users, sys.argv[4], int(sys.argv[5]))
    print(json.dumps(made))


if __name__ == "__main__":
    SECRET = sys.argv[3]
    main()
