"""What is no argument, for every public call: one clear sentence, and never Python's own words."""

from __future__ import annotations

import functools
import inspect
import io
import linecache
import math
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy
import pytest

import hpcrun
from hpcrun import (
    Checkpoints,
    Environment,
    Experiment,
    Model,
    MpiConfiguration,
    PyTorchConfiguration,
    Requeue,
    Resources,
    Run,
    RunConfiguration,
    ScriptRunConfig,
    Stop,
    TensorflowConfiguration,
    Workspace,
)
from hpcrun.errors import ConfigError, HpcrunError, StoreError
from hpcrun.metrics import Run as LoggingRun
from tests.metrics_job import Job
from tests.test_metrics_meanings import PNG, make_run

NONSENSE: list[Any] = [
    *(None, True, 3, -1, 10**5000, 1.5, math.nan, b"x", object(), numpy.arange(2)),
    *("", "\0", "..", "\udcff", "x" * 5000, Path("absent"), Path("\0")),
    *([], ["x"], [None], {}, {"x": object()}, {1: "x"}, {"x"}, lambda: None),
]

OF_FILES = [object(), 10**5000, "\0", "x" * 5000, [None]]
"""Of what is checked as a file's values are, in tests of their own."""

Call = Callable[[Any], Any]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project folder with a workspace of its own, as the current folder."""
    folder = tmp_path_factory.mktemp("arguments")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HPCRUN_WORKSPACE", str(folder / "history"))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        (folder / "project").mkdir()
        patch.chdir(folder / "project")
        for name, content in (("train.py", b"pass"), ("plot.png", PNG), ("outputs/a", b"a")):
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).write_bytes(content)
        yield folder


@pytest.fixture(scope="module")
def ended(place: Path) -> Run:
    with Experiment(Workspace.from_config(), "arguments").start_logging() as run:
        run.log("x", 1)
    run.register_model("model", "outputs/a")
    return Run.get(Workspace.from_config(), run.id)


@pytest.fixture(scope="module")
def logging(place: Path) -> LoggingRun:
    return make_run(Job(place).make())


GOOD: dict[str, Any] = {
    "name": "x",
    "value": 1,
    "path": "outputs",
    "path_or_stream": "plot.png",
    "names": ["x"],
    "paths": ["plot.png"],
    "key": "x",
    "tags": {"x": "y"},
    "properties": {"x": "y"},
    "environment": Environment("absent"),
    "model_name": "model",
    "model_path": "outputs/a",
    "experiment_id": "absent",
    "version": "1",
    "labels": ["latest"],
}
"""What stands in the place of the other arguments that a call needs."""

LEFT_OUT = {
    *("start", "should_stop", "wait_for_completion", "delete", "submit_child", "cancel"),
    *("start_logging", "child_run", "create_children"),
}
"""Tried by themselves below, or without arguments."""


def calls_of(owner: object, kind: type, **good: Any) -> Iterator[tuple[str, Call]]:
    """For each argument of each public method: its name, and a call that takes it."""
    for name, _ in inspect.getmembers(kind, callable):
        if name.startswith("_") or name in LEFT_OUT:
            continue
        method = getattr(owner, name)
        parameters = inspect.signature(method).parameters.values()
        needed = {
            each.name: {**GOOD, **good}[each.name]
            for each in parameters
            if each.default is each.empty and each.kind is not each.VAR_KEYWORD
        }
        for each in parameters:
            if each.kind is not each.VAR_KEYWORD:
                yield f"{name}({each.name})", functools.partial(_called, method, needed, each.name)


def _called(method: Callable[..., Any], needed: dict[str, Any], name: str, value: Any) -> None:
    given = method(**{**needed, name: value})
    if inspect.isgenerator(given):
        list(given)


def refusals(calls: Iterator[tuple[str, Call]], values: Sequence[Any] = NONSENSE) -> dict[str, int]:
    """How much of the nonsense each call refuses in words of ours; all other errors are raised."""
    counts = {}
    for label, call in calls:
        counts[label] = 0
        for value in values:
            try:
                call(value)
            except (HpcrunError, TypeError, ValueError) as error:
                assert isinstance(error, HpcrunError) or is_ours(error), (label, repr(value)[:40])
                assert len(str(error).splitlines()[0]) > 0
                counts[label] += 1
            except OSError as error:  # told of a path that is one
                assert "image" in label or "upload" in label, (label, error)
    return counts


def is_ours(error: Exception) -> bool:
    """Whether a line of hpcrun has raised it, and not one that could not use what it was given."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    lines = [linecache.getline(last.filename, number) for number in range(last.lineno or 0, 0, -1)]
    statement = next(line for line in lines if line.startswith(" " * 4) and "raise" in line)
    inside = Path(last.filename).is_relative_to(Path(hpcrun.__file__).parent)
    return inside and statement.lstrip().startswith("raise ")


def test_a_run_in_its_script(logging: LoggingRun) -> None:
    refused = refusals(calls_of(logging, LoggingRun))
    assert min(refused[name] for name in ("set_tags(tags)", "upload_files(names)")) > 15
    assert refused["log(step)"] > 15


def test_a_run_of_a_workspace(ended: Run) -> None:
    good = {"workspace": ended.experiment.workspace, "experiment": ended.experiment}
    refused = refusals(calls_of(ended, Run, run_id=ended.id, **good))
    assert min(refused[name] for name in ("list(tags)", "get_children(type)", "get(run_id)")) > 15
    for value in (True, "", "x", [], object()):
        for call in (
            lambda value: ended.wait_for_completion(timeout_seconds=value),
            lambda value: ended.child_run(run_id=value),
            lambda value: ended.experiment.start_logging(private=[value]),
            ended.resubmit,
            ended.submit_child,
        ):
            with pytest.raises((HpcrunError, ValueError)):
                call(value)
    for count in (-1, 101, 10**5000):
        with pytest.raises(ValueError, match="one call makes 0 to 100"):
            ended.create_children(count)


def test_an_experiment_a_workspace_and_a_model(ended: Run) -> None:
    experiment, workspace = ended.experiment, ended.experiment.workspace
    model = Model(workspace, "model")
    refusals(calls_of(experiment, Experiment, config="absent", workspace=workspace))
    refusals(calls_of(workspace, Workspace, run_id=ended.id))
    refusals(calls_of(model, Model, workspace=workspace))
    made: dict[type, dict[str, Any]] = {
        Experiment: {"workspace": workspace, "name": "x"},
        Workspace: {"path": workspace.path},
        Model: {"workspace": workspace, "name": "model"},
        Run: {"experiment": experiment, "run_id": ended.id},
    }
    for kind, good in made.items():
        names = inspect.signature(kind).parameters
        calls = ((f"{kind}({n})", functools.partial(_called, kind, good, n)) for n in names)
        assert all(refusals(calls).values())


CONFIGURATIONS: dict[type, tuple[str, dict[str, Any]]] = {
    ScriptRunConfig: ("", {"source_directory": ".", "script": "train.py"}),
    RunConfiguration: ("run_config", {"script": "train.py"}),
    Environment: ("environment", {"name": "x"}),
    Resources: ("resources", {}),
    MpiConfiguration: ("distributed_job_config", {}),
    PyTorchConfiguration: ("distributed_job_config", {}),
    TensorflowConfiguration: ("distributed_job_config", {}),
    Requeue: ("requeue", {}),
    Stop: ("stop", {}),
    Checkpoints: ("checkpoints", {}),
}


@pytest.mark.parametrize("kind", CONFIGURATIONS, ids=lambda kind: kind.__name__)
def test_what_is_to_be_run(place: Path, kind: type) -> None:
    experiment = Experiment(Workspace.from_config(), "arguments")
    where, good = CONFIGURATIONS[kind]

    def prepare(name: str, value: Any) -> None:
        config = kind(**{**good, name: value})
        if where:
            config = ScriptRunConfig(".", "train.py", **{where: config})
        experiment.workspace.session.prepare(experiment._asked(config, None), None)

    names = [name for name in inspect.signature(kind).parameters if name != "source_directory"]
    calls = ((name, functools.partial(prepare, name)) for name in names)
    refused = refusals(calls, OF_FILES)
    assert sum(map(bool, refused.values())) >= len(names) - 2


# -- what comes of it -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda run: run.set_tags(["x"]),
            "`tags` of set_tags() must be a mapping of names to values, not a list with 'x'",
        ),
        (
            lambda run: run.get_metrics(recursive="yes"),
            "`recursive` of get_metrics() must be True or False, not 'yes'",
        ),
        (
            lambda run: run.remove_tags(3),
            "`tags` of remove_tags() must be a text or a list of texts, not 3",
        ),
        (
            lambda run: run.download_file("outputs/a", 3),
            "`output_file_path` of download_file() must be a path or None, not 3",
        ),
        (lambda run: setattr(run, "display_name", 3), "`display_name` must be a text, not 3"),
        (lambda run: run.set_tags({3: "x"}), "`tags` of set_tags() must be a mapping of names to"),
        (lambda run: Workspace(""), "a workspace is a folder, and '' names none"),
        (lambda run: Workspace("~nobody-here/x"), "there is no home folder ~nobody-here (from"),
        (lambda run: Model(run.experiment.workspace), "Model() needs the name of a model, or an"),
        (lambda run: run.upload_file(".", "plot.png"), "'.' is no name for a file of a run"),
        (lambda run: Experiment(3, "x"), "`workspace` of Experiment() must be a Workspace, not 3"),
    ],
)
def test_the_sentence(ended: Run, call: Call, sentence: str) -> None:
    with pytest.raises(HpcrunError) as told:
        call(ended)
    assert str(told.value).startswith(sentence)


def test_a_wrong_call_is_pythons_own(ended: Run) -> None:
    with pytest.raises(TypeError, match=r"tag\(\) missing 1 required positional argument: 'key'"):
        ended.tag()  # type: ignore[call-arg]


def test_a_tag_without_a_value_is_the_empty_text(ended: Run, logging: LoggingRun) -> None:
    for run in (ended, logging):
        run.set_tags({"none": None, "number": 3, "path": Path("x")})
        run.tag("alone")
        wanted = {"none": "", "number": "3", "path": "x", "alone": ""}
        assert wanted.items() <= run.tags.items()
    found = ended.experiment.get_runs(tags={"number": 3, "none": None})
    assert [run.id for run in found] == [ended.id]


def test_no_name_of_an_experiment_leads_elsewhere(ended: Run) -> None:
    workspace = ended.experiment.workspace
    ended.experiment.tag("kept")
    for name in ("..", ".", "", "../runs", "/"):
        with pytest.raises(ConfigError, match="is no name for an experiment"):
            Experiment.delete(workspace, name)
    assert ended.record().run_id == ended.id and "kept" in ended.experiment.tags


def test_no_digest_leads_elsewhere(ended: Run) -> None:
    with pytest.raises(StoreError, match="is the digest of no snapshot"):
        ended.restore_snapshot("../../../files")


def test_a_stream_of_text_is_refused(logging: LoggingRun) -> None:
    with pytest.raises(StoreError, match="stream of no bytes; open it with mode 'rb'"):
        logging.upload_file("text", io.StringIO("text"))
