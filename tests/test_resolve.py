"""From what is asked and what the site is to a Plan: each value, its origin, each contradiction."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcrun.config import MpiConfiguration, PyTorchConfiguration, RunConfiguration
from hpcrun.errors import ConfigError, PlanError
from hpcrun.plan import Plan, experiment_name, new_run_id, refusal_of_id, split_target
from hpcrun.reading import Origin, Read
from hpcrun.resolve import resolve
from tests.make_plan import AROUND, RUN_ID, SDK, SITE, from_yaml, plan, script, shipped, site
from tests.nasty import words

SCRIPT = "script: train.py\n"


def of(text: str, where: str = SITE, target: str | None = None, **around: object) -> Plan:
    return plan(from_yaml(text), site(where), target, **around)


def choices(made: Plan) -> Mapping[str, tuple[str, str]]:
    return {choice.name: (choice.value, choice.origin) for choice in made.choices}


def refused(text: str, where: str = SITE, target: str | None = None) -> list[str]:
    """The problems of a request, each with its place."""
    with pytest.raises((PlanError, ConfigError)) as caught:
        of(text, where, target)
    return [str(problem) for problem in caught.value.problems]


# -- placeholders ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("script: a.py\narguments: ['${{rank}}']\n", 2),
        ("command: [a, 'to-${{ node_rank }}']\n", 0),
        ("script: a.py\narguments: ['$${{rank}}']\n", 2),
        ("script: a.py\narguments: ['$rank', '{{rank}}', '${rank}']\n", None),
        ("script: 'a${{rank}}.py'\n", None),
        ("command: 'echo ${{rank}}'\n", None),
    ],
)
def test_where_placeholders_may_stand(text: str, before: int | None) -> None:
    assert of(text).launch.placeholders == before


def test_a_placeholder_that_is_none_is_refused_at_its_line() -> None:
    text = "script: a.py\narguments:\n  - --of=${{rank}}\n  - --to=${{local_rnk}}\n"
    assert refused(text) == [
        "run.yaml:4: there is no placeholder ${{local_rnk}} (did you mean `local_rank`?; as a text"
        " it is written $${{local_rnk}})"
    ]
    assert refused("command: [a, '${{inputs.data}}']\n")[0].startswith("run.yaml:1: ")


# -- every value and where it came from -----------------------------------------------------------

FULL = """\
script: train.py
arguments: [--lr, 1e-3]
compute_target: lab/gpu
experiment: digits
display_name: a try
description: of many
tags: {kind: test}
environment:
  name: mine
  virtual_environment: /venv
  modules: [gcc/12]
  environment_variables: {MODE: fast}
distributed_job_config:
  kind: pytorch
  node_count: 2
  process_count: 8
  launcher: srun
resources:
  gpus_per_node: 4
  gpu_type: A100
  cpus_per_task: 8
  memory: 100G
  exclusive: true
  time: 2h
  partition: other
  qos: high
  account: lab
  constraint: fast
  reservation: course
environment_variables: {MODE: slow, NAME: a b}
secrets: {KEY: /keys/key}
mail: {on: [end], address: a@b}
sbatch:
  switches: "2"
snapshot: {max_bytes: 2G}
source_directory: src
metric_files:
  - logs/**/events.*
  - {pattern: outputs/m.csv, step: epoch}
system_metrics_seconds: 0
"""


def test_each_value_of_a_file_names_its_line() -> None:
    assert choices(of(FULL)) == {
        "target": ("lab/gpu", "run.yaml:3"),
        "experiment": ("digits", "run.yaml:4"),
        "display name": ("a try", "run.yaml:5"),
        "description": ("of many", "run.yaml:6"),
        "tag kind": ("test", "run.yaml:7"),
        "source folder": ("/home/ada/digits", "run.yaml:36"),
        "snapshot max bytes": ("2G", "run.yaml:35"),
        "snapshot max files": ("20000", "default"),
        "nodes": ("2", "run.yaml:15"),
        "launcher": ("srun", "run.yaml:17"),
        "processes per node": ("4", "run.yaml:16"),
        "cpus per task": ("8", "run.yaml:21"),
        "srun arguments": ("--kill-on-bad-exit=1 --wait=60", "site lab"),
        "script": ("train.py", "run.yaml:1"),
        "arguments": ("--lr 1e-3", "run.yaml:2"),
        "mail": ("end", "run.yaml:32"),
        "mail to": ("a@b", "run.yaml:32"),
        "gpus per node": ("4", "run.yaml:19"),
        "gpu type": ("A100", "run.yaml:20"),
        "memory per node": ("100G", "run.yaml:22"),
        "whole nodes": ("True", "run.yaml:23"),
        "time limit": ("0-02:00:00", "run.yaml:24"),
        "partition": ("other", "run.yaml:25"),
        "qos": ("high", "run.yaml:26"),
        "account": ("lab", "run.yaml:27"),
        "constraint": ("fast", "run.yaml:28"),
        "reservation": ("course", "run.yaml:29"),
        "--switches": ("2", "run.yaml:34"),
        "environment": ("mine", "run.yaml:8"),
        "python": ("/venv/bin/python", "run.yaml:8"),
        "modules": ("gcc/12", "run.yaml:11"),
        "variable NCCL_SOCKET_IFNAME": ("ib0", "site lab"),
        "variable MODE": ("slow", "run.yaml:30"),
        "variable NAME": ("a b", "run.yaml:30"),
        "secret KEY": ("in /keys/key", "run.yaml:31"),
        "metric files": ("outputs/m.csv (step epoch)", "run.yaml:39"),
        "system metrics": ("off", "run.yaml:40"),
        "stop": ("0-00:02:00 before the time limit, by Slurm", "default"),
        "requeue exit code": ("42", "default"),
        "attempts at most": ("10", "default"),
        "checkpoints": ("checkpoint[-_.]* *.ckpt", "default"),
        "working directory": ("the run's own folder", "default"),
        "preflight": ("on", "default"),
    }


def test_what_is_not_given_comes_from_the_site_the_target_or_a_default() -> None:
    where = SITE.replace(
        "scheduler:\n",
        "setup: [source /etc/site.sh]\n"
        "modules: {use: [/modules], load: [base/1]}\n"
        "scheduler:\n"
        "  account: {default: pool}\n"
        "  directives: {always: [--hint=nomultithread]}\n",
    ).replace(
        "    qos: normal\n", "    qos: normal\n    account_suffix: _gpu\n    exclusive: true\n"
    )
    assert choices(of(SCRIPT, where)) == {
        "target": ("lab/gpu", "default"),
        "experiment": ("digits", "source folder"),
        "source folder": ("/home/ada/digits", "default"),
        "snapshot max bytes": ("1G", "default"),
        "snapshot max files": ("20000", "default"),
        "nodes": ("1", "default"),
        "launcher": ("plain", "default"),
        "processes per node": ("1", "default"),
        "script": ("train.py", "run.yaml:1"),
        "gpus per node": ("0", "default"),
        "whole nodes": ("True", "target lab/gpu"),
        "time limit": ("0-01:00:00", "target lab/gpu"),
        "partition": ("gpu", "target lab/gpu"),
        "qos": ("normal", "target lab/gpu"),
        "account": ("pool_gpu", "site lab, target lab/gpu"),
        "always": ("--hint=nomultithread", "site lab"),
        "environment": ("default-environment (first python3 on the job's PATH)", "default"),
        "python": ("python3", "default"),
        "setup": ("source /etc/site.sh", "site lab"),
        "module folders": ("/modules", "site lab"),
        "modules": ("base/1", "site lab"),
        "system metrics": ("every 30 s", "default"),
        "stop": ("0-00:02:00 before the time limit, by Slurm", "default"),
        "requeue exit code": ("42", "default"),
        "attempts at most": ("10", "default"),
        "checkpoints": ("checkpoint[-_.]* *.ckpt", "default"),
        "working directory": ("the run's own folder", "default"),
    }


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        ("{memory: 0}", "0 (all of it: on shared nodes the job waits for empty ones)"),
        ("{memory: all, exclusive: true}", "0"),
        ("{memory: 1G}", "1G"),
    ],
)
def test_all_memory_of_a_shared_node_is_told_to_wait(resources: str, told: str) -> None:
    made = of(SCRIPT + f"resources: {resources}\n")
    assert choices(made)["memory per node"] == (told, "run.yaml:2")


def test_values_of_flags_and_of_python_say_so() -> None:
    asked = from_yaml(SCRIPT + "arguments: [a]\n")
    config, origins = asked.value, {**asked.origins, "compute_target": Origin("--target")}
    config.compute_target = "lab"
    config.arguments = ["a", "b c"]
    config.display_name = "by hand"
    found = choices(plan(Read(config, origins)))
    assert found["target"] == ("lab/gpu", "--target")
    assert found["arguments"] == ("a 'b c'", "run.yaml:2, and given")
    assert found["display name"] == ("by hand", "given")


def test_every_directive_is_of_a_choice() -> None:
    """A value in the header that no choice tells of would be one that explain hides."""
    made = of(FULL)
    told = " ".join(f"{name} {value}" for name, (value, _) in choices(made).items()).lower()
    own = ("--job-name", "--comment", "--chdir", "--output", "--open-mode", "--exclusive")
    for line in made.directives:
        if line.flag not in own:
            value = (line.value or "").lower().removeprefix("gpu:").split(":")[0]
            assert value in told, line


# -- launchers and sizes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "launcher", "nodes", "tasks", "processes", "cpus"),
    [
        (None, "plain", 1, 1, 1, None),
        (MpiConfiguration(4, 2), "srun", 2, 4, 4, None),
        (MpiConfiguration(4, 2, "mpirun"), "mpirun", 2, 4, 4, None),
        (PyTorchConfiguration("Gloo", 8, 2), "torchrun", 2, 1, 4, 4),
        (PyTorchConfiguration("Gloo", 8, 2, "srun"), "srun", 2, 4, 4, None),
        (PyTorchConfiguration("Gloo", None, 3), "srun", 3, 1, 1, None),
        (PyTorchConfiguration("Gloo", 1, 1, "plain"), "plain", 1, 1, 1, None),
    ],
)
def test_sizes_follow_from_the_launcher(
    config: MpiConfiguration | PyTorchConfiguration | None,
    launcher: str,
    nodes: int,
    tasks: int,
    processes: int,
    cpus: int | None,
) -> None:
    made = plan(RunConfiguration(script="a.py", distributed_job_config=config))
    found = made.launch
    assert (found.launcher, found.nodes, found.tasks_per_node) == (launcher, nodes, tasks)
    assert (found.processes_per_node, found.cpus_per_task) == (processes, cpus)
    assert found.world_size == nodes * processes
    assert (made.job.nodes, made.job.tasks_per_node) == (nodes, tasks)


def test_a_run_over_several_nodes_runs_once_on_each() -> None:
    made = of(SCRIPT + "resources: {node_count: 3}\n")
    assert (made.launch.launcher, made.launch.nodes, made.launch.world_size) == ("srun", 3, 3)


@given(
    st.integers(1, 8), st.integers(1, 16), st.integers(1, 4), st.sampled_from(["torchrun", "srun"])
)
def test_cpus_of_a_node_are_those_of_its_processes(
    nodes: int, each: int, cpus: int, launcher: str
) -> None:
    config = RunConfiguration(script="a.py")
    config.resources.cpus_per_task = cpus
    config.distributed_job_config = PyTorchConfiguration("Gloo", each * nodes, nodes, launcher)  # type: ignore[arg-type]
    made = plan(config).launch
    assert made.tasks_per_node * (made.cpus_per_task or 1) == each * cpus
    assert made.world_size == nodes * each


def test_only_mpi_gets_the_sites_mpi() -> None:
    mpi = of(SCRIPT + "distributed_job_config: {kind: mpi, node_count: 2}\n")
    assert mpi.launch.mpi_type == "pmix"
    assert mpi.setting.variables == {"OMPI_MCA_pml": "ucx", "NCCL_SOCKET_IFNAME": "ib0"}
    other = of(SCRIPT + "distributed_job_config: {kind: pytorch, node_count: 1}\n")
    assert (other.launch.mpi_type, other.setting.variables) == (None, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("script: train.py\narguments: [a b, 1]\n", ("python3", "train.py", "a b", "1")),
        ("script: -x y.py\n", ("python3", "./-x y.py")),
        ("script: sub/-x.py\n", ("python3", "sub/-x.py")),
        ("command: [-c, '', 1e-3]\n", ("-c", "", "1e-3")),
        ("command: echo 'a'; id\n", ("bash", "-c", "--", "echo 'a'; id")),
    ],
)
def test_commands(text: str, expected: tuple[str, ...]) -> None:
    assert of(text).launch.command == expected


@given(st.lists(words, min_size=1, max_size=6))
@settings(max_examples=60)
def test_words_stay_as_they_are(given_words: list[str]) -> None:
    made = plan(RunConfiguration(command=given_words))
    assert made.launch.command == tuple(given_words)


# -- environments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "environ", "python", "prefix", "variable"),
    [
        ("", {}, "python3", None, "VIRTUAL_ENV"),
        ("", {"VIRTUAL_ENV": "/v"}, "/v/bin/python", "/v", "VIRTUAL_ENV"),
        ("", {"CONDA_PREFIX": "/c"}, "/c/bin/python", "/c", "CONDA_PREFIX"),
        ("", {"VIRTUAL_ENV": "/v", "CONDA_PREFIX": "/c"}, "/v/bin/python", "/v", "VIRTUAL_ENV"),
        ("environment: /w\n", {"VIRTUAL_ENV": "/v"}, "/w/bin/python", "/w", "VIRTUAL_ENV"),
        ("environment: {modules: [py/3]}\n", {"VIRTUAL_ENV": "/v"}, "python3", None, "VIRTUAL_ENV"),
        ("environment: {python: {interpreter_path: /p}}\n", {}, "/p", None, "VIRTUAL_ENV"),
    ],
)
def test_pythons(
    text: str, environ: Mapping[str, str], python: str, prefix: str | None, variable: str
) -> None:
    made = of(SCRIPT + text, environ=environ)
    assert made.launch.command[0] == made.launch.python == python
    assert (made.setting.prefix, made.setting.prefix_variable) == (prefix, variable)


def test_a_profile_is_a_named_set_of_the_sites_modules() -> None:
    modules = "modules: {load: [base/1], profiles: {torch: [cuda/12, torch/2], mpi: [ompi]}}\n"
    where = SITE.replace("launch:\n", f"{modules}launch:\n")
    text = SCRIPT + "environment: {module_profile: %s, modules: [own]}\n"
    made = of(text % "torch", where, environ={"VIRTUAL_ENV": "/v"})
    assert made.setting.modules == ("base/1", "cuda/12", "torch/2", "own")
    assert made.setting.prefix is None
    assert [c.value for c in made.choices if c.name == "modules"] == [
        "base/1", "cuda/12 torch/2", "own",
    ]  # fmt: skip
    assert "has no module profile 'torsh' (did you mean `torch`?)" in str(
        refused(text % "torsh", where)
    )


def test_later_variables_win_over_earlier_ones() -> None:
    where = SITE.replace("launch:\n", "launch:\n  env: {A: site, B: site, C: site}\n")
    made = of(
        SCRIPT + "environment: {name: e, environment_variables: {B: environment, C: environment}}\n"
        "environment_variables: {C: run}\n",
        where,
    )
    assert made.setting.variables == {"A": "site", "B": "environment", "C": "run"}


# -- contradictions -------------------------------------------------------------------------------


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
        of(SCRIPT + text)


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
        of(SCRIPT + text)


def of_site(**rules: str) -> str:
    """The site, with rules for its scheduler."""
    lines = "".join(f"  {name}: {rule}\n" for name, rule in rules.items())
    return SITE.replace("  gpu: {form: gres, typed: optional, types: {A100: a100}}\n", lines)


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
        of(SCRIPT + text, where)


def directives(text: str, where: str) -> list[str]:
    return [directive.text for directive in of(SCRIPT + text, where).directives]


@pytest.mark.parametrize(
    ("text", "where", "written", "unwritten"),
    [
        (
            "resources: {gpus_per_node: 2, gpu_type: A100}\n",
            of_site(gpu="{by_constraint: {A100: gpu80}}"),
            {"--constraint=gpu80", "--gpus-per-node=2"},
            "a100",
        ),
        (
            "resources: {gpus_per_node: 2, gpu_type: A100, constraint: ib}\n",
            of_site(gpu="{by_constraint: {A100: gpu80}}"),
            {"--constraint=ib&gpu80"},
            "a100",
        ),
        ("", of_site(gpu="{none_constraint: NOGPU}"), {"--constraint=NOGPU"}, "gpus"),
        (
            "resources: {gpus_per_node: 3, memory: 10G}\n",
            of_site(memory="{flag: mem_per_gpu}"),
            {"--mem-per-gpu=3414M"},
            "--mem=",
        ),
        (
            "resources: {cpus_per_task: 4, memory: 10G}\n",
            of_site(memory="{flag: mem_per_cpu}"),
            {"--mem-per-cpu=2560M"},
            "--mem=",
        ),
        (
            "resources: {memory: 10G}\n",
            of_site(memory="{flag: mem_per_gpu}"),
            {"--mem=10G"},
            "gpu=",
        ),
        ("resources: {memory: 10G}\n", of_site(memory="{mode: by_gpus}"), set(), "--mem"),
        ("resources: {exclusive: true}\n", of_site(memory="{mode: whole_node}"), set(), "--mem"),
        (
            "resources: {node_count: 2}\n",
            of_site(directives="{always: [--hint=x], multi_node: [--network=y]}"),
            {"--hint=x", "--network=y"},
            "--mem",
        ),
        ("", of_site(directives="{multi_node: [--network=y]}"), set(), "--network"),
    ],
)
def test_a_job_is_asked_for_by_the_sites_rules(
    text: str, where: str, written: set[str], unwritten: str
) -> None:
    found = directives(text, where)
    assert written <= set(found), found
    assert not [line for line in found if unwritten in line]


def test_variables_go_by_nodes_and_gpus() -> None:
    rules = "{single_node_env: {A: one}, multi_node_env: {A: more}, gpu_env: {B: gpu}}"
    where = SITE[: SITE.index("launch:")] + f"launch: {rules}\n" + SITE[SITE.index("targets:") :]
    one = of(SCRIPT, where).setting.variables
    more = of(SCRIPT + "resources: {node_count: 2, gpus_per_node: 1}\n", where).setting.variables
    assert (one, more) == ({"A": "one"}, {"A": "more", "B": "gpu"})


def test_a_discouraged_launcher_is_told() -> None:
    where = SITE.replace("launch:\n", "launch:\n  discouraged: {torchrun: takes minutes here}\n")
    text = SCRIPT + "distributed_job_config: {kind: pytorch, process_count: 2, node_count: 2}\n"
    told = choices(of(text, where))
    assert told["launcher torchrun is discouraged"] == ("takes minutes here", "site lab")


def test_the_targets_model_is_asked_for_where_one_is_required() -> None:
    made = of(SCRIPT + "resources: {gpus_per_node: 1}\n", of_site(gpu="{typed: required}"))
    assert made.job.gpu_type == "a100"
    assert choices(made)["gpu type"] == ("a100", "target lab/gpu")


HOROVOD = "distributed_job_config: {kind: horovod, node_count: 2}\n"


def test_horovod_has_a_process_for_each_gpu_and_speaks_over_mpi() -> None:
    made = of(SCRIPT + HOROVOD + "resources: {gpus_per_node: 4}\n")
    told = choices(made)
    assert (made.launch.launcher, made.launch.processes_per_node) == ("srun", 4)
    assert (made.launch.mpi_type, made.launch.world_size) == ("pmix", 8)
    assert told["processes per node"] == ("4", "one for each GPU")
    assert told["variable HOROVOD_CONTROLLER"] == ("mpi", "run.yaml:2")
    assert told["variable OMPI_MCA_pml"] == ("ucx", "site lab")
    assert of(SCRIPT + HOROVOD).launch.processes_per_node == 1
    given = HOROVOD.replace("horovod,", "horovod, process_count_per_node: 2,")
    assert of(SCRIPT + given + "resources: {gpus_per_node: 4}\n").launch.world_size == 4


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (
            "environment_variables: {HOROVOD_CONTROLLER: gloo}\n",
            3,
            "horovodrun reaches nodes",
        ),
        ("launcher: torchrun", 2, "Horovod speaks over MPI, and torchrun begins none"),
    ],
)
def test_what_horovod_cannot_be_started_by(text: str, line: int, said: str) -> None:
    more = HOROVOD.replace("}", f", {text}}}") if text.startswith("launcher") else HOROVOD + text
    (problem,) = refused(SCRIPT + more)
    assert problem.startswith(f"run.yaml:{line}: ") and said in problem


def test_srun_starts_the_mpi_that_a_run_names_as_the_site_says() -> None:
    where = SITE.replace("type: pmix,", "type: pmix, types: {mpich: pmi2, openmpi: pmix_v4},")
    text = SCRIPT + "distributed_job_config: {kind: mpi, node_count: 2, implementation: mpich}\n"
    made = of(text, where)
    assert made.launch.mpi_type == "pmi2" and "--mpi=pmi2" in script(made)
    assert of(text).launch.mpi_type == "pmix"
    assert of(text.replace(", implementation: mpich", ""), where).launch.mpi_type == "pmix"
    assert refused(text.replace("mpich", "cray"), where) == [
        "run.yaml:2: lab does not say how srun starts cray, only mpich, openmpi (add it to"
        " launch.mpi.types in the site file, or use mpirun)"
    ]
    over = text.replace("mpich", "cray, launcher: mpirun")
    assert of(over, where).launch.mpi_type is None


def test_a_tensorflow_cluster() -> None:
    made = of(SCRIPT + "distributed_job_config: {kind: tensorflow, worker_count: 3}\n")
    launch = made.launch
    assert (launch.launcher, launch.nodes, launch.tasks_per_node) == ("tensorflow", 3, 1)
    assert (launch.parameter_servers, launch.world_size) == (1, 4)
    assert choices(made)["parameter servers"] == ("1", "run.yaml:2")
    with pytest.raises(PlanError) as caught:
        plan(from_yaml(SCRIPT + "distributed_job_config: {kind: tensorflow}\n"), shipped("local"))
    assert "run.yaml:2: the processes of a TensorFlow cluster are started by srun" in str(
        caught.value
    )


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


def test_resolving_is_a_function_of_its_arguments() -> None:
    asked = from_yaml(FULL)
    before = asked.value.copy()
    first = resolve(asked, site(), "gpu", AROUND, RUN_ID, SDK)
    assert resolve(asked, site(), "gpu", AROUND, RUN_ID, SDK) == first
    assert asked.value == before


# -- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [(None, ("local", None)), ("", ("local", None)), ("lab", ("lab", None)), ("a/b", ("a", "b"))],
)
def test_targets_are_a_site_and_a_name(name: str | None, expected: tuple[str, str | None]) -> None:
    assert split_target(name) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("/home/ada/my project!", "my-project"),
        ("/home/ada/日本", "experiment"),
        ("/", "experiment"),
        ("/x/" + "a" * 99, "a" * 64),
        ("/x/-a_", "a"),
    ],
)
def test_an_experiment_is_named_after_its_folder(source: str, expected: str) -> None:
    assert experiment_name(RunConfiguration(), source) == expected
    assert refusal_of_id(new_run_id(expected, 1700000000, "0123abcd"), expected) is None


@pytest.mark.parametrize(
    "run_id",
    [
        "digits",
        "../../x_1700000000_0123abcd",
        "a b_1700000000_0123abcd",
        "digits_1700000000_0123ABCD",
        "other_1700000000_0123abcd",
        "digits_1700000000_0123abcd\n",
        "a\ndigits_1700000000_0123abcd",
    ],
)
def test_ids_by_hand_that_are_none_are_refused(run_id: str) -> None:
    assert refusal_of_id(run_id, "digits") is not None


# -- where the job works --------------------------------------------------------------------------


def with_scratch(folder: str) -> str:
    return f"{SITE}storage: {{node_tmp: /local, scratch: {folder}}}\n"


@pytest.mark.parametrize(
    ("place", "work", "shared"),
    [
        ("history", None, False),
        ("node", "/local/hpcrun-0123abcd-work", False),
        ("scratch", "/scratch/ada/hpcrun-0123abcd-work", True),
    ],
)
def test_where_the_job_works(place: str, work: str | None, shared: bool) -> None:
    text = f"{SCRIPT}working_directory: {place}\n"
    made = of(text, with_scratch("$SCRATCH/"), environ={"SCRATCH": "/scratch/ada"})
    assert (made.work, made.work_is_shared) == (work, shared)


def test_folders_of_caches_are_variables_of_the_job() -> None:
    where = SITE + "storage: {caches: {HF_HOME: $SCRATCH/hf, TORCH_HOME: $NOWHERE/torch}}\n"
    text = SCRIPT + "environment_variables: {TORCH_HOME: /mine}\n"
    made = of(text, where, environ={"SCRATCH": "/scratch/ada"})
    variables = made.setting.variables
    assert variables == {"HF_HOME": "/scratch/ada/hf", "TORCH_HOME": "/mine"}


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


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("exclusive: true, gpus_per_node: 2}\n", "--cpu-bind=mask_cpu:0xf0,0xf"),
        ("gpus_per_node: 2}\n", "--cpu-bind=cores"),
        ("exclusive: true, gpus_per_node: 4}\n", "--cpu-bind=cores"),
    ],
)
def test_whole_nodes_are_bound_by_their_number_of_processes(text: str, bound: str) -> None:
    binds = "launch:\n  cpu_bind: cores\n  cpu_binds: {2: 'mask_cpu:0xf0,0xf'}\n"
    each = "4" if "4" in text else "2"
    mpi = f"distributed_job_config: {{kind: mpi, process_count_per_node: {each}}}\n"
    where = SITE.replace("launch:\n", binds).replace("gpus: 4,", "gpus: 4, gpu_order: reversed,")
    made = of(f"{SCRIPT}resources: {{{text}{mpi}", where)
    assert bound in made.launch.srun_args
    assert choices(made)["order of GPUs"] == ("reversed", "target lab/gpu")
    assert "export HPCRUN_GPU_ORDER=reversed\n" in script(made)
