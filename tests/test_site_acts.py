"""What single fields of a site file do to a run: to its script, its refusal, or what it is told."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from hpcrun.errors import PlanError, SchedulerError
from hpcrun.plan import Plan
from hpcrun.scheduler.slurm import Slurm
from hpcrun.site import SiteConfig
from hpcrun.workflow.doubts import doubts_of_site, doubts_of_target, jobs_of_jobs
from tests.make_plan import from_yaml, plan, script, site

SCRIPT = "script: train.py\n"
MPI = SCRIPT + "distributed_job_config: {kind: mpi, node_count: 2, process_count_per_node: 2}\n"
GPUS = "resources: {gpus_per_node: 4}\n"


def where(text: str, target: str = "") -> SiteConfig:
    """A site with a target `t`. target: what it says besides its partition."""
    return site(
        f"schema_version: 1\nid: lab\n{text}\n"
        f"targets: {{t: {{partition: p, node: {{gpus: 4}}{target and ', ' + target}}}}}\n"
    )


def of(text: str, rules: str, target: str = "", **around: object) -> Plan:
    return plan(from_yaml(text), where(rules, target), "t", **around)


def lines(made: Plan) -> set[str]:
    return set(script(made).splitlines())


def told(made: Plan, rules: str, target: str = "") -> list[str]:
    """What a submission is told."""
    there = where(rules, target)
    today = date(2026, 11, 26)
    return [*doubts_of_site(made, there, today, "x86_64"), *doubts_of_target(made, there)]


def choices(made: Plan) -> dict[str, tuple[str, str]]:
    return {each.name: (each.value, each.origin) for each in made.choices}


# -- the script -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "directive", "resets"),
    [("all", "ALL", False), ("none", "NONE", True), ("reset", None, True), ("", None, False)],
)
def test_what_a_job_gets_of_the_submissions_environment(
    mode: str, directive: str | None, resets: bool
) -> None:
    found = lines(of(SCRIPT, f"scheduler: {{export: {mode}}}" if mode else ""))
    written = {line for line in found if "--export" in line}
    assert written == ({f"#SBATCH --export={directive}"} if directive else set())
    assert ("export SLURM_EXPORT_ENV=ALL" in found) == resets


def test_variables_are_taken_away_before_the_runs_own_are_set() -> None:
    text = script(of(SCRIPT + "environment_variables: {A: '1'}\n", "launch: {unset: [A, B]}"))
    assert text.index("unset A B\n") < text.index("export A=1\n")


@pytest.mark.parametrize(
    ("rules", "asked", "bound"),
    [
        ("gres_flags: allow-task-sharing", MPI + GPUS, "--gres-flags=allow-task-sharing"),
        ("gres_flags: allow-task-sharing", MPI, None),
    ],
)
def test_srun_is_told_how_gpus_are_shared(rules: str, asked: str, bound: str | None) -> None:
    words = of(asked, f"launch: {{{rules}}}").launch.srun_args
    assert [word for word in words if word.startswith("--gres")] == ([bound] if bound else [])


TORCH = SCRIPT + "distributed_job_config: {kind: pytorch, node_count: 2, process_count: 8}\n"


@pytest.mark.parametrize(
    ("told", "asked", "seen"),
    [
        ("localid", MPI + GPUS, "localid"),
        ("localid", MPI, None),
        ("localid", TORCH.replace("process", "launcher: srun, process") + GPUS, None),
        ("localid", TORCH + GPUS, None),
        ("all", TORCH.replace("process", "launcher: srun, process") + GPUS, "all"),
        ("slurm", MPI + GPUS, None),
    ],
)
def test_which_gpus_a_process_sees(told: str, asked: str, seen: str | None) -> None:
    made = of(asked, f"launch: {{gpu_visibility: {told}}}")
    assert made.launch.gpu_visibility == seen
    assert (f"export HPCRUN_GPU_VISIBILITY={seen}" in lines(made)) == (seen is not None)


@pytest.mark.parametrize(("nodes", "first"), [(2, 20000), (1, 12000)])
def test_a_port_is_one_of_the_sites_range(nodes: int, first: int) -> None:
    asked = MPI.replace("node_count: 2", f"node_count: {nodes}")
    made = of(asked, "launch: {master_port: {first: 20000, last: 20099}}")
    ports = 100 if nodes > 1 else 18000
    formula = f"$(({first} + (${{SLURM_JOB_ID:-$$}} * 7 + ${{HPCRUN_ATTEMPT#*.}}) % {ports}))"
    assert f"HPCRUN_MASTER_PORT={formula}" in lines(made)
    assert choices(made).get("master port") == (
        ("of 20000 to 20099", "site lab") if nodes > 1 else None
    )


def test_gpus_of_tasks() -> None:
    form = "scheduler: {gpu: {form: per_task}}"
    asked = "resources: {gpus_per_node: 4, gpu_type: a100}\n"
    assert "#SBATCH --gpus-per-task=a100:2" in lines(of(MPI + asked, form))
    with pytest.raises(PlanError, match="2 cannot share 3"):
        of(MPI + "resources: {gpus_per_node: 3}\n", form)


@pytest.mark.parametrize(
    ("rules", "asked", "written"),
    [
        ("default: 60G", "", "--mem=60G"),
        ("default: 60G", "resources: {memory: 1G}\n", "--mem=1G"),
        ("default: 2G, flag: mem_per_gpu", GPUS, "--mem-per-gpu=2G"),
        ("default: 2G, flag: mem_per_gpu", "", None),
        ("default: 2G, flag: mem_per_cpu", "resources: {cpus_per_task: 4}\n", "--mem-per-cpu=2G"),
        ("default: 60G", "resources: {exclusive: true}\n", "--mem=0"),
        ("default: 60G, mode: required", "", "--mem=60G"),
        ("default: 60G, mode: required", "resources: {exclusive: true}\n", "--mem=60G"),
    ],
)
def test_memory_of_runs_that_name_none(rules: str, asked: str, written: str | None) -> None:
    found = lines(of(SCRIPT + asked, f"scheduler: {{memory: {{{rules}}}}}"))
    assert [line[8:] for line in found if "--mem" in line] == ([written] if written else [])


def test_memory_by_default_is_no_more_than_there_is() -> None:
    there = site(
        "schema_version: 1\nid: lab\nscheduler: {memory: {default: 100G, flag: mem_per_cpu}}\n"
        "targets: {t: {node: {cpus: 64, memory: 500G}}}\n"
    )
    asked = SCRIPT + "resources: {cpus_per_task: 8}\n"
    with pytest.raises(PlanError, match=r"800G of memory, 100G as the site has it \(mem_per_cpu\)"):
        plan(from_yaml(asked), there, "t")
    plan(from_yaml(asked.replace("}", ", memory: 1G}")), there, "t")


DISKS = """storage:
  roots:
    nvme: {path: /tmp, scope: node, request: {gres: 'nvme:1', constraint: nvme, directive: --bb=x}}
    home: {env: HOME}
scheduler: {gpu: {form: gres}}"""


@pytest.mark.parametrize(
    ("asked", "written"),
    [
        (SCRIPT, {"--gres=gpu:4", "--constraint=ib"}),
        (SCRIPT + "working_directory: node\n", None),
        (SCRIPT + "outputs: {model: /lab/model}\n", None),
        ("storage", None),
    ],
)
def test_disks_that_a_job_must_ask_for(asked: str, written: set[str] | None) -> None:
    more = ", storage: [nvme]" if asked == "storage" else ""
    text = SCRIPT if more else asked
    text += f"resources: {{gpus_per_node: 4, constraint: ib{more}}}\n"
    found = lines(of(text, DISKS))
    flags = ("--gres", "--constraint", "--bb")
    asked_for = {line[8:] for line in found if line[8:].startswith(flags)}
    assert asked_for == (written or {"--gres=gpu:4,nvme:1", "--constraint=ib&nvme", "--bb=x"})
    with pytest.raises(PlanError, match=r"no storage 'nvm' that a job asks for .*`nvme`"):
        of(SCRIPT + "resources: {storage: [nvm]}\n", DISKS)
    with pytest.raises(PlanError, match="no storage 'home'"):
        of(SCRIPT + "resources: {storage: [home]}\n", DISKS)


def test_an_account_that_a_variable_names() -> None:
    rules = "scheduler: {account: {required: true, variable: MY_PROJECT}}"
    made = of(SCRIPT, rules, environ={"MY_PROJECT": "p1"})
    assert choices(made)["account"] == ("p1", "site lab, $MY_PROJECT")
    assert "#SBATCH --account=p1" in lines(made)
    own = of(SCRIPT + "resources: {account: mine}\n", rules, environ={"MY_PROJECT": "p1"})
    assert own.job.account == "mine"
    with pytest.raises(PlanError, match=r"set resources.account, or MY_PROJECT where you submit"):
        of(SCRIPT, rules)


# -- refusals -------------------------------------------------------------------------------------

TASKS = SCRIPT + "distributed_job_config: {kind: parallel_task, task_count: 9%s}\n"


def test_tasks_at_once_are_as_many_as_the_site_runs() -> None:
    rules = "scheduler: {max_parallel: 4, max_running_jobs: 3}"
    made = of(TASKS % "", rules)
    assert made.tasks is not None and made.tasks.at_once == 4
    assert choices(made)["tasks that run at a time"] == ("3", "site lab")
    fewer = of(TASKS % ", max_parallel: 2", rules)
    assert fewer.tasks is not None and fewer.tasks.at_once == 2
    assert "tasks that run at a time" not in choices(fewer)
    with pytest.raises(PlanError, match="5 tasks at once asked of target lab/t, which runs 4"):
        of(TASKS % ", max_parallel: 5", rules)


@pytest.mark.parametrize("field", ["modules: [gcc]", "module_profile: torch"])
def test_a_site_without_modules_refuses_them(field: str) -> None:
    rules = "modules: {system: none, profiles: {torch: [t]}}"
    with pytest.raises(PlanError, match="lab has no modules"):
        of(f"{SCRIPT}environment: {{{field}}}\n", rules)
    assert of(SCRIPT, rules)


def test_jobs_submit_no_jobs_where_only_login_hosts_may() -> None:
    inside = {"SLURM_JOB_ID": "7"}
    refused = jobs_of_jobs(where("scheduler: {submit_from: login}"), inside)
    assert isinstance(refused, SchedulerError)
    assert "takes jobs from its login hosts alone, and this is within job 7" in str(refused)
    assert jobs_of_jobs(where("scheduler: {submit_from: login}"), {}) is None
    assert jobs_of_jobs(where(""), inside) is None


def test_sacct_is_not_asked_where_it_knows_nothing(tmp_path: Path) -> None:
    for name in ("sacct", "scontrol"):
        file = tmp_path / name
        file.write_text(
            f"#!/bin/sh\necho {name} >> {tmp_path}/asked\necho Invalid job id >&2\nexit 1\n"
        )
        file.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    assert list(Slurm(environ=environ, accounting=False).lives("7")) == []
    assert (tmp_path / "asked").read_text() == "scontrol\n"
    with pytest.raises(SchedulerError, match="sacct"):
        Slurm(environ=environ).lives("7")


# -- what is told ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "asked", "said"),
    [
        ("default: false", "", "only those that ask for it are requeued"),
        ("default: false", "requeue: {allowed: true}\n", None),
        ("default: true", "", None),
        ("default: true", "requeue: {allowed: false}\n", "it would end there"),
        ("notice_seconds: 120", "stop: {checkpoint_time: 3m}\n", "120 s after they are told"),
        ("notice_seconds: 120", "stop: {checkpoint_time: 2m}\n", None),
    ],
)
def test_what_becomes_of_jobs_that_are_pushed_off(rules: str, asked: str, said: str | None) -> None:
    site_rules = f"scheduler: {{requeue: {{{rules}}}}}"
    for target in ("preemptible: true", ""):
        made = of(SCRIPT + asked, site_rules, target)
        found = told(made, site_rules, target)
        assert len(found) == (said is not None and target != ""), found
        assert all(str(said) in line for line in found)
        assert ("preemption" in choices(made)) == (target != "")


def test_the_contract_of_preemption_is_told_with_the_plan() -> None:
    rules = "requeue: {default: false, signal: TERM, notice_seconds: 300, guaranteed_seconds: 600}"
    made = of(SCRIPT, f"scheduler: {{{rules}}}", "preemptible: true")
    assert choices(made)["preemption"] == (
        "not in the first 600 s; TERM 300 s before the end; requeued only if told",
        "site lab",
    )


def test_environments_that_had_better_be_packed() -> None:
    rules = "storage: {pack_environment: sbcast}"
    asked = MPI + "environment: {virtual_environment: /venv}\n"
    assert told(of(asked, rules), rules) == [
        "lab wants environments on the nodes' own disks: environment.pack: sbcast"
    ]
    assert told(of(MPI, rules), rules) == []
    assert told(of(asked.replace("node_count: 2", "node_count: 1"), rules), rules) == []


def test_disks_that_are_memory() -> None:
    rules = "storage: {roots: {tmp: {path: /tmp, scope: node, counts_as_memory: true}}}"
    assert told(of(SCRIPT + "working_directory: node\n", rules), rules) == [
        "what lies in /tmp (tmp) counts as memory of the job"
    ]
    assert told(of(SCRIPT, rules), rules) == []
