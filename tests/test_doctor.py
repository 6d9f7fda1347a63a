"""What doctor makes of what Slurm and a site file tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcrun.assets import Assets
from hpcrun.scheduler.inventory import JobLimits, controllers_clock, partitions_in
from hpcrun.workflow.doctor import all_sites
from hpcrun.workflow.doctor.account import Person, account, one_of
from hpcrun.workflow.doctor.jobs import accounting, jobs, modules, remarks
from hpcrun.workflow.doctor.partition import partition
from hpcrun.workflow.doctor.target import clock, mpi, starts
from hpcrun.workflow.finding import Finding
from hpcrun.workflow.places import innermost, objections, place_of
from tests.make_plan import site

ADA = Person(accounts=("own", "lab"), groups=("users",), account=None)
BASE = "schema_version: 1\nid: lab\n"


def told(findings: list[Finding]) -> list[str]:
    """What is not well, with its grade."""
    return [f"{one.grade}: {one.message}" for one in findings if one.grade != "ok"]


@pytest.mark.parametrize(
    ("fields", "person", "said"),
    [
        ("State=UP AllowGroups=ALL AllowAccounts=ALL", ADA, []),
        ("State=DOWN", ADA, ["warning: p is down: it takes jobs, and starts none"]),
        ("State=DRAIN", ADA, ["error: p takes no jobs now: its state is DRAIN"]),
        ("State=UP RootOnly=YES", ADA, ["error: p takes jobs of root alone"]),
        ("AllowGroups=users,staff", ADA, []),
        (
            "AllowGroups=staff",
            ADA,
            ["error: p is for the groups staff, and you are in none"],
        ),
        ("AllowAccounts=own", ADA, []),
        ("AllowAccounts=lab", ADA, ["error: p is for the accounts lab, not for own"]),
        ("AllowAccounts=lab", ADA._replace(account="lab"), []),
        ("DenyAccounts=own", ADA, ["error: p does not take account own"]),
        ("DenyAccounts=own", ADA._replace(accounts=None), []),
    ],
)
def test_a_partition_is_open_or_not(fields: str, person: Person, said: list[str]) -> None:
    target = site(BASE + "targets: {t: {partition: p}}\n").targets["t"]
    partitions = partitions_in(f"PartitionName=p {fields}\n")
    assert told([*partition("lab", "t", target, partitions, person)]) == said


LIMITED = "PartitionName=p Default=YES MinNodes=2 MaxNodes=4 TotalNodes=3 MaxTime=1-00:00:00\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{nodes: {min: 2, max: 3}, time: {default: 1h, max: 24h}}", []),
        ("{time: {default: 25h}}", ["error: a run that names no time asks for 1-01:00:00"]),
        ("{time: {max: 2d}}", ["warning: runs may ask for 2-00:00:00"]),
        ("{time: {rules: [{max: 1h}, {max: 25h}]}}", ["warning: runs may ask for 1-01:00:00"]),
        ("{nodes: {min: 4}}", ["error: runs ask for at least 4 nodes"]),
        ("{nodes: {max: 4}}", ["warning: runs may ask for 4 nodes"]),
        ("{nodes: {max: 1}}", ["error: runs ask for at most 1 nodes"]),
    ],
)
def test_a_target_asks_for_no_more_than_its_partition_gives(text: str, said: list[str]) -> None:
    target = site(f"{BASE}targets: {{t: {text}}}\n").targets["t"]
    found = told([*partition("lab", "t", target, partitions_in(LIMITED), ADA)])
    assert [line.partition(", and p ")[0] for line in found] == said


def test_a_target_without_a_partition_needs_a_default_one() -> None:
    target = site(BASE + "targets: {t: {}}\n").targets["t"]
    (found,) = partition("lab", "t", target, partitions_in("PartitionName=p State=UP\n"), ADA)
    assert (found.grade, found.cure) == ("error", "name one of p")


ENFORCED = {"AccountingStorageEnforce": "associations,limits"}
REQUIRED = BASE + "scheduler: {account: {required: true}}\n"


@pytest.mark.parametrize(
    ("text", "person", "said"),
    [
        (BASE, ADA, []),
        (BASE, ADA._replace(account="lab"), []),
        (BASE, ADA._replace(account="x"), ["error: x is none of your accounts: yours are own"]),
        (BASE, ADA._replace(accounts=()), ["error: you have no account"]),
        (BASE, ADA._replace(accounts=None), []),
        (REQUIRED, ADA, ["warning: lab wants an account"]),
        (REQUIRED, ADA._replace(account="own"), ["warning: lab wants an account"]),
        (REQUIRED, ADA._replace(accounts=None), ["warning: lab wants an account"]),
    ],
)
def test_an_account_is_ones_own(text: str, person: Person, said: list[str]) -> None:
    found = told([*account(site(text), person, ENFORCED)])
    assert [line.partition(",")[0] for line in found] == said
    assert not told([*account(site(BASE), ADA._replace(accounts=()), {})])
    (lax,) = told([*account(site(BASE), ADA._replace(account="x"), {})])
    assert lax.startswith("warning: x is none of your accounts")


def test_a_run_on_trial_names_an_account_that_suits_the_target() -> None:
    assert one_of(("own", "lab-gpu"), "-gpu") == "lab-gpu"
    assert one_of(("own", "lab"), "-gpu") == one_of(("own", "lab"), "") == "own"
    assert one_of(None, "") is one_of((), "") is None


@pytest.mark.parametrize(
    ("controllers", "grade"),
    [(98.0, "ok"), (103.0, "ok"), (104.0, "warning"), (96.0, "warning")],
)
def test_clocks_may_differ_by_what_cannot_be_told(controllers: float, grade: str) -> None:
    (found,) = clock(100.2, 101.4, controllers)
    assert found.grade == grade
    assert not [*clock(100.2, 101.4, None)]


def test_the_controllers_clock_is_read() -> None:
    assert controllers_clock("Configuration data as of 1795645854\nX = 1\n") == 1795645854
    assert controllers_clock("Configuration data as of 2026-11-25T22:30:54\n") is None


def test_types_of_mpi_are_those_of_srun() -> None:
    known, config = ["none", "pmix"], {"MpiDefault": "pmix"}
    assert not told([*mpi(site(BASE), known, config)])
    wrong = site(BASE + "launch: {mpi: {type: pmix, types: {mpich: pmi2}}}\n")
    assert told([*mpi(wrong, known, config)]) == [
        "error: srun knows no --mpi=pmi2: it knows none, pmix"
    ]


@pytest.mark.parametrize(
    ("rules", "config", "said"),
    [
        ("", "accounting_storage/slurmdbd", []),
        ("accounting: false", "accounting_storage/none", []),
        ("accounting: false", "accounting_storage/slurmdbd", ["warning: this Slurm keeps records"]),
        (
            "",
            "accounting_storage/none",
            ["warning: this Slurm keeps no records: who canceled a job"],
        ),
    ],
)
def test_records_are_kept_as_the_site_says(rules: str, config: str, said: list[str]) -> None:
    where = site(f"{BASE}scheduler: {{{rules}}}\n").scheduler
    found = told([*accounting(where, {"AccountingStorageType": config})])
    assert [line.partition(",")[0] for line in found] == said
    assert not [*accounting(where, {})]


@pytest.mark.parametrize(
    ("rules", "limits", "held", "said"),
    [
        ("", None, 9, []),
        ("max_jobs: 9", None, 8, []),
        ("max_jobs: 9", None, 9, ["error: you have 9 jobs, and 9 are all that you may have"]),
        ("", JobLimits(9, 4), 9, ["error: you have 9 jobs"]),
        ("", JobLimits(9, 4), 4, ["warning: you have 4 jobs, and 4 run at a time"]),
        ("max_jobs: 9", JobLimits(8, None), 0, ["warning: the site says 9, and Slurm gives 8"]),
        ("max_running_jobs: 5", JobLimits(8, 4), 0, ["warning: the site says 5, and Slurm gives"]),
    ],
)
def test_there_is_room_for_another_job(
    rules: str, limits: JobLimits | None, held: int, said: list[str]
) -> None:
    found = told([*jobs(site(f"{BASE}scheduler: {{{rules}}}\n").scheduler, limits, held)])
    assert len(found) == len(said)
    assert all(line.startswith(start) for line, start in zip(found, said, strict=True)), found


@pytest.mark.parametrize(
    ("rules", "variable", "said"),
    [
        ("", None, []),
        ("load: [gcc]", "LMOD_CMD", []),
        ("load: [gcc]", None, ["warning: there is no module system in this shell"]),
        ("system: lmod", "MODULESHOME", ["warning: the site says Lmod"]),
        ("system: tmod", "MODULESHOME", []),
        ("system: none", "MODULESHOME", ["warning: the site says that there are no modules"]),
        ("system: none", None, []),
    ],
)
def test_modules_are_as_the_site_says(rules: str, variable: str | None, said: list[str]) -> None:
    where = site(f"{BASE}modules: {{{rules}}}\n")
    found = told([*modules(where, {variable: "x"} if variable else {})])
    assert [line.partition(",")[0] for line in found] == said


def test_what_people_had_better_know_is_told() -> None:
    rules = "ssh: {agent_policy_url: https://x/rules}\nremarks: [idle jobs are canceled]\n"
    assert [one.message for one in remarks(site(BASE + rules))] == [
        "idle jobs are canceled",
        "its rules for programs that log in: https://x/rules",
    ]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("Job 3 to start at 1000 using 1 processors on nodes n1 in partition p", "now, on n1"),
        ("Job 3 to start at 8200 using 64 processors on nodes a[1-2]", "in 2:00:00, on a[1-2]"),
        ("Job 3 to start at 2026-11-25T22:30:53 using 1 processors on nodes n1", "at 2026-11-25T"),
        ("nobody knows", "would be taken: nobody knows"),
    ],
)
def test_the_answer_of_a_trial(answer: str, said: str) -> None:
    assert said in starts(answer, 1000.0)


def test_a_site_that_others_inherit_is_not_in_the_way(tmp_path: Path) -> None:
    (found,) = all_sites(Assets())
    assert found.grade == "ok" and int(found.message.split()[0]) > 30
    sites = tmp_path / ".hpcrun/site_configs"
    sites.mkdir(parents=True)
    (sites / "bad.yaml").write_text("id: bad\n")
    bad, rest = all_sites(Assets.of(tmp_path, {}))
    assert (bad.grade, bad.subject) == ("error", "site bad")
    assert rest == found


STORAGE = """storage:
  roots:
    home: {path: /home/ada}
    scratch: {env: SCRATCH, purge: {days: 10}}
    safe: {path: $SCRATCH/kept, writable_on_compute: false}
    none: {}
"""


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("/home/ada/scratch/x", "from which files go after 10 days"),
        ("/home/ada/scratch/kept/x", "where jobs cannot write"),
        ("/home/ada/scratches", None),
        ("/elsewhere", None),
    ],
)
def test_a_folder_is_in_the_root_that_lies_deepest(folder: str, said: str | None) -> None:
    storage = site(BASE + STORAGE).storage
    found = {
        n: place_of(root, {"SCRATCH": "/home/ada/scratch"}) for n, root in storage.roots.items()
    }
    places = {name: place for name, place in found.items() if place is not None}
    assert set(places) == {"home", "scratch", "safe"}
    objected = [message for message, _ in objections(folder, storage, places)]
    assert [text.rpartition(", ")[2] for text in objected] == ([said] if said else [])
    assert innermost("/", places) is None
