"""A workspace that a group shares, as two ordinary users have it: alice sets it up, and bob."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hpcrun.store.plain import below
from tests.lab import Lab, eventually

pytestmark = pytest.mark.cluster

HERE = Path(__file__).parent

TRAIN = """\
import os
from hpcrun import Run
run = Run.get_context()
os.makedirs("outputs/deep")
open("outputs/deep/model", "w").write("model")
run.log("loss", 0.5)
run.upload_file("up.txt", "outputs/deep/model")
run.register_model("digits-" + run.experiment_name, "outputs/deep")
with run.child_run("child") as child:
    child.log("loss", 1.0)
print("trained")
"""


@dataclass(frozen=True)
class Group:
    """The workspace, and whom it shows what."""

    lab: Lab
    workspace: Path

    def run(self, user: str, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """`hpcrun WORDS` of a user's."""
        env = {"HPCRUN_WORKSPACE": str(self.workspace)}
        return self.lab.run(*words, user=user, env=env, **more)

    def json(self, user: str, command: str, *words: str, **more: Any) -> Any:
        done = self.run(user, command, *words, "--json", **more)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return json.loads(done.stdout)

    def python(self, user: str, text: str, *words: str, timeout: float = 300) -> str:
        """What a Python program of a user's prints."""
        done = self.lab.cluster.run(
            user,
            [self.lab.python, "-c", text, *words],
            env=self.lab.environment(HPCRUN_WORKSPACE=str(self.workspace)),
            timeout=timeout,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def submitted(self, user: str, umask: str, name: str, *words: str) -> Any:
        """A run of a user's, from a shell with that umask, at its end."""
        yaml = f"script: train.py\nexperiment: {name}\n"
        source = self.lab.folder(name, {"run.yaml": yaml, "train.py": f"{TRAIN}# {name}\n"}, user)
        line = f'umask {umask}; exec hpcrun submit --json "$@"'
        done = self.lab.cluster.run(
            user,
            ["bash", "-c", line, "bash", *words],
            cwd=source,
            env=self.lab.environment(HPCRUN_WORKSPACE=str(self.workspace)),
        )
        assert done.returncode == 0, done.stderr
        run_id = json.loads(done.stdout)["run_id"]
        done = self.run(user, "wait", "--json", "--timeout", "240", run_id)
        ended = json.loads(done.stdout)
        assert ended["status"] == "Completed", self.run(user, "show", run_id).stdout
        return ended

    def own(self, user: str) -> Path:
        return self.workspace / "users" / user


def all_below(root: Path) -> list[tuple[str, int]]:
    """(path, time) of a folder and all below it."""
    found = [(where, name) for where, names in below(root) for name in ("", *names)]
    paths = sorted(f"{where}/{name}" for where, name in found)
    return [(path, Path(path).lstat().st_mtime_ns) for path in paths]


@pytest.fixture(scope="module")
def group(lab: Lab) -> Iterator[Group]:
    workspace = lab.cluster.shared / f"group-{os.urandom(3).hex()}"
    group = Group(lab, workspace)
    told = group.json("alice", "store", "setup", str(workspace), "--group", "lab")
    assert told["warnings"] == [] and told["changed"]
    yield group
    subprocess.run(["rm", "-rf", str(workspace)], check=True)  # deeper than Python goes


def is_sealed(group: Group, user: str, *run_id: str) -> bool:
    """Whether it has been done; its process may be there for a moment after a run has ended."""
    done = group.json(user, "store", "seal", *run_id)
    return all(sealing["reason"] is None for sealing in done)


@pytest.fixture(scope="module")
def public(group: Group) -> Any:
    """A run of alice's on Slurm that everybody in the group may see."""
    return group.submitted("alice", "002", "public", "-t", "test-cluster")


@pytest.fixture(scope="module")
def private(group: Group, public: Any) -> Any:
    """One that nobody else may, from the same folder on this machine, sealed and indexed."""
    ended = group.submitted("alice", "022", "zebra", "--set", "private=true")
    eventually(lambda: is_sealed(group, "alice", ended["run_id"]))
    assert group.json("alice", "store", "index")["runs"] >= 1
    return ended


# -- setting up ---------------------------------------------------------------------------------


def test_setting_up_says_what_it_did_and_who_cannot(group: Group) -> None:
    lab, root = group.lab, group.workspace
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (root, root / "users")}
    assert modes == {root: 0o2750, root / "users": 0o3770}
    words = ("store", "setup", str(root), "--group", "lab")
    assert group.json("alice", *words)["changed"] == []
    done = group.run("bob", *words)
    assert done.returncode == 8 and f"hpcrun init -w {root}" in done.stderr
    done = group.run("bob", "store", "setup", str(root / "x"), "--group", "alice")
    assert done.returncode == 2 and "you are not in group 'alice' (you are in lab" in done.stderr
    done = group.run("bob", "store", "setup", str(lab.cluster.home("bob")), "--group", "lab")
    assert done.returncode == 8 and "is not empty, and no workspace" in done.stderr
    done = group.run("bob", "store", "setup", "/proc/x", "--group", "lab")
    assert done.returncode == 8 and "cannot set up /proc/x" in done.stderr


def test_default_acls_and_lost_bits_are_mended(group: Group) -> None:
    """An ACL that gives bob all would stand above every umask."""
    root = group.workspace.with_name(f"{group.workspace.name}-acl")
    words = ("store", "setup", str(root), "--group", "lab", "--readable-by", "everyone")
    try:
        assert group.json("alice", *words)["warnings"] == []
        users = root / "users"
        entry = "[(1,7,-1),(2,7,uid),(4,7,-1),(16,7,-1),(32,5,-1)]"
        text = (
            "import os, pwd, struct, sys\nuid = pwd.getpwnam('bob').pw_uid\n"
            f"acl = b''.join(struct.pack('<HHi', *each) for each in {entry})\n"
            "os.setxattr(sys.argv[1], 'system.posix_acl_default', struct.pack('<I', 2) + acl)\n"
            "os.chmod(sys.argv[1], 0o777)\n"
        )
        group.python("alice", text, str(users))
        source = group.lab.folder("acl", {"run.yaml": "script: a.py\n", "a.py": ""}, "bob")
        refused = group.run("bob", "-w", str(root), "submit", cwd=source)
        assert refused.returncode == 8 and "others can replace your folder" in refused.stderr
        changed = group.json("alice", *words)["changed"]
        assert [line.partition(": ")[2][:16] for line in changed] == [
            "its default ACL ",
            "mode 3775",
        ]
        assert stat.S_IMODE(users.stat().st_mode) == 0o3775
    finally:
        shutil.rmtree(root)


# -- what the policy is -------------------------------------------------------------------------


def test_all_that_is_written_follows_the_policy(group: Group, public: Any, private: Any) -> None:
    """Of two users whose shells have other umasks: files of jobs, snapshots, seals, index, sdk."""
    group.submitted("bob", "077", "bobs", "-t", "local")
    eventually(lambda: is_sealed(group, "bob"))
    assert group.json("bob", "store", "index")
    gid = group.workspace.stat().st_gid
    seen = set()
    for path in group.workspace.rglob("*"):
        found = path.lstat()
        if path in (group.workspace / "users", group.workspace / "workspace.json"):
            continue
        within = path.relative_to(group.workspace / "users").parts
        mode = stat.S_IMODE(found.st_mode)
        if "private" in within:
            assert not mode & 0o077, (oct(mode), path)
        else:
            reads = 0o050 if path.is_dir() else 0o040
            assert mode & 0o077 & ~0o010 == reads & ~0o010, (oct(mode), path)
            seen.add(within[1] if len(within) > 1 else "")
        assert found.st_gid == gid, path
    assert {"active", "runs", "index", "files", "snapshots", "sdk", "models"} <= seen


# -- others' runs -------------------------------------------------------------------------------


def test_a_member_sees_anothers_runs(group: Group, public: Any, tmp_path: Path) -> None:
    run_id = public["run_id"]
    assert [run["run_id"] for run in group.json("bob", "list", "-u", "alice")] == [run_id]
    assert group.json("bob", "show", run_id[:-3])["user"] == "alice"
    assert "trained" in group.run("bob", "logs", run_id).stdout
    assert group.json("bob", "metrics", run_id) == {"loss": 0.5}
    names = {file["name"] for file in group.json("bob", "files", run_id)}
    assert {"outputs/deep/model", "up.txt"} <= names
    copy = group.lab.folder("copies", {}, "bob")
    group.json("bob", "download", run_id, "outputs/deep/model", str(copy / "model"))
    group.json("bob", "snapshot", run_id, "--restore", str(copy / "source"))
    assert (copy / "model").read_text() == "model"
    assert (copy / "source/train.py").read_text() == f"{TRAIN}# public\n"


CHANGES = """\
import os, sys
changed = []
def tried(act, *words):
    try:
        act(*words)
        changed.append([act.__name__, *map(str, words)])
    except PermissionError:
        pass
def append(path):
    open(path, "a").close()
def replace(path):
    os.symlink("/etc", path + ".x")
    os.rename(path + ".x", path)
for where, folders, files in os.walk(sys.argv[1]):
    for name in [*folders, *files]:
        path = os.path.join(where, name)
        for act in (append, os.unlink) if name in files else (os.rmdir,):
            tried(act, path)
        tried(os.chmod, path, 0o777)
        tried(os.rename, path, path + ".y")
        tried(replace, path)
    tried(os.mkdir, os.path.join(where, "new"))
tried(os.rename, sys.argv[1], sys.argv[1] + ".y")
tried(os.rename, os.path.dirname(sys.argv[1]), os.path.dirname(sys.argv[1]) + ".y")
tried(append, os.path.join(sys.argv[1], "../../workspace.json"))
print(changed)
"""


def test_a_member_changes_nothing_of_anothers(group: Group, public: Any) -> None:
    run_id = public["run_id"]
    for words in (
        *(("cancel", run_id), ("archive", run_id), ("delete", "--yes", run_id)),
        *(("collect", run_id), ("clean", run_id), ("resubmit", run_id), ("store", "seal", run_id)),
    ):
        done = group.run("bob", *words)
        assert done.returncode == 10 and "alice's" in done.stderr, (words, done)
    text = (
        "import sys\nfrom hpcrun import Run, Workspace\n"
        "run = Run.get(Workspace.from_config(), sys.argv[1])\n"
        "for act in (lambda: run.tag('x'), lambda: run.upload_file('x', '/etc/hostname'),\n"
        "            lambda: run.child_run(), lambda: run.register_model('m', 'up.txt')):\n"
        "    try:\n        act()\n        print('done')\n"
        "    except Exception as error:\n        print(error)\n"
    )
    told = group.python("bob", text, run_id).splitlines()
    assert len(told) == 4 and all("alice's" in line for line in told), told
    before = all_below(group.own("alice"))
    assert group.python("bob", CHANGES, str(group.own("alice"))) == "[]\n"
    assert all_below(group.own("alice")) == before


# -- private runs -------------------------------------------------------------------------------

SEARCH = """\
import os, sys
found = []
for where, folders, files in os.walk(sys.argv[1]):
    for name in [*folders, *files]:
        path = os.path.join(where, name)
        text = os.fsencode(path)
        try:
            if name in files:
                text += open(path, "rb").read()
        except PermissionError:
            pass
        found += [path for word in sys.argv[2:] if word.encode() in text]
print(found)
"""


def test_a_private_run_is_its_users_alone(group: Group, public: Any, private: Any) -> None:
    run_id = private["run_id"]
    assert private["private"] and not public["private"]
    own = [run["run_id"] for run in group.json("alice", "list", "-n", "0")]
    assert sorted(own) == sorted([run_id, public["run_id"]])
    assert group.json("alice", "metrics", run_id[:-4]) == {"loss": 0.5}
    assert "trained" in group.run("alice", "logs", run_id).stdout
    assert len(group.json("alice", "snapshot", run_id)["files"]) == 2
    (child,) = group.json("alice", "show", run_id)["children"]
    assert group.json("alice", "show", "@last")["run_id"] == run_id
    assert group.json("alice", "show", child)["private"]
    models = "from hpcrun import *\nprint(*(m.name for m in Model.list(Workspace.from_config())))"
    assert group.python("alice", models) == "digits-public digits-zebra\n"
    for words in (("show", run_id), ("show", "zebra_"), ("metrics", run_id), ("logs", child)):
        assert group.run("bob", *words).returncode == 9, words
    listed = group.json("bob", "list", "-u", "alice", "--children", "--archived", "-n", "0")
    assert run_id not in str(listed) and "zebra" not in str(listed)
    assert group.json("bob", "store", "index", "-u", "alice")["runs"] == 0
    found = group.json("bob", "store", "check", "-u", "alice", "--digests")
    assert [finding["grade"] for finding in found if "private" in finding["path"]] == []
    stats = {user: group.json(user, "store", "stats") for user in ("alice", "bob")}
    assert "zebra" in str(stats["alice"]["experiments"]) and "zebra" not in str(stats["bob"])
    (own,), (seen,) = (
        [u for u in each["users"] if u["user"] == "alice"] for each in stats.values()
    )
    assert seen["inodes"] < own["inodes"]
    source = group.lab.cluster.home("alice") / "work/zebra"
    for words, said in (
        (("store", "export", run_id, "-o", "x"), "it is private"),
        (("submit", "--after", run_id), "is private, and this one, which would name it, is not"),
    ):
        done = group.run("alice", *words, cwd=source)
        assert done.returncode in (2, 8) and said in done.stderr, done
    words = [run_id, child, "zebra", private["properties"]["ContentSnapshotId"]]
    assert group.python("bob", SEARCH, str(group.workspace), *words) == "[]\n"
    assert group.python("bob", SEARCH, str(group.workspace), public["run_id"]) != "[]\n"


def test_what_is_told_of_a_private_run_stays_private(group: Group, private: Any) -> None:
    run_id = private["run_id"]
    assert group.json("alice", "archive", run_id, "-e", "zebra")["experiment"] == "zebra"
    assert run_id not in str(group.json("alice", "list"))
    assert group.python("bob", SEARCH, str(group.workspace), "zebra") == "[]\n"
    group.json("alice", "archive", "--undo", run_id, "-e", "zebra")
    text = (
        "import sys\nfrom hpcrun import *\nworkspace = Workspace.from_config()\n"
        "with Experiment(workspace, 'okapi').start_logging(\n"
        "    outputs=False, snapshot_directory=None, private=True) as run:\n"
        "    run.log('loss', 1)\n    run.upload_file('a', '/etc/hostname')\n"
        "    with run.child_run() as child:\n        child.log('loss', 2)\n"
        "try:\n    config = ScriptRunConfig('.', command=['true'], private=False)\n"
        "    run.submit_child(config)\nexcept Exception as error:\n    print(error)\n"
        "print(run.id)\n"
    )
    *refused, notebook = group.python("alice", text).split("\n")[:-1]
    assert "is private, and its child would be otherwise" in str(refused)
    assert group.json("alice", "show", notebook)["private"]
    words = ["okapi", str(group.own("alice"))]
    assert group.python("bob", SEARCH, words[1], words[0]) == "[]\n"
    group.json("alice", "delete", "--yes", notebook)
    assert group.run("alice", "show", notebook).returncode == 9


# -- a hostile member ---------------------------------------------------------------------------


def test_a_hostile_member_harms_nobody(group: Group, public: Any) -> None:
    """Each trick of `hostile.py` against each command and call of `victim.py`."""
    lab, users, home = group.lab, group.workspace / "users", group.lab.cluster.home("alice")
    secret = lab.folder("secret", {"key": "secret"}) / "key"
    secret.parent.chmod(0o700)
    uid = home.stat().st_uid
    words = [str(users), str(group.own("bob")), str(secret), "alice", str(uid)]
    made = json.loads(group.python("bob", (HERE / "hostile.py").read_text(), *words))
    made["own"] = public["run_id"]
    before = all_below(group.own("bob"))
    cwd = lab.folder("victim", {})
    text = f"import os; os.chdir({str(cwd)!r})\n"
    victim = (HERE / "victim.py").read_text().replace("from __future__ import annotations\n", "")
    wrong = json.loads(group.python("alice", text + victim, json.dumps(made), timeout=900))
    assert wrong == []
    after = all_below(group.own("bob"))
    assert after == before
    assert "hpcrun-owned" not in lab.cluster.run("root", ["ls", "/tmp"]).stdout
    copies = [path for path in cwd.rglob("*") if path.is_file()]
    for path in copies:
        with path.open("rb") as file:  # one has a tebibyte of holes
            assert b"secret" not in file.read(1 << 20), path
    assert group.run("alice", "list").returncode == 0


RACE = """\
import os, sys, time
folder, elsewhere = sys.argv[1], sys.argv[2]
until = time.monotonic() + 2
print("up", flush=True)
while time.monotonic() < until:
    os.rename(folder, folder + ".aside")
    os.symlink(elsewhere, folder)
    os.unlink(folder)
    os.rename(folder + ".aside", folder)
"""


def test_a_folder_that_becomes_a_link_meanwhile_leads_nobody_elsewhere(
    group: Group, public: Any
) -> None:
    """A reader of a run whose folders come and go: nothing of the reader's own is changed."""
    ended = group.submitted("bob", "022", "racer", "-t", "local")
    run_id, lab = ended["run_id"], group.lab
    before = all_below(group.own("alice"))
    words = [lab.python, "-c", RACE, ended["record"], str(group.own("alice"))]
    with lab.cluster.popen("bob", words) as racer:
        assert racer.stdout is not None and racer.stdout.readline() == "up\n"
        while racer.poll() is None:
            for words in (["show", run_id], ["metrics", run_id], ["delete", "--yes", run_id]):
                done = group.run("alice", *words)
                assert done.returncode in (0, 8, 9, 10), done.stderr
    after = all_below(group.own("alice"))
    assert after == before
    eventually(lambda: group.run("bob", "show", run_id).returncode == 0)
