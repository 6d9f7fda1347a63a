"""What differs between two snapshots, line by line where that can be told."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcrun.layout import UserPaths
from hpcrun.manifest import object_name
from hpcrun.snapshot import push, scan
from hpcrun.snapshot.difference import MOST_BYTES, MOST_LINES, FileChange, Side, changes


class Folder:
    """A source folder, and a store to which it is pushed."""

    def __init__(self, root: Path) -> None:
        self.source = root / "source"
        self.source.mkdir()
        self.own = UserPaths(str(root / "user"))

    def pushed(self) -> Side:
        manifest = scan(self.source, fresh=True)
        push(manifest, self.source, self.own)
        return Side(manifest, Path(self.own.objects))

    def write(self, name: str, content: bytes, executable: bool = False) -> None:
        file = self.source / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(0o755 if executable else 0o644)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Folder(tmp_path)


def found(a: Side, b: Side) -> dict[str, FileChange]:
    return {change.path: change for change in changes(a, b)}


def test_added_removed_changed_and_the_same(folder: Folder) -> None:
    folder.write("a.py", b"one\ntwo\nthree\n")
    folder.write("gone.py", b"x\n")
    folder.write("same.py", b"y\n")
    a = folder.pushed()
    folder.write("a.py", b"one\n2\nthree\nfour")
    (folder.source / "gone.py").unlink()
    folder.write("new/n.py", b"")
    told = found(a, folder.pushed())
    assert {path: change[1:4] for path, change in told.items()} == {
        "a.py": ("changed", 2, 1),
        "gone.py": ("removed", 0, 1),
        "new/n.py": ("added", 0, 0),
    }
    assert "\n".join(told["a.py"].lines) == (
        "--- a/a.py\n+++ b/a.py\n@@ -1,3 +1,4 @@\n one\n-two\n+2\n three\n"
        "+four\n\\ No newline at end of file"
    )
    assert told["gone.py"].lines[1] == "+++ /dev/null"


def test_lines_that_look_like_heads_count(folder: Folder) -> None:
    folder.write("a.sql", b"-- one\n++ two\n")
    a = folder.pushed()
    folder.write("a.sql", b"")
    assert found(a, folder.pushed())["a.sql"][1:4] == ("changed", 0, 2)


def test_bits_and_links(folder: Folder) -> None:
    folder.write("run.sh", b"x\n")
    folder.write("to.py", b"x\n")
    (folder.source / "link").symlink_to("run.sh")
    a = folder.pushed()
    (folder.source / "run.sh").chmod(0o755)
    (folder.source / "link").unlink()
    (folder.source / "link").symlink_to("to.py")
    told = found(a, folder.pushed())
    assert told["run.sh"][1:] == ("mode", 0, 0, ("executable: false → true",))
    assert told["link"].lines[-2:] == ["-link to run.sh", "+link to to.py"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\xff\xfe", "not a text"),
        (b"a\0b", "not a text"),
        (b"a" * (MOST_BYTES + 1), f"{MOST_BYTES + 1} bytes are too many to compare"),
        (b"\n" * (MOST_LINES + 1), f"{MOST_LINES + 2} lines are too many to compare"),
    ],
)
def test_what_is_not_compared_says_why(folder: Folder, content: bytes, why: str) -> None:
    folder.write("data", b"text\n")
    a = folder.pushed()
    folder.write("data", content)
    assert found(a, folder.pushed())["data"][1:] == ("changed", None, None, (f"data: {why}",))


def test_a_content_that_is_gone_or_damaged_hides_no_other(folder: Folder) -> None:
    folder.write("a.py", b"one\n")
    folder.write("b.py", b"one more\n")
    folder.write("c.py", b"and one\n")
    a = folder.pushed()
    for name in ("a.py", "b.py", "c.py"):
        folder.write(name, b"two\n")
    b = folder.pushed()
    gone, damaged = (a.objects / object_name(file.sha256) for file in a.manifest.files[:2])
    gone.unlink()
    damaged.chmod(0o644)
    damaged.write_bytes(b"another\n")
    told = found(a, b)
    assert [told[name][1:4] for name in told] == [
        ("changed", None, None), ("changed", None, None), ("changed", 1, 1),
    ]  # fmt: skip
    assert "No such file" in told["a.py"].lines[0] and "is damaged" in told["b.py"].lines[0]
