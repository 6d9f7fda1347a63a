"""Scanning real folders: what is taken, what is left out, what is refused, what is not opened."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hpcrun.errors import SnapshotError
from hpcrun.manifest import Entry, Limits, Link, Manifest
from hpcrun.snapshot import scan
from hpcrun.snapshot.stat_cache import RACY_NS, cache_file, cache_folder, load, settled
from tests.ordinary_user import NOBODY, as_ordinary_user


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hpcrun"


def write(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)


def names(manifest: Manifest) -> list[str]:
    return [entry.path for entry in manifest.entries]


def refused(source: Path, **options: object) -> str:
    with pytest.raises(SnapshotError) as caught:
        scan(source, **options)  # type: ignore[arg-type]
    return caught.value.message


# -- what is taken --------------------------------------------------------------------------------


def test_files_come_with_digest_size_and_x_bit(source: Path) -> None:
    write(source, "train.py", "src/model.py", "run.sh")
    (source / "run.sh").chmod(0o755)
    (source / "empty").touch()
    manifest = scan(source)
    assert names(manifest) == ["empty", "run.sh", "src/model.py", "train.py"]
    assert [entry.executable for entry in manifest.files] == [False, True, False, False]
    for entry in manifest.files:
        content = (source / entry.path).read_bytes()
        assert (entry.size, entry.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_an_empty_folder_is_a_snapshot_too(source: Path) -> None:
    (source / "void").mkdir()
    assert scan(source) == Manifest(())


def test_the_digest_knows_no_times(source: Path) -> None:
    write(source, "a", "b")
    before = scan(source).digest
    os.utime(source / "a", (1, 1))
    assert scan(source).digest == before
    (source / "a").chmod(0o755)
    assert scan(source).digest != before


@pytest.mark.parametrize(
    "name", [b"new\nline", b"\xff\xfe", b"caf\xc3\xa9", b"back\\slash", b' "quoted" ', b"-rf", b"*"]
)
def test_every_name_is_kept_exactly(source: Path, name: bytes) -> None:
    folder = source / os.fsdecode(name)
    folder.mkdir()
    (folder / os.fsdecode(name)).write_bytes(b"x")
    manifest = scan(source)
    assert [e.path.encode("utf-8", "surrogateescape") for e in manifest.files] == [
        name + b"/" + name
    ]
    assert Manifest.decode(manifest.encode()) == manifest


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_the_digest_knows_no_locale(source: Path, tmp_path: Path, locale: str) -> None:
    (source / os.fsdecode(b"caf\xc3\xa9 \xff")).touch()
    code = "import sys; from pathlib import Path; from hpcrun.snapshot import scan\n"
    code += "print(scan(Path(sys.argv[1])).digest)"
    environ = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    words = [sys.executable, "-c", code, str(source)]
    printed = subprocess.check_output(words, env=environ, text=True)
    assert printed == scan(source).digest + "\n"


def test_the_source_may_be_named_by_a_link(source: Path, tmp_path: Path) -> None:
    write(source, "a")
    (tmp_path / "link").symlink_to(source)
    assert scan(tmp_path / "link") == scan(source)


# -- what is left out -----------------------------------------------------------------------------


def test_what_is_never_sent(source: Path) -> None:
    write(source, "keep/outputs/x", "keep/logs", "env.py", "venv.txt")
    never = [".git", ".hg", ".svn", "__pycache__", ".ipynb_checkpoints", ".hpcrun"]
    for name in never:
        write(source, f"{name}/x", f"keep/{name}/x")
    write(source, "a.pyc", "keep/a.pyc", "outputs/x", "logs/x", "user_logs/x")
    write(source, "keep/.venv/pyvenv.cfg", "keep/.venv/bin/activate", "conda/conda-meta/history")
    assert names(scan(source)) == ["env.py", "keep/logs", "keep/outputs/x", "venv.txt"]


def test_a_folder_named_like_an_environment_is_sent(source: Path) -> None:
    write(source, ".venv/notes", "pyvenv.cfg", "conda-meta/history")
    assert names(scan(source)) == [".venv/notes", "conda-meta/history", "pyvenv.cfg"]


def test_an_environment_made_by_python_is_left_out(source: Path) -> None:
    write(source, "train.py")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", source / "env"], check=True)
    assert names(scan(source)) == ["train.py"]


def test_amlignore_stands_alone(source: Path) -> None:
    write(source, "a", "b", "sub/a", "sub/b", "sub/c")
    (source / ".amlignore").write_text("/a\n")
    (source / ".gitignore").write_text("b\n")
    (source / "sub" / ".gitignore").write_text("c\n")
    kept = [".amlignore", ".gitignore", "b", "sub/.gitignore", "sub/a", "sub/b", "sub/c"]
    assert names(scan(source)) == kept


def test_nested_ignore_files_count_even_without_one_at_the_root(source: Path) -> None:
    write(source, "a", "cache/a", "cache/b")
    (source / "cache" / ".gitignore").write_text("*\n!b\n")
    assert names(scan(source)) == ["a", "cache/b"]


def test_the_workspace_is_left_out(source: Path, tmp_path: Path) -> None:
    write(source, "a", "store/users/x", "sub/store/a")
    assert names(scan(source, leave_out=source / "store")) == ["a", "sub/store/a"]
    assert len(names(scan(source, leave_out=tmp_path / "elsewhere"))) == 3
    assert len(names(scan(source, leave_out=tmp_path))) == 3
    assert "is the workspace" in refused(source, leave_out=source)


# -- links ----------------------------------------------------------------------------------------


def test_links_that_stay_inside_are_kept(source: Path) -> None:
    write(source, "src/model.py", "train.py")
    (source / "near").symlink_to("src/model.py")
    (source / "src" / "up").symlink_to("../train.py")
    (source / "folder").symlink_to("src")
    (source / "absolute").symlink_to(source / "src" / "model.py")
    (source / "src" / "around").symlink_to(f"../../{source.name}/train.py")
    (source / "best").symlink_to("outputs/best.pt")
    assert scan(source).links == (
        Link("absolute", "src/model.py"),
        Link("best", "outputs/best.pt"),
        Link("folder", "src"),
        Link("near", "src/model.py"),
        Link("src/around", "../train.py"),
        Link("src/up", "../train.py"),
    )


def test_everything_that_cannot_be_sent_is_named_at_once(source: Path, tmp_path: Path) -> None:
    write(source, "a", "ignored/x")
    (source / ".gitignore").write_text("ignored\nfine*\n")
    os.mkfifo(source / "pipe")
    os.mkfifo(source / "fine-pipe")
    (source / "out").symlink_to("/etc/hostname")
    (source / "dangling").symlink_to("gone")
    (source / "one").symlink_to("two")
    (source / "two").symlink_to("one")
    (source / "lost").symlink_to("ignored/x")
    (source / "fine").symlink_to("/etc/hostname")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(source)  # the name of a socket is at most 107 bytes long
        server.bind("socket")
        os.chdir(here)
        message = refused(source)
    assert message.splitlines() == [
        f"7 things in {source} cannot be part of a snapshot:",
        "  dangling is a link to 'gone', which does not exist",
        "  lost is a link to 'ignored/x', which is left out of the snapshot",
        "  one is a link in a circle, to 'two'",
        "  out is a link out of the source folder, to '/etc/hostname'",
        "  pipe is a named pipe",
        "  socket is a socket",
        "  two is a link in a circle, to 'one'",
    ]


def test_a_long_list_of_problems_is_cut_with_the_number(source: Path) -> None:
    for number in range(60):
        (source / f"link-{number}").symlink_to("gone")
    message = refused(source)
    assert message.startswith("60 things")
    assert message.endswith("  and 10 more")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a device")
def test_a_device_is_refused(source: Path) -> None:
    try:
        os.mknod(source / "null", 0o600 | 0o020000, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this container may make no device")
    assert "null is a character device" in refused(source)


def test_what_cannot_be_read_is_named_never_left_out(open_folder: Path) -> None:
    write(open_folder, "a", "secret", "closed/x")
    (open_folder / "secret").chmod(0)
    (open_folder / "closed").chmod(0)
    if os.getuid() == 0:
        os.chown(open_folder / "secret", NOBODY, NOBODY)
    answer = as_ordinary_user(lambda: scan(open_folder))
    (open_folder / "closed").chmod(0o700)
    assert answer.startswith("SnapshotError: 2 things")
    assert "closed/ cannot be read: Permission denied" in answer
    assert "secret cannot be read: Permission denied" in answer


def test_an_ignore_file_that_cannot_be_read_is_an_error(open_folder: Path) -> None:
    write(open_folder, "a", ".gitignore")
    (open_folder / ".gitignore").chmod(0)
    answer = as_ordinary_user(lambda: scan(open_folder))
    assert answer.startswith("SnapshotError: cannot read ")
    assert ".gitignore: Permission denied" in answer


def test_a_source_that_is_none(tmp_path: Path) -> None:
    write(tmp_path, "file")
    assert "is not there" in refused(tmp_path / "gone")
    assert "no folder" in refused(tmp_path / "file")


def test_limits_are_looked_at_before_any_file_is_read(source: Path, cache: Path) -> None:
    write(source, "a", "b")
    with (source / "huge").open("wb") as file:
        file.truncate(1 << 43)  # reading 8 TiB would not end
    message = refused(source)
    assert "8 TiB, and 1 GiB are allowed" in message
    assert "huge" in message
    assert "2 are allowed" in refused(source, limits=Limits(max_bytes=1 << 50, max_files=2))


def test_a_walk_ends_at_ten_times_the_limit(source: Path) -> None:
    for folder in range(5):
        write(source, *(f"{folder}/{number}" for number in range(10)))
    assert "more than" in refused(source, limits=Limits(max_files=1))


# -- files that change ----------------------------------------------------------------------------


def test_a_file_that_is_being_written_is_refused_or_whole(source: Path) -> None:
    file = source / "growing"
    file.write_bytes(b"x" * (8 << 20))
    stop = threading.Event()

    def grow() -> None:
        with file.open("ab", buffering=0) as stream:
            while not stop.is_set():
                stream.write(b"x")

    writer = threading.Thread(target=grow)
    writer.start()
    refusals = 0
    try:
        for _ in range(50):
            try:
                (entry,) = scan(source).files
            except SnapshotError as error:
                assert "growing is being written: it changed twice" in error.message
                refusals += 1
            else:
                assert entry.sha256 == hashlib.sha256(b"x" * entry.size).hexdigest()
            if refusals > 2:
                break
    finally:
        stop.set()
        writer.join()
    assert refusals
    assert scan(source).files[0].size == file.stat().st_size


def test_a_change_of_the_same_size_within_a_tick_of_the_clock_is_seen(source: Path) -> None:
    file = source / "a"
    for number in range(300):
        content = b"%03d" % number
        with file.open("r+b" if number else "wb") as stream:
            stream.write(content)
        assert scan(source).files == (Entry("a", hashlib.sha256(content).hexdigest(), 3),)


# -- the cache ------------------------------------------------------------------------------------

OPENED = """
import json, sys
from pathlib import Path
from hpcrun.snapshot import scan
source = sys.argv[1]
opened = []
def note(event, arguments):
    if event == "open" and str(arguments[0] if isinstance(arguments[0], str) else
                               arguments[0].decode("utf-8", "replace")
                               if isinstance(arguments[0], bytes) else "").startswith(source):
        opened.append(arguments[0] if isinstance(arguments[0], str) else arguments[0].decode())
sys.addaudithook(note)
manifest = scan(Path(source), fresh=len(sys.argv) > 2)
print(json.dumps([manifest.digest, sorted({name[len(source) + 1:] for name in opened})]))
"""


def scan_and_opened(source: Path, *options: str) -> tuple[str, list[str]]:
    """The digest, and the files below the source that another process opened to find it."""
    words = [sys.executable, "-c", OPENED, str(source.resolve()), *options]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    digest, opened = json.loads(subprocess.check_output(words, env=environ))
    return digest, opened


def test_an_unchanged_file_is_not_opened(source: Path, cache: Path) -> None:
    paths = [f"src/{number}.py" for number in range(40)]
    write(source, *paths)
    (source / ".gitignore").write_text("*.log\n")
    every = sorted([".gitignore", *paths])
    for path in every:  # young for as long as the scans take
        os.utime(source / path, (time.time() + 600,) * 2)
    digest, opened = scan_and_opened(source)
    assert opened == every
    assert scan_and_opened(source) == (digest, every), "what is so young is not remembered"
    for path in every:
        os.utime(source / path)
    time.sleep(RACY_NS / 1e9 + 0.1)
    assert scan_and_opened(source) == (digest, every)
    assert scan_and_opened(source) == (digest, [".gitignore"]), "the rules are always read"
    assert (cache.stat().st_mode & 0o777, len(list(cache.iterdir()))) == (0o700, 1)

    assert scan_and_opened(source, "fresh") == (digest, every)
    (source / paths[7]).chmod(0o755)
    (source / paths[3]).write_text("another")
    (source / paths[5]).unlink()
    changed, opened = scan_and_opened(source)
    assert changed != digest
    assert opened == sorted([".gitignore", paths[3], paths[7]])


def test_how_young_a_file_is(source: Path) -> None:
    write(source, "a")
    status = (source / "a").stat()
    changed = max(status.st_mtime_ns, status.st_ctime_ns)
    assert settled(status, changed + RACY_NS + 1)
    assert not settled(status, changed + RACY_NS)
    os.utime(source / "a", (1, 1))
    assert not settled((source / "a").stat(), changed + RACY_NS)


def test_a_damaged_cache_is_no_cache(source: Path, cache: Path) -> None:
    write(source, "a", "b")
    time.sleep(RACY_NS / 1e9 + 0.1)
    manifest = scan(source)
    file = cache_file(cache, os.fsencode(source.resolve()))
    whole = file.read_bytes()
    known = load(file)
    assert set(known) == {b"a", b"b"}
    for at in range(0, len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert load(file) == {}
        file.write_bytes(whole[:at])
        assert load(file) == {}
    assert scan(source) == manifest
    assert load(file) == known


def test_a_cache_of_someone_else_is_not_believed(source: Path, cache: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a file away")
    write(source, "a")
    time.sleep(RACY_NS / 1e9 + 0.1)
    scan(source)
    file = cache_file(cache, os.fsencode(source.resolve()))
    assert load(file)
    os.chown(file, NOBODY, NOBODY)
    assert load(file) == {}


def test_a_cache_that_cannot_be_written_is_no_error(source: Path, tmp_path: Path) -> None:
    write(source, "a", "blocked")
    os.utime(source / "a", (1, 1))
    assert names(scan(source, cache=source / "blocked")) == ["a", "blocked"]
    assert names(scan(source, cache=tmp_path / "new" / "cache")) == ["a", "blocked"]


def test_where_the_cache_lies() -> None:
    assert cache_folder({"XDG_CACHE_HOME": "/c", "HOME": "/h"}) == Path("/c/hpcrun")
    assert cache_folder({"HOME": "/h"}) == Path("/h/.cache/hpcrun")
    assert cache_folder({}) is None


def test_files_that_go_away_during_a_scan_are_no_error(source: Path) -> None:
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            write(source, "sub/x/y", "z")
            try:
                (source / "z").unlink()
                (source / "sub/x/y").unlink()
                (source / "sub/x").rmdir()
            except OSError as error:
                assert error.errno in (errno.ENOENT, errno.ENOTEMPTY)

    write(source, "a")
    worker = threading.Thread(target=churn)
    worker.start()
    try:
        for _ in range(200):
            try:
                assert "a" in names(scan(source))
            except SnapshotError as error:  # it may be there at each look, and another each time
                assert [p.message for p in error.problems if "is being written" not in str(p)] == []
    finally:
        stop.set()
        worker.join()
