"""Which checkpoint an attempt goes on from: never a half-written one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from hpcrun.agent.checkpoints import Checkpoint, Rules, newest, to_resume
from hpcrun.errors import ConfigError
from tests.agent_job import Job
from tests.make_plan import from_yaml, plan, script

DEFAULT = Rules(("checkpoint[-_.]*", "*.ckpt"))


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    (tmp_path / "outputs").mkdir()
    return tmp_path / "outputs"


def write(outputs: Path, *names: str) -> None:
    """Files, and folders that end in a slash and hold one file; each newer than the one before."""
    for age, name in enumerate(names):
        path = outputs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
            path = path / "model"
        path.write_text("weights")
        os.utime(path, (1000 + age, 1000 + age))


def chosen(outputs: Path, rules: Rules = DEFAULT) -> str | None:
    found = newest(str(outputs), rules)
    return None if found is None else os.path.relpath(found.path, outputs)


@pytest.mark.parametrize(
    ("names", "name"),
    [
        ((), None),
        (("model.pt", "checkpoints/x"), None),
        (("checkpoint-9", "checkpoint-10"), "checkpoint-10"),
        (("checkpoint-10", "checkpoint-9"), "checkpoint-9"),
        (("checkpoint-500/", "epoch=3.ckpt"), "epoch=3.ckpt"),
        (("epoch=3.ckpt", "checkpoint_7/"), "checkpoint_7"),
        (("checkpoint.pt", "checkpoint.pt.tmp"), "checkpoint.pt"),
        (("checkpoint-1/", "checkpoint-2.partial/"), "checkpoint-1"),
        (("checkpoint-1.incomplete", "checkpoint-1.part"), None),
        (("checkpoint-1", ".checkpoint-2"), "checkpoint-1"),
        (("checkpoint-1", "deep/checkpoint-2"), "checkpoint-1"),
    ],
)
def test_the_newest_by_name(outputs: Path, names: tuple[str, ...], name: str | None) -> None:
    write(outputs, *names)
    assert chosen(outputs) == name


def test_of_one_moment_the_greater_number_is_the_newer(outputs: Path) -> None:
    """Some file systems count whole seconds."""
    write(outputs, "checkpoint-10", "checkpoint-9")
    for path in outputs.iterdir():
        os.utime(path, (1000, 1000))
    assert chosen(outputs) == "checkpoint-10"


def test_any_folders_by_two_stars_and_names_that_are_patterns(tmp_path: Path) -> None:
    outputs = tmp_path / "out[1]*"
    write(outputs, "a/b/last.pt", "c.pt", "d.tmp/e.pt")
    assert chosen(outputs, Rules(("**/*.pt",))) == "c.pt"


def test_what_is_empty_or_leads_nowhere_is_none(outputs: Path) -> None:
    write(outputs, "checkpoint-1")
    (outputs / "checkpoint-2").mkdir()
    (outputs / "checkpoint-3").touch()
    (outputs / "checkpoint-4").symlink_to("nowhere")
    (outputs / "checkpoint-5/shards").mkdir(parents=True)
    (outputs / "checkpoint-6/shards").mkdir(parents=True)
    (outputs / "checkpoint-6/shards/model").touch()
    assert chosen(outputs) == "checkpoint-1"


def test_a_folder_is_as_new_as_the_newest_file_in_any_folder_of_it(outputs: Path) -> None:
    for name, changed in (("checkpoint-1", 2000), ("checkpoint-2", 1000)):
        shard = outputs / name / "shards/of/0.pt"
        shard.parent.mkdir(parents=True)
        shard.write_text("weights")
        os.utime(shard, (changed, changed))
    assert chosen(outputs) == "checkpoint-1"


def test_a_marker_tells_complete_ones(outputs: Path) -> None:
    rules = DEFAULT._replace(marker="complete")
    write(outputs, "checkpoint-1/", "checkpoint-2/", "checkpoint-3.pt", "checkpoint-4.pt")
    assert chosen(outputs, rules) is None
    (outputs / "checkpoint-1/complete").touch()
    assert chosen(outputs, rules) == "checkpoint-1"
    (outputs / "checkpoint-3.pt.complete").write_text("newer than all, and no checkpoint")
    os.utime(outputs / "checkpoint-1/complete", (1000, 1000))
    assert chosen(outputs, rules) == "checkpoint-3.pt"


OLD = Checkpoint(5, "/o/checkpoint-1")


@pytest.mark.parametrize(
    ("found", "given", "anew", "before", "path"),
    [
        (None, None, False, None, None),
        (None, "/given", False, None, "/given"),
        (OLD, None, False, OLD.identity, "/o/checkpoint-1"),
        (OLD, "/given", False, OLD.identity, "/o/checkpoint-1"),
        (OLD, "/given", True, OLD.identity, "/given"),
        (OLD._replace(changed=6), "/given", True, OLD.identity, "/o/checkpoint-1"),
        (OLD, "/given", True, None, "/o/checkpoint-1"),
    ],
)
def test_what_an_attempt_goes_on_from(
    found: Checkpoint | None, given: str | None, anew: bool, before: str | None, path: str | None
) -> None:
    assert to_resume(found, given, anew, before) == path


# -- in the agent, and in the script --------------------------------------------------------------

TOLD = ("sh", "-c", 'echo "$HPCRUN_RESUME_FROM" "$@" > told', "sh")


@pytest.fixture
def job(tmp_path: Path, sdk: Path) -> Job:
    made = Job(tmp_path, sdk).make()
    made.ask(agent={"checkpoints": {"patterns": ["checkpoint-*"]}})
    return made


def told(job: Job, **more: str) -> str:
    assert job.run(*job.shim, *TOLD, **more) == 0
    return (job.files / "told").read_text().strip()


def test_the_first_attempt_begins_with_what_is_given(job: Job) -> None:
    assert told(job) == ""
    assert told(job, HPCRUN_RESUME_FROM="/a b/c") == "/a b/c"
    given = {"HPCRUN_RESUME_FROM": "/a b/c", "HPCRUN_RESUME_ARGUMENT": "--resume-from"}
    assert told(job, **given) == "/a b/c --resume-from /a b/c"
    assert job.facts("resumed")[-1].data == {"path": "/a b/c"}


def test_later_attempts_begin_with_the_newest(job: Job) -> None:
    outputs = job.files / "outputs"
    assert told(job, HPCRUN_RESUME_ARGUMENT="--resume-from") == ""
    write(outputs, "checkpoint-1", "checkpoint-2", "checkpoint-3.tmp")
    newest_one = str(outputs / "checkpoint-2")
    again = job.again("1.1")
    said = told(again, HPCRUN_RESUME_ARGUMENT="--resume-from")
    assert said == f"{newest_one} --resume-from {newest_one}"
    assert again.fact("mark").data["checkpoint"].startswith(newest_one)


def test_one_that_is_given_anew_comes_first_until_there_is_a_newer(job: Job) -> None:
    outputs = job.files / "outputs"
    outputs.mkdir()
    write(outputs, "checkpoint-1", "checkpoint-2")
    given = {"HPCRUN_RESUME_FROM": str(outputs / "checkpoint-1")}
    assert told(job.again("2.0"), **given) == str(outputs / "checkpoint-2")
    given["HPCRUN_RESUME_ANEW"] = "yes"
    assert told(job.again("2.0"), **given) == given["HPCRUN_RESUME_FROM"]
    assert told(job.again("2.1"), **given) == given["HPCRUN_RESUME_FROM"]
    (outputs / "checkpoint-3").write_text("weights")
    assert told(job.again("2.2"), **given) == str(outputs / "checkpoint-3")


def test_the_script_reads_what_it_begins_with(job: Job) -> None:
    code = "from hpcrun import Run; print(Run.get_context().resume_from)"
    words = ["env", f"PYTHONPATH={job.sdk}", sys.executable, "-c", code]
    assert job.run(*job.shim, *words, HPCRUN_RESUME_FROM="/x") == 0
    assert (job.files / "user_logs/1.0/rank-0.log").read_text() == "/x\n"


# -- what is asked --------------------------------------------------------------------------------


def test_what_is_asked_stands_in_the_script() -> None:
    made = plan(from_yaml("script: a.py\nresume_from: /lab/a b.pt\n"))
    text = script(made)
    assert "export HPCRUN_RESUME_FROM='/lab/a b.pt'\n" in text
    assert "export HPCRUN_RESUME_ARGUMENT=--resume-from\n" in text
    auto = script(plan(from_yaml("script: a.py\nresume_from: auto\n")))
    assert "HPCRUN_RESUME_FROM=/" not in auto
    assert "export HPCRUN_RESUME_ARGUMENT=--resume-from\n" in auto
    line = script(plan(from_yaml("command: train $HPCRUN_RESUME_FROM\nresume_from: auto\n")))
    assert "HPCRUN_RESUME_ARGUMENT" not in line


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("checkpoints: {patterns: [/tmp/x]}", "run.yaml:2: '/tmp/x' is no pattern"),
        ("checkpoints: {patterns: [a/../../x]}", "'a/../../x' is no pattern"),
        ("checkpoints: {marker: a/b}", "'a/b' is no name of a file"),
        ("resume_from: ''", "`resume_from` is empty"),
    ],
)
def test_what_cannot_be(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(from_yaml(f"script: a.py\n{text}\n"))
    assert sentence in str(caught.value)
