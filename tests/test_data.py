"""A run's data: what is named and refused, and whole runs with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hpcrun import DatasetConsumptionConfig, OutputFileDatasetConfig, ScriptRunConfig
from hpcrun.agent.staging import count, in_lines
from hpcrun.agent.staging import told as told_of
from hpcrun.config import DataInput, DataOutput, RunConfiguration
from tests.commands import hpcrun, told
from tests.make_plan import from_yaml, plan, script
from tests.trees import NASTY, tree

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
    hpcrun("wait", "--timeout", "240", run_id)
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
  twin: {tmp_path}/new/{{output-name}}
  again: {{path: {tmp_path}/new/twin, mode: direct}}
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
        (16, f"outputs twin and again end in one folder, {tmp_path}/new/twin"),
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
