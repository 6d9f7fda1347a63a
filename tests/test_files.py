"""The files of a run, listed and fetched while it goes on, and their digests when it has ended."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hpcrun import Run, Workspace
from hpcrun.errors import StoreError
from hpcrun.layout import RunPaths
from hpcrun.store import FileStore
from hpcrun.workflow.files import check_files, fetch_file, find_file, take_inventory
from hpcrun.workflow.session import open_session
from tests.commands import hpcrun, told
from tests.lab import eventually

ODD = """\
import os, socket, time
os.mkfifo("outputs/pipe")
socket.socket(socket.AF_UNIX).bind("outputs/socket")
os.symlink("circle", "outputs/circle")
os.symlink("/etc/passwd", "outputs/outside")
os.symlink("nowhere", "outputs/dangling")
os.symlink("model", "outputs/inside")
os.mkdir("outputs/closed", 0)
open("outputs/model", "w").write("weights")
with open("outputs/sparse", "wb") as file:
    file.truncate(50 * 2**30)
for number in range(20000):
    open(f"logs/{number}", "w").close()
for name in ("growing", "ready"):
    open("outputs/" + name, "w").close()
while not os.path.exists("stop"):
    open("outputs/growing", "a").write("x")
    open("outputs/coming", "w").close()
    os.rename("outputs/coming", "outputs/replaced")
    os.unlink("outputs/replaced")
"""


def submitted(project: Path, code: str, *words: str) -> str:
    (project / "train.py").write_text(code)
    found: str = told("submit", *words)["run_id"]
    return found


def finished(run_id: str) -> None:
    hpcrun("wait", run_id)


def test_odd_files_of_a_run_that_goes_on(project: Path, tmp_path: Path) -> None:
    run_id = submitted(project, ODD)
    run = Run.get(Workspace.from_config(), run_id)
    files = Path(run.paths.files)
    eventually((files / "outputs/ready").exists)
    for _ in range(3):
        names = set(run.get_file_names())
        assert {"outputs/model", "outputs/inside", "outputs/sparse", "logs/19999"} <= names
        odd = {"pipe", "socket", "circle", "outside", "dangling", "closed"}
        assert not odd & {Path(name).name for name in names}
        copies = run.download_files("outputs/", tmp_path / "copies")
        copied = {path.relative_to(tmp_path / "copies").as_posix() for path in copies}
        assert copied >= {"outputs/model", "outputs/inside", "outputs/growing"}
    sparse = (tmp_path / "copies/outputs/sparse").stat()
    assert (sparse.st_size, sparse.st_blocks < 100) == (50 * 2**30, True)
    for name in ("pipe", "outside", "closed"):
        with pytest.raises(StoreError):
            run.download_file(f"outputs/{name}", tmp_path / "one")
    (files / "outputs/sparse").unlink()
    (files / "stop").touch()
    finished(run_id)


def test_digests_are_known_once_they_were_taken(project: Path) -> None:
    code = "open('outputs/model', 'w').write('weights')\nopen('logs/log', 'w').write('1')\n"
    run_id = submitted(project, code)
    finished(run_id)
    session = open_session(project)
    record = session.record(run_id)
    digest = hashlib.sha256(b"weights").hexdigest()

    def digests() -> dict[str, str | None]:
        return {file["name"]: file["sha256"] for file in told("files", run_id)}

    assert digests()["outputs/model"] is None
    assert "outputs/model\t7 B\t-" in hpcrun("files", run_id).stdout
    take_inventory(session.store, record)
    assert digests()["outputs/model"] == digest
    assert f"outputs/model\t7 B\t{digest[:12]}" in hpcrun("files", run_id).stdout
    assert told("files", "--check", run_id)["differences"] == []
    root = Path(session.store.paths(run_id).files)
    status = (root / "outputs/model").stat()
    (root / "outputs/model").write_text("wEights")
    assert digests()["outputs/model"] is None
    # The same size and time hide a change from a list, and not from a check.
    os.utime(root / "outputs/model", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert digests()["outputs/model"] == digest
    (root / "logs/log").unlink()
    (root / "outputs/more").write_text("2")
    assert check_files(session.store, record) == [
        "missing: logs/log",
        "changed: outputs/model",
        "new: outputs/more",
    ]
    said = hpcrun("files", "--check", run_id, code=8)
    assert "3 files" in said.stderr


def test_a_check_takes_what_is_not_known_yet_and_waits_for_the_end(project: Path) -> None:
    run_id = submitted(project, "import time\ntime.sleep(600)\n")
    said = hpcrun("files", "--check", run_id, code=8).stderr
    assert "its files may change yet" in said
    hpcrun("cancel", run_id)
    hpcrun("wait", run_id, code=21)
    assert "as they were" in hpcrun("files", "--check", run_id).stdout
    assert all(file["sha256"] for file in told("files", run_id))


def test_clean_tells_what_the_script_left_elsewhere(project: Path) -> None:
    code = (
        "import os\nos.mkdir('cache')\nopen('cache/a', 'w')\nopen('b', 'w')\nopen('outputs/c', 'w')"
    )
    run_id = submitted(project, code)
    finished(run_id)
    done = told("clean", run_id)
    assert done["left"] == ["b", "cache/a"]
    assert (
        "2 files outside of outputs/ and logs/ stay: b, cache/a" in hpcrun("clean", run_id).stdout
    )


def test_a_damaged_inventory_is_told(project: Path) -> None:
    run_id = submitted(project, "")
    finished(run_id)
    Path(open_session(project).store.paths(run_id).record, "files.json").write_text("{}")
    assert "damaged" in hpcrun("files", run_id, code=8).stderr


def test_what_stands_apart_for_a_node_is_listed_once(project: Path) -> None:
    code = (
        "import os\nos.makedirs('outputs/.nodes/n2')\n"
        "open('outputs/.nodes/n2/own', 'w')\nopen('outputs/.nodes/n2/both', 'w')\n"
        "os.link('outputs/.nodes/n2/both', 'outputs/both')\n"
    )
    run_id = submitted(project, code)
    finished(run_id)
    names = [file["name"] for file in told("files", run_id) if "user_logs" not in file["name"]]
    assert names == ["outputs/.nodes/n2/own", "outputs/both"]


def test_a_node_local_run_from_submit_to_the_history(project: Path) -> None:
    code = (
        "import os\nopen('outputs/where', 'w').write(os.getcwd())\nopen('logs/a', 'w').write('1')\n"
    )
    run_id = submitted(project, code, "--set", "working_directory=node")
    finished(run_id)
    found = told("show", run_id)
    where = Path(found["files"], "outputs/where").read_text()
    assert where.startswith("/tmp/hpcrun-")
    assert not Path(where).exists()
    assert found["problems"] == []


def test_a_file_that_comes_and_goes_is_there_or_not(tmp_path: Path) -> None:
    """It is never one that nobody may read."""
    (tmp_path / "outputs").mkdir()
    coming, ended = tmp_path / "outputs/coming", threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            coming.touch()
            coming.unlink()

    paths, thread = RunPaths("", str(tmp_path)), threading.Thread(target=come_and_go)
    thread.start()
    found = []
    try:
        for _ in range(5000):
            try:
                found.append(find_file(paths, "outputs/coming") == coming)
            except StoreError as error:
                assert "the run has no file" in str(error)
    finally:
        ended.set()
        thread.join()
    assert all(found)


def test_some_who_fetch_a_file_to_one_place_at_once_all_have_it_whole(tmp_path: Path) -> None:
    """As the ranks of an evaluation do with a checkpoint."""
    clients, content = 8, os.urandom(1 << 18)
    (tmp_path / "run/outputs").mkdir(parents=True)
    (tmp_path / "run/outputs/model").write_bytes(content)
    store, paths = FileStore(tmp_path, "somebody"), RunPaths("", str(tmp_path / "run"))
    at_once = threading.Barrier(clients)

    def fetched(folder: Path) -> bytes:
        at_once.wait()
        return fetch_file(store, paths, "outputs/model", folder / "model").path.read_bytes()

    with ThreadPoolExecutor(clients) as pool:
        for number in range(100):
            folder = tmp_path / str(number)
            assert {*pool.map(fetched, [folder] * clients)} == {content}
            assert os.listdir(folder) == ["model"]


def test_a_file_that_its_owner_keeps_to_itself_is_no_fault(project: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("acting as another user needs root")
    code = "import os\nfor n in ('a', 'b/c'): os.makedirs('outputs/b', 0o700, True); "
    code += "os.close(os.open('outputs/' + n, os.O_CREAT, 0o600))\n"
    run_id = submitted(project, code)
    hpcrun("wait", run_id)
    files = Path(told("show", run_id)["files"])
    words = "import os\nfrom pathlib import Path\nfrom hpcrun.errors import StoreError\n"
    words += "from hpcrun.layout import RunPaths\nfrom hpcrun.workflow.files import find_file\n"
    words += "os.setuid(65534)\nfor name in ('outputs/a', 'outputs/b/c'):\n"
    words += "    try: find_file(RunPaths('', '.'), name)\n"
    words += "    except StoreError as error: print(error)\n"
    done = subprocess.run([sys.executable, "-c", words], cwd=files, capture_output=True, text=True)
    assert done.stdout.count("you have no right to read") == 2, done.stderr


READER = """\
import os, sys
import h5py, hpcrun.store.history, hpcrun.store.sealed, hpcrun.workflow.care.check
from hpcrun.cli import files, store
from hpcrun.cli.main import main
os.setgroups([])
os.setuid(65534)
main(sys.argv[1:])
"""

DOWNLOADER = """
import os, sys
from hpcrun import Workspace
run = Workspace(sys.argv[1]).get_run(sys.argv[2])
run.download_files("outputs/e", sys.argv[3] + "/first")  # all is imported by now
os.setgroups([])
os.setuid(65534)
run.download_files("outputs/", sys.argv[3])
"""


def test_what_is_closed_to_a_reader_is_said_to_be_that(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not to be missing, or left out without a word."""
    if os.geteuid() != 0:
        pytest.skip("acting as another user needs root")
    code = "import os\nos.makedirs('outputs/b/c')\nfor n in ('a', 'b/c/d', 'e'): "
    code += "open('outputs/' + n, 'w')\nos.chmod('outputs/a', 0o600); os.chmod('outputs/b', 0o700)"
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is closed
        Path(folder).chmod(0o755)
        monkeypatch.setenv("HPCRUN_WORKSPACE", folder)
        run_id = submitted(project, code)
        hpcrun("wait", run_id)
        assert "as they were" in hpcrun("files", "--check", run_id).stdout

        def read(*words: str) -> subprocess.CompletedProcess[str]:
            words = (sys.executable, "-c", READER, *words)
            return subprocess.run(words, capture_output=True, text=True, cwd="/")

        listed = read("files", run_id)
        assert listed.returncode == 0 and "outputs/e" in listed.stdout
        assert [line for line in listed.stderr.splitlines() if "closed" in line] == [
            "hpcrun: closed (owner only): outputs/a",
            "hpcrun: closed (owner only): outputs/b/",
        ]
        checked = read("files", "--check", run_id)
        assert checked.stdout.splitlines() == [
            "closed (owner only): outputs/a",
            "closed (owner only): outputs/b/c/d",
        ]
        assert checked.returncode == 8
        assert f"2 files of {run_id} are closed to you, and were not compared" in checked.stderr
        cared = read("store", "check", "--digests", run_id)
        assert cared.returncode == 0 and "missing" not in cared.stdout
        said = "note: .*: closed \\(owner only\\): 2 of .* files: outputs/a, outputs/b/c/d"
        assert re.search(said, cared.stdout)
        assert "closed" not in hpcrun("files", run_id).stderr
        copies = Path(folder) / "copies"
        copies.mkdir(mode=0o777)
        copies.chmod(0o777)
        words = (sys.executable, "-c", DOWNLOADER, folder, run_id, str(copies))
        copied = subprocess.run(words, capture_output=True, text=True, cwd="/")
        assert "StoreError: you have no right to read" in copied.stderr
        assert (copies / "outputs" / "e").exists()  # the last one in their order
