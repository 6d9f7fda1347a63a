"""From what is asked and what the site is to a Plan: each value and its origin."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from hpcrun.reading import Origin, Read
from hpcrun.resolve import resolve
from tests.make_plan import (
    AROUND,
    RUN_ID,
    SCRIPT,
    SDK,
    SITE,
    choices,
    from_yaml,
    of_site,
    plan,
    plan_of,
    refused,
    site,
    with_scratch,
)

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
    assert choices(plan_of(FULL)) == {
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


def test_of_a_site_that_a_target_wants_otherwise_both_are_named() -> None:
    wants = "    partition: gpu\n    override: {setup: [source /etc/gpu.sh]}\n"
    where = SITE.replace("    partition: gpu\n", wants)
    told = choices(plan_of(SCRIPT + "distributed_job_config: {kind: mpi, node_count: 2}\n", where))
    assert told["variable NCCL_SOCKET_IFNAME"] == ("ib0", "site lab, as its target gpu wants it")
    assert told["partition"] == ("gpu", "target lab/gpu")


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
    assert choices(plan_of(SCRIPT, where)) == {
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
    made = plan_of(SCRIPT + f"resources: {resources}\n")
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
    made = plan_of(FULL)
    told = " ".join(f"{name} {value}" for name, (value, _) in choices(made).items()).lower()
    own = ("--job-name", "--comment", "--chdir", "--output", "--open-mode", "--exclusive")
    for line in made.directives:
        if line.flag not in own:
            value = (line.value or "").lower().removeprefix("gpu:").split(":")[0]
            assert value in told, line


def test_resolving_is_a_function_of_its_arguments() -> None:
    asked = from_yaml(FULL)
    before = asked.value.copy()
    first = resolve(asked, site(), "gpu", AROUND, RUN_ID, SDK)
    assert resolve(asked, site(), "gpu", AROUND, RUN_ID, SDK) == first
    assert asked.value == before


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
    made = plan_of(SCRIPT + text, environ=environ)
    assert made.launch.command[0] == made.launch.python == python
    assert (made.setting.prefix, made.setting.prefix_variable) == (prefix, variable)


def test_a_profile_is_a_named_set_of_the_sites_modules() -> None:
    modules = "modules: {load: [base/1], profiles: {torch: [cuda/12, torch/2], mpi: [ompi]}}\n"
    where = SITE.replace("launch:\n", f"{modules}launch:\n")
    text = SCRIPT + "environment: {module_profile: %s, modules: [own]}\n"
    made = plan_of(text % "torch", where, environ={"VIRTUAL_ENV": "/v"})
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
    made = plan_of(
        SCRIPT + "environment: {name: e, environment_variables: {B: environment, C: environment}}\n"
        "environment_variables: {C: run}\n",
        where,
    )
    assert made.setting.variables == {"A": "site", "B": "environment", "C": "run"}


# -- the rules of a site --------------------------------------------------------------------------


def directives(text: str, where: str) -> list[str]:
    return [directive.text for directive in plan_of(SCRIPT + text, where).directives]


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
    one = plan_of(SCRIPT, where).setting.variables
    two = SCRIPT + "resources: {node_count: 2, gpus_per_node: 1}\n"
    more = plan_of(two, where).setting.variables
    assert (one, more) == ({"A": "one"}, {"A": "more", "B": "gpu"})


def test_the_targets_model_is_asked_for_where_one_is_required() -> None:
    made = plan_of(SCRIPT + "resources: {gpus_per_node: 1}\n", of_site(gpu="{typed: required}"))
    assert made.job.gpu_type == "a100"
    assert choices(made)["gpu type"] == ("a100", "target lab/gpu")


# -- where the job works --------------------------------------------------------------------------


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
    made = plan_of(text, with_scratch("$SCRATCH/"), environ={"SCRATCH": "/scratch/ada"})
    assert (made.work, made.work_is_shared) == (work, shared)


def test_folders_of_caches_are_variables_of_the_job() -> None:
    where = SITE + "storage: {caches: {HF_HOME: $SCRATCH/hf, TORCH_HOME: $NOWHERE/torch}}\n"
    text = SCRIPT + "environment_variables: {TORCH_HOME: /mine}\n"
    made = plan_of(text, where, environ={"SCRATCH": "/scratch/ada"})
    variables = made.setting.variables
    assert variables == {"HF_HOME": "/scratch/ada/hf", "TORCH_HOME": "/mine"}
