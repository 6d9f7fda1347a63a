"""What contradicts itself, or what the site does not take: all of it is told, each at its line."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.config import RunConfiguration
from hpcrun.errors import ConfigError, PlanError
from tests.make_plan import (
    SCRIPT,
    SITE,
    from_yaml,
    of_site,
    plan,
    plan_of,
    refused,
    shipped,
    with_scratch,
)


def test_all_contradictions_are_told_at_once_with_both_numbers() -> None:
    assert refused(
        "script: train.py\n"
        "resources:\n"
        "  node_count: 9\n"
        "  gpus_per_node: 8\n"
        "  gpu_type: h100\n"
        "  cpus_per_task: 65\n"
        "  memory: 501G\n"
        "  time: 25h\n"
        "sbatch: {time: 1h, t: 1h}\n"
        "environment_variables: {RANK: 0, A-B: x}\n"
    ) == [
        "run.yaml:3: 9 nodes asked of target lab/gpu, which gives at most 8 (--set "
        "resources.node_count=8, or another target: -t SITE/TARGET)",
        "run.yaml:4: 8 GPUs per node asked of target lab/gpu, whose nodes have 4 (ask for fewer, "
        "or choose another target)",
        "run.yaml:5: GPUs of type h100 asked of target lab/gpu, whose nodes have a100 (choose "
        "another target)",
        "run.yaml:6: 65 CPUs per node asked of target lab/gpu, whose nodes have 64 (ask for fewer "
        "tasks or CPUs per task)",
        "run.yaml:7: 501G of memory asked of target lab/gpu, whose nodes have 500G (ask for less, "
        "or choose another target)",
        "run.yaml:8: a time limit of 1-01:00:00 asked of target lab/gpu, which gives at most "
        "1-00:00:00 (above the limit a job waits for ever instead of failing)",
        "run.yaml:9: --time is hpcrun's own to write (say it in resources.time)",
        "run.yaml:9: 't' is a flag of one letter (write time)",
        "run.yaml:10: the variable RANK is not yours to set (every task is given its own)",
        "run.yaml:10: 'A-B' is no name for an environment variable (letters, digits and _ only, no "
        "digit first)",
    ]


MPI = "distributed_job_config: {kind: mpi, process_count_per_node: 65}\n"


NCCL = (
    "distributed_job_config:\n  kind: pytorch\n  process_count: 8\nresources: {gpus_per_node: 4}\n"
)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("resources: {time: 4m}\n", 2, "of 0-00:04:00 asked of .* wants at least 0-00:05:00"),
        ("max_run_duration_seconds: 60\n", 2, "of 0-00:01:00 .* at least 0-00:05:00"),
        ("resources: {time: soon}\n", 2, "'soon' is no duration"),
        (
            "environment_variables: {PATH: '/x:$PATH'}\n",
            2,
            r"PATH would be '/x:\$PATH' as it stands",
        ),
        ("resources: {memory: '5'}\n", 2, "needs a unit"),
        (MPI, 2, "65 CPUs per node asked of target lab/gpu, whose nodes have 64"),
        (NCCL, 4, "8 processes on each node for NCCL, and 4 GPUs per node"),
        ("resources: {gpu_type: a100}\n", 2, "type a100 asked, but none per node"),
        (
            "distributed_job_config:\n  {kind: mpi, node_count: 2,\n  launcher: plain}\n",
            4,
            "plain starts 1 process, and 2 are asked for",
        ),
        (
            "distributed_job_config: {kind: tensorflow, parameter_server_count: 2}\n",
            2,
            "2 parameter servers for 1 workers",
        ),
        ("distributed_job_config: {kind: mpi, launcher: ../x}\n", 2, "no name of a launcher"),
        (
            "distributed_job_config: {kind: tensorflow}\nstop: {signal: USR2}\n",
            3,
            "USR2 tells parameter servers to end",
        ),
        ("sbatch: {gres: 'gpu:2'}\n", 2, "asks for GPUs"),
        ("sbatch: {parti: x}\n", 2, "short for --partition"),
        ("sbatch: {switches: 1, --switches: 2}\n", 2, "--switches is given twice"),
        ("secrets: {A: /a}\nenvironment_variables: {A: b}\n", 2, "both a variable and a secret"),
        ("secrets:\n  SLURM_X: /a\n", 3, "SLURM_X is not yours"),
        ("environment:\n  environment_variables:\n    UID: 0\n", 4, "UID is not yours"),
    ],
)
def test_a_contradiction_is_told_at_its_line(text: str, line: int, said: str) -> None:
    (problem,) = refused(SCRIPT + text)
    assert problem.startswith(f"run.yaml:{line}: ")
    with pytest.raises((PlanError, ConfigError), match=said):
        plan_of(SCRIPT + text)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("resources: {time: soon}\n", ConfigError),
        ("resources: {memory: '5'}\n", ConfigError),
        ("sbatch: {parti: x}\n", ConfigError),
        ("environment_variables: {SLURM_X: a}\n", ConfigError),
        ("resources: {memory: 9T}\n", PlanError),
        ("resources: {gpus_per_node: 9}\n", PlanError),
        ("resources: {gpus_per_node: 9, time: soon}\n", ConfigError),
    ],
)
def test_what_is_malformed_is_told_from_what_the_target_lacks(text: str, kind: type) -> None:
    with pytest.raises(kind):
        plan_of(SCRIPT + text)


def with_time(rules: str) -> str:
    """The site, with other limits of time for its target."""
    return SITE.replace("{default: 1h, max: 1-00:00:00, min: 5m}", f"{{{rules}}}")


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ("", of_site(account="{required: true}"), "lab wants an account"),
        (
            "",
            of_site(account="{required: true, form: project_<number>, list_command: mine}"),
            "set resources.account, such as project_<number>; `mine` lists yours",
        ),
        (
            "resources: {time: 2d}\n",
            SITE.replace("    qos:", "    kind: test\n    qos:"),
            "it is there for tests: above the limit",
        ),
        ("", SITE + "storage: {caches: {HF_HOME: $NOWHERE/hf}}\n", "keeps HF_HOME in .*'NOWHERE'"),
        (
            "resources: {account: proj@cpu}\n",
            SITE.replace("    qos:", "    account_suffix: '@gpu'\n    qos:")
            + "  cpu: {account_suffix: '@cpu'}\n",
            "account proj@cpu is for lab/cpu, by its end @cpu",
        ),
        ("", of_site(memory="{mode: required}"), "lab wants a memory request"),
        (
            "resources: {memory: 1G}\n",
            of_site(memory="{mode: forbidden}"),
            "does not accept memory",
        ),
        (
            "resources: {gpus_per_node: 3}\n",
            of_site(gpu="{allowed_counts: [1, 2, 4]}"),
            "3 GPUs per node asked, but lab gives 1 or 2 or 4",
        ),
        (
            "resources: {gpus_per_node: 1}\n",
            of_site(gpu="{typed: required}").replace("gpu_model: a100, ", ""),
            "lab wants the model of the GPUs",
        ),
        (
            "resources: {gpus_per_node: 1, gpu_type: v100}\n",
            of_site(gpu="{typed: never}").replace("gpu_model: a100, ", ""),
            "lab takes no model of GPUs, and v100 is asked",
        ),
        ("", SITE.replace("{default: 1h,", "{required: true,"), "lab wants a time limit"),
        ("", SITE.replace("{max: 8}", "{min: 2, max: 8}"), "1 nodes asked of .* at least 2"),
        (
            "resources: {gpus_per_node: 2}\ndistributed_job_config: {kind: mpi, node_count: 2}\n",
            of_site(gpu="{whole_nodes: true}"),
            "2 GPUs on each of 2 nodes asked of target lab/gpu, which gives .* all 4",
        ),
        ("", SITE.replace("    qos:", "    gpus_required: true\n    qos:"), "no jobs without GPUs"),
        (
            "resources: {time: 3h, node_count: 2}\n",
            with_time("rules: [{nodes_max: 1, max: 4h}, {max: 2h}]"),
            "0-03:00:00 asked .* at most 0-02:00:00 for so many nodes",
        ),
        (
            "resources: {time: 1h, node_count: 4}\n",
            with_time("node_minutes: 90"),
            "0-01:00:00 asked .* at most 0-00:22:00 for so many nodes",
        ),
        (
            "resources: {time: 1h}\n",
            with_time("max: 30m, node_minutes: 90"),
            "0-01:00:00 asked .* at most 0-00:30:00 for so many nodes",
        ),
        (
            "resources: {time: 1m, node_count: 6}\n",
            with_time("node_minutes: 5"),
            "6 nodes asked of .*, which gives 5 minutes times nodes",
        ),
        (
            "",
            of_site(directives="{forbid: {--partition=gpu: not by its name}}"),
            "lab does not accept --partition=gpu .*not by its name",
        ),
        (
            "sbatch: {hint: x}\n",
            of_site(directives="{always: [--hint=y]}"),
            "--hint would be written twice, as --hint=y and --hint=x",
        ),
        (
            "sbatch: {nodelist: n1}\n",
            of_site(directives="{forbid: {--nodelist: no choice here}}"),
            "lab does not accept --nodelist .no choice here",
        ),
    ],
)
def test_what_the_site_does_not_take_is_refused(text: str, where: str, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        plan_of(SCRIPT + text, where)


def test_local_refuses_what_it_has_not() -> None:
    asked = from_yaml(
        SCRIPT + "distributed_job_config:\n  kind: mpi\n  node_count: 2\n  launcher: srun\n"
    )
    with pytest.raises(PlanError) as caught:
        plan(asked, shipped("local"))
    assert [str(problem) for problem in caught.value.problems] == [
        "run.yaml:4: 2 nodes asked of local, which gives at most 1 (--set "
        "distributed_job_config.node_count=1, or another target: -t SITE/TARGET)",
        "run.yaml:5: target local has no srun (use launcher mpirun or torchrun)",
    ]


@given(st.integers(0, 12), st.integers(1, 12), st.integers(1, 3000), st.integers(1, 800))
def test_a_plan_is_within_its_targets_limits_or_there_is_none(
    gpus: int, nodes: int, minutes: int, memory: int
) -> None:
    config = RunConfiguration(script="a.py")
    config.resources.gpus_per_node, config.resources.node_count = gpus, nodes
    config.resources.time, config.resources.memory = f"{minutes}m", f"{memory}G"
    wrong = [gpus > 4, nodes > 8, not 5 <= minutes <= 1440, memory > 500]
    try:
        made = plan(config)
    except PlanError as error:
        assert len(error.problems) == sum(wrong)
        return
    assert not any(wrong)
    assert (made.job.gpus_per_node, made.job.nodes) == (gpus, nodes)
    assert made.time_limit == made.job.time == timedelta(minutes=minutes)
    assert made.job.memory == memory << 30


@pytest.mark.parametrize(
    ("where", "told"),
    [
        (SITE, "lab tells no scratch folder"),
        (with_scratch("$SCRATCH"), "'SCRATCH' is not set"),
        (with_scratch("scratch"), "no job can work in 'scratch'"),
        (with_scratch("'/a:b'"), "no job can work in '/a:b'"),
    ],
)
def test_scratch_that_is_none_is_refused(where: str, told: str) -> None:
    (problem,) = refused(f"{SCRIPT}working_directory: scratch\n", where)
    assert told in problem
    assert "run.yaml:2" in problem
