"""What a bug report hides, and what it must not hide."""

from __future__ import annotations

import json

import pytest

from hpcrun.cli.scrub import Scrubber

HEX = "0123456789abcdef" * 4
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJwbGFudGVkIn0.c2lnbmF0dXJlX3BsYW50ZWQ"
PEM = "-----BEGIN OPENSSH PRIVATE KEY-----\nplanted\nplanted\n-----END OPENSSH PRIVATE KEY-----"

SECRETS = (
    ("authorization", "curl -H 'Authorization: Bearer planted.abc'", "planted"),
    ("authorization", "Authorization: Basic cGxhbnRlZA==", "cGxhbnRlZA"),
    ("authorization", '{"authorization": "planted"}', "planted"),
    ("authorization", "sent with bearer planted0planted", "planted"),
    ("named value", "password=planted", "planted"),
    ("named value", "the password: planted", "planted"),
    ("named value", "a=1,DB_PASSWD='planted planted',b=2", "planted"),
    ("named value", "https://host/file?sv=1&X-Amz-Signature=planted&x=2", "planted"),
    ("named value", "AccountKey=planted==;Endpoint=core", "planted"),
    ("named value", '{"api_key": "planted"}', "planted"),
    ("credentials in an address", "git clone https://me:plan@ted@host.org/x", "ted@"),
    ("credentials in an address", "postgresql+psycopg://planted@host/db", "planted"),
    ("token of GitHub", "x ghp_" + "planted0" * 4, "planted"),
    ("token of GitHub", "x github_pat_" + "planted_" * 4, "planted"),
    ("token of GitLab", "x glpat-planted_planted_planted", "planted"),
    ("token of Hugging Face", "x hf_" + "plantedX" * 4, "planted"),
    ("key of AWS", "x AKIAPLANTEDPLANTED00 y", "PLANTED"),
    ("key of Google", "x AIza" + "planted" * 5, "planted"),
    ("token of Slack", "x xoxb-planted-planted", "planted"),
    ("token of PyPI", "x pypi-plantedplantedplanted", "planted"),
    ("key of a model's service", "x sk-proj-planted-planted-planted", "planted"),
    ("key of Weights & Biases", f"wandb.login({HEX[:40]!r})", HEX[:40]),
    ("JSON web token", f"x {JWT} y", "eyJ"),
    ("private key", f"x {PEM} y", "planted"),
    ("private key", f"x {PEM[:60]}", "planted"),
    ("word behind a flag", "train.py --api-key planted --lr 1", "planted"),
    ("word behind a flag", "train.py --token='planted planted' --lr 1", "planted"),
    ("word behind a flag", "usage: ['train.py', '--api-key', 'planted', '--lr', '1']", "planted"),
    ("word behind a flag", "train.py --passphrase planted --lr 1", "planted"),
    ("address of a person", "#SBATCH --mail-user=planted@lab.example", "planted"),
)


@pytest.mark.parametrize(("what", "text", "secret"), SECRETS)
def test_a_secret_is_hidden_wherever_it_stands_and_told(what: str, text: str, secret: str) -> None:
    for value in (text, {"note": text}, [text, "--lr"], {"a": [{"b": text}]}, {text: 1}):
        scrubber = Scrubber({})
        assert secret not in json.dumps(scrubber.scrub(value))
        assert dict(scrubber.hidden) == {what: 1}
    scrubber = Scrubber({})
    assert secret not in scrubber.script(f"set -e\n# {text}\n")
    assert dict(scrubber.hidden) == {what: 1}


@pytest.mark.parametrize(
    "text",
    [
        "KeyError: 'lr'",
        "https://host.org/path?x=1#y",
        "me@lab.example",
        "digits_1700000000_0123abcd",
        HEX,
        "--lr 1e-3 --epochs=20",
        "exit code 1: ValueError: bad column",
        "/lab/history/users/ada/sdk/0.1.0-0123456789ab",
    ],
)
def test_what_a_report_needs_stays(text: str) -> None:
    scrubber = Scrubber({})
    assert scrubber.scrub([text]) == [text]
    assert scrubber.script(text) == text
    assert not scrubber.hidden


def test_names_tell_what_is_hidden() -> None:
    scrubber = Scrubber({"/home/ada": "~", "ada": "USER"})
    value = {
        "tags": {"password": "planted", "kind": "ada's"},
        "properties": {"azureml.git.commit": HEX[:40], "wandb": HEX[:40]},
        "command": ["python", "/home/ada/train.py", "--api-key", "planted", "--lr", "1"],
    }
    assert scrubber.scrub(value) == {
        "tags": {"password": "…", "kind": "USER's"},
        "properties": {"azureml.git.commit": HEX[:40], "wandb": "…"},
        "command": ["python", "~/train.py", "--api-key", "…", "--lr", "1"],
    }
    choices = [
        ("variable NOTE", "planted", "run.yaml:1"),
        ("tag db_passwd", "planted", "x"),
        ("mail to", "ada.lovelace@lab.example", "run.yaml:2"),
    ]
    assert [value for _, value, _ in scrubber.choices(choices)] == ["…", "…", "…"]
    assert scrubber.hidden == {
        "named value": 2,
        "key of Weights & Biases": 1,
        "word behind a flag": 1,
        "variable": 1,
        "address of a person": 1,
    }


def test_variables_of_a_script_are_hidden_with_all_their_lines() -> None:
    scrubber = Scrubber({})
    text = "export NOTE='first\nplanted it'\"'\"'s\nplanted'\nexport HPCRUN_RUN_ID=a\n"
    assert scrubber.script(text) == "export NOTE=…\nexport HPCRUN_RUN_ID=a\n"
    assert scrubber.hidden == {"variable": 1}
