"""Target `local`: the whole line on this machine, as a person or a script uses it."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hpcrun import Experiment, Workspace
from hpcrun.config import load_config
from tests.commands import hpcrun, script_of, told
from tests.lab import eventually


def test_who_follows_a_submission_sees_all_of_its_attempts(project: Path) -> None:
    """Also those that were over before the first look."""
    (project / "train.py").write_text(
        "import os, sys\nfrom hpcrun import Run\nlife = os.environ['HPCRUN_ATTEMPT']\n"
        "Run.get_context().log('x', 1, step=int(life[-1]))\nprint('life', life)\n"
        "sys.exit(0 if life == '1.2' else 42)\n"
    )
    said = hpcrun("submit", "--follow").stdout
    assert [line for line in said.splitlines() if line.startswith("life")] == [
        "life 1.0",
        "life 1.1",
        "life 1.2",
    ]


def test_submit_follow_and_every_command_after_it(project: Path) -> None:
    done = hpcrun("submit", "--follow", "--", "--lr", "1e-3")
    assert "trained --lr 1e-3\n" in done.stdout
    (run,) = told("list")
    run_id = run["run_id"]
    assert told("show", "@last")["run_id"] == run_id
    assert told("show", run_id[:-4])["run_id"] == run_id
    assert told("wait", run_id)["status"] == "Completed"
    metrics = told("metrics", run_id)
    assert metrics == {"loss": [3, 2, 1], "nan": "NaN", "table": {"x": [1, 2], "y": [3, 4]}}
    assert {f["name"]: f["size"] for f in told("files", run_id)}["outputs/words.txt"] == 9
    assert told("logs", run_id)["text"] == "trained --lr 1e-3\n"
    copied = told("download", run_id, "outputs/deep/more.txt", "there.txt")
    assert Path(copied["path"]).read_text() == "more"
    for words, prefix in ((("--all",), ""), (("--prefix", "outputs/d"), "outputs/d")):
        many = told("download", *words, run_id, "many")
        assert [(f["name"], f["path"]) for f in many] == [
            (f["name"], f"many/{f['name']}")
            for f in told("files", run_id)
            if f["name"].startswith(prefix)
        ]
    assert Path("many/outputs/deep/more.txt").read_text() == "more"
    hpcrun("download", run_id, "--all", "one", "two", code=2)
    hpcrun("download", run_id, "--prefix", "none", code=8)
    assert told("cancel", run_id)[0]["status"] == "Completed"
    assert told("collect", run_id)["collected"] == []
    assert told("report", run_id)["run"]["run_id"] == run_id
    removed = told("clean", run_id)
    assert removed["removed"] == 2 and not Path(run["files"], "train.py").exists()
    assert Path(run["files"], "outputs/words.txt").exists()
    assert told("completion", "bash")["script"]
    assert told("schema")["$defs"]
    assert hpcrun("metrics", "--plot", run_id, "loss").stdout.count("\n") > 5


def test_a_name_that_is_no_run_or_two_runs(project: Path) -> None:
    assert "there is no run" in hpcrun("show", "@last", code=9).stderr
    hpcrun("submit", "--follow")
    hpcrun("submit", "--follow")
    assert "2 runs begin with 'line_'" in hpcrun("show", "line_", code=9).stderr
    assert "no run 'nothing'" in hpcrun("show", "nothing", code=9).stderr


def test_exit_codes_tell_completed_failed_and_canceled_apart(project: Path) -> None:
    (project / "train.py").write_text("raise SystemExit(3)")
    hpcrun("submit", "--follow", code=20)
    assert told("wait", "@last", code=20)["verdict"]["exit_code"] == 3
    (project / "train.py").write_text("import time; print('up', flush=True); time.sleep(100)")
    run = told("submit")
    eventually(lambda: told("show", "@last")["status"] == "Running")
    assert "still Running" in hpcrun("wait", "--timeout", "0.2", run["run_id"], code=22).stderr
    said = hpcrun("cancel", run["run_id"]).stdout
    assert "Canceled" in said or f"wait for its end with: hpcrun wait {run['run_id']}" in said
    ended = told("wait", run["run_id"], code=21)
    assert ended["verdict"]["cause"] == "canceled"


def test_a_cancelled_run_leaves_no_process(project: Path) -> None:
    (project / "train.py").write_text(
        "import subprocess, os, time\n"
        "child = subprocess.Popen(['sleep', '1000'])\n"
        "open('outputs/pids', 'w').write(f'{os.getpid()} {child.pid}')\n"
        "time.sleep(1000)\n"
    )
    run = told("submit")
    pids = Path(run["files"], "outputs/pids")
    eventually(lambda: pids.exists() and len(pids.read_text().split()) == 2)
    hpcrun("cancel", run["run_id"])
    hpcrun("wait", run["run_id"], code=21)
    job = int(run["job_id"].split(":")[1])
    for pid in [job, *map(int, pids.read_text().split())]:
        eventually(lambda pid=pid: not Path(f"/proc/{pid}").exists())


def test_several_runs_at_once(project: Path) -> None:
    (project / "train.py").write_text(
        "import sys, time, os\n"
        "open('outputs/me', 'w').write(sys.argv[1])\n"
        "while not os.path.exists(sys.argv[2]): time.sleep(0.05)\n"
    )
    go = project.parent / "go"
    runs = [told("submit", "--", str(n), str(go)) for n in range(4)]
    paths = [Path(run["files"], "outputs/me") for run in runs]
    eventually(lambda: all(p.exists() and p.read_text() for p in paths))
    go.touch()
    assert [told("wait", run["run_id"])["status"] for run in runs] == ["Completed"] * 4
    assert [path.read_text() for path in paths] == ["0", "1", "2", "3"]


def test_a_run_survives_the_closing_of_its_terminal(project: Path) -> None:
    (project / "train.py").write_text("import time; print('up', flush=True); time.sleep(3)")
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-m", "hpcrun", "submit", "--follow"])
    seen = b""
    while b"up" not in seen:
        seen += os.read(terminal, 4096)
    os.close(terminal)
    os.kill(child, signal.SIGHUP)
    os.waitpid(child, 0)
    assert told("wait", "@last")["status"] == "Completed"


def test_the_time_limit_is_kept(project: Path) -> None:
    (project / "train.py").write_text("import time; time.sleep(100)")
    done = hpcrun("submit", "--follow", "--set", "resources.time=2s", code=20)
    assert "time limit" in done.stderr


def test_all_problems_of_a_file_at_once(project: Path) -> None:
    (project / "run.yaml").write_text(
        "scirpt: train.py\nresources: {gpus_per_node: four, tiem: 2h}\ntags: [a]\n"
    )
    lines = hpcrun("submit", code=2).stderr.splitlines()
    assert len(lines) == 4
    assert lines[0] == "hpcrun: run.yaml:1: there is no key `scirpt` (did you mean `script`?)"
    assert not (project.parent / "history").exists()


def test_one_damaged_run_does_not_hide_the_others(project: Path) -> None:
    first, second = told("submit", "--follow"), told("submit", "--follow")
    for text in ("{", '{"format": 1}'):
        Path(first["record"], "run.json").write_text(text)
        done = hpcrun("list", "--json")
        assert [run["run_id"] for run in json.loads(done.stdout)] == [second["run_id"]]
        assert "is damaged" in done.stderr and done.stderr.count("\n") == 1
    assert "is damaged" in hpcrun("show", first["run_id"], code=8).stderr


def test_completion_completes(project: Path) -> None:
    env = {**os.environ, "_HPCRUN_COMPLETE": "bash_complete", "COMP_WORDS": "hpcrun sub"}
    words = [str(Path(sys.executable).with_name("hpcrun"))]
    done = subprocess.run(
        words, env={**env, "COMP_CWORD": "1"}, capture_output=True, text=True, timeout=60
    )
    assert "submit" in done.stdout


def test_a_reader_that_goes_away_is_no_fault(project: Path) -> None:
    line = f"{sys.executable} -m hpcrun schema | head -1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("{\n", "")


@pytest.mark.parametrize("words", ["list", "render", "explain", "show @last", "--help"])
def test_a_reader_that_is_not_there_is_told_in_the_exit_code(project: Path, words: str) -> None:
    told("submit")
    reader, writer = os.pipe()
    os.close(reader)
    line = [sys.executable, "-m", "hpcrun", *words.split()]
    done = subprocess.run(line, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
    told("wait", "@last")


def test_a_run_file_is_no_word_for_the_script(project: Path) -> None:
    """Not by mistake: it would be run.yaml that is submitted."""
    (project / "other.yaml").write_text("script: train.py\n")
    done = hpcrun("submit", "other.yaml", code=2)
    assert "-f other.yaml submits it; -- other.yaml gives it to the script" in done.stderr
    assert told("list") == []
    assert told("explain", "x.yaml", "--", "other.yaml")["choices"]


def test_a_status_that_is_none_is_refused(project: Path) -> None:
    told("submit", "--follow")
    assert len(told("list", "-s", "completed")) == 1
    assert told("list", "-s", "Failed") == []
    done = hpcrun("list", "-s", "Complete", code=2)
    assert done.stderr == ("hpcrun: there is no status 'Complete' (did you mean `Completed`?)\n")
    assert "known are NotStarted, Preparing, Queued" in hpcrun("list", "-s", "Bogus", code=2).stderr


def test_a_count_below_nothing_is_refused(project: Path) -> None:
    assert "-1 is not in the range" in hpcrun("list", "-n", "-1", code=2).stderr


def test_init_writes_a_run_that_can_be_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    hpcrun("init", "-w", str(tmp_path / "history"))
    assert sorted(os.listdir()) == [".hpcrun", "run.yaml", "train.py"]
    before = Path("train.py").read_text()
    hpcrun("submit", "--follow")
    hpcrun("init")
    assert Path("train.py").read_text() == before
    assert "already" in hpcrun("init", "-w", "elsewhere", code=2).stderr
    (run,) = told("list")
    assert run["record"].startswith(str(tmp_path / "history"))


@pytest.mark.parametrize(
    ("words", "workspace"),
    [
        (("-w", "lab:"), "lab:"),
        (("-w", "lab:/history"), "lab:/history"),
        (("-t", "lab/gpu"), "lab:"),
        (("-t", "lab/gpu", "-w", "lab:/mine"), "lab:/mine"),
        (("-t", "local"), None),
    ],
)
def test_init_on_a_machine_without_slurm_names_what_is_elsewhere(
    words: tuple[str, ...], workspace: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites = tmp_path / "config/hpcrun/site_configs"
    sites.mkdir(parents=True)
    (sites / "lab.yaml").write_text(
        "schema_version: 1\nid: lab\ninherits: [generic-slurm]\n"
        "ssh: {endpoints: {login: {host: login.lab.example.org}}}\n"
        "targets: {gpu: {partition: gpu}}\n"
    )
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    written = told("init", *words)["written"]
    config = Path(".hpcrun/config.json")
    assert (str(config) in written) == (workspace is not None)
    if workspace is not None:
        assert json.loads(config.read_text()) == {"workspace": workspace}
    target = words[1] if "-t" in words else "local"
    assert load_config(Path("run.yaml")).value.compute_target == target


def test_limits_and_unknown_keys_are_told_together(project: Path) -> None:
    (project / "run.yaml").write_text(
        "script: train.py\n"
        "experiment: 'a b'\n"
        "mail: {on: [endd]}\n"
        "snapshot: {max_bytes: huge}\n"
        "distributed_job_config: {kind: pytorch, node_count: 0, process_count: x}\n"
    )
    lines = hpcrun("submit", code=2).stderr.splitlines()
    assert sorted(int(line.split(":")[2]) for line in lines) == [2, 3, 4, 5, 5]
    (project / "run.yaml").write_text("script: nope.py\ncompute_target: nosite/x\n")
    lines = hpcrun("submit", code=2).stderr.splitlines()
    assert len(lines) == 2 and "no script nope.py" in lines[0] and "no site 'nosite'" in lines[1]


def test_doctor_tells_another_hpcrun_and_a_site_file_with_a_typo(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = project.parent / "bin"
    other.mkdir()
    (other / "hpcrun").write_text("#!/bin/sh\necho HPCToolkit\n")
    (other / "hpcrun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{other}:{os.environ['PATH']}")
    findings = {f["subject"]: f for f in told("doctor", "local")}
    assert findings["command"]["grade"] == "warning"
    assert "another program" in findings["command"]["message"]
    assert findings["site local"]["grade"] == "ok"
    assert not (project.parent / "history").exists()
    sites = project / ".hpcrun/site_configs"
    sites.mkdir(parents=True)
    (sites / "lab.yaml").write_text("schema_version: 1\nid: lab\ntargts: {}\n")
    findings = {f["subject"]: f for f in told("doctor", "lab", code=1)}
    assert findings["site lab"]["grade"] == "error"
    assert (
        "lab.yaml:3: there is no key `targts` (did you mean `targets`?)"
        in (findings["site lab"]["message"])
    )
    refused = hpcrun("submit", "-t", "lab", code=2)
    assert "lab.yaml:3" in refused.stderr and refused.stderr.count("\n") == 1


def test_a_report_tells_no_secrets(project: Path) -> None:
    (project / "run.yaml").write_text(
        "script: train.py\n"
        "arguments: [--api-key, planted-1, --token=planted-2, --lr, 1e-3]\n"
        'environment_variables: {NOTE: "first\\nplanted-3 it\'s\\nplanted-4"}\n'
        "tags: {db: 'password=planted-5', hook: 'https://me:planted-6@lab.example/x'}\n"
        "description: 'Authorization: Bearer planted-7'\n"
    )
    hpcrun("submit", "--follow")
    done = hpcrun("report", "@last")
    report = json.loads(done.stdout)
    assert "planted" not in done.stdout and "--lr" in done.stdout
    assert str(Path.home()) not in done.stdout
    assert report["run"]["status"] == "Completed"
    assert set(report["hidden"]) == {
        "authorization", "credentials in an address", "named value", "variable",
        "word behind a flag",
    }  # fmt: skip
    assert "hidden: authorization (" in done.stderr
    assert hpcrun("report", "--json", "@last").stderr == ""


@pytest.mark.parametrize("code", [200, 255])
def test_an_exit_code_that_is_no_signals_stays_one(project: Path, code: int) -> None:
    (project / "train.py").write_text(f"raise SystemExit({code})")
    hpcrun("submit", "--follow", code=20)
    verdict = told("show", "@last")["verdict"]
    assert (verdict["cause"], verdict["exit_code"], verdict["signal"]) == ("exit_code", code, None)


def test_json_of_names_that_are_no_utf8(project: Path) -> None:
    Path(os.fsdecode(b"bad\xff.txt")).write_text("x")
    words = [sys.executable, "-m", "hpcrun", "explain", "--files", "--json"]
    done = subprocess.run(words, capture_output=True, timeout=60)
    names = [file["path"] for file in json.loads(done.stdout)["files"]]
    assert "bad\udcff.txt" in names


def test_who_submits_is_told_by_the_user_database(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER", "../../elsewhere")
    monkeypatch.setenv("LOGNAME", "nobody")
    run = told("submit", "--follow")
    assert run["user"] == Path.home().owner()


def test_a_script_that_removes_its_logs_breaks_no_follower(project: Path) -> None:
    (project / "run.yaml").write_text(
        "command: 'echo line1; until [ -e go ]; do sleep 0.1; done; rm -rf user_logs; sleep 1.5'\n"
    )
    words = [sys.executable, "-m", "hpcrun", "submit", "--follow"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        assert "line1\n" in iter(following.stdout.readline, "")
        Path(told("show", "@last")["files"], "go").touch()
        following.communicate(timeout=180)
    assert following.returncode == 0
    hpcrun("logs", "--offset", "-5", "@last", code=2)


def test_logs_that_are_not_there_are_told_as_what_they_are(project: Path) -> None:
    go = project.parent / "go"
    wait = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.05)\n"
    (project / "train.py").write_text(wait)
    run = told("submit")
    logs = Path(run["files"], "user_logs")
    eventually(lambda: told("show", "@last")["status"] == "Running")
    shutil.rmtree(logs)
    assert "has no output yet (-f waits for it)" in hpcrun("logs", "@last", code=8).stderr
    go.touch()
    hpcrun("wait", "@last")
    said = f"run {run['run_id']} has no output: its logs were removed (hpcrun show"
    assert said in hpcrun("logs", "@last", code=8).stderr
    assert said in hpcrun("logs", "--batch", "@last", code=8).stderr
    assert said in hpcrun("logs", "--json", "@last", code=8).stderr
    assert hpcrun("logs", "-f", "@last").stdout == ""


def test_a_character_in_two_pieces_is_read_whole(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    go = project.parent / "go"
    code = (
        "import os, sys, time\n"
        "out = sys.stdout.buffer\n"
        "out.write(b'\\xc3'); out.flush()\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.05)\n"
        "out.write(b'\\xa9 done\\n')\n"
    )
    run = Experiment(Workspace.from_config(), "pieces").submit(script_of(code, project))
    log = Path(run.paths.files, "user_logs/1.0/rank-0.log")
    eventually(lambda: log.exists() and log.stat().st_size == 1)
    part = told("logs", run.id)
    assert (part["text"], part["next_offset"]) == ("", 0)
    threading.Timer(1.5, go.touch).start()
    run.wait_for_completion(show_output=True)
    out = capsys.readouterr().out
    assert "é done" in out and "\ufffd" not in out


def test_a_tilde_in_the_workspaces_name_is_a_home(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(project.parent))
    monkeypatch.setenv("HPCRUN_WORKSPACE", "~/history")
    run = told("submit", "--follow")
    assert run["record"].startswith(f"{project.parent}/history/users/")
    assert not (project / "~").exists()
    for words in (("list",), ("-w", "~nosuchuser/x", "list")):
        monkeypatch.setenv("HPCRUN_WORKSPACE", "~nosuchuser/x")
        assert "there is no home folder ~nosuchuser" in hpcrun(*words, code=2).stderr


@pytest.mark.parametrize("name", ["a:b", "a\nb"])
def test_folders_that_no_search_path_can_hold_are_refused(project: Path, name: str) -> None:
    shown = repr(name)[1:-1]
    folder = project.parent / name
    done = hpcrun("-w", str(folder), "submit", code=2)
    assert f"the workspace '{project.parent}/{shown}' holds a" in done.stderr
    assert done.stderr.count("\n") == 1 and not folder.exists()
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/python").symlink_to(sys.executable)
    done = hpcrun("submit", "--set", f"environment={folder}", code=2)
    assert f"the environment '{project.parent}/{shown}' holds a" in done.stderr
    assert not (project.parent / "history").exists()


def test_a_secret_in_the_source_folder_is_refused(project: Path) -> None:
    (project / "token").write_text("planted")
    (project / "token").chmod(0o600)
    (project / "run.yaml").write_text("script: train.py\nsecrets: {TOKEN: token}\n")
    done = hpcrun("submit", code=2)
    assert "run.yaml:2: secret TOKEN" in done.stderr and "source folder" in done.stderr
    assert not (project.parent / "history").exists()


def test_a_script_that_is_not_sent_is_refused(project: Path) -> None:
    (project / "real.py").write_text("print('found')")
    (project / "outputs").mkdir()
    (project / "outputs/kept.py").write_text("")
    (project / "link.py").symlink_to("real.py")
    (project / ".amlignore").write_text("train.py\n")
    for name in ("train.py", "outputs/kept.py"):
        refused = hpcrun("submit", "--set", f"script={name}", code=5).stderr
        assert f"the script {name} is left out of the snapshot" in refused
    assert told("list") == []
    run_id = told("submit", "--set", "script=link.py")["run_id"]
    assert told("wait", run_id)["status"] == "Completed"
