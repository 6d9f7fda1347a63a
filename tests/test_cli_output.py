"""What others wrote reaches a terminal as text, and a program exactly as it is."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hpcrun.cli.output import printable
from hpcrun.layout import Attempt
from hpcrun.store import FileStore
from hpcrun.store.users import own_name

EVIL = "a\x1b]0;owned\x07\rb\nc\u202ed\x9b2J\x7f\U000e0001"
SHOWN = r"a\x1b]0;owned\x07\rb\nc\u202ed\x9b2J\x7f\U000e0001"
RUN_ID = f"{EVIL.replace(chr(10), '')}_1700000000_0123abcd"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileStore:
    """A workspace with one run, in which all that a user can name is evil."""
    monkeypatch.setenv("HPCRUN_WORKSPACE", str(tmp_path / "history"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    store = FileStore(tmp_path / "history", own_name(tmp_path / "history"))
    store.prepare()
    request = {
        "run_id": RUN_ID,
        "experiment": EVIL,
        "display_name": EVIL,
        "description": f"why\n\n{EVIL}",
        "user": store.user,
        "target": EVIL,
        "created": 1700000000.0,
        "tags": {EVIL: EVIL},
        "properties": {"azureml.git.commit": EVIL, "azureml.git.branch": EVIL},
    }
    paths = store.create(request, "#!/bin/bash\n")
    attempt = Attempt(1)
    store.append(paths, attempt, "submitted", {"job_id": EVIL})
    store.append(paths, attempt, "problem", {"message": EVIL})
    end = {"cause": "launch_failed", "exit_code": 1, "signal": None, "evidence": [EVIL]}
    store.append(paths, attempt, "ended", end)
    store.append(paths, attempt, "metric", {"m": EVIL, "v": 1.0, "s": 0})
    Path(paths.outputs, EVIL).write_text("x")
    return store


def piped(*words: str) -> str:
    words = (sys.executable, "-m", "hpcrun", *words)
    done = subprocess.run(words, capture_output=True, timeout=180)
    assert done.returncode in (0, 9, 20), done.stderr
    return (done.stdout + done.stderr).decode()


def at_a_terminal(*words: str) -> str:
    """What a terminal is sent, without the colors that are hpcrun's own."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ |= {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "2000"}
        os.execv(sys.executable, [sys.executable, "-m", "hpcrun", *words])
    seen = b""
    try:
        while block := os.read(terminal, 4096):
            seen += block
    except OSError:
        pass  # all is said
    os.close(terminal)
    os.waitpid(child, 0)
    return seen.decode().replace("\r\n", "\n").replace("\x1b[0m", "")


@pytest.mark.parametrize("show", [piped, at_a_terminal])
@pytest.mark.parametrize(
    "words",
    [
        ("list",),
        ("show", "@last"),
        ("metrics", "@last"),
        ("metrics", "@last", "--plot"),
        ("files", "@last"),
        ("cancel", "@last"),
        ("wait", "@last"),
        ("show", "a"),
        ("show", EVIL),
    ],
)
def test_nothing_that_a_user_named_steers_a_terminal(
    store: FileStore, show: object, words: tuple[str, ...]
) -> None:
    assert callable(show)
    said = show(*words)
    assert not set(said) & set("\x1b\x07\r\u202e\x9b"), said
    assert r"\x1b]0;owned\x07" in said


def test_show_has_each_value_on_its_line(store: FileStore) -> None:
    shown = piped("show", "@last").splitlines()
    told = [line for line in shown if line.startswith("description")]
    ends = [r"a\x1b]0;owned\x07", "b", r"c\u202ed\x9b2J\x7f\U000e0001"]
    assert told == [f"description\t{text}" for text in ("why", *ends)]
    lines = dict(line.split("\t", 1) for line in shown)
    assert lines["name"] == lines["experiment"] == lines["job"] == SHOWN
    assert lines["tag"] == f"{SHOWN}={SHOWN}"


def test_show_tells_where_a_run_began_that_waits_for_its_next_life(store: FileStore) -> None:
    paths = store.paths(RUN_ID)
    store.append(paths, Attempt(1), "started", {"host": "n1"})
    store.append(paths, Attempt(1, 1), "submitted", {"job_id": "7"})
    lines = dict(line.split("\t", 1) for line in piped("show", "@last").splitlines())
    assert lines["started"].endswith(" on n1")


def test_the_logs_of_a_run_that_never_started(store: FileStore) -> None:
    words = (sys.executable, "-m", "hpcrun", "logs", "@last")
    done = subprocess.run(words, capture_output=True, text=True, timeout=180)
    assert done.returncode == 8 and "has no output: it never started (" in done.stderr


def test_json_is_exact(store: FileStore) -> None:
    (run,) = json.loads(piped("list", "--json"))
    assert (run["run_id"], run["display_name"], run["tags"]) == (RUN_ID, EVIL, {EVIL: EVIL})


def test_json_steers_no_terminal(store: FileStore) -> None:
    assert not set(piped("list", "--json")) & set("\x1b\x07\r\u202e\x9b\x7f")


@pytest.mark.parametrize("text", ["", "plain", "é 漢字 ok", 'it\'s "so" \\n'])
def test_what_can_be_printed_stays(text: str) -> None:
    assert printable(text) == text


def test_every_other_character_is_an_escape() -> None:
    assert printable("\udcff\t\n") == r"\udcff\t\n"
    assert printable("a\tb\x1b", kept="\t") == "a\tb\\x1b"
    assert printable("é\u2028") == r"é\u2028"


def test_ctrl_c_while_it_is_loaded_is_no_traceback(tmp_path: Path) -> None:
    # A package that takes its time, as from a busy file server.
    slow = "import time\n\nprint('loading', flush=True)\ntime.sleep(600)\n"
    (tmp_path / "click.py").write_text(slow)
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    words = [sys.executable, "-m", "hpcrun", "list"]
    with subprocess.Popen(words, env=env, **pipes) as loading:
        try:
            assert loading.stdout is not None and loading.stdout.readline() == b"loading\n"
            loading.send_signal(signal.SIGINT)
            assert loading.communicate(timeout=180) == (b"", b"")
        finally:
            loading.kill()
    assert loading.returncode == 130
