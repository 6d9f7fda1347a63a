"""A history of three runs, its export, and another history that takes exports in."""

from __future__ import annotations

import hashlib
import json
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcrun.assets import Assets
from hpcrun.manifest import Entry, Link, Manifest
from hpcrun.snapshot import push
from hpcrun.store.bundle import NAME, Bundle, Member, with_digest
from hpcrun.store.content import Content
from hpcrun.store.holes import survey, whole
from hpcrun.store.packing import Source, write_bundle
from hpcrun.store.sealed import open_sealed
from hpcrun.workflow.exporting import export
from tests.care import Own
from tests.test_sealing_faults import make_run

MONTH = "2023-11"

OF_RUN = f"files/{MONTH}/digits_1700000002_0123abcd"
"""The folder of the first run's files, as the export names it."""


def session(root: Path) -> Own:
    """A history of one user, empty."""
    root.mkdir(exist_ok=True)
    found = Own(root / "history", Assets.of(root, {}))
    found.store.prepare()
    return found


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Own:
    """Three runs with files, links and a source."""
    root = tmp_path_factory.mktemp("origin")
    found = session(root)
    source = root / "source"
    source.mkdir()
    (source / "train.py").write_text("print(1)\n")
    digest = hashlib.sha256(b"print(1)\n").hexdigest()
    manifest = Manifest.of([Entry("train.py", digest, 9), Link("link", "train.py")])
    push(manifest, source, found.store.own)
    for number in range(3):
        paths = make_run(found.store, number)
        request = json.loads(Path(paths.request).read_text())
        request["snapshot"] = {"digest": manifest.digest}
        Path(paths.request).write_text(json.dumps(request))
        Path(paths.outputs, "model").write_bytes(random.Random(number).randbytes(200_000))
        with Path(paths.outputs, "sparse").open("wb") as file:
            file.truncate(1 << 24)
        Path(paths.outputs, "link").symlink_to("model")
    return found


@pytest.fixture(scope="module")
def whole_file(origin: Own, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of all three."""
    path = tmp_path_factory.mktemp("whole") / "runs.tar"
    export(origin, [origin.store.read(i) for i in origin.store.run_ids()], path, ())
    return path


@pytest.fixture
def here(tmp_path: Path) -> Own:
    return session(tmp_path / "here")


def manifest_of(path: Path) -> Any:
    """What an export says of itself."""
    with tarfile.open(path) as opened:
        member = opened.extractfile(NAME)
        assert member is not None
        return json.load(member)


def signed(value: Any) -> bytes:
    """A manifest whose digest fits."""
    head = {name: value[name] for name in ("format", "hpcrun")}
    rest = {name: value[name] for name in ("runs", "members") if name in value}
    return with_digest(json.dumps(head)[:-1], json.dumps(rest)[1:] + "\n")


def with_record(whole_file: Path, tmp_path: Path, change: Callable[[Content], bytes]) -> Path:
    """The export with another record of its first run."""
    value = manifest_of(whole_file)
    with tarfile.open(whole_file) as opened:
        opened.extractall(tmp_path / "laid", filter="data")
    bundle = Bundle.decode(signed(value), "x")
    record = tmp_path / "laid" / bundle.runs[0].record
    with open_sealed(record) as known:
        content = known.content()
    record.write_bytes(change(content))
    return repacked(bundle, tmp_path)


def repacked(bundle: Bundle, tmp_path: Path) -> Path:
    """The export of what is laid out, with the sizes and digests of that."""
    members: list[Any] = []
    sources = {}
    for member in bundle.members:
        if isinstance(member, Member):
            path = tmp_path / "laid" / member.path
            with path.open("rb") as file:
                found = (survey if member.packed is not None else whole)(file.fileno())
            sources[member.path] = Source(path, found)
            member = member._replace(size=found.size, sha256=found.sha256)
        members.append(member)
    write_bundle(tmp_path / "repacked.tar", Bundle(bundle.runs, tuple(members)), sources)
    return tmp_path / "repacked.tar"


def with_text(content: Content, name: str, data: bytes) -> Content:
    """A record with another text."""
    texts = {**content.texts, name: data}
    facts, journals = content.metric_facts, content.journals
    return Content(content.run_id, texts, facts, journals, content.artifacts)
