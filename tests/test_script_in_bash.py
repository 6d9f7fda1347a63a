"""Scripts that run in bash: what the agent is handed, and the variables that it finds."""

from __future__ import annotations

import os
import socket
import string
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcrun.config import MpiConfiguration, PyTorchConfiguration, RunConfiguration
from hpcrun.plan import Plan
from tests.ground import Ground, Seen, make_ground
from tests.make_plan import SITE, TOLD, script
from tests.nasty import BYTES, WORDS, words


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return make_ground(tmp_path_factory.mktemp('it\'s a "ground"'))


def command_of(seen: Seen, made: Plan) -> tuple[str, ...]:
    """The command behind the agent's own words and the task's shim."""
    assert seen.words[1:7] == (made.agent_python, "-I", "-S", made.sdk, "run", "--")
    return seen.words[7:]


def shim(made: Plan) -> str:
    return f"{made.sdk}/hpcrun/agent/task.sh"


many = settings(
    max_examples=40,
    suppress_health_check=[
        *settings.default.suppress_health_check,
        HealthCheck.function_scoped_fixture,
    ],
)


@many
@given(st.lists(words, max_size=8), st.sampled_from(["", SITE]))
def test_words_reach_the_agent_unchanged(
    ground: Ground, given_words: list[str], where: str
) -> None:
    made = ground.plan(RunConfiguration(script="train.py", arguments=given_words), where)
    seen = ground.run(script(made), SLURM_JOB_NODELIST="n[1-2]")
    assert command_of(seen, made) == ("sh", shim(made), "python3", "train.py", *given_words)


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
def test_all_nasty_words_reach_the_agent_in_each_locale(ground: Ground, locale: str) -> None:
    made = ground.plan(RunConfiguration(command=["show", *WORDS, *BYTES]), "")
    seen = ground.run(script(made), LANG=locale, LC_ALL=locale)
    assert command_of(seen, made)[2:] == ("show", *WORDS, *BYTES)


@many
@given(st.lists(words, max_size=8))
def test_srun_and_mpirun_get_words_that_start_the_task(
    ground: Ground, given_words: list[str]
) -> None:
    for launcher in ("srun", "mpirun"):
        config = RunConfiguration(command=["echo-words", *given_words])
        config.distributed_job_config = MpiConfiguration(2, 2, launcher)
        made = ground.plan(config)
        handed = command_of(ground.run(script(made), SLURM_JOB_NODELIST="n[1-2]"), made)
        assert handed[0] == launcher
        assert ":" not in handed
        first = handed.index("bash" if ":" in given_words else "sh")
        assert all(
            word.startswith("-") or word[:1].isdigit() or ":" in word or word == "none"
            for word in handed[1:first]
        )
        task = handed[first:]
        if ":" in given_words:
            assert task[:2] == ("bash", "-c") and len(task) == 3
            task = ("sh", *_words_of(ground, task[2])[1:])
        assert task == ("sh", shim(made), "echo-words", *given_words)


def _words_of(ground: Ground, line: str) -> tuple[str, ...]:
    """The words that a line `exec sh WORD...` starts."""
    assert line.startswith("exec sh ")
    found = ground.start(["bash", "-c", f"exec echo-words {line.removeprefix('exec sh ')}"])
    return found[1:]


@many
@given(st.lists(words, max_size=8), st.sampled_from([1, 2]))
def test_torchrun_gets_words_that_it_makes_the_command_of(
    ground: Ground, given_words: list[str], nodes: int
) -> None:
    config = RunConfiguration(command=["show", *given_words])
    config.distributed_job_config = PyTorchConfiguration("Gloo", 2 * nodes, nodes, "torchrun")
    config.environment = "/venv"
    made = ground.plan(config)
    made = replace(made, launch=replace(made.launch, python="echo-words"))
    handed = command_of(ground.run(script(made), SLURM_JOB_NODELIST="n[1-2]"), made)
    started = ground.start(handed[handed.index("sh") :], SLURM_NODEID="1")
    # As torch.distributed.elastic.utils.macros does (2.13).
    last = started.index("--no-python")
    assert started[last + 1] == "--"
    task = tuple(string.Template(w).safe_substitute(local_rank="3") for w in started[last + 2 :])
    assert "is_host=false" in started
    if ":" in given_words:
        task = ("sh", *_words_of(ground, task[2])[1:])
    assert task == ("sh", shim(made), "show", *given_words)


def port_of(ground: Ground, job: int, **more: str) -> int:
    seen = ground.run(script(ground.plan(RunConfiguration(script="a.py"))), **job_of(job), **more)
    return int(seen.environ["HPCRUN_MASTER_PORT"])


def job_of(number: int) -> dict[str, str]:
    """What Slurm tells a job of one node."""
    return {"SLURM_JOB_ID": str(number), "SLURM_JOB_NODELIST": "n1"}


@pytest.mark.parametrize("has_ss", [True, False])
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
def test_a_port_that_is_taken_is_not_given_to_a_job(
    ground: Ground, tmp_path: Path, host: str, has_ss: bool
) -> None:
    (tmp_path / "profile").write_text("" if has_ss else "ss() { return 127; }\n")
    env = {"BASH_ENV": str(tmp_path / "profile")}
    job = 100 * os.getpid()  # others may be at the same test, and have neighbouring numbers
    port = port_of(ground, job, **env)
    assert 12000 <= port < 30000
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as taken:
        taken.bind((host, port))
        taken.listen()
        assert port_of(ground, job, **env) == port + 1
        assert port_of(ground, job + 1, **env) == 12000 + (port - 12000 + 7) % 18000


@pytest.mark.parametrize("launcher", ["torchrun", "torchrun_static"])
@pytest.mark.parametrize(("own", "threads"), [({}, "3"), ({"OMP_NUM_THREADS": "7"}, "7")])
def test_torchruns_processes_have_the_threads_of_their_cpus(
    ground: Ground, launcher: str, own: dict[str, str], threads: str
) -> None:
    config = RunConfiguration(script="a.py", environment_variables=own)
    config.distributed_job_config = PyTorchConfiguration("Gloo", 4, 2, launcher)
    config.resources.cpus_per_task = 3
    seen = ground.run(script(ground.plan(config)), **job_of(7))
    assert seen.environ["OMP_NUM_THREADS"] == threads


def test_the_site_tells_where_the_first_process_is_reached(ground: Ground) -> None:
    asked = RunConfiguration(script="a.py", distributed_job_config=MpiConfiguration(1, 2))
    told = {"HEAD_NODE": "n1-fast", "FREE_PORT": "4711", **job_of(7)}
    environ = ground.run(script(ground.plan(asked, TOLD)), **told).environ
    assert environ["HPCRUN_MASTER_ADDR"] == "n1-fast"
    assert environ["HPCRUN_MASTER_PORT"] == "4711"
    for port, is_there in (("{number: 3442}", "3442"), ('{command: "echo 47; true"}', "47")):
        text = SITE.replace(
            "launch:\n", f"launch:\n  master_address: {{suffix: i}}\n  master_port: {port}\n"
        )
        environ = ground.run(script(ground.plan(asked, text)), **job_of(7)).environ
        assert environ["HPCRUN_MASTER_ADDR"] == "n1i"
        assert environ["HPCRUN_MASTER_PORT"] == is_there


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("master_port: {variable: FREE_PORT}", "FREE_PORT tells no port"),
        ("master_port: {command: echo none}", "echo none tells no port"),
        ("master_address: {variable: HEAD_NODE}", "HEAD_NODE tells no master address"),
        ("master_address: {suffix: .invalid, resolve: ip}", "n1.invalid has no address"),
    ],
)
def test_a_job_whose_site_does_not_tell_it_says_so(ground: Ground, rules: str, said: str) -> None:
    asked = RunConfiguration(script="a.py", distributed_job_config=MpiConfiguration(1, 2))
    made = ground.plan(asked, SITE.replace("launch:\n", f"launch:\n  {rules}\n"))
    file, whole = ground.root / "script.sh", {"PATH": ground.path}
    ground.clear()
    file.write_text(script(made))
    done = subprocess.run(
        ["bash", file], env={**whole, **job_of(7)}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"hpcrun: {said}")


def test_on_one_node_the_first_process_is_here(ground: Ground) -> None:
    environ = ground.run(
        script(ground.plan(RunConfiguration(script="a.py"), TOLD)), **job_of(7)
    ).environ
    assert environ["HPCRUN_MASTER_ADDR"] == "127.0.0.1"
    assert 12000 <= int(environ["HPCRUN_MASTER_PORT"]) < 30000


def test_azure_mls_names_of_the_first_node(ground: Ground) -> None:
    names = ("AZ_BATCH_MASTER_NODE", "AZ_BATCHAI_MPI_MASTER_NODE")
    for nodes, kind in ((1, MpiConfiguration), (2, MpiConfiguration), (2, PyTorchConfiguration)):
        made = ground.plan(
            RunConfiguration(script="a.py", distributed_job_config=kind(node_count=nodes))
        )
        environ = ground.run(script(made), **job_of(7)).environ
        port = environ["HPCRUN_MASTER_PORT"]
        expected = {
            (1, MpiConfiguration): (None, "127.0.0.1"),
            (2, MpiConfiguration): (f"n1:{port}", "n1"),
            (2, PyTorchConfiguration): (None, None),
        }
        assert tuple(map(environ.get, names)) == expected[nodes, kind]


@many
@given(st.dictionaries(st.from_regex(r"\A[A-Z_][A-Z0-9_]{3,9}\Z"), words, max_size=5))
def test_variables_reach_the_command_unchanged(ground: Ground, given: dict[str, str]) -> None:
    given = {f"MY_{name}": value for name, value in given.items()}
    config = RunConfiguration(script="a.py", environment_variables=given)
    seen = ground.run(script(ground.plan(config, "")))
    assert {name: seen.environ[name] for name in given} == given


@many
@given(st.text("ab '\"\\$`\n;#-+&é", min_size=1, max_size=30))
def test_a_line_is_handed_to_bash_as_it_is(ground: Ground, line: str) -> None:
    made = ground.plan(RunConfiguration(command=line), "")
    seen = ground.run(script(made))
    assert command_of(seen, made)[2:] == ("bash", "-c", "--", line)


@pytest.mark.parametrize("line", ["-x; echo a", "+x", "--version", "echo '-'"])
def test_a_line_that_begins_with_a_dash_is_no_option(ground: Ground, line: str) -> None:
    made = ground.plan(RunConfiguration(command=line), "")
    words_of_line = made.launch.command
    done = subprocess.run(list(words_of_line), capture_output=True, text=True)
    expected = subprocess.run(["bash"], input=line, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (expected.returncode, expected.stdout)


def test_a_secret_is_read_without_tracing(ground: Ground, tmp_path: Path) -> None:
    key = tmp_path / "it's the key"
    key.write_text("planted $(id)\nof two lines\n")
    config = RunConfiguration(script="a.py", secrets={"KEY": str(key)})
    text = SITE.replace("default_target", "setup: [set -x]\ndefault_target")
    made = ground.plan(config, text)
    file = ground.root / "traced.sh"
    rendered = script(made)
    assert "planted" not in rendered
    file.write_text(rendered.replace("\nset -x\n", "\nset -x\necho traced\n"))
    env = {"PATH": ground.path, "SLURM_JOB_NODELIST": "n[1-2]"}
    ground.clear()
    done = subprocess.run(["bash", str(file)], env=env, capture_output=True, text=True)
    assert "+ echo traced" in done.stderr
    assert "planted" not in done.stdout + done.stderr
    assert ground.seen().environ["KEY"] == "planted $(id)\nof two lines"


def test_a_secret_that_is_gone_ends_the_job(ground: Ground) -> None:
    made = ground.plan(RunConfiguration(script="a.py", secrets={"KEY": "/no/such key"}), "")
    file = ground.root / "gone.sh"
    file.write_text(script(made))
    ground.clear()
    done = subprocess.run(["bash", str(file)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "hpcrun: cannot read the secret KEY" in done.stderr
    assert not (ground.record / "words").exists()
