"""`hpcrun list`: its words for columns, order and times, and what it shows in each form."""

from __future__ import annotations

import contextlib
import math
import os
import pwd
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from hpcrun import Experiment, Run, Workspace
from hpcrun.assets import Assets
from hpcrun.cli.columns import label_of, parse_columns, parse_order
from hpcrun.cli.listing import moment
from hpcrun.errors import ConfigError, StoreError
from hpcrun.layout import INTERACTIVE, Attempt
from hpcrun.store import FileStore
from hpcrun.store.removal import remove
from hpcrun.store.sealing import seal
from hpcrun.store.wanted import Key, Order
from hpcrun.workflow.listing import SHOWN, index, list_ids, list_rows
from tests.care import Own
from tests.commands import hpcrun, told
from tests.test_history import MONTHS, Lab
from tests.test_sealing_faults import make_run


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("created", Order(Key("created"))),
        ("-took", Order(Key("took"), True)),
        ("duration", Order(Key("took"))),
        ("loss", Order(Key("loss", "last"))),
        ("metrics.loss", Order(Key("loss", "last"))),
        ("-metrics.accuracy:max", Order(Key("accuracy", "max"), True)),
        ("loss:min", Order(Key("loss", "min"))),
        ("metrics.loss:last", Order(Key("loss", "last"))),
        ("metrics.val.loss:a", Order(Key("val.loss:a", "last"))),
        ("metrics.loss:min:last", Order(Key("loss:min", "last"))),
        ("metrics.status", Order(Key("status", "last"))),
        ("metrics.metrics.x", Order(Key("metrics.x", "last"))),
    ],
)
def test_what_is_sorted_by(text: str, order: Order) -> None:
    assert parse_order(text) == order
    if order.key.of:
        assert parse_order(f"metrics.{label_of(order.key)}").key == order.key


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("job", "runs cannot be sorted by 'job' (created, started"),
        ("-tags.kind", "runs cannot be sorted by 'tags.kind'"),
        ("metrics.", "a metric has a name (metrics.loss"),
        ("metrics.:min", "a metric has a name"),
    ],
)
def test_what_nothing_is_sorted_by(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_order(text)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("run,statsu", "there is no column 'statsu' (did you mean `status`?)"),
        ("run,,status", "there is no column ''"),
        ("accuracy", "known are run, name"),
        ("metrics.", "a metric has a name"),
    ],
)
def test_what_is_no_column(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_columns(text)
    assert told in str(error.value)


NOW = 1_790_000_000.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2d", NOW - 2 * 86400),
        ("12h", NOW - 12 * 3600),
        ("1h30m", NOW - 5400),
        ("2026-11-01", datetime(2026, 11, 1).timestamp()),
        ("2026-11-01T10:00", datetime(2026, 11, 1, 10).timestamp()),
        ("2026-11-01 10:00:30", datetime(2026, 11, 1, 10, 0, 30).timestamp()),
        ("2026-11-01T10:00Z", 1_793_527_200.0),
        ("2026-11-01T11:00+01:00", 1_793_527_200.0),
    ],
)
def test_a_time(text: str, expected: float) -> None:
    assert moment(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "90", "nan", "2026-13-01", "-2d", "0d", "yesterday", "9999y"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ConfigError, match="is no time"):
        moment(text, NOW)


# -- the command ----------------------------------------------------------------------------------


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Nine runs, the newest first made; six are sealed and in the index."""
    monkeypatch.setenv("HPCRUN_WORKSPACE", str(tmp_path / "history"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    lab = Lab(tmp_path)
    for number in range(9):
        lab.make(number % 3, number % 2, number % 3, number / 8 if number % 4 else None)
        if number % 4 == 1:
            lab.log(number, math.nan if number == 5 else -1.0)
    for number in range(6):
        lab.seal(number)
    index(lab.session)
    return lab


def test_a_list_in_columns(lab: Lab) -> None:
    """The same values of sealed runs and of others, in each form."""
    names = ["run_id", "status", "duration", "tags.code", "tags.none", "properties", "nodes"]
    names += ["exit_code", "created", "metrics.loss", "metrics.loss:min", "metrics.loss:max"]
    listed = told("list", "-n", "0", "--columns", ", ".join(names))
    assert [list(run) for run in listed] == [names] * 9
    by_id = {run["run_id"]: run for run in listed}
    for number, run_id in enumerate(lab.ids):
        run, code = by_id[run_id], number % 3
        seconds = int(run_id.split("_")[-2])
        assert run["status"] == ("Failed" if code else "Completed")
        assert (run["duration"], run["tags.code"], run["tags.none"]) == (
            1 + 5 * code,
            str(code),
            None,
        )
        assert (run["properties"], run["nodes"]) == ({"code": str(1 - code)}, [])
        assert datetime.fromisoformat(run["created"]).timestamp() == seconds + 0.25
        logged = [number / 8] if number % 4 else []
        last = -1.0 if number == 1 else None if number == 5 else logged[0] if logged else None
        told_numbers = run["metrics.loss"], run["metrics.loss:min"], run["metrics.loss:max"]
        least = -1.0 if number == 1 else number / 8 if logged else None
        assert told_numbers == (last, least, number / 8 if logged else None)
        compared = told("compare", run_id)[0]["metrics"] if number in (1, 5) else None
        if compared is not None:
            numbers = compared["loss"]
            assert told_numbers[1:] == (numbers["minimum"], numbers["maximum"])
    plain = hpcrun("list", "-n", "2", "--columns", "status,run,took,metrics.loss").stdout
    assert plain.splitlines()[0] == "status\trun\ttook\tmetrics.loss"
    newest = lab.ids[8]
    assert plain.splitlines()[1] == f"Failed\t{newest}\t11.0s\t-"


def test_a_list_that_is_asked_for_nothing_shows_what_it_showed(lab: Lab) -> None:
    first = hpcrun("list", "-n", "1").stdout.splitlines()
    assert first[0].split("\t") == ["run", "status", "target", "job", "created", "took", "verdict"]
    assert first[1].split("\t")[3] == "-"
    ordered = hpcrun("list", "-n", "1", "--sort", "metrics.loss:min").stdout.splitlines()
    assert ordered[0].startswith("run\tloss:min\tstatus\t")
    assert ordered[1].startswith(f"{lab.ids[1]}\t-1\t")
    (run,) = told("list", "-n", "1", "--sort=-loss:max")
    assert run["metrics"] == {"loss:max": 7 / 8} and run["run_id"] == lab.ids[7]


@pytest.mark.parametrize("order", ["verdict", "-verdict"])
def test_a_run_that_has_no_verdict_yet_comes_last_in_either_direction(lab: Lab, order: str) -> None:
    run_id = "digits_1900000000_0123abcd"
    request = {"run_id": run_id, "experiment": "digits", "user": lab.store.user}
    lab.store.create({**request, "target": INTERACTIVE, "created": 1900000000.0}, "")
    listed = told("list", "-n", "0", f"--sort={order}", "--columns", "run,cause")
    assert listed[-1] == {"run": run_id, "cause": None}
    causes = [run["cause"] for run in listed[:-1]]
    assert causes == sorted(causes, reverse=order == "-verdict") and len({*causes}) == 2


def test_filters_fit_together(lab: Lab) -> None:
    asked = ("--tag", "code=1", "--property", "code=0", "--type", "azureml.scriptrun")
    listed = told("list", *asked, "-s", "failed", "-e", "other_name", "--columns", "run")
    assert [run["run"] for run in listed] == [lab.ids[7], lab.ids[1]]
    recent = [run["run"] for run in told("list", "--since", "1h", "--columns", "run")]
    assert recent == [lab.ids[8], lab.ids[5], lab.ids[2]]
    rest = told("list", "--until", "1h", "--columns", "run", "-n", "0")
    assert {run["run"] for run in rest} == {*lab.ids} - {*recent}
    for words, message in (
        (("--tag", "a=1", "--tag", "a=2"), "'a' is asked for twice"),
        (("--since", "soon"), "'soon' is no time (write 2d, 12h"),
        (("--type", "pipeline"), "'pipeline' is not one of"),
        (("--columns", "los"), "there is no column 'los'"),
    ):
        assert message in hpcrun("list", *words, code=2).stderr
    done = hpcrun("list", "--sort", "los", "-n", "1")
    assert "none of these runs has a number 'los'" in done.stderr


def test_runs_of_everybody(lab: Lab) -> None:
    """Each has an index of their own; those that cannot be read hide no others."""
    if os.geteuid() != 0:
        pytest.skip("making another user's folder needs root")
    nobody = pwd.getpwnam("nobody")
    store = FileStore(lab.session.workspace, "nobody")
    root = Path(store.own.root)
    root.mkdir()
    os.chown(root, nobody.pw_uid, nobody.pw_gid)
    for folder in (store.own.active, store.own.files):
        Path(folder).mkdir()
    seconds = MONTHS[-1] + 1000
    run_id = f"digits_{seconds}_{99:08x}"
    request = {"run_id": run_id, "experiment": "digits", "user": "nobody", "target": "local"}
    paths = store.create({**request, "created": seconds + 0.5}, "")
    store.append(paths, Attempt(1), "metric", {"m": "loss", "v": 0.3})
    store.append(paths, Attempt(1), "ended", {"exit_code": 0, "cause": "completed"})
    for sealed in (False, True):
        if sealed:
            seal(store.stored(paths))
        listed = told(
            "list", "-u", "all", "-n", "4", "--sort", "loss", "--columns", "user,metrics.loss"
        )
        assert [tuple(run.values()) for run in listed] == [
            (lab.store.user, -1.0), (lab.store.user, 0.25), ("nobody", 0.3), (lab.store.user, 0.375)
        ]  # fmt: skip
        first = hpcrun("list", "-u", "all", "-n", "1").stdout.splitlines()
        assert first[0].startswith("run\tuser\tstatus") and first[1].startswith(
            f"{run_id}\tnobody\t"
        )
    broken = lab.session.workspace / "users" / "daemon"
    (broken / "experiments" / "digits").mkdir(parents=True)
    os.mkfifo(broken / "experiments" / "digits" / "a.jsonl")
    os.chown(broken, pwd.getpwnam("daemon").pw_uid, -1)
    every = hpcrun("list", "-n", "0", "-u", "all", "--columns", "run")
    assert len(every.stdout.splitlines()) == 11 and len(told("list", "-n", "0")) == 9
    assert every.stderr == "" and told("list", "-u", "daemon") == []


def test_a_timeout_that_is_none_is_refused(lab: Lab) -> None:
    for given in ("nan", "-1"):
        done = hpcrun("wait", lab.ids[0], "--timeout", given, code=2)
        assert f"a timeout of {given} seconds is none" in done.stderr
    run = Run.get(Workspace.from_config(), lab.ids[0])
    with pytest.raises(ConfigError, match="a timeout of nan seconds is none"):
        run.wait_for_completion(timeout_seconds=math.nan)


def test_the_api_refuses_what_there_is_not(lab: Lab) -> None:
    """At once, not when the first run is asked for."""
    experiment = Experiment(Workspace.from_config(), "digits")
    with pytest.raises(ConfigError, match="no status 'Bogus'"):
        Run.list(experiment, status="Bogus")
    with pytest.raises(ConfigError, match="no status 'Bogus'"):
        experiment.get_runs(status="Bogus")
    with pytest.raises(ConfigError, match="no status 'Bogus'"):
        Run.get(experiment.workspace, lab.ids[0]).get_children(status="Bogus")


def test_another_users_index_that_cannot_be_read_is_done_without(lab: Lab) -> None:
    if os.geteuid() != 0:
        pytest.skip("acting as another user needs root")
    own = Path(lab.session.store.own.root)
    index(lab.session)
    (own / "index").chmod(0o700)
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom hpcrun.store import FileStore\n"
        "store = FileStore(Path('.'), 'nobody')\n"
        f"as_root = store.run_ids({lab.store.user!r})  # all is imported by now\n"
        f"os.setuid(65534)\nprint(store.run_ids({lab.store.user!r}) == as_root != [])\n"
    )
    words, here = [sys.executable, "-c", code], lab.session.workspace
    done = subprocess.run(words, cwd=here, capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


def test_a_list_of_none_says_why(project: Path) -> None:
    own = Workspace.from_config().session.user
    told("submit")
    whole = f"nobody called '{own}x' has runs in {os.environ['HPCRUN_WORKSPACE']}"
    assert f"{whole} (did you mean `{own}`?)" in hpcrun("list", "-u", f"{own}x").stderr
    assert f"no runs of {own} in" in hpcrun("list", "-u", own, "-e", "none").stderr
    assert "no runs in" in hpcrun("list", "-e", "none").stderr


def test_runs_of_one_second_are_listed_newest_first(project: Path) -> None:
    experiment = Experiment(Workspace.from_config(), "ties")
    made = []
    for _ in range(12):
        with experiment.start_logging(outputs=False, snapshot_directory=None) as run:
            made.append(run.id)
    newest = made[::-1]
    assert [run["run_id"] for run in told("list", "-n", "0")] == newest
    for limit in (1, 2, 5):
        assert [run["run_id"] for run in told("list", "-n", str(limit))] == newest[:limit]


def test_api_and_command_have_one_order_within_a_second(project: Path) -> None:
    """Of runs that the index knows, that were sealed since, and that go on; private or not."""
    experiment = Experiment(Workspace.from_config(), "ties")
    session = experiment.workspace.session
    store, made = session.store, {}
    store.prepare(private=True)
    for number, tenths in enumerate((3, 9, 1, 7, 5, 2, 8, 4)):
        run_id = f"ties_1700000000_{number:08x}"
        made[run_id] = 1700000000 + tenths / 10
        request = {"run_id": run_id, "experiment": "ties", "user": store.user, "target": "local"}
        request |= {"created": made[run_id], "private": number % 2 == 1}
        paths = store.create(request, "")
        store.append(paths, Attempt(1), "ended", {"exit_code": 0, "cause": "completed"})
        if number < 6:
            seal(store.stored(paths))
        if number == 3:
            index(session, anew=True)
    newest = sorted(made, key=made.__getitem__, reverse=True)
    for _ in range(2):
        assert [run.id for run in experiment.get_runs()] == newest
        assert [run.id for run in Run.list(experiment, status="Completed")] == newest
        for limit in (1, 2, 3, 5, 8):
            rows = list_rows(session, limit)
            assert [row.record.run_id for row in rows] == newest[:limit]
        for run_id in newest:
            with contextlib.suppress(StoreError):
                seal(store.stored(store.paths(run_id)))
        index(session, anew=True)


def test_runs_that_somebody_deletes_meanwhile_are_left_out(tmp_path: Path) -> None:
    session, told_errors = Own(tmp_path / "history", Assets.of(tmp_path, {})), []
    session.store.prepare()
    for number in range(50):
        paths = make_run(session.store, number, 1)
        if number % 2:
            seal(session.store.stored(paths))

    def delete() -> None:
        for run_id in session.store.run_ids():
            remove(session.store.paths(run_id))

    with ThreadPoolExecutor(1) as pool:
        deleting = pool.submit(delete)
        while not deleting.done():
            list_rows(session, None, tell=told_errors.append)
            list(list_ids(session, SHOWN))
        deleting.result()
    assert told_errors == [] and session.store.run_ids() == []
