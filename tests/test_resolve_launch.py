"""How a run is started: its launcher, its sizes, its words, and the site's rules for all that."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcrun.config import MpiConfiguration, PyTorchConfiguration, RunConfiguration
from hpcrun.errors import PlanError
from tests.make_plan import (
    SCRIPT,
    SITE,
    choices,
    from_yaml,
    plan,
    plan_of,
    refused,
    script,
    shipped,
)
from tests.nasty import words


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
    assert plan_of(text).launch.placeholders == before


def test_a_placeholder_that_is_none_is_refused_at_its_line() -> None:
    text = "script: a.py\narguments:\n  - --of=${{rank}}\n  - --to=${{local_rnk}}\n"
    assert refused(text) == [
        "run.yaml:4: there is no placeholder ${{local_rnk}} (did you mean `local_rank`?; as a text"
        " it is written $${{local_rnk}})"
    ]
    assert refused("command: [a, '${{inputs.data}}']\n")[0].startswith("run.yaml:1: ")


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
    made = plan_of(SCRIPT + "resources: {node_count: 3}\n")
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
    mpi = plan_of(SCRIPT + "distributed_job_config: {kind: mpi, node_count: 2}\n")
    assert mpi.launch.mpi_type == "pmix"
    assert mpi.setting.variables == {"OMPI_MCA_pml": "ucx", "NCCL_SOCKET_IFNAME": "ib0"}
    other = plan_of(SCRIPT + "distributed_job_config: {kind: pytorch, node_count: 1}\n")
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
    assert plan_of(text).launch.command == expected


@given(st.lists(words, min_size=1, max_size=6))
@settings(max_examples=60)
def test_words_stay_as_they_are(given_words: list[str]) -> None:
    made = plan(RunConfiguration(command=given_words))
    assert made.launch.command == tuple(given_words)


def test_a_discouraged_launcher_is_told() -> None:
    where = SITE.replace("launch:\n", "launch:\n  discouraged: {torchrun: takes minutes here}\n")
    text = SCRIPT + "distributed_job_config: {kind: pytorch, process_count: 2, node_count: 2}\n"
    told = choices(plan_of(text, where))
    assert told["launcher torchrun is discouraged"] == ("takes minutes here", "site lab")


HOROVOD = "distributed_job_config: {kind: horovod, node_count: 2}\n"


def test_horovod_has_a_process_for_each_gpu_and_speaks_over_mpi() -> None:
    made = plan_of(SCRIPT + HOROVOD + "resources: {gpus_per_node: 4}\n")
    told = choices(made)
    assert (made.launch.launcher, made.launch.processes_per_node) == ("srun", 4)
    assert (made.launch.mpi_type, made.launch.world_size) == ("pmix", 8)
    assert told["processes per node"] == ("4", "one for each GPU")
    assert told["variable HOROVOD_CONTROLLER"] == ("mpi", "run.yaml:2")
    assert told["variable OMPI_MCA_pml"] == ("ucx", "site lab")
    assert plan_of(SCRIPT + HOROVOD).launch.processes_per_node == 1
    given = HOROVOD.replace("horovod,", "horovod, process_count_per_node: 2,")
    assert plan_of(SCRIPT + given + "resources: {gpus_per_node: 4}\n").launch.world_size == 4


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
    made = plan_of(text, where)
    assert made.launch.mpi_type == "pmi2" and "--mpi=pmi2" in script(made)
    assert plan_of(text).launch.mpi_type == "pmix"
    assert plan_of(text.replace(", implementation: mpich", ""), where).launch.mpi_type == "pmix"
    assert refused(text.replace("mpich", "cray"), where) == [
        "run.yaml:2: lab does not say how srun starts cray, only mpich, openmpi (add it to"
        " launch.mpi.types in the site file, or use mpirun)"
    ]
    over = text.replace("mpich", "cray, launcher: mpirun")
    assert plan_of(over, where).launch.mpi_type is None


def test_a_tensorflow_cluster() -> None:
    made = plan_of(SCRIPT + "distributed_job_config: {kind: tensorflow, worker_count: 3}\n")
    launch = made.launch
    assert (launch.launcher, launch.nodes, launch.tasks_per_node) == ("tensorflow", 3, 1)
    assert (launch.parameter_servers, launch.world_size) == (1, 4)
    assert choices(made)["parameter servers"] == ("1", "run.yaml:2")
    with pytest.raises(PlanError) as caught:
        plan(from_yaml(SCRIPT + "distributed_job_config: {kind: tensorflow}\n"), shipped("local"))
    assert "run.yaml:2: the processes of a TensorFlow cluster are started by srun" in str(
        caught.value
    )


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
    made = plan_of(f"{SCRIPT}resources: {{{text}{mpi}", where)
    assert bound in made.launch.srun_args
    assert choices(made)["order of GPUs"] == ("reversed", "target lab/gpu")
    assert "export HPCRUN_GPU_ORDER=reversed\n" in script(made)
