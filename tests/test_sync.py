"""Mirrors of runs: what is told, what is laid here, and what of it stays as it is.

Both workspaces are on this machine, and rsync is real: what it logs in with is a shell here.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hpcrun import Run, Workspace
from hpcrun.errors import SchedulerError, TransportError
from hpcrun.fold import fold
from hpcrun.layout import Attempt, UserPaths
from hpcrun.manifest import object_name
from hpcrun.record import Fact
from hpcrun.transport.fetching import Source
from hpcrun.workflow.exporting import family
from hpcrun.workflow.mirroring import opened
from hpcrun.workflow.session import open_session
from hpcrun.workflow.sources import tell_sources
from hpcrun.workflow.telling import Told, is_wanted, tell
from tests.agent_job import until
from tests.test_exchange import Quick, There
from tests.test_seal import RUN_YAML

TRAIN = """\
import pathlib, time
from hpcrun import Run

run = Run.get_context()
for step in range(50):
    run.log("loss", 1 / (step + 1), step=step)
run.tag("kind", "baseline")
pathlib.Path("dot.gif").write_bytes(b"GIF87a" + bytes(range(64)))
run.log_image("dot", path="dot.gif")
run.upload_file("weights", "dot.gif")
with run.child_run("fold") as child:
    child.log("score", 7)
pathlib.Path("outputs/model").write_text("a model")
print("trained")
"""


class Mirrors:
    """A workspace `there`, and one `here` that mirrors it."""

    def __init__(self, there: Quick) -> None:
        self.there = there
        self.here = There(there)

    def told(self, *runs: str, patterns: tuple[str, ...] = (), known: Any = None) -> Told:
        session = open_session(given=str(self.there.workspace))
        chosen = runs or session.store.run_ids()
        records = family(session, [session.store.read(run_id) for run_id in chosen])
        return tell(session, records, patterns, known or {})

    def sync(
        self,
        *runs: str,
        patterns: tuple[str, ...] = (),
        site: str = "far",
        source: bool = True,
    ) -> dict[str, str]:
        """run id → what became of it. runs: those that are named; none: all. source: whether
        theirs come."""
        self.asked: Sequence[str] = ()
        with opened(open_session(given=str(self.here.workspace)), site) as mirror:
            told = self.told(*runs, patterns=patterns, known=mirror.question(bool(runs)))
            ask = self._sources if source else None
            way = Source(site, lambda: ["sh", "-c"])
            done = mirror.bring(told, way, bool(runs), None, ask)
        self.reasons = {each.run.run_id: each.reason for each in done if each.reason}
        return {each.run.run_id: each.outcome for each in done}

    def _sources(self, runs: Sequence[str]) -> str:
        self.asked = runs
        return tell_sources(open_session(given=str(self.there.workspace)), runs)

    def compare(self, run_id: str, files: bool = True) -> None:
        """Both tell the same of a run."""
        assert told(self.here, run_id, files) == told(self.there, run_id, files)


def told(place: Quick, run_id: str, files: bool) -> list[Any]:
    run = place.json("show", run_id)
    for key in ("record", "files", "imported"):
        del run[key]
    api = Run.get(Workspace(place.workspace), run_id)
    listed = list(api.get_files()) if files else []
    return [run, api.get_metrics(), listed, place.run("logs", run_id).stdout]


@pytest.fixture
def mirrors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mirrors:
    if shutil.which("rsync") is None:
        pytest.skip("rsync is not installed")
    there = Quick(tmp_path)
    monkeypatch.chdir(there.source)
    monkeypatch.setenv("XDG_CACHE_HOME", str(there.cache))
    (there.source / "train.py").write_text(TRAIN)
    (there.source / "run.yaml").write_text(RUN_YAML)
    return Mirrors(there)


def submitted(place: Quick, *words: str) -> str:
    run_id: str = place.json("submit", "--follow", *words)["run_id"]
    return run_id


def test_a_mirror_goes_along_with_a_seal_and_the_next_attempt(mirrors: Mirrors) -> None:
    here, there = mirrors.here, mirrors.there
    run_id = submitted(there)
    (child,) = there.json("show", run_id)["children"]
    assert mirrors.sync() == {run_id: "new", child: "new"}
    names = {file["name"] for file in here.json("files", run_id)}
    assert "outputs/model" not in names and "user_logs/1.0/rank-0.log" in names
    assert mirrors.sync(patterns=("*",)) == {run_id: "newer", child: "same"}
    for each in (run_id, child):
        mirrors.compare(each)
    assert mirrors.sync(patterns=("*",)) == {run_id: "same", child: "same"}
    here.json("archive", run_id)
    there.run("store", "seal")
    assert mirrors.sync(run_id, patterns=("*",)) == {run_id: "newer", child: "newer"}
    assert here.json("show", run_id)["archived"]
    here.json("archive", "--undo", run_id)
    mirrors.compare(run_id)
    there.json("resubmit", "--follow", run_id)
    assert mirrors.sync(run_id, patterns=("*",))[run_id] == "newer"
    mirrors.compare(run_id)
    assert len(here.json("show", run_id)["attempts"]) == 2
    # It is all here, once.
    assert here.run("store", "check").stdout == "nothing is wrong\n"
    own = UserPaths.of(str(here.workspace), open_session(given=str(here.workspace)).user)
    assert [n for n in os.listdir(own.active) if not n.startswith(".")] == []
    assert not [name for name in os.listdir(own.root) if name.startswith(".")]


def test_a_run_that_goes_on_is_shown_as_it_was(mirrors: Mirrors) -> None:
    here, there = mirrors.here, mirrors.there
    (there.source / "wait").touch()
    text = "while pathlib.Path(__file__).with_name('wait').exists():\n    time.sleep(0.1)\n"
    (there.source / "train.py").write_text(TRAIN.replace("print(", f"{text}print("))
    run_id = there.json("submit")["run_id"]
    folder = Path(there.json("show", run_id)["files"])
    try:
        until((folder / "outputs/model").exists)
        aside = Path(there.json("show", run_id)["record"], "claim-1.0a1b2c3d")
        aside.touch()  # a job makes one, which is gone in no time
        (its,) = (each for each in mirrors.told(run_id).runs if each.run_id == run_id)
        told = [file.path for file in its.record or ()]
        assert aside.name not in " ".join(told) and "claim-1" in " ".join(told)
        aside.unlink()
        assert mirrors.sync(run_id)[run_id] == "new"
        run = here.json("show", run_id)
        assert run["status"] == "Running" and run["imported"]["mirror"]
        api = Run.get(Workspace(here.workspace), run_id)
        for act in (api.cancel, api.resubmit, api.wait_for_completion):
            with pytest.raises(SchedulerError, match="is here as a mirror only") as caught:
                act()
            workspace = str(there.workspace)
            assert f"hpcrun -w far:{workspace} " in caught.value.hint, caught.value.hint
    finally:
        (folder / "wait").unlink(missing_ok=True)
    assert there.run("wait", run_id).returncode == 0
    assert mirrors.sync(run_id)[run_id] == "newer"
    mirrors.compare(run_id, files=False)
    # A copy can be deleted, and comes back when it is named.
    assert here.run("delete", "--yes", run_id).returncode == 0
    assert set(mirrors.sync().values()) == {"deleted here"}
    assert mirrors.sync(run_id)[run_id] == "new"


def test_no_scheduler_is_asked_for_a_mirror(tmp_path: Path) -> None:
    session = open_session(given=str(tmp_path))
    request = {"run_id": "a_1700000000_01234567", "experiment": "a", "user": session.user}
    request |= {"target": "nowhere/gpu", "created": 0.0}
    origin = {"user": "alice", "workspace": "far:/there", "left_out": 0, "mirror": True}
    submitted = Fact("submitted", Attempt(1), 1.0, 1, {"job_id": "7"})
    record = fold(request, [submitted, Fact("imported", Attempt(1), 2.0, 2, origin)])
    assert str(record.state) == "Queued" and session.refreshed([record]) == [record]
    assert session.refreshed([fold(request, [submitted])])[0].problems != ()


def test_deletions_stay_where_they_were_made(mirrors: Mirrors) -> None:
    here, there = mirrors.here, mirrors.there
    first, second = submitted(there), submitted(there)
    mirrors.sync()
    assert there.run("delete", "--yes", first).returncode == 0
    assert here.run("delete", "--yes", second).returncode == 0
    assert mirrors.sync()[second] == "deleted here"
    assert [run["run_id"] for run in here.json("list")] == [first]
    assert mirrors.sync(second)[second] == "new"
    assert {run["run_id"] for run in here.json("list")} == {first, second}


def test_what_is_no_mirror_of_that_place_is_left_alone(mirrors: Mirrors) -> None:
    run_id = submitted(mirrors.there)
    file = str(mirrors.there.source / "runs.tar")
    mirrors.there.json("store", "export", run_id, "-o", file)
    mirrors.here.json("store", "import", file)
    before = mirrors.here.json("show", run_id)
    assert mirrors.sync(run_id)[run_id] == "refused"
    assert "is no mirror of far:" in mirrors.reasons[run_id]
    assert mirrors.here.json("show", run_id) == before


def test_a_private_run_is_private_here(mirrors: Mirrors) -> None:
    run_id = submitted(mirrors.there, "--set", "private=true")
    assert mirrors.sync(run_id)[run_id] == "new"
    mirrors.compare(run_id, files=False)
    assert mirrors.here.json("show", run_id)["private"]


def test_what_does_not_come_is_told_and_comes_the_next_time(mirrors: Mirrors) -> None:
    run_id = submitted(mirrors.there)
    (room,) = {run.room for run in mirrors.told(run_id).runs}
    with opened(open_session(given=str(mirrors.here.workspace)), "far") as mirror:
        told = mirrors.told(run_id, patterns=("*",))
        model = next(Path(room).glob("files/*/*/outputs/model"))
        model.rename(model.with_name("aside"))
        done = mirror.bring(told, Source("far", lambda: ["sh", "-c"]), True)
        model.with_name("aside").rename(model)
    reasons = {each.run.run_id: each.reason for each in done}
    assert "outputs/model has not come" in reasons[run_id]
    assert mirrors.sync(run_id, patterns=("*",))[run_id] == "newer"
    mirrors.compare(run_id)


def test_a_source_comes_once_and_is_what_its_digest_says(mirrors: Mirrors) -> None:
    here, there = mirrors.here, mirrors.there
    (there.source / "odd \udcff").write_text("odd")
    (there.source / "link").symlink_to("train.py")
    first, again = submitted(there), submitted(there)
    (there.source / "train.py").write_text(TRAIN + "# changed\n")
    changed = submitted(there)
    assert set(mirrors.sync(source=False).values()) == {"new"} and mirrors.asked == ()
    lacking = here.run("snapshot", first)
    assert lacking.returncode == 8 and "has not come from far:" in lacking.stderr
    assert f"hpcrun sync far:{there.workspace}" in lacking.stderr
    done = mirrors.sync()
    assert (done[first], done[again], done[changed]) == ("newer", "newer", "newer")
    assert len(mirrors.asked) == 2
    for words in (("snapshot", first), ("diff", first, changed), ("show", changed)):
        words = (words[0], "--json", *words[1:])
        at = [json.loads(place.run(*words).stdout) for place in (here, there)]
        for told in at if words[0] == "show" else ():
            for key in ("record", "files", "imported"):
                del told[key]
        assert at[0] == at[1], words
    copy = there.source.with_name("copy")
    assert here.run("snapshot", changed, "--restore", str(copy)).returncode == 0
    assert {p.name: p.read_bytes() for p in copy.iterdir()} == {
        p.name: p.read_bytes() for p in there.source.iterdir() if p.is_file()
    }
    assert set(mirrors.sync().values()) == {"same"} and mirrors.asked == ()
    assert here.run("store", "check").returncode == 0
    # Of what is damaged or gone there, the run comes all the same.
    own = UserPaths.of(str(there.workspace), open_session(given=str(there.workspace)).user)
    (there.source / "train.py").write_text(TRAIN + "# damaged\n")
    damaged = submitted(there)
    digest = there.json("snapshot", damaged)["digest"]
    held = {file["sha256"] for file in there.json("snapshot", first)["files"] if "sha256" in file}
    (new,) = {
        file["sha256"] for file in there.json("snapshot", damaged)["files"] if "sha256" in file
    } - held
    content = Path(own.objects, object_name(new))
    data = content.read_bytes()
    content.chmod(0o644)
    content.write_bytes(data[::-1])
    assert mirrors.sync(damaged)[damaged] == "new"
    assert "train.py is damaged there" in mirrors.reasons[damaged]
    Path(own.manifest(digest)).rename(there.source.with_name("aside"))
    mirrors.sync(damaged)
    assert "its source does not come: cannot read the snapshot" in mirrors.reasons[damaged]
    there.source.with_name("aside").rename(own.manifest(digest))
    content.write_bytes(data)
    assert mirrors.sync(damaged)[damaged] == "newer"
    assert here.json("snapshot", damaged) == there.json("snapshot", damaged)


def test_names_of_files_are_those_that_files_tells_or_below_outputs() -> None:
    assert is_wanted("user_logs/1.0/rank-0.log", ())
    assert not is_wanted("outputs/model.pt", ())
    for pattern in ("*", "*.pt", "deep/*", "outputs/*"):
        assert is_wanted("outputs/deep/model.pt", (pattern,))
    assert not is_wanted("logs/deep/model.pt", ("deep/*", "outputs/*"))


def test_what_is_told_leads_nowhere_else(mirrors: Mirrors) -> None:
    run_id = submitted(mirrors.there)
    whole = json.loads(mirrors.told(run_id, patterns=("*",)).encode())
    assert Told.decode(json.dumps(whole).encode()) == mirrors.told(run_id, patterns=("*",))
    record, files = 9, 11
    for place, path in (
        (record, "../x"),
        (record, f"active/{run_id}/../../x"),
        (record, f"active/{run_id}/.x"),
        (record, "active/another/run.json"),
        (files, f"files/2026-11/{run_id}/../x"),
        (files, "/etc/passwd"),
        (files, f"active/{run_id}/run.json"),
        (files, 7),
    ):
        told = json.loads(json.dumps(whole))
        (run,) = (run for run in told[1] if run[0] == run_id)
        run[place][0][0] = path
        with pytest.raises(TransportError, match="tells no runs"):
            Told.decode(json.dumps(told).encode())
    for text in (b"", b"[]", b'["x", [[1]], []]'):
        with pytest.raises(TransportError):
            Told.decode(text)
