"""Looking at runs: diff, compare, charts, snapshot, TensorBoard, and records full of rubbish."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from hpcrun import Experiment, Run, Workspace
from hpcrun.kinds import KINDS
from hpcrun.record import Fact
from tests.commands import hpcrun, told
from tests.lab import eventually
from tests.test_kinds import POOL, line

TRAIN = """\
import sys
from hpcrun import Run

run = Run.get_context()
for step in range(3):
    run.log("loss", float(sys.argv[2]) / (step + 1), step=step)
run.log("same", 1)
"""


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """An experiment in a workspace of its own; the current folder is a source folder."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.setenv("HPCRUN_WORKSPACE", str(tmp_path / "history"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(folder)
    Path("train.py").write_text(TRAIN)
    Path("run.yaml").write_text("script: train.py\nexperiment: views\narguments: [--scale, '1']\n")
    return Experiment(Workspace.from_config(), "views")


def at_terminal(*words: str) -> str:
    """What hpcrun prints at a terminal of 80 columns."""
    seen = b""
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(COLUMNS="80", TERM="xterm-256color")
        os.execv(sys.executable, [sys.executable, "-m", "hpcrun", *words])
    with suppress(OSError):
        while data := os.read(terminal, 65536):
            seen += data
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, seen
    return seen.decode()


def logged(experiment: Experiment, **values: Any) -> str:
    """The id of an interactive run that logged, each list one value after another."""
    with experiment.start_logging(outputs=False, snapshot_directory=None) as run:
        for name, series in values.items():
            for step, value in enumerate(series):
                run.log(name, value, step=step)
    return run.id


# -- diff and snapshot --------------------------------------------------------------------------


def test_diff_tells_what_was_done_differently_and_what_came_of_it(experiment: Experiment) -> None:
    a = told("submit", "--follow")["run_id"]
    Path("train.py").write_text(TRAIN.replace("(step + 1)", "(step + 2)"))
    Path("run.yaml").write_text(
        "script: train.py\nexperiment: views\narguments: [--scale, '3']\n"
        "environment_variables: {MODE: fast}\ntags: {kind: new}\nresources: {time: 1h}\n"
    )
    b = told("submit", "--follow")["run_id"]
    found = told("diff", a, b)
    (loss,) = found["metrics"]
    assert (loss["name"], loss["a"], loss["b"]) == ("loss", 1 / 3, 3 / 4)
    assert loss["difference"] == pytest.approx(3 / 4 - 1 / 3)
    assert [found["command"][side][-1] for side in "ab"] == ["1", "3"]
    values = {(v["section"], v["name"]): (v["a"], v["b"]) for v in found["values"]}
    assert values[("environment", "variable MODE")] == (None, "fast")
    assert values[("tags", "kind")] == (None, "new")
    assert values[("values", "time limit")][0] is None
    assert {file["path"]: file["change"] for file in found["files"]} == {
        "run.yaml": "changed",
        "train.py": "changed",
    }
    assert '-    run.log("loss", float(sys.argv[2]) / (step + 1), step=step)\n' in found["diff"]
    text = hpcrun("diff", a, b).stdout
    assert "1 metric has the same last value" in text
    assert "- --scale 1\n+ --scale 3\n" in text
    assert "+++ b/train.py" in text
    short = hpcrun("diff", a, b, "--lines", "3")
    assert "+++ b/run.yaml" in short.stdout and "b/train.py" not in short.stdout
    assert "more lines" in short.stderr
    assert "+++" not in hpcrun("diff", a, b, "--stat").stdout
    seen = at_terminal("diff", a, b)
    assert "\x1b[32m+ --scale 3" in seen
    assert told("diff", a, a)["files"] == [] == told("diff", a, a)["values"]


def test_diff_of_runs_without_code(experiment: Experiment) -> None:
    a, b = logged(experiment, x=[1]), logged(experiment, x=[float("nan")], only=["text"])
    found = told("diff", a, b)
    assert found["metrics"] == [
        {"name": "only", "a": None, "b": "text", "difference": None},
        {"name": "x", "a": 1, "b": "NaN", "difference": None},
    ]
    assert (found["command"], found["files"]) == (None, [])
    run = told("submit", "--follow")["run_id"]
    assert told("diff", a, run)["files"] is None
    assert "without a snapshot" in hpcrun("diff", a, run).stdout


def test_snapshot_lists_and_restores(experiment: Experiment, tmp_path: Path) -> None:
    run = told("submit", "--follow")
    Path("train.py").write_text("changed since")
    found = told("snapshot", run["run_id"])
    assert found["digest"] == Run.get(experiment.workspace, run["run_id"]).get_snapshot_id()
    assert [file["path"] for file in found["files"]] == ["run.yaml", "train.py"]
    assert hpcrun("snapshot", run["run_id"]).stdout.startswith("file\tsize\nrun.yaml\t")
    told("snapshot", run["run_id"], "--restore", str(tmp_path / "there"))
    assert (tmp_path / "there/train.py").read_text() == TRAIN
    again = hpcrun("snapshot", run["run_id"], "--restore", str(tmp_path / "there"), code=5)
    assert "is not empty" in again.stderr
    assert "has no snapshot" in hpcrun("snapshot", logged(experiment, x=[1]), code=8).stderr


# -- compare and charts -------------------------------------------------------------------------


def test_compare_metrics_of_several_runs(experiment: Experiment) -> None:
    a = logged(experiment, loss=[3.0, 1.0, 2.0], only=[1])
    b = logged(experiment, loss=[5.0, float("nan")])
    found = told("compare", a, b, a)
    assert [run["run_id"] for run in found] == [a, b]
    assert found[0]["metrics"]["loss"] == {
        "last": 2.0, "minimum": 1.0, "maximum": 3.0, "values": 3,
    }  # fmt: skip
    assert found[1]["metrics"] == {
        "loss": {"last": "NaN", "minimum": 5.0, "maximum": 5.0, "values": 2}
    }
    rows = [row.split("\t") for row in hpcrun("compare", a, b).stdout.splitlines()]
    assert rows == [
        ["metric", "run", "last", "min", "max", "values"],
        ["loss", a, "2", "1", "3", "3"],
        ["loss", b, "nan", "5", "5", "2"],
        ["only", a, "1", "1", "1", "1"],
    ]
    assert list(told("compare", a, b, "-m", "only")[0]["metrics"]) == ["only"]
    unknown = hpcrun("compare", a, b, "-m", "los", code=8).stderr
    assert "none of these runs has a metric 'los' (they have loss, only)" in unknown
    lines = at_terminal("compare", a, b).splitlines()
    assert max(map(len, lines)) < 200 and any("loss" in row and " A " in row for row in lines)


def test_charts_tell_runs_apart_also_without_colors(experiment: Experiment) -> None:
    a = logged(experiment, loss=[3.0, 2.0, 1.0], text=["a"])
    b = logged(experiment, loss=[1.0, 2.0, 5.0])
    chart = hpcrun("compare", a, b, "--plot", "loss").stdout
    assert f"A\t{a}" in chart and f"B\t{b}" in chart
    drawn = chart.partition("┌")[2]
    assert "A" in drawn and "B" in drawn and "\x1b" not in drawn
    assert max(map(len, chart.splitlines())) <= 80
    assert "no numbers" in hpcrun("compare", a, b, "--plot", "text", code=8).stderr
    colored = at_terminal("compare", a, b, "--plot", "loss")
    assert "\x1b[38;5;12m" in colored and "\x1b[38;5;9m" in colored
    assert "┤" in hpcrun("metrics", "--plot", a, "loss").stdout


# -- TensorBoard --------------------------------------------------------------------------------


def test_export_of_metrics_as_an_event_file(experiment: Experiment, tmp_path: Path) -> None:
    a = logged(experiment, loss=[0.5, 0.25], other=[1])
    found = told("metrics", a, "loss", "--export", str(tmp_path / "events"))
    assert found["values"] == 2
    assert Path(found["path"]).parent == tmp_path / "events" / a
    again = hpcrun("metrics", a, "--export", str(tmp_path / "events"), code=8)
    assert "is there already" in again.stderr


@contextmanager
def tensorboard(*runs: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`hpcrun tensorboard` that serves, and its address."""
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    words = [sys.executable, "-m", "hpcrun", "tensorboard", *runs]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.send_signal(signal.SIGINT)


def scalars(address: str, run: str, tag: str) -> list[tuple[int, float]]:
    """What TensorBoard gives its own page."""
    query = urllib.parse.urlencode({"run": run, "tag": tag})
    try:
        with urllib.request.urlopen(f"{address}data/plugin/scalars/scalars?{query}") as answer:
            return [(step, value) for _, step, value in json.load(answer)]
    except urllib.error.HTTPError as error:
        error.close()
        return []


@pytest.mark.slow
def test_tensorboard_shows_a_run_while_it_goes_on(experiment: Experiment, tmp_path: Path) -> None:
    from tensorboardX import SummaryWriter

    done = logged(experiment, loss=[0.5, 0.25, float("inf")])
    with experiment.start_logging(outputs=False, snapshot_directory=None) as run:
        for step in (0, 1, 5):
            run.log("loss", step / 4, step=step)
        run.flush()
        with tensorboard(done, run.id) as (process, address):
            eventually(lambda: scalars(address, run.id, "loss") == [(0, 0.0), (1, 0.25), (5, 1.25)])
            assert scalars(address, done, "loss")[:2] == [(0, 0.5), (1, 0.25)]
            run.log("loss", 0.75, step=3)  # behind a later step
            own = Path(Run.get(experiment.workspace, run.id).paths.logs, "train")
            with SummaryWriter(str(own)) as writer:
                writer.add_scalar("own", 4.0, 2)
            eventually(lambda: scalars(address, f"{run.id}/logs/train", "own") == [(2, 4.0)])
            later = [(0, 0.0), (1, 0.25), (3, 0.75), (5, 1.25)]
            eventually(lambda: scalars(address, run.id, "loss") == later)
            (served,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            process.send_signal(signal.SIGINT)
            assert process.wait(180) == 0
        assert not Path("/proc", served).exists()
        assert list((tmp_path / "cache/hpcrun/tensorboard").iterdir()) == []


def test_no_tensorboard_is_told(experiment: Experiment) -> None:
    script = "import sys; sys.modules['tensorboard'] = None; from hpcrun.cli.main import main; "
    words = [sys.executable, "-c", script + "main(['tensorboard', '@last'])"]
    env = {**os.environ, "PATH": "/nonexistent"}
    done = subprocess.run(words, capture_output=True, text=True, env=env)
    assert done.returncode == 2
    assert "pip install 'hpcrun-slurm[tensorboard]'" in done.stderr


# -- rubbish ------------------------------------------------------------------------------------


def test_no_journal_makes_a_command_fall(experiment: Experiment) -> None:
    """Every kind of fact, each of its data of every form, with a checksum that is right."""
    a, good = logged(experiment, x=[1]), logged(experiment, x=[2])
    record = Path(Run.get(experiment.workspace, a).paths.record)
    lines: dict[str, list[bytes]] = {}
    for kind, known in KINDS.items():
        names = [*known.needs, *known.may, "y", "size", "sha256", "cpu_percent", "gpu_percent"]
        suffix = {"metric": ".metrics", "system": ".metrics", "followed": ".metrics"}.get(kind, "")
        for number, value in enumerate(POOL):
            right = {n: [v for v in POOL if c(v)] for n, c in {**known.needs, **known.may}.items()}
            for name in names:
                data = {n: values[number % len(values)] for n, values in right.items()}
                data[name] = value
                fact = Fact(kind, (1, number % 3), 5.0 + number, number, data)  # type: ignore[arg-type]
                lines.setdefault(suffix, []).append(line(fact))
    for suffix, found in lines.items():
        (record / f"client-x{suffix}.jsonl").write_bytes(b"".join(found))
    for words in (
        ["show", a], ["list"], ["metrics", a], ["metrics", "--system", a], ["files", a],
        ["compare", a, good], ["diff", a, good], ["diff", good, a],
    ):  # fmt: skip
        hpcrun(*words)
        told(*words)
    hpcrun("metrics", "--plot", a)
    hpcrun("metrics", a, "--export", "events")
    assert "lines of the journals are torn or foreign" in hpcrun("show", a).stdout
    assert "torn or foreign" in hpcrun("metrics", a).stderr


@pytest.mark.parametrize("key", ["created", "target", "tags", "parent", "user", "display_name"])
def test_a_request_of_the_wrong_form_is_told(experiment: Experiment, key: str) -> None:
    bad, good = logged(experiment, x=[1]), logged(experiment, x=[2])
    file = Path(Run.get(experiment.workspace, bad).paths.request)
    file.write_text(json.dumps({**json.loads(file.read_text()), key: [1]}))
    assert f"is damaged: no good {key} in it" in hpcrun("show", bad, code=8).stderr
    assert [run["run_id"] for run in told("list")] == [good]
