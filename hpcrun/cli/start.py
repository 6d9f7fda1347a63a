"""init, demo, completion: the first minutes."""

from __future__ import annotations

import importlib.resources
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path

import click

from hpcrun.cli.main import cli, json_option
from hpcrun.cli.output import print_json, run_object, say
from hpcrun.config import Environment
from hpcrun.errors import ConfigError, Problem
from hpcrun.workflow.session import Session, open_session
from hpcrun.workflow.settings import CONFIG, is_elsewhere, open_assets

_RUN_YAML = """\
# What `hpcrun submit` runs. Every key: `hpcrun schema`, and docs/run_yaml.md.
source_directory: .
script: {script}
arguments: []

# `local` is this machine. A cluster is `site/target`, such as generic-slurm/default.
compute_target: {target}

# The Python that is active where you submit, unless you name one:
# environment:
#   virtual_environment: /path/to/venv

# resources:
#   gpus_per_node: 1
#   cpus_per_task: 8
#   memory: 32G
#   time: 2h

# Several processes over several nodes:
# distributed_job_config:
#   kind: pytorch
#   node_count: 2
#   process_count: 4
"""

_TRAIN_PY = '''\
"""A training script. It runs under hpcrun and, unchanged, by hand."""

from pathlib import Path

from hpcrun import Run

run = Run.get_context()
for epoch in range(5):
    run.log("loss", 1 / (epoch + 1), step=epoch)
Path("outputs").mkdir(exist_ok=True)
Path("outputs/model.txt").write_text("whatever stands in outputs/ is kept with the run\\n")
print("done")
'''


@click.command()
@click.option("--script", help="Your training script.  [default: train.py]")
@click.option("-t", "--target", help="Where to run it, as SITE/TARGET.  [default: local]")
@click.option(
    "-w",
    "--workspace",
    "folder",
    metavar="FOLDER",
    help="The run history to use from here; SITE:FOLDER is one elsewhere.",
)
@json_option
@click.pass_obj
def init(
    workspace: str | None,
    script: str | None,
    target: str | None,
    folder: str | None,
    as_json: bool,
) -> None:
    """Write a run.yaml in this folder, ready to be submitted. Existing files are left alone.

    For a target whose site is reached from here, the run history is the site's from here on.
    """
    from hpcrun.workflow.elsewhere import reached_from

    written = []
    named = folder or workspace
    if named is None and target is not None and not CONFIG.exists():
        place = reached_from(target, open_assets())
        named = None if place is None else place.named
    if not Path(script or "train.py").exists():
        if script is not None:
            raise ConfigError(Problem(f"there is no script {script} here"))
        written.append(_write(Path("train.py"), _TRAIN_PY))
    if not Path("run.yaml").exists():
        written.append(
            _write(
                Path("run.yaml"),
                _RUN_YAML.format(
                    script=json.dumps(script) if script else "train.py",
                    target=json.dumps(target) if target else "local",
                ),
            )
        )
    if named is not None:
        is_there = is_elsewhere(named)
        value = {"workspace": named if is_there else str(Path(named).expanduser().absolute())}
        if CONFIG.exists():
            hint = f"change it there, or remove {CONFIG}"
            raise ConfigError(Problem(f"{CONFIG} names a workspace already", hint))
        written.append(_write(CONFIG, json.dumps(value, indent=2) + "\n"))
    if as_json:
        print_json({"written": written})
        return
    for name in written:
        say(f"wrote {name}")
    say("next: hpcrun submit --follow")


def _write(path: Path, text: str) -> str:
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(Problem(f"cannot write {path}: {error.strerror}")) from error
    return str(path)


@click.command()
@click.option("-t", "--target", default="local", show_default=True, help="Where to run it.")
@json_option
@click.pass_obj
def demo(workspace: str | None, target: str, as_json: bool) -> int:
    """Train a real model on this machine, through the whole line."""
    from hpcrun.cli.chart import draw
    from hpcrun.cli.logs import follow_to_end
    from hpcrun.cli.show import print_run
    from hpcrun.config import load_config

    session = open_session(given=workspace)
    source = _demo_source(session.cache / "demo")
    asked = load_config(source / "run.yaml")
    asked.value.compute_target = target
    asked.value.environment = _this_python()
    record = session.submit(session.prepare(asked, folder=source))
    run_id = record.run_id
    say(f"submitted run {run_id} as job {record.job_id} to {target}\n", err=as_json)
    code = follow_to_end(session, run_id) if not as_json else _wait(session, run_id)
    record, paths = session.record(run_id), session.store.paths(run_id)
    if as_json:
        print_json(run_object(record, paths))
        return code
    say()
    print_run(session, record, paths)
    say()
    draw(session.store.metrics(paths), height=10)
    say("\nnext:")
    for words in (
        f"show {run_id}",
        "metrics @last --plot",
        "files @last",
        "download @last outputs/curves.png",
        "list",
        "init      # in a folder of your own",
    ):
        say(f"  {_command()} {words}")
    return code


def _command() -> str:
    """hpcrun as it can be typed here: its name, or its path where it is not on the PATH."""
    if shutil.which("hpcrun") is not None:
        return "hpcrun"
    called = Path(sys.argv[0])
    return os.path.relpath(called) if called.name == "hpcrun" else f"{sys.executable} -m hpcrun"


def _demo_source(folder: Path) -> Path:
    """The example that ships with hpcrun, in a folder that can be a source folder."""
    resource = importlib.resources.files("hpcrun.examples").joinpath("digits")
    folder.mkdir(parents=True, exist_ok=True)
    for entry in resource.iterdir():
        if entry.is_file():
            (folder / entry.name).write_bytes(entry.read_bytes())
    return folder


def _this_python() -> Environment:
    if importlib.util.find_spec("sklearn") is None:
        raise ConfigError(
            Problem(
                "the demo trains with scikit-learn, which this Python has not",
                "pip install 'hpcrun-slurm[demo]'",
            )
        )
    environment = Environment("this-python")
    environment.python.interpreter_path = sys.executable
    return environment


def _wait(session: Session, run_id: str) -> int:
    from hpcrun.cli.runs import exit_code, wait_for

    return exit_code(wait_for(session, run_id, None))


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@json_option
def completion(shell: str, as_json: bool) -> None:
    """Print the script that completes commands in your shell: eval "$(hpcrun completion bash)"."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None
    script = found(cli, {}, "hpcrun", "_HPCRUN_COMPLETE").source()
    if as_json:
        print_json({"shell": shell, "script": script})
    else:
        click.echo(script)
