"""A run's data: what is named, what a node is given before the command, where outputs end."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hpcrun import DatasetConsumptionConfig, OutputFileDatasetConfig, ScriptRunConfig
from hpcrun.agent.data import DataError, prepare
from hpcrun.agent.outgoing import Node, Outgoing
from hpcrun.agent.policy import Data
from hpcrun.agent.staging import count, in_lines
from hpcrun.agent.staging import told as told_of
from hpcrun.config import DataInput, DataOutput, RunConfiguration
from tests.commands import hpcrun, told
from tests.lab import eventually
from tests.make_plan import from_yaml, plan, script
from tests.ordinary_user import as_ordinary_user, let_everybody_reach, needs_root

NASTY = "-a b'\"$HOME`x`\\*é"

WORDS = ("${{inputs.one}}", "${{ inputs.PATH }}", "${{outputs.made}}")

WAIT = """\
import os, time
while not os.path.exists("go"):
    time.sleep(0.05)
"""

USE = """\
import json, os, sys
found = {name: value for name, value in os.environ.items() if "INPUT" in name or "AZUREML" in name}
found.update(words=sys.argv[1:], plain=os.environ["one"], path=os.environ["PATH"])
found["texts"] = [open(os.path.join(word, "a")).read() for word in sys.argv[1:3]]
open(os.path.join(sys.argv[3], "made"), "w").write("made")
os.makedirs(os.path.join(os.environ["HPCRUN_OUTPUT_THERE"], "deep"))
json.dump(found, open("outputs/found.json", "w"))
"""


def tree(root: Path) -> dict[str, Any]:
    """Name → content, or what a link says."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        with suppress(FileNotFoundError):  # what is written aside gets its last name meanwhile
            if path.is_symlink():
                found[name] = ("link", str(path.readlink()))
            elif path.is_file():
                found[name] = path.read_bytes()
            elif not any(path.iterdir()):
                found[name] = "empty"
    return found


def node_folder(tmp_path: Path) -> str:
    return str(tmp_path / "node-data-1.0")


def staged(tmp_path: Path, source: Path, mode: str = "stage") -> Path:
    """What a node is given of an input; where."""
    data = Data("x", str(source), mode, "inputs/x", False)
    prepare((data,), node_folder(tmp_path), "n1", lambda: False)
    return Path(node_folder(tmp_path), "inputs/x")


# -- a whole run ----------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / NASTY
    folder.mkdir()
    (folder / "a").write_text("text")
    return folder


def test_a_run_finds_its_data_by_variables_and_placeholders(project: Path, data: Path) -> None:
    config = {
        "script": "train.py",
        "arguments": [*WORDS, "$${{inputs.x}}"],
        "inputs": {"one": {"path": str(data), "mode": "stage"}, "PATH": str(data)},
        "outputs": {
            "made": str(data.parent / "ends/{run-id}"),
            "there": {"path": str(data.parent / "there"), "mode": "direct"},
        },
    }
    (project / "run.yaml").write_text(json.dumps(config))
    (project / "train.py").write_text(USE)
    run = told("submit")
    hpcrun("wait", run["run_id"])
    found = json.loads(Path(run["files"], "outputs/found.json").read_text())
    one = found["HPCRUN_INPUT_ONE"]
    assert found["words"][:2] == [one, str(data)] != [str(data), one]
    assert found["words"][3] == "${{inputs.x}}"
    assert found["texts"] == ["text", "text"]
    assert found["plain"] == found["AZUREML_DATAREFERENCE_one"] == one
    assert found["AZUREML_DATAREFERENCE_PATH"] == found["HPCRUN_INPUT_PATH"] == str(data)
    assert found["path"] != str(data)  # nobody's PATH is replaced
    assert (data.parent / "ends" / run["run_id"] / "made").read_text() == "made"
    assert (data.parent / "there/deep").is_dir()
    assert not Path(one).exists()
    (attempt,) = told("show", run["run_id"])["attempts"]
    known = [(each["name"], each["files"], each["bytes"]) for each in attempt["data"]]
    assert known == [("one", 1, 4), ("made", 1, 4)]
    shown = hpcrun("show", run["run_id"]).stdout
    assert f"one: {data} (stage)" in shown
    details = details_of(run["run_id"])
    assert [each["name"] for each in details["inputDatasets"]] == ["one", "PATH"]
    assert details["outputDatasets"][0]["nodes"][0]["complete"] is True


def details_of(run_id: str) -> dict[str, Any]:
    from hpcrun import Run, Workspace

    return Run.get(Workspace.from_config(), run_id).get_details()


def test_many_of_them_arrive(project: Path, tmp_path: Path) -> None:
    """What the node tells of them is more than a pipe holds."""
    names = [f"of_the_run_{number:03}" for number in range(600)]
    (tmp_path / "x").touch()
    inputs = {name: {"path": str(tmp_path / "x"), "mode": "stage"} for name in names}
    (project / "run.yaml").write_text(json.dumps({"script": "train.py", "inputs": inputs}))
    run_id = told("submit")["run_id"]
    hpcrun("wait", "--timeout", "60", run_id)
    (attempt,) = told("show", run_id)["attempts"]
    assert [each["name"] for each in attempt["data"]] == names


def test_nodes_tell_of_their_data_in_short_lines() -> None:
    """srun passes on long ones in parts, and those of several nodes mixed."""
    facts = [{"name": f"é {number}"} for number in range(200)]
    one, two = (in_lines(host, {"facts": facts, "problem": host}) for host in ("n1", "n2"))
    assert max(map(len, one)) < 1000
    mixed = [line for pair in zip(one, two, strict=True) for line in pair]
    assert [(each.facts, each.problem) for each in told_of(mixed)] == [(facts, "n1"), (facts, "n2")]
    assert (count(mixed), count(mixed[:-1]), len(told_of(mixed[:-1]))) == (2, 1, 1)
    assert "something else" in told_of(["data n1 {", "laid", "data n1"])[0].problem


def test_what_is_gone_at_the_start_fails_the_launch(project: Path, tmp_path: Path) -> None:
    """After the submission, before the command: what holds the job up is a run that it awaits."""
    data = tmp_path / "data"
    data.mkdir()
    (project / "train.py").write_text(WAIT)
    first = told("submit")
    inputs = ["--set", f"inputs={{one: {data}}}", "--after", first["run_id"]]
    second = told("submit", *inputs)
    data.rmdir()
    Path(first["files"], "go").touch()
    hpcrun("wait", second["run_id"], code=20)
    verdict = told("show", second["run_id"])["verdict"]
    assert verdict["cause"] == "launch_failed"
    assert f"input one: {data}: No such file or directory" in verdict["sentence"]


AGAIN = """\
import os, sys
open(os.path.join(os.environ["HPCRUN_INPUT_ONE"], "a"), "a").write("!")  # a copy of its own
with open(os.path.join(sys.argv[1], os.environ["HPCRUN_ATTEMPT"]), "w") as file:
    file.write(open(os.path.join(os.environ["HPCRUN_INPUT_ONE"], "a")).read())
sys.exit(42 if os.environ["HPCRUN_ATTEMPT"] == "1.0" else 0)
"""


def test_each_attempt_is_given_the_data_anew(project: Path, data: Path) -> None:
    inputs = {"one": {"path": str(data), "mode": "stage"}}
    config = {"script": "train.py", "arguments": ["${{outputs.made}}"], "inputs": inputs}
    config["outputs"] = {"made": "./made"}
    (project / "run.yaml").write_text(json.dumps(config))
    (project / "train.py").write_text(AGAIN)
    run_id = told("submit")["run_id"]
    hpcrun("wait", run_id)
    made = {path.name: path.read_text() for path in (project / "made").glob("1.*")}
    assert made == {"1.0": "text!", "1.1": "text!"}
    assert (data / "a").read_text() == "text"


LEAVES = """\
import os, sys
made, ends = sys.argv[1:]
attempt = os.environ["HPCRUN_ATTEMPT"]
open(made + "/a", "w").write(attempt)
if attempt == "1.0":
    os.rmdir(ends)
    open(ends, "w").close()  # where nothing can be brought to
    sys.exit(3)
"""


def test_what_is_collected_later_does_not_replace_what_a_later_attempt_made(project: Path) -> None:
    ends = project / "made"
    (project / "train.py").write_text(LEAVES)
    config = {"script": "train.py", "outputs": {"made": str(ends)}}
    config["arguments"] = ["${{outputs.made}}", str(ends)]
    (project / "run.yaml").write_text(json.dumps(config))
    run_id = told("submit")["run_id"]
    hpcrun("wait", run_id, code=20)
    (first,) = told("show", run_id)["attempts"]
    assert first["undrained"] != []
    ends.unlink()
    told("resubmit", run_id)
    hpcrun("wait", run_id)
    assert tree(ends)["a"] == b"2.0"
    assert told("collect", run_id)["attempts"][0]["undrained"] == []
    (host,) = first["undrained"]
    assert tree(ends)["a"] == b"2.0"
    assert tree(ends)[f".nodes/{host}-1.0/a"] == b"1.0"
    marks = (json.loads(path.read_text())["complete"] for path in ends.glob(".hpcrun/*.json"))
    assert [*marks] == [True, True]


# -- what is asked --------------------------------------------------------------------------------


def test_all_that_is_wrong_is_told_at_its_line(project: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (project / "run.yaml").write_text(
        f"""\
script: train.py
arguments: ["${{{{inputs.ones}}}}"]
inputs:
  one: /no/such/folder
  1st: {tmp_path}
  Same: {tmp_path}
  same: {tmp_path}
  named: imagenets/train
  folder: {{path: {tmp_path}, mode: unpack}}
  bad: {{path: {tmp_path}, mode: mount}}
outputs:
  directory: {tmp_path}
  out: {tmp_path}/file/below
  one: {tmp_path}
"""
    )
    settings = project / ".hpcrun/config.json"
    settings.parent.mkdir()
    settings.write_text('{"data": {"imagenet": "/data/imagenet"}}')
    lines = hpcrun("render", code=2).stderr.splitlines()
    for number, said in (
        (2, "no placeholder ${{inputs.ones}} (did you mean `inputs.one`?"),
        (4, "/no/such/folder: No such file or directory"),
        (5, "'1st' is no name for data"),
        (7, "the variables of inputs Same and same have one name"),
        (8, "no data has the name 'imagenets' (did you mean `imagenet`?)"),
        (9, "is a folder, and nothing to unpack"),
        (10, "inputs.bad"),
        (12, "HPCRUN_OUTPUT_DIRECTORY is another variable"),
        (13, "file is no folder"),
        (14, "one is both an input and an output"),
    ):
        assert any(f"run.yaml:{number}: " in line and said in line for line in lines), (said, lines)


def test_names_of_data_come_from_the_nearest(project: Path, tmp_path: Path) -> None:
    for number, name in enumerate("abc"):
        (tmp_path / f"{number}/{name}/below").mkdir(parents=True)

    def settings(number: int, *names: str) -> str:
        return json.dumps({"data": {name: str(tmp_path / f"{number}/{name}") for name in names}})

    (project / ".hpcrun").mkdir()
    (project / ".hpcrun/config.json").write_text(settings(0, "a"))
    history = tmp_path / "history"
    history.mkdir()
    named = json.loads(settings(1, "a", "b"))
    (history / "workspace.json").write_text(json.dumps({"format": 1, **named}))
    sites = project / ".hpcrun/site_configs"
    sites.mkdir()
    (sites / "local.yaml").write_text(
        "schema_version: 1\nid: local\ninherits: [local]\n"
        f"storage: {{data: {{b: /wrong, c: {tmp_path}/2/c}}}}\n"
    )
    words = [word for name in "abc" for word in ("--set", f"inputs.{name}={name}/below")]
    text = hpcrun("render", *words).stdout
    for number, name in enumerate("abc"):
        assert f"export HPCRUN_INPUT_{name.upper()}={tmp_path}/{number}/{name}/below\n" in text
    (project / ".hpcrun/config.json").write_text('{"data": {"a": "relative"}}')
    assert "`data` must give names to whole paths" in hpcrun("render", *words, code=2).stderr


def test_the_script_tells_where_data_are() -> None:
    text = script(plan(from_yaml("{script: a.py, inputs: {log: {path: '/d/x.tar', mode: stage}}}")))
    folder = "/tmp/hpcrun-0123abcd-data-$HPCRUN_ATTEMPT"
    assert f"export HPCRUN_INPUT_LOG={folder}/inputs/log/x.tar" in text
    assert "export log=" not in text  # the scripts' own
    assert "nobody else brings the run's data" in text
    assert "brings the run's data" not in script(plan(from_yaml("{script: a.py, inputs: {x: /d}}")))


def test_azure_mls_words_stand_among_the_arguments() -> None:
    one = DatasetConsumptionConfig("one", "/data").as_download()
    out = OutputFileDatasetConfig("out", "/ends").as_upload()
    asked = ScriptRunConfig(".", "a.py", ["--x", one, out, one.as_mount()]).asked()
    assert asked.arguments == ["--x", "${{inputs.one}}", "${{outputs.out}}", "${{inputs.one}}"]
    assert asked.inputs == {"one": DataInput("/data", "direct")}
    assert asked.outputs == {"out": DataOutput("/ends", "stage")}


def test_a_runconfig_keeps_data(tmp_path: Path) -> None:
    inputs = {"one": DataInput("/data", "stage"), "Two": "/two"}
    config = RunConfiguration(script="a.py", inputs=inputs, outputs={"out": "/ends"})
    file = config.save(tmp_path, "x")
    loaded = RunConfiguration.load(file)
    assert (loaded.inputs, loaded.outputs) == (inputs, {"out": "/ends"})


# -- what a node is given ----------------------------------------------------------------------


def test_a_tree_arrives_as_it_is(tmp_path: Path) -> None:
    source, outside = tmp_path / "source", tmp_path / "outside"
    (source / NASTY / "deep").mkdir(parents=True)
    (source / NASTY / "deep/run.sh").write_text("x")
    Path(os.fsdecode(bytes(source) + b"/-rf \n\xff")).write_text("x")
    (source / NASTY / "deep/run.sh").chmod(0o755)
    (source / "closed").write_bytes(os.urandom(100_000))
    (source / "closed").chmod(0o400)
    (source / "within").symlink_to(f"{NASTY}/deep")
    (source / "absolute").symlink_to(source / "closed")
    outside.mkdir()
    (outside / "far").write_text("far")
    (outside / "none").mkdir()
    (source / "empty/one").mkdir(parents=True)
    (source / "folder").symlink_to(outside)
    (source / "file").symlink_to(outside / "far")
    with (source / "holes").open("wb") as file:
        file.truncate(10_000_000)
    where = staged(tmp_path, source)
    wanted = tree(source) | {
        "absolute": ("link", "closed"),
        "file": b"far",
        "folder/far": b"far",
        "folder/none": "empty",
    }
    del wanted["folder"]
    assert tree(where) == wanted
    assert (where / NASTY / "deep/run.sh").stat().st_mode & 0o777 == 0o755
    assert (where / "holes").stat().st_blocks == 0


@pytest.fixture(params=["newer", "older"])
def python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With or without the filters that tarfile has in newer releases of each Python."""
    if request.param == "older":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
        trusting = staticmethod(getattr(tarfile, "fully_trusted_filter", None))
        monkeypatch.setattr(tarfile.TarFile, "extraction_filter", trusting, raising=False)


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize("mode", ["tar.gz", "tar", "zip"])
def test_an_archive_is_unpacked(tmp_path: Path, mode: str) -> None:
    archive = tmp_path / f"a.{mode}"
    (tmp_path / "in").write_text("in")
    (tmp_path / "in").chmod(0o755)
    if mode == "zip":
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.write(tmp_path / "in", "deep/in")
    else:
        with tarfile.open(archive, "w:gz" if mode == "tar.gz" else "w") as packed:
            packed.add(tmp_path / "in", "deep/in")
            for kind, name, target in (
                (tarfile.SYMTYPE, "deep/link", "in"),
                (tarfile.LNKTYPE, "twin", "deep/in"),
            ):
                link = tarfile.TarInfo(name)
                link.type, link.linkname, link.mode = kind, target, 0o755
                packed.addfile(link)
    where = staged(tmp_path, archive, "unpack")
    links = {} if mode == "zip" else {"deep/link": ("link", "in"), "twin": b"in"}
    assert tree(where) == {"deep/in": b"in", **links}
    assert (where / "deep/in").stat().st_mode & 0o777 == 0o755


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize(
    "led",
    [
        [("../out", tarfile.REGTYPE, "")],
        [("up", tarfile.SYMTYPE, "..")],
        [("whole", tarfile.SYMTYPE, "/etc")],
        [("twin", tarfile.LNKTYPE, "../../x")],
        [("here", tarfile.SYMTYPE, "."), ("here/on", tarfile.SYMTYPE, "here/..")],
        [("pipe", tarfile.FIFOTYPE, "")],
    ],
)
def test_what_leads_out_of_a_tar_is_refused(
    tmp_path: Path, led: list[tuple[str, bytes, str]]
) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as packed:
        for name, kind, target in led:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            packed.addfile(member)
    with pytest.raises(DataError, match=f"input x.*{led[-1][0]}"):
        staged(tmp_path, tmp_path / "a.tar", "unpack")
    assert [path.name for path in tmp_path.iterdir() if path.name in ("out", "pipe")] == []


def test_what_leads_out_of_an_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        zipped.writestr("../out", "x")
    with pytest.raises(DataError, match=r"\.\./out in it leads outside"):
        staged(tmp_path, tmp_path / "a.zip", "unpack")
    (tmp_path / "none").write_text("no archive")
    with pytest.raises(DataError, match="input x"):
        staged(tmp_path, tmp_path / "none", "unpack")


def test_all_that_cannot_be_copied_is_told_at_once(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    os.mkfifo(source / "pipe")
    (source / "gone").symlink_to("/no/such/file")
    (source / "sub/up").symlink_to(tmp_path)
    with pytest.raises(DataError) as raised:
        staged(tmp_path, source)
    for said in ("pipe is neither", "gone: No such file", "up/source leads back"):
        assert said in str(raised.value)


@needs_root
def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    (tmp_path / "open").mkdir(mode=0o755)
    wanted = (
        Data("x", str(tmp_path / "closed"), "direct", "", False),
        Data("y", str(tmp_path / "closed/out"), "direct", "", True),
        Data("z", str(tmp_path / "open"), "direct", "", True),
    )
    let_everybody_reach(tmp_path)
    said = as_ordinary_user(lambda: prepare(wanted, "", "n1", bool))
    for words in ("closed cannot be read", "closed/out: Permission denied", "cannot be written"):
        assert words in said


def test_a_disk_that_is_too_small_is_told_before_anything_is_copied(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 43)
    with pytest.raises(DataError, match=r"inputs x have 8796093022208 bytes, and .* free"):
        staged(tmp_path, tmp_path / "huge")
    assert tree(Path(node_folder(tmp_path))) == {"inputs": "empty"}


def test_what_a_killed_attempt_left_goes_but_for_its_outputs(tmp_path: Path) -> None:
    for attempt, name in (("0.1", "outputs"), ("0.2", "")):
        old = tmp_path / f"node-data-{attempt}"
        (old / "inputs/x").mkdir(parents=True)
        (old / "inputs/x/big").touch()
        if name:
            (old / name / "y").mkdir(parents=True)
            (old / name / "y/kept").touch()
    (tmp_path / "source").touch()
    staged(tmp_path, tmp_path / "source")
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("node-data-0*/**/*"))
    assert left == [f"node-data-0.1/outputs{end}" for end in ("", "/y", "/y/kept")]


def test_what_killed_jobs_of_other_runs_left_goes_once_they_are_over(tmp_path: Path) -> None:
    names = {f"hpcrun-{number}1234567-data-1.0" for number in range(4)}
    for name in names:
        (tmp_path / name / "inputs").mkdir(parents=True)
        (tmp_path / name / "inputs/big").touch()
        if not name.startswith("hpcrun-0"):
            os.utime(tmp_path / name, (1.7e9, 1.7e9))
    (tmp_path / "hpcrun-21234567-data-1.0/outputs").mkdir()
    os.utime(tmp_path / "hpcrun-21234567-data-1.0", (1.7e9, 1.7e9))
    (tmp_path / "source").touch()
    environ = {**os.environ, "HPCRUN_RUN_ID": "exp_1700000000_11234567"}
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, env=environ) as going_on:
        eventually(lambda: b"_11234567" in Path(f"/proc/{going_on.pid}/environ").read_bytes())
        staged(tmp_path, tmp_path / "source")
        going_on.communicate()
    left = {path.parent.name for path in tmp_path.glob("hpcrun-*/inputs")}
    assert left == {"hpcrun-01234567-data-1.0", "hpcrun-11234567-data-1.0"}
    assert (tmp_path / "hpcrun-21234567-data-1.0/outputs").is_dir()
    assert not (tmp_path / "hpcrun-31234567-data-1.0").exists()


# -- where outputs end ----------------------------------------------------------------------


class Side:
    """One node's outputs."""

    def __init__(self, tmp_path: Path, host: str, others: tuple[str, ...] = ()) -> None:
        self.ends = tmp_path / "ends"
        self.folder = tmp_path / host
        self.facts: list[tuple[str, dict[str, Any]]] = []
        data = (Data("y", str(self.ends), "stage", "outputs/y", True),)
        prepare(data, str(self.folder), host, bool)
        node = Node("r", "1.0", host, host == "n1")
        tell = lambda kind, data: self.facts.append((kind, data))  # noqa: E731
        self.outgoing = Outgoing(data, str(self.folder), node, others, tell)

    def write(self, name: str, text: str) -> None:
        path = self.folder / "outputs/y" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def finish(self) -> bool:
        eventually(self.outgoing.finish)
        return self.outgoing.close()

    def mark(self, host: str = "n1") -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.ends / f".hpcrun/r.{host}.json").read_text())
        return found

    def found(self) -> dict[str, Any]:
        return {n: text for n, text in tree(self.ends).items() if not n.startswith(".hpcrun/")}


def test_outputs_of_two_nodes_end_in_one_folder(tmp_path: Path) -> None:
    first, second = Side(tmp_path, "n1", ("n2",)), Side(tmp_path, "n2")
    (first.ends / "same").write_text("of an earlier run")
    for side, text in ((first, "1"), (second, "2")):
        side.write("same", text)
        side.write(f"{text}/{NASTY}", text)
    assert second.finish()
    assert first.finish()
    assert first.found() == {
        "same": b"1",
        f"1/{NASTY}": b"1",
        f"2/{NASTY}": b"2",
        ".nodes/n2/same": b"2",
    }
    assert first.mark()["complete"] and first.mark("n2")["complete"]
    assert not first.folder.exists() and not second.folder.exists()
    (problem,) = [data["message"] for kind, data in first.facts if kind == "problem"]
    assert problem.endswith("another node has a file of this name: .nodes/n2/same")


def test_a_warning_brings_what_is_there_and_the_end_the_rest(tmp_path: Path) -> None:
    side = Side(tmp_path, "n1")
    side.write("early", "half")
    side.outgoing.stop_is_near()
    eventually(lambda: side.found() == {"early": b"half"})
    side.outgoing.join()
    assert side.mark()["complete"] is False
    side.write("early", "whole")
    side.write("late", "late")
    assert side.finish()
    assert side.found() == {"early": b"whole", "late": b"late"}
    ((kind, data),) = side.facts
    assert (kind, data["files"], data["complete"]) == ("data", 2, True)


def test_what_cannot_be_brought_stays_and_is_told(tmp_path: Path) -> None:
    side = Side(tmp_path, "n1")
    side.write("taken", "x")
    side.write("fine", "y")
    (side.ends / "taken").mkdir()
    assert not side.finish()
    assert side.found() == {"fine": b"y", "taken": "empty"}
    assert (side.mark()["complete"], side.mark()["left"]) == (False, ["taken"])
    assert (side.folder / "outputs/y/taken").read_text() == "x"
    (problem,) = [data["message"] for kind, data in side.facts if kind == "problem"]
    assert problem.startswith("output y: taken: Is a directory; it stays in n1:")


def test_an_end_that_is_gone_loses_nothing(tmp_path: Path) -> None:
    side = Side(tmp_path, "n1")
    side.write("a", "x")
    side.ends.rmdir()
    side.ends.write_text("a file now")
    assert not side.finish()
    assert (side.folder / "outputs/y/a").read_text() == "x"
    assert any("stays in n1:" in data["message"] for kind, data in side.facts if kind == "problem")
