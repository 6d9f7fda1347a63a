"""The git facts of real repositories."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hpcrun.snapshot import GitFacts, git_properties
from hpcrun.snapshot.git import overrides, parse_remote, parse_status, scrubbed

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")

ENVIRON = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}


def git(folder: Path, *words: str) -> str:
    return subprocess.check_output(["git", *words], cwd=folder, env=ENVIRON, text=True).strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "trunk")
    (folder / "src").mkdir()
    (folder / "src" / "train.py").write_text("1\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def test_a_clean_repository(repository: Path) -> None:
    git(repository, "remote", "add", "origin", "https://u:secret@example.org/a/b.git?token=x")
    commit = git(repository, "rev-parse", "HEAD")
    assert git_properties(repository, ENVIRON) == {
        "azureml.git.repository_uri": "https://example.org/a/b.git",
        "mlflow.source.git.repoURL": "https://example.org/a/b.git",
        "azureml.git.branch": "trunk",
        "mlflow.source.git.branch": "trunk",
        "azureml.git.commit": commit,
        "mlflow.source.git.commit": commit,
    }


def test_dirty_means_the_source_folder_alone(repository: Path) -> None:
    (repository / "notes").write_text("not in src\n")
    assert git_properties(repository, ENVIRON)["azureml.git.dirty"] == "True"
    assert "azureml.git.dirty" not in git_properties(repository / "src", ENVIRON)
    (repository / "src" / "train.py").write_text("2\n")
    assert git_properties(repository / "src", ENVIRON)["azureml.git.dirty"] == "True"


def test_no_branch_while_detached_and_no_commit_before_the_first(
    repository: Path, tmp_path: Path
) -> None:
    git(repository, "checkout", "-q", "--detach")
    assert set(git_properties(repository, ENVIRON)) == {
        "azureml.git.commit",
        "mlflow.source.git.commit",
    }
    (tmp_path / "new").mkdir()
    git(tmp_path / "new", "init", "-q", "-b", "trunk")
    assert git_properties(tmp_path / "new", ENVIRON) == {
        "azureml.git.branch": "trunk",
        "mlflow.source.git.branch": "trunk",
    }


def test_no_repository_no_git_no_facts(repository: Path, tmp_path: Path) -> None:
    assert git_properties(tmp_path, ENVIRON) == {}
    assert git_properties(repository, {**ENVIRON, "PATH": str(tmp_path)}) == {}
    assert git_properties(tmp_path / "gone", ENVIRON) == {}


def test_git_is_asked_only_where_there_may_be_a_repository(
    repository: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(repository / "src")
    for source, asked in ((repository / "src", True), (tmp_path / "link", True), (tmp_path, False)):
        with GitFacts.start(source, ENVIRON) as facts:
            assert (facts.status is not None) is asked
    git(repository, "worktree", "add", "-q", str(tmp_path / "tree"))
    assert "azureml.git.commit" in git_properties(tmp_path / "tree", ENVIRON)


def test_a_repository_of_the_surroundings_is_not_meant(repository: Path, tmp_path: Path) -> None:
    inside_a_hook = {**ENVIRON, "GIT_DIR": str(repository / ".git"), "GIT_INDEX_FILE": "/x"}
    assert git_properties(tmp_path, inside_a_hook) == {}
    assert "azureml.git.commit" in git_properties(repository / "src", inside_a_hook)


def test_the_environment_stands_before_git(repository: Path, tmp_path: Path) -> None:
    environ = {
        **ENVIRON,
        "AZUREML_GIT_BRANCH": "theirs",
        "HPCRUN_GIT_BRANCH": "ours",
        "AZUREML_GIT_REPOSITORY_URI": "https://token@example.org/x",
        "AZUREML_GIT_DIRTY": "False",
        "AZUREML_GIT_BUILD_ID": "7",
        "HPCRUN_GIT_BUILD_URI": "https://ci.example.org/7?key=secret",
        "HPCRUN_GIT_COMMIT": "",
    }
    told = {
        "azureml.git.repository_uri": "https://example.org/x",
        "mlflow.source.git.repoURL": "https://example.org/x",
        "azureml.git.branch": "ours",
        "mlflow.source.git.branch": "ours",
        "azureml.git.dirty": "False",
        "azureml.git.build_id": "7",
        "azureml.git.build_uri": "https://ci.example.org/7",
    }
    assert git_properties(tmp_path, environ) == told
    commit = git(repository, "rev-parse", "HEAD")
    both = {"azureml.git.commit": commit, "mlflow.source.git.commit": commit}
    assert git_properties(repository, environ) == told | both
    assert overrides({}) == {}


def test_git_takes_no_lock(repository: Path) -> None:
    index = repository / ".git" / "index"
    os.utime(repository / "src" / "train.py", (1, 1))  # `git status` would write the index anew
    before = index.stat().st_mtime_ns, index.stat().st_ino
    git_properties(repository, ENVIRON)
    assert (index.stat().st_mtime_ns, index.stat().st_ino) == before


def test_a_git_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    slow = tmp_path / "git"
    slow.write_text("#!/bin/sh\necho '# branch.oid 1234'\nexec sleep 600\n")
    slow.chmod(0o755)
    (tmp_path / ".git").mkdir()
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    facts = GitFacts.start(tmp_path, environ, timeout=0.1)
    assert facts.properties() == {}
    assert facts.status is not None and facts.remote is not None
    assert {facts.status.returncode, facts.remote.returncode} == {-9}


def test_an_answer_is_read_however_late_it_is_asked_for(repository: Path) -> None:
    facts = GitFacts.start(repository, ENVIRON, timeout=0)
    assert facts.status is not None and facts.remote is not None
    facts.status.wait(60)
    facts.remote.wait(60)
    assert facts.properties()["azureml.git.branch"] == "trunk"


def test_what_is_not_asked_for_is_ended(tmp_path: Path) -> None:
    slow = tmp_path / "git"
    slow.write_text("#!/bin/sh\nexec sleep 600\n")
    slow.chmod(0o755)
    (tmp_path / ".git").mkdir()
    with GitFacts.start(tmp_path, {"PATH": f"{tmp_path}:{os.environ['PATH']}"}) as facts:
        pass
    assert facts.status is not None
    assert facts.status.returncode == -9


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://example.org/a.git", "https://example.org/a.git"),
        ("https://user:token@example.org/a.git", "https://example.org/a.git"),
        ("https://token@example.org:8443/a.git", "https://example.org:8443/a.git"),
        ("https://u:p@ss@example.org/a", "https://example.org/a"),
        ("https://example.org/a.git?private_token=x#y", "https://example.org/a.git"),
        ("https://example.org?token=x", "https://example.org"),
        ("HTTPS://u:p@example.org/a", "HTTPS://example.org/a"),
        ("ssh://git@example.org/a.git", "ssh://git@example.org/a.git"),
        ("ssh://git:pw@example.org:22/a.git", "ssh://git@example.org:22/a.git"),
        ("git@example.org:a/b.git", "git@example.org:a/b.git"),
        ("transport::https://u:p@example.org/a", "transport::https://example.org/a"),
        ("/srv/git/a@b.git", "/srv/git/a@b.git"),
        ("file:///srv/git/a@b.git", "file:///srv/git/a@b.git"),
    ],
)
def test_no_secret_stays_in_an_address(address: str, expected: str) -> None:
    assert scrubbed(address) == expected


def test_parsing() -> None:
    assert parse_status(b"") == {}
    assert parse_status(b"# branch.oid (initial)\0# branch.head (detached)\0") == {}
    assert parse_status(b"# branch.oid 12\0? # branch.head x\0") == {
        "COMMIT": "12",
        "DIRTY": "True",
    }
    assert parse_remote(b"origin\n") == {}
    assert parse_remote(b"../a b\n") == {"REPOSITORY_URI": "../a b"}
