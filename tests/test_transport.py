"""How ssh is called, by the site's policy; what its words mean; the manners of logging in."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from hpcrun.assets import Assets
from hpcrun.errors import TransportError
from hpcrun.site.access import Access, Endpoint
from hpcrun.transport import channel
from hpcrun.transport.channel import check_versions, connect
from hpcrun.transport.credential import valid_until, warning
from hpcrun.transport.pace import keep_gap
from hpcrun.transport.refusal import refusal
from hpcrun.transport.ssh import Login, Sharing, control, far_command, ssh_words
from hpcrun.transport.wire import PROTOCOL, Hello
from hpcrun.workflow.elsewhere import elsewhere, site_and_folder

ALONE = {"ControlMaster": "no", "ControlPath": "none"}
SHARING = Sharing(Path("/run/user/1/hpcrun"), "0123abcd")


@pytest.mark.parametrize("policy", [None, "refused", "forbidden_by_policy"])
@pytest.mark.parametrize("sharing", [None, SHARING, replace(SHARING, configured=True)])
def test_nothing_is_shared_unless_the_site_says_so(policy: object, sharing: Sharing | None) -> None:
    access = Access(multiplex=policy)  # type: ignore[arg-type]
    assert control(access, sharing) == ALONE
    words = ssh_words(Login("site", Endpoint("host"), access), sharing)
    assert {"ControlMaster=no", "ControlPath=none"} <= {*words}
    assert not [word for word in words if word.startswith("ControlPersist")]


def test_where_it_is_recommended_a_connection_stays_for_the_next_command() -> None:
    told = control(Access(multiplex="recommended"), SHARING)
    assert told == {
        "ControlMaster": "auto",
        "ControlPath": '"/run/user/1/hpcrun/%C"',
        "ControlPersist": "600",
    }


def test_a_connection_does_not_outlive_what_let_the_user_in() -> None:
    access = Access(multiplex="recommended", credential_lifetime="5m")
    assert control(access, SHARING)["ControlPersist"] == "300"


def test_a_folder_may_have_any_name_that_ssh_can_be_told() -> None:
    access = Access(multiplex="recommended")
    for folder, path in (
        ("/home/a b/100%h/caf\u00e9", '"/home/a b/100%%h/caf\u00e9/%C"'),
        ("/home/it's", '"/home/it\'s/%C"'),
    ):
        words = ssh_words(Login("site", Endpoint("host"), access), Sharing(Path(folder), "1"))
        assert f"ControlPath={path}" in words
        told = subprocess.run([*words, "-G", "host"], capture_output=True, text=True, check=True)
        assert f"\ncontrolpath {folder}/" in told.stdout
    for folder in ('/home/"a"', "/home/a\\b", "/home/${A}", "/home/a\nb"):
        assert control(access, Sharing(Path(folder), "1")) == ALONE


def test_where_it_is_allowed_a_connection_lasts_as_long_as_its_command() -> None:
    told = control(Access(multiplex="allowed"), SHARING)
    assert told["ControlPersist"] == "no"
    assert told["ControlPath"] == '"/run/user/1/hpcrun/0123abcd"'


@pytest.mark.parametrize("policy", ["recommended", "allowed"])
def test_what_the_user_has_set_up_stays(policy: object) -> None:
    access = Access(multiplex=policy)  # type: ignore[arg-type]
    assert control(access, replace(SHARING, configured=True)) == {}


def test_a_path_that_is_too_long_for_a_socket_is_not_shared() -> None:
    far = replace(SHARING, folder=Path("/" + "long/" * 20))
    assert control(Access(multiplex="recommended"), far) == ALONE


def test_one_attempt_at_a_known_host_by_the_way_that_the_site_names() -> None:
    login = Login("mila", Endpoint("login.example.org", 2222, "jump.example.org"))
    words = ssh_words(login, batch=True)
    assert words[0] == "ssh" and words[-4:] == ["-p", "2222", "-J", "jump.example.org"]
    assert {
        "StrictHostKeyChecking=yes",
        "NumberOfPasswordPrompts=1",
        "ConnectionAttempts=1",
        "BatchMode=yes",
        "LogLevel=ERROR",
    } <= {*words}
    # ssh gives up when it would ask once more than that: a cut is noticed within ten seconds.
    told = dict(word.split("=", 1) for word in words if "=" in word)
    assert int(told["ServerAliveInterval"]) * (int(told["ServerAliveCountMax"]) + 1) < 10


def test_what_a_server_says_while_it_asks_is_seen() -> None:
    login = Login("site", Endpoint("host"), Access(auth="publickey_otp"))
    assert "LogLevel=INFO" in ssh_words(login)


def test_the_command_of_the_site_file_starts_hpcrun_there() -> None:
    assert far_command(Access(command="/opt/hpcrun/bin/hpcrun")) == "/opt/hpcrun/bin/hpcrun serve"
    # csh takes neither a line end nor an exclamation mark, even in quotes.
    line = far_command(Access())
    assert "\n" not in line and "!" not in line and line.count("'") == 2
    words = ["-w", "it's !here", "shell", "@last", "--", "a\nb"]
    for access in (Access(), Access(command="/opt/hpcrun/bin/hpcrun")):
        line = far_command(access, words)
        (told,) = re.findall(r" serve ([0-9a-f]+)", line)
        assert json.loads(bytes.fromhex(told)) == [PROTOCOL, words]
        assert "\n" not in line and "!" not in line and line.count("'") in (0, 2)


CLOSED = "kex_exchange_identification: Connection closed by remote host"
CHANGED = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
Host key for h has changed and you have requested strict checking.
Host key verification failed."""
UNKNOWN = """\
No ED25519 host key is known for h and you have requested strict checking.
Host key verification failed."""


@pytest.mark.parametrize(
    ("said", "message", "hint", "transient"),
    [
        (CHANGED, "the host key of h is another", "ssh-keygen -R h", False),
        (UNKNOWN, "the host key of h is not known", "ssh h` once", False),
        ("u@h: Permission denied (publickey).", "(publickey); it was tried once", "key new", False),
        ("ssh: connect to host h port 22: Connection refused", "refuses", "may be down", True),
        ("ssh: connect to host h port 22: Connection timed out", "timed out", "VPN", True),
        ("ssh: Could not resolve hostname h: Name or service not known\r", "no host h", "~", True),
        (CLOSED, "closed the connection before a login", "wait", True),
        ("hpcrun-none-there", "there is no hpcrun on s", "hpcrun site bootstrap s", False),
        ("mux_client_request_session: session request failed", "second session", "refused", False),
        ("never seen before", "no connection to s: never seen before", "does `ssh h` work", True),
    ],
)
def test_a_login_that_fails_is_told_in_the_right_words(
    said: str, message: str, hint: str, transient: bool
) -> None:
    login = Login("s", Endpoint("h"), Access(credential_command="key new"))
    error = refusal(login, 255, f"Welcome!\n{said}\n")
    assert message in error.message and hint in error.hint and error.transient is transient


BEHIND = """\
channel 0: open failed: connect failed: No route to host
stdio forwarding failed
Connection closed by UNKNOWN port 65535"""


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            CHANGED.replace("for h has", "for [j]:2222 has"),
            "the host key of j (on the way to h) is",
        ),
        (UNKNOWN.replace("for h and", "for j and"), "the host key of j (on the way to h) is not"),
        (UNKNOWN.replace("for h and", "for h.example.org and"), "the host key of h is not known"),
        ("Host key verification failed.", "of a jump host on the way to h is not known"),
        ("me@j: Permission denied (publickey).", "j (on the way to s) did not let you in"),
        ("me@h.example.org: Permission denied (publickey).", "s did not let you in (publickey)"),
        ("bash: /opt/hpcrun: Permission denied", "exit code 126: bash: /opt/hpcrun: Permission"),
        ("ssh: Could not resolve hostname j: Name", "no host j (on the way to h): Name"),
        ("ssh: connect to host j port 9: Connection refused", "j (on the way to h) refuses"),
        (BEHIND, "the jump host does not get through to h: connect failed: No route to host"),
    ],
)
def test_what_fails_on_the_way_is_told_of_who_failed(said: str, message: str) -> None:
    code = 126 if "bash" in said else 255
    error = refusal(Login("s", Endpoint("h")), code, said, "h.example.org")
    assert message in error.message
    # How often is tried on the way is what the user's own configuration says.
    assert ("it was tried once" in error.message) == (message == "s did not let you in (publickey)")
    assert "[j]:2222" not in said or "ssh-keygen -R '[j]:2222'" in error.hint


@pytest.mark.parametrize("alone", [True, False])
def test_a_login_that_nobody_sees_is_given_up_when_nothing_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    (tmp_path / "ssh").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(channel, "PATIENCE", 0.1)
    with pytest.raises(TransportError, match="far has not answered for 0 seconds") as error:
        connect(Login("far", Endpoint("far")), tmp_path, alone)
    assert error.value.transient


def test_who_waits_for_the_next_login_is_told_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(channel.time, "sleep", slept.append)
    login = Login("far", Endpoint("host"), Access(connect_gap_seconds=500))
    channel.login_words(login, tmp_path)
    assert capsys.readouterr().err == ""
    channel.login_words(login, tmp_path)
    (seconds,) = slept
    assert seconds > 400
    told = f"waiting {seconds:.0f} s: logins at host are not to follow each other sooner"
    assert capsys.readouterr().err == f"hpcrun: {told}\n"


def test_a_far_side_that_does_not_begin_is_told_with_its_last_words() -> None:
    error = refusal(Login("s", Endpoint("h")), 1, "sh: 1: hpcrun: broken\n")
    assert "exit code 1: sh: 1: hpcrun: broken" in error.message


def test_the_older_side_is_to_be_updated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hpcrun.__version__", "1.2.0")
    with pytest.raises(TransportError, match=r"1\.2\.0 here .* and hpcrun 1\.1\.9 on s") as told:
        check_versions(Hello(PROTOCOL - 1, "1.1.9"), "s")
    assert "hpcrun site bootstrap s" in told.value.hint
    with pytest.raises(TransportError) as told:
        check_versions(Hello(PROTOCOL + 1, "1.10.0"), "s")
    assert told.value.hint.startswith("update this machine's: pip install hpcrun-slurm==1.10.0")
    check_versions(Hello(PROTOCOL, "1.2.0"), "s")
    assert capsys.readouterr().err == ""
    check_versions(Hello(PROTOCOL, "1.3.0"), "s")
    assert "update this machine's" in capsys.readouterr().err


LISTED = "        Valid: from 2026-11-26T00:00:00 to {}\n        Principals: \n"


def test_a_certificate_is_told_before_it_ends() -> None:
    listed = LISTED.format("2026-11-26T12:00:00") + LISTED.format("2026-11-26T11:00:00")
    end = valid_until(listed)
    assert end is not None and time.localtime(end)[:5] == (2026, 11, 26, 12, 0)
    told = partial(warning, "it is good for {} at most")
    assert told(end, end - 7200, 43200.0, "key new") == ""
    said = "it is good for 20 more minutes at most; `key new` gets a new one"
    assert told(end, end - 1200, 43200.0, "key new") == said
    assert told(end, end + 1, None, None) == "it is no longer good"
    assert valid_until("        Valid: forever\n") is None and valid_until("") is None


def test_two_logins_have_a_gap_between_them(tmp_path: Path) -> None:
    slept: list[float] = []
    assert keep_gap(tmp_path, "host", 10, slept.append) == 0
    assert 5 < keep_gap(tmp_path, "host", 10, slept.append) <= 10
    assert keep_gap(tmp_path, "other", 10, slept.append) == 0
    assert 15 < keep_gap(tmp_path, "host", 10, slept.append) <= 20  # behind the one that waits
    (last,) = tmp_path.glob("host.login")
    os.utime(last, (0, time.time() - 11))
    assert keep_gap(tmp_path, "host", 10, slept.append) == 0 and len(slept) == 2
    os.utime(last, (0, time.time() + 1e6))  # the clock was set back
    assert keep_gap(tmp_path, "host", 10, slept.append) == 0


def test_many_processes_at_once_have_a_gap_between_each_two(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from hpcrun.transport.pace import keep_gap
keep_gap(Path(sys.argv[1]), "host", 100.0, lambda seconds: print(time.time() + seconds))
"""
    words = [sys.executable, "-c", code, str(tmp_path)]
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
            for _ in range(4)
        ]
        told = [each.communicate()[0] for each in started]
    turns = sorted(float(turn) for turn in told if turn)
    assert len(turns) == 3  # the first does not wait
    assert all(90 < later - turn < 110 for turn, later in itertools.pairwise(turns))


@pytest.mark.parametrize(
    ("named", "parts"),
    [
        ("mila:", ("mila", "")),
        ("mila:~/runs", ("mila", "~/runs")),
        ("me@host.example.org:/a:b", ("me@host.example.org", "/a:b")),
        ("/a:b", None),
        ("./a:b", None),
        ("a/b:c", None),
        ("runs", None),
        ("-o:x", None),
    ],
)
def test_a_workspace_elsewhere_is_named_as_for_scp(
    named: str, parts: tuple[str, str] | None
) -> None:
    assert site_and_folder(named) == parts


def test_a_site_brings_its_manners_and_any_other_host_shares_nothing() -> None:
    there = elsewhere("isambard-ai:runs", Assets())
    assert there is not None and there.folder == "runs"
    assert there.login.endpoint == Endpoint("isambard-ai")  # an alias of the user's configuration
    assert there.login.access.multiplex == "forbidden_by_policy"
    daint = elsewhere("cscs-daint:", Assets())
    assert daint is not None and daint.login.endpoint.proxy_jump == "ela.cscs.ch"
    own = elsewhere("my-alias:", Assets())
    assert own is not None and own.login == Login("my-alias", Endpoint("my-alias"))
