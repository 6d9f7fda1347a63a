"""The laptop and what lies between it and the cluster: what tests of SSH take for granted."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.cluster.laptop import Laptop
from tests.cluster.layout import JUMP
from tests.lab import eventually

pytestmark = pytest.mark.cluster

SSH = ("ssh", "-o", "BatchMode=yes")


def ssh(laptop: Laptop, *words: str) -> str:
    """What a command of lena's says over SSH; it must succeed."""
    done = laptop.run([*SSH, *words])
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def refused(laptop: Laptop, *words: str) -> str:
    done = laptop.run([*SSH, *words])
    assert done.returncode == 255, (words, done.stdout)
    return done.stderr


def test_the_laptop_reaches_the_login_node_by_ssh_and_sees_nothing_else(laptop: Laptop) -> None:
    cluster = laptop.cluster
    whoami = "hostname; id -un; pwd"
    assert ssh(laptop, "login", whoami).split() == ["login", "alice", str(cluster.home("alice"))]
    assert laptop.run(["hostname"]).stdout == "laptop\n"
    assert laptop.run(["sh", "-c", "cd; pwd; id -un"]).stdout.split() == [str(laptop.home), "lena"]
    folders = (cluster.layout.homes, cluster.shared, cluster.layout.slurm)
    assert laptop.run(["ls", "-A", "/etc/slurm"]).stdout == ""
    assert all(laptop.run(["ls", "-A", str(folder)]).stdout == "" for folder in folders)
    assert laptop.run(["squeue"]).returncode != 0


def test_behind_is_reached_through_the_jump_host_only(laptop: Laptop) -> None:
    assert ssh(laptop, "behind", "hostname; echo $SSH_CONNECTION").split()[:2] == [
        "login",
        laptop.layout.inner(JUMP),
    ]
    assert "unreachable" in refused(laptop, "-o", "ProxyJump=none", "behind", "true")


def test_the_csh_user_is_noisy(laptop: Laptop) -> None:
    done = laptop.run([*SSH, "csh", "echo $shell; id -un"])
    assert done.stdout == "welcome to the cluster\n/bin/tcsh\ncarol\n"
    assert "Authorised users only." in done.stderr


def test_a_one_time_code_is_good_once(laptop: Laptop) -> None:
    def log_in(code: str) -> subprocess.CompletedProcess[str]:
        script = laptop.write("askpass", f'#!/bin/sh\necho "$1" >>$HOME/asked\necho {code}\n')
        script.chmod(0o755)
        env = {"SSH_ASKPASS": str(script), "SSH_ASKPASS_REQUIRE": "force"}
        words = ["ssh", "-o", "NumberOfPasswordPrompts=1", "code", "id -un"]
        return laptop.run(words, env=env)

    first = laptop.code()
    done = log_in(first)
    assert done.stdout == "dora\n", done.stderr
    assert "One-time password" in (laptop.home / "asked").read_text()
    assert log_in(first).returncode == 255
    assert laptop.code() != first
    assert log_in(laptop.code()).stdout == "dora\n"
    assert "Permission denied" in refused(laptop, "code", "true")


def test_a_certificate_lets_in_while_it_is_valid(laptop: Laptop) -> None:
    assert "Permission denied" in refused(laptop, "certified", "true")
    laptop.certify("-2h:-1h")
    assert "Permission denied" in refused(laptop, "certified", "true")
    laptop.certify()
    assert ssh(laptop, "certified", "id -un") == "alice\n"


def test_the_link_is_cut_and_mended(laptop: Laptop) -> None:
    laptop.link(False)
    assert (
        str(laptop.run([*SSH[:3], "-o", "ConnectTimeout=1", "login", "true"]).returncode) == "255"
    )
    laptop.link(True)
    assert ssh(laptop, "login", "echo again") == "again\n"


def test_a_restart_of_the_login_node_ends_sessions_and_leaves_others(laptop: Laptop) -> None:
    with laptop.popen([*SSH, "login", "echo here; sleep 300"]) as session:
        assert session.stdout is not None
        assert session.stdout.readline() == "here\n"
        laptop.restart_login()
        assert session.wait(180) == 255
        session.communicate()
    assert ssh(laptop, "login", "hostname") == "login\n"


def test_a_changed_host_key_is_told(laptop: Laptop) -> None:
    laptop.change_host_key()
    assert "IDENTIFICATION HAS CHANGED" in refused(laptop, "login", "true")
    laptop.accept_host_key()
    assert ssh(laptop, "login", "hostname") == "login\n"


def test_a_small_disk_is_full_for_alice(laptop: Laptop) -> None:
    with laptop.small_disk(1 << 20) as disk:
        fill = f"head -c 2000000 /dev/zero >{disk}/file"
        done = laptop.run([*SSH, "login", fill])
        assert "No space left" in done.stderr
        ssh(laptop, "login", f"rm {disk}/file")
    assert not list(Path(disk).iterdir())


def test_a_slow_link_is_slow_and_what_it_carries_is_counted(laptop: Laptop) -> None:
    before = laptop.sent()
    laptop.slow(2000)
    words = [*SSH, "login", "cat >/dev/null"]
    with laptop.popen(words, stdin=subprocess.PIPE) as going:
        assert going.stdin is not None
        going.stdin.write("x" * 3_000_000)
        going.stdin.flush()
        # 3 MB at 2 Mbit/s take 12 s: it is still under way when some of it has come.
        eventually(lambda: laptop.sent() - before > 200_000)
        assert laptop.sent() - before < 3_000_000
        laptop.slow(None)
        going.communicate(timeout=180)
    assert laptop.sent() - before > 3_000_000
