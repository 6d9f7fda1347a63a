"""The command `hpcrun`: its table of commands, and the one place that turns errors into words."""

from __future__ import annotations

import errno
import gc
import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

import hpcrun
from hpcrun import progress
from hpcrun.cli.output import say
from hpcrun.cli.progress import transfer
from hpcrun.errors import ConfigError, HpcrunError, Problem

HERE, THERE, BOTH = "here", "there", "both"
"""Where a command runs: here in any case, where the run history is, or with a source from here and
all else from there."""

COMMANDS = {
    "init": ("start", HERE, "Write a run.yaml in this folder, ready to be submitted."),
    "submit": ("submit", BOTH, "Submit a run."),
    "resubmit": ("submit", THERE, "Submit a run that has ended once more, as the same run."),
    "render": ("submit", BOTH, "Print the script that submit would send, byte for byte."),
    "explain": ("submit", BOTH, "Print every resolved value and where it came from."),
    "schema": ("submit", HERE, "Print the JSON Schema of run.yaml."),
    "list": ("listing", THERE, "List runs, newest first."),
    "show": ("runs", THERE, "Show all that is known of a run."),
    "logs": ("logs", THERE, "Print a run's output, or follow it."),
    "shell": ("shell", THERE, "Open a shell beside a running job, or run a command there."),
    "wait": ("runs", THERE, "Wait until a run has ended."),
    "metrics": ("metrics", THERE, "Print a run's metrics."),
    "compare": ("compare", THERE, "Compare the metrics of runs, as a table or a chart."),
    "diff": ("diff", THERE, "Print what differs between two runs."),
    "sync": ("sync", HERE, "Mirror runs of another machine here, to be read without it."),
    "tensorboard": ("tensorboard", HERE, "Show runs in TensorBoard, on this machine only."),
    "files": ("files", THERE, "List a run's files."),
    "download": ("files", THERE, "Copy files of a run."),
    "snapshot": (
        "snapshot",
        THERE,
        "List a run's source as it was submitted, or lay it out again.",
    ),
    "cancel": ("runs", THERE, "Cancel runs."),
    "collect": ("files", THERE, "Gather what a run without an agent left behind."),
    "clean": ("files", THERE, "Remove a finished run's copy of its source."),
    "archive": ("retire", THERE, "Hide runs from lists, or show them again."),
    "delete": ("retire", THERE, "Delete runs for good, after saying what and how much."),
    "store": (
        "store",
        THERE,
        "Look after the run history: setup, check, gc, stats, export, seal, probe.",
    ),
    "sites": ("sites", HERE, "Show the clusters that can be named: list, show, check."),
    "templates": ("templates", HERE, "Look at script templates, override and check them."),
    "report": ("report", THERE, "Print a run's plan and verdict for a bug report, scrubbed."),
    "env": ("env", THERE, "Look after environments of packages: build, list, show, prune."),
    "doctor": ("doctor", THERE, "Check this machine, the workspace and a target."),
    "demo": ("start", HERE, "Train a real model on this machine, through the whole line."),
    "completion": ("start", HERE, "Print the script that completes commands in your shell."),
}
"""Command → (module of hpcrun.cli, where it runs, its line in the help). Modules are loaded when
they are used."""

HIDDEN = {
    "serve": "serve",
    "receive": "receive",
    "settle": "settle",
    "give": "there",
    "lend": "files",
    "site": "sites",
    "there": "there",
    "told": "sync",
}
"""Command → module, of those that nobody types; `site` is `sites`."""


class _Commands(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS and name not in HIDDEN:
            return None
        module_name = COMMANDS[name][0] if name in COMMANDS else HIDDEN[name]
        module = importlib.import_module(f"hpcrun.cli.{module_name}")
        command: click.Command = getattr(module, name if name != "list" else "list_runs")
        return command

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in {*COMMANDS, *HIDDEN} and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f"did you mean {near[0]!r}?" if near else "`hpcrun --help` lists all"
            context.fail(f"there is no command {args[0]!r} ({hint})")
        if args and args[0] in COMMANDS and COMMANDS[args[0]][1] is THERE:
            # Before its module is loaded: most of that is of no use here.
            shown = None if context.resilient_parsing else _shown_here(context, *args)
            if shown is not None:
                return args[0], shown, []
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


def _shown_here(context: click.Context, name: str, *words: str) -> click.Command | None:
    """What shows a command that runs where the run history is; None: that is here."""
    from hpcrun.workflow.settings import is_elsewhere, named_workspace, open_assets

    named = named_workspace(Path.cwd(), os.environ, context.params.get("workspace")).text
    if not is_elsewhere(named) or {"--help", "-h"} & {*words}:
        return None
    from hpcrun.cli import remote
    from hpcrun.workflow.elsewhere import elsewhere

    place = elsewhere(named, open_assets())
    assert place is not None
    return remote.command(name, words, place)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-w",
    "--workspace",
    metavar="FOLDER",
    help="The run history; SITE:FOLDER is one elsewhere.",
)
@click.version_option(hpcrun.__version__, prog_name="hpcrun")
@click.pass_context
def cli(context: click.Context, workspace: str | None) -> None:
    """The Azure ML way of training, on plain Slurm.

    `hpcrun init` writes a run.yaml, `hpcrun submit` submits it, `hpcrun logs -f @last` follows it.
    A RUN is named by its id, by a unique beginning of its id, or by @last, the newest that is no
    child. Your own comes first; USER/RUN is that user's.
    """
    context.obj = workspace


def main(args: list[str] | None = None) -> NoReturn:
    """Runs a command and exits with its documented code."""
    # Nearly all that is made here lives to the end: looking for garbage is a tenth of the time.
    gc.set_threshold(100_000)
    try:
        _run(args)
    finally:
        gc.freeze()


def _run(args: list[str] | None) -> NoReturn:
    _open_streams()
    output = sys.stdout
    progress.show_by(transfer)
    try:
        _check_folder()
        code = cli.main(args=args, prog_name="hpcrun", standalone_mode=False)
        sys.stdout.flush()
    except HpcrunError as error:
        tell_error(error)
        sys.exit(error.exit_code)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit:
        if sys.stdout is not output:  # click has replaced it: it met a broken pipe
            _end_unread()
        raise
    except BrokenPipeError:
        _end_unread()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO) or error.filename:
            _tell_bug(error)
        else:
            _drop_output()
            tell_error(
                HpcrunError(f"cannot write the output: {error.strerror}", "the rest was done")
            )
        sys.exit(1)
    except Exception as error:  # noqa: BLE001
        _tell_bug(error)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _open_streams() -> None:
    """Those that were closed (`<&-`, by some that start others) lead nowhere."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115  it stays


def _check_folder() -> None:
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise ConfigError(Problem("the current folder is gone", "go to another one")) from error


def _end_unread() -> NoReturn:
    """The reader of our output has gone (`| head`): nothing more can be said to it."""
    _drop_output()
    sys.exit(128 + signal.SIGPIPE)


def _drop_output() -> None:
    """What is left of the output goes nowhere: Python would try it once more at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def tell_error(error: HpcrunError) -> None:
    """Says what is wrong, on standard error."""
    for problem in error.problems:
        say(f"hpcrun: {problem}", err=True)


def _tell_bug(error: BaseException) -> None:
    if os.environ.get("HPCRUN_DEBUG"):
        import traceback

        traceback.print_exc()
    name = type(error).__name__
    say(f"hpcrun: a fault of hpcrun itself: {name}: {error}", err=True)
    say("hpcrun: HPCRUN_DEBUG=1 shows where; please report it", err=True)


def json_option(command: Any) -> Any:
    """The option --json that every command has."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")(
        command
    )
