"""Directives: spelled by the site's rules, and read by the real sbatch as they are meant."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.config import parse_memory, parse_time
from hpcrun.directives import (
    SBATCH,
    Directive,
    Job,
    directives,
    flags_of,
    forbidden,
    format_memory,
    format_time,
    unwritable,
    written_twice,
)
from hpcrun.flags import LETTERS, refusal
from hpcrun.site.scheduler import Directives, Gpu, Memory, SchedulerRules
from tests.cluster import Cluster
from tests.lab import eventually
from tests.nasty import WORDS

JOB = Job("digits_1700000000_0123abcd", "/lab/log", "/lab/files")


def texts(job: Job, rules: SchedulerRules | None = None) -> list[str]:
    """The directives behind those of every job."""
    rules = rules or SchedulerRules()
    found = [line.text for line in directives(job, rules)]
    own = [line.text for line in directives(JOB, SchedulerRules())]
    return [text for text in found if text not in own]


def job(**different: object) -> Job:
    return Job(JOB.name, JOB.log, JOB.folder, **different)  # type: ignore[arg-type]


def test_every_job_says_its_name_place_and_size() -> None:
    assert [line.line for line in directives(JOB, SchedulerRules())] == [
        "#SBATCH --job-name=digits_1700000000_0123abcd",
        "#SBATCH --chdir=/lab/files",
        "#SBATCH --output=/lab/log",
        "#SBATCH --open-mode=append",
        "#SBATCH --nodes=1",
        "#SBATCH --ntasks-per-node=1",
    ]


def test_local_jobs_have_none() -> None:
    assert directives(job(partition="gpu", extra={"--x": "y"}), SchedulerRules(kind="local")) == ()


@pytest.mark.parametrize(
    ("form", "typed", "model", "expected"),
    [
        ("gpus_per_node", "optional", None, "--gpus-per-node=2"),
        ("gpus_per_node", "optional", "a100", "--gpus-per-node=a100:2"),
        ("gpus_per_node", "never", "a100", "--gpus-per-node=2"),
        ("gres", "optional", None, "--gres=gpu:2"),
        ("gres", "required", "a100", "--gres=gpu:a100:2"),
        ("total", "optional", "a100", "--gpus=a100:6"),
        ("implicit", "optional", "a100", None),
    ],
)
def test_gpus_are_asked_for_in_the_sites_form(
    form: str, typed: str, model: str | None, expected: str | None
) -> None:
    rules = SchedulerRules(gpu=Gpu(form, typed))  # type: ignore[arg-type]
    asked = job(nodes=3, gpus_per_node=2, gpu_type=model)
    assert texts(asked, rules) == ["--nodes=3", *([expected] if expected else [])]
    assert texts(job(gpu_type=model), rules) == []


@pytest.mark.parametrize(
    ("mode", "size", "exclusive", "expected"),
    [
        ("optional", 1 << 30, False, ["--mem=1G"]),
        ("optional", None, False, []),
        ("optional", None, True, ["--exclusive", "--mem=0"]),
        ("optional", 1 << 30, True, ["--mem=1G", "--exclusive"]),
        ("optional", 0, True, ["--mem=0", "--exclusive"]),
        ("required", None, True, ["--exclusive"]),
        ("forbidden", 1 << 30, True, ["--exclusive"]),
        ("ignored", 1 << 30, False, []),
    ],
)
def test_memory_is_asked_for_by_the_sites_mode(
    mode: str, size: int | None, exclusive: bool, expected: list[str]
) -> None:
    rules = SchedulerRules(memory=Memory(mode))  # type: ignore[arg-type]
    assert texts(job(memory=size, exclusive=exclusive), rules) == expected


def test_everything_else_has_its_flag() -> None:
    asked = job(
        **{"cpus_per_task": 8, "time": timedelta(hours=30), "partition": "gpu", "qos": "high"},
        **{"account": "lab", "constraint": "[a|b]&c", "reservation": "course", "comment": "it's"},
        **{"mail_types": ("END", "FAIL"), "mail_user": "ada@lab.example"},
        extra={"--switches": "2", "--contiguous": None},
    )
    rules = SchedulerRules(directives=Directives(always=("--hint=nomultithread", "--spread-job")))
    assert texts(asked, rules) == [
        *('--comment="it\'s"', "--cpus-per-task=8", "--time=1-06:00:00", "--partition=gpu"),
        *("--qos=high", "--account=lab", "--constraint=[a|b]&c", "--reservation=course"),
        *("--mail-type=END,FAIL", "--mail-user=ada@lab.example", "--hint=nomultithread"),
        *("--spread-job", "--switches=2", "--contiguous"),
    ]


@given(st.timedeltas(timedelta(seconds=1), timedelta(days=3000)))
def test_times_are_rounded_up_to_a_second(time: timedelta) -> None:
    text = format_time(time)
    assert re.fullmatch(r"\d+-\d\d:\d\d:\d\d", text)
    assert timedelta(0) <= parse_time(text) - time < timedelta(seconds=1)


@given(st.integers(1, 1 << 50))
def test_memory_is_rounded_up_to_a_kilobyte(size: int) -> None:
    assert 0 <= parse_memory(format_memory(size)) - size < 1024


def test_the_largest_unit_that_loses_nothing_is_used() -> None:
    sizes = [0, 1, 1024, 1 << 20, 3 << 30, 1536 << 20, 2 << 40]
    assert [format_memory(size) for size in sizes] == ["0", "1K", "1K", "1M", "3G", "1536M", "2T"]


def test_what_a_site_forbids_is_refused_in_its_own_words() -> None:
    rules = SchedulerRules(directives=Directives(forbid={"--mem": "nodes are given whole"}))
    lines = directives(job(memory=1 << 30), rules)
    (problem,) = forbidden(lines, rules, "lab")
    assert problem == ("--mem", "lab does not accept --mem", "nodes are given whole", ())
    assert forbidden(directives(JOB, rules), rules, "lab") == ()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("a\nb", "a line break or control character"),
        ("a\x1b", "a line break or control character"),
        ("a\x7f", "a line break or control character"),
        ("caf\udce9", "not UTF-8"),
    ],
)
def test_what_no_line_can_hold_is_refused(value: str, said: str) -> None:
    (problem,) = unwritable((Directive("--a", "b"), Directive("--chdir", value)))
    assert problem.message.startswith("the value of --chdir holds ")
    assert said in problem.message


def test_names_in_all_the_worlds_letters_can_be_written() -> None:
    assert unwritable((Directive("--chdir", "/home/é 日本\u00a0🎉\u202e"),)) == ()


def test_a_flag_that_is_written_twice_is_refused_with_both() -> None:
    lines = (Directive("--hint", "a"), Directive("--x"), Directive("--hint", "b c"))
    (problem,) = written_twice(lines, "lab")
    assert '--hint=a and --hint="b c"' in problem.message
    assert written_twice(lines[:2], "lab") == ()


# -- flags of one's own ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("time", "1h", "say it in resources.time"),
        ("--time", "1h", "say it in resources.time"),
        ("tim", "1h", "short for --time"),
        ("t", "1h", "write time"),
        ("-N", "2", "write nodes"),
        ("nodes", "2", "resources.node_count"),
        ("gpus", "2", "resources.gpus_per_node"),
        ("gres", "gpu:2", "resources.gpus_per_node"),
        ("mem-per-cpu", "2G", "resources.memory"),
        ("signal", "B:USR1", "stop.lead"),
        ("no-requeue", None, "requeue.allowed"),
        ("output", "log", "for itself"),
        ("array", "0-3", "for itself"),
        ("wait", None, "for itself"),
        ("export", "ALL", "for itself"),
        ("job_name", "x", "did you mean 'job-name'"),
        ("hold", "true", "--hold is a flag without a value, and has 'true'"),
        ("switches=2", None, "no flag"),
        ("a b", None, "no flag"),
        ("a\nb", None, "no flag"),
        ("", None, "no flag"),
    ],
)
def test_flags_that_are_not_ones_own_to_write(name: str, value: str | None, said: str) -> None:
    problem = refusal(name, value)
    assert problem is not None and said in str(problem)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("switches", "2"), ("contiguous", None), ("gres", "nvme:1")),
        *(("nodelist", "n1"), ("exclude", "n1"), ("hint", "x"), ("wckey", "x")),
        *(("gres-flags", "x"), ("cpus-per-gpu", "8"), ("dependency", "x")),
    ],
)
def test_flags_that_are(name: str, value: str | None) -> None:
    assert refusal(name, value) is None


def test_every_flag_that_is_computed_is_refused() -> None:
    asked = job(
        **{"cpus_per_task": 8, "time": timedelta(hours=30), "partition": "gpu", "qos": "high"},
        **{"account": "lab", "constraint": "a", "reservation": "course", "comment": "x"},
        **{"mail_types": ("END",), "mail_user": "a@b", "exclusive": True, "memory": 1 << 30},
        gpus_per_node=1,
    )
    for form in ("gpus_per_node", "total"):
        for line in directives(asked, SchedulerRules(gpu=Gpu(form))):
            assert refusal(line.flag) is not None, line


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("#SBATCH --time=5", [("--time", "5")]),
        ("#SBATCH -N4 -p x --hold", [("--nodes", "4"), ("--partition", None), ("x", None)]),
        ("#SBATCH --a='b c' # --d", [("--a", "b c")]),
        ('#SBATCH\t--a="b\\"#" --c', [("--a", 'b"#'), ("--c", None)]),
        ("#SBATCHx", [("x", None)]),
    ],
)
def test_the_flags_of_a_line(line: str, expected: list[tuple[str, str | None]]) -> None:
    assert list(flags_of(line))[: len(expected)] == expected


@given(st.sampled_from(["--comment", "--x-y"]), st.text(st.characters(exclude_categories=["C"])))
def test_a_directive_is_read_back_as_it_was_written(flag: str, value: str) -> None:
    assert list(flags_of(Directive(flag, value).line)) == [(flag, value)]


# -- the real sbatch ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(cluster: Cluster) -> Iterator[Path]:
    folder = cluster.home("alice") / "directives"
    folder.mkdir(exist_ok=True)
    os.chown(folder, cluster.home("alice").stat().st_uid, -1)
    yield folder


def sbatch(cluster: Cluster, folder: Path, *lines: str) -> str:
    """The job id of a script with these lines in its header; it must be taken."""
    script = folder / "job.sh"
    script.write_text("\n".join(("#!/bin/bash", *lines, "pwd", "")))
    done = cluster.run("alice", ["sbatch", "--parsable", str(script)], cwd=folder)
    assert done.returncode == 0, (lines, done.stderr)
    return done.stdout.strip()


@pytest.mark.cluster
def test_sbatch_reads_values_as_they_were_written(cluster: Cluster, folder: Path) -> None:
    values = [word for word in WORDS if word and not unwritable((Directive("--c", word),))]
    values = [word for word in values if len(word) <= 1000]
    assert len(values) > 50
    jobs = {
        sbatch(
            cluster,
            folder,
            Directive("--comment", value).line,
            Directive("--output", "/dev/null").line,
            f"{SBATCH} --hold",
        ): value
        for value in values
    }
    done = cluster.run("alice", ["scontrol", "show", "job"], cwd=folder)
    read = {}
    for text in done.stdout.split("\n\n"):
        number = re.match(r"JobId=(\d+)", text.strip())
        comment = re.search(r"^   Comment=(.*) $", text, re.MULTILINE)
        if number and comment:
            read[number[1]] = comment[1]
    cluster.run("alice", ["scancel", *jobs])
    assert {number: read[number] for number in jobs} == jobs


@pytest.mark.cluster
@pytest.mark.parametrize(
    "name",
    ['it\'s a "log" #1', "100%j", "50%%", "back\\slash", "b\\a%j", "end\\", "ünï ☃", "$HOME ~ *;&"],
)
def test_slurm_writes_the_log_where_the_plan_says(
    cluster: Cluster, folder: Path, name: str
) -> None:
    place = folder / name
    place.mkdir(exist_ok=True)
    os.chown(place, folder.stat().st_uid, -1)
    log = place / "batch-1.log"
    log.unlink(missing_ok=True)
    made = Job("log", str(log), str(place))
    sbatch(cluster, folder, *(line.line for line in directives(made, SchedulerRules())))
    eventually(lambda: log.exists() and log.stat().st_size)
    assert log.read_text() == f"{PurePosixPath(place)}\n"


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("line", "taken"),
    [
        ("#SBATCH --parti=main", True),
        ("#SBATCH --comment='a\\'b' # --nonsense", True),
        ("#SBATCH -N1 -n1", True),
        ("#SBATCH --nonsense", False),
        ("#SBATCHx", False),
        ("#SBATCH --comment='a", False),
    ],
)
def test_sbatch_reads_lines_as_we_do(
    cluster: Cluster, folder: Path, line: str, taken: bool
) -> None:
    script = folder / "test.sh"
    script.write_text(f"#!/bin/bash\n{line}\ntrue\n")
    done = cluster.run("alice", ["sbatch", "--test-only", str(script)], cwd=folder)
    assert (done.returncode == 0) is taken, done.stderr


@pytest.mark.cluster
def test_the_letters_are_those_of_this_sbatch(cluster: Cluster) -> None:
    said = cluster.run("alice", ["sbatch", "--help"]).stdout
    pairs = dict(re.findall(r"^ +-(\w), --([a-z-]+)", said, re.MULTILINE))
    assert len(pairs) > 20
    differing = {
        letter: (LETTERS.get(letter), name)
        for letter, name in pairs.items()
        if LETTERS.get(letter) != name
    }
    assert differing == {}
