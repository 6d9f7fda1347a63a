"""Scripts: whole ones compared byte for byte, checked by bash and shellcheck, and run in bash.

UPDATE_GOLDEN=1 pytest tests/test_script.py    writes tests/golden/*.sh anew; read the difference.
"""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import string
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcrun.assets import Assets
from hpcrun.config import LAUNCHERS, MpiConfiguration, PyTorchConfiguration, RunConfiguration
from hpcrun.errors import TemplateError
from hpcrun.layout import UserPaths
from hpcrun.plan import Plan
from hpcrun.script import header_of
from hpcrun.templating import joined, quote, sandbox
from tests.make_plan import RUN_ID, SITE, from_yaml, plan, script, shipped, site
from tests.nasty import BYTES, WORDS, texts, words

GOLDEN = Path(__file__).with_name("golden")

REQUESTS: Mapping[str, tuple[str, str]] = {
    "plain_local": ("local", "script: train.py\narguments: [--lr, 1e-3, --name, it's a test]\n"),
    "srun_two_nodes": (
        "lab",
        "script: train.py\n"
        "distributed_job_config: {kind: mpi, node_count: 2, process_count_per_node: 4}\n"
        "resources: {gpus_per_node: 4, gpu_type: A100, cpus_per_task: 8, memory: 100G, time: 2h}\n",
    ),
    "node_local": (
        "lab",
        "script: train.py\nworking_directory: node\n"
        "distributed_job_config: {kind: mpi, node_count: 2}\n",
    ),
    "mpirun": (
        "lab",
        "script: train.py\n"
        "distributed_job_config:\n"
        "  {kind: mpi, node_count: 2, process_count_per_node: 2, launcher: mpirun}\n",
    ),
    "torchrun_two_nodes": (
        "lab",
        "script: train.py\narguments: [--epochs, 3]\n"
        "distributed_job_config: {kind: pytorch, node_count: 2, process_count: 8}\n"
        "resources: {gpus_per_node: 4, exclusive: true}\n",
    ),
    "torchrun_static": (
        "lab",
        "script: train.py\narguments: [--out, 'run-${{rank}}.txt']\n"
        "distributed_job_config:\n"
        "  {kind: pytorch, node_count: 2, process_count: 4, launcher: torchrun_static}\n",
    ),
    "torchrun_mpirun": (
        "masters",
        "script: train.py\nresources: {gpus_per_node: 4}\n"
        "distributed_job_config:\n"
        "  {kind: pytorch, node_count: 2, process_count: 8, launcher: torchrun_mpirun}\n",
    ),
    "torchrun_ibrun": (
        "told",
        "script: train.py\nresources: {gpus_per_node: 4}\n"
        "distributed_job_config: {kind: pytorch, node_count: 2, process_count: 8}\n",
    ),
    "srun_bound": (
        "masters",
        "script: train.py\nresources: {gpus_per_node: 4}\n"
        "distributed_job_config:\n"
        "  {kind: pytorch, node_count: 2, process_count: 8, launcher: srun}\n",
    ),
    "ibrun": (
        "tacc",
        "script: train.py\n"
        "distributed_job_config: {kind: mpi, node_count: 2, process_count_per_node: 4}\n",
    ),
    "tensorflow": (
        "lab",
        "script: train.py\n"
        "distributed_job_config: {kind: tensorflow, worker_count: 3, parameter_server_count: 2}\n",
    ),
    "tensorflow_workers": (
        "lab",
        "script: train.py\n"
        "distributed_job_config: {kind: tensorflow, worker_count: 2, parameter_server_count: 0}\n",
    ),
    "packed": (
        "lab",
        "script: train.py\nenvironment: {virtual_environment: /envs/torch, pack: sbcast}\n"
        "distributed_job_config: {kind: mpi, node_count: 2}\n",
    ),
    "packed_mpi4py": (
        "lab",
        "script: train.py\n"
        "environment: {virtual_environment: /envs/torch, pack: mpi4py, pack_failure: fail}\n"
        "distributed_job_config: {kind: pytorch, node_count: 2, process_count: 8}\n"
        "resources: {gpus_per_node: 4}\n",
    ),
    "command_line": (
        "lab",
        'command: |\n  python prepare.py && python train.py --name "it\'s" | tee outputs/log\n'
        "sbatch: {switches: 2, contiguous: null}\n"
        "mail: {on: [end, fail], address: ada@lab.example}\n",
    ),
    "secrets_modules_variables": (
        "lab",
        "script: train.py\n"
        "environment:\n"
        "  {name: gcc, modules: [gcc/12, cuda/12.4], environment_variables: {MODE: fast}}\n"
        'environment_variables: {NAME: a b, LINES_OF: "one\\ntwo"}\n'
        "secrets: {WANDB_API_KEY: /home/ada/it's the key}\n",
    ),
    "a_colon": (
        "lab",
        'command: [python, train.py, ":", it\'s]\n'
        "distributed_job_config: {kind: mpi, node_count: 2}\n",
    ),
}


MASTERS = SITE.replace(
    "launch:\n",
    "launch:\n  cpu_bind: cores\n  gpu_bind: none\n"
    "  master_address: {suffix: i, resolve: ipv4}\n  master_port: {command: get_free_port}\n",
)
TOLD = SITE.replace(
    "launch:\n",
    "launch:\n  pytorch: torchrun_ibrun\n"
    "  master_address: {variable: HEAD_NODE}\n  master_port: {variable: FREE_PORT}\n",
)

SITES = {
    "lab": site(),
    "masters": site(MASTERS),
    "told": site(TOLD),
    "local": shipped("local"),
    "tacc": site(SITE.replace("starter: srun, type: pmix", "starter: ibrun")),
}


def of(name: str) -> Plan:
    where, text = REQUESTS[name]
    packed = "/lab/packs/torch.tar.gz" if name.startswith("packed") else None
    return plan(from_yaml(text), SITES[where], packed=packed)


@pytest.mark.parametrize("name", REQUESTS)
def test_scripts_are_as_they_were(name: str) -> None:
    text = script(of(name))
    file = GOLDEN / f"{name}.sh"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text()


@pytest.mark.parametrize("name", REQUESTS)
def test_bash_and_shellcheck_find_nothing(name: str) -> None:
    file = GOLDEN / f"{name}.sh"
    done = subprocess.run(["bash", "-n", str(file)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    # SC2016: what stands in single quotes is meant to be expanded later.
    words = ["shellcheck", "--exclude=SC2016", str(file)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout == ""


def test_every_golden_file_is_of_a_request() -> None:
    assert sorted(file.stem for file in GOLDEN.glob("*.sh")) == sorted(REQUESTS)


# -- run in bash ----------------------------------------------------------------------------------

AGENT = """\
#!/bin/sh
[ "$4" = run ] || exit 0
cat "/proc/$$/cmdline" > "$HPCRUN_RECORD/words"
cat "/proc/$$/environ" > "$HPCRUN_RECORD/environ"
"""

ECHO = """\
#!/bin/sh
cat "/proc/$$/cmdline" > "$HPCRUN_RECORD/started"
"""


@dataclass(frozen=True)
class Seen:
    """What the agent was handed."""

    words: tuple[str, ...]
    environ: Mapping[str, str]


@dataclass(frozen=True)
class Ground:
    """A folder in which scripts run, with an agent that only looks."""

    root: Path

    def plan(self, config: RunConfiguration, text: str = SITE) -> Plan:
        where = site(text) if text else shipped("local")
        return plan(config, where, workspace=str(self.root), python=str(self.root / "agent"))

    def run(self, text: str, **env: str) -> Seen:
        """Runs a script; what its agent was handed."""
        paths = UserPaths.of(str(self.root), "ada").run(RUN_ID)
        record = Path(paths.record)
        shutil.rmtree(self.root / "users", ignore_errors=True)
        record.mkdir(parents=True)
        file = self.root / "script.sh"
        file.write_text(text, encoding="utf-8")
        whole = {"PATH": f"{self.root}/bin:/usr/bin:/bin", "LANG": "C.UTF-8", **env}
        done = subprocess.run(["bash", str(file)], env=whole, capture_output=True, timeout=30)
        assert (done.returncode, done.stderr) == (0, b"")
        return Seen(split(record / "words"), dict(pair(item) for item in split(record / "environ")))

    def start(self, words: Sequence[str], **env: str) -> tuple[str, ...]:
        """Runs words whose last program is `echo-words`; the words that it was started with."""
        record = Path(UserPaths.of(str(self.root), "ada").run(RUN_ID).record)
        whole = {"PATH": f"{self.root}/bin:/usr/bin:/bin", "HPCRUN_RECORD": str(record), **env}
        done = subprocess.run(list(words), env=whole, capture_output=True, timeout=30)
        assert (done.returncode, done.stderr) == (0, b"")
        return split(record / "started")


def split(file: Path) -> tuple[str, ...]:
    return tuple(os.fsdecode(item) for item in file.read_bytes().split(b"\0")[:-1])


def pair(item: str) -> tuple[str, str]:
    name, _, value = item.partition("=")
    return name, value


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    root = tmp_path_factory.mktemp('it\'s a "ground"')
    (root / "bin").mkdir()
    hosts = "#!/bin/sh\nprintf 'n1\\nn2\\n'\n"
    programs = {"agent": AGENT, "bin/scontrol": hosts, "bin/echo-words": ECHO}
    for name, text in programs.items():
        (root / name).write_text(text)
        (root / name).chmod(0o755)
    return Ground(root)


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


def port_of(ground: Ground, job: int) -> int:
    seen = ground.run(script(ground.plan(RunConfiguration(script="a.py"))), **job_of(job))
    return int(seen.environ["HPCRUN_MASTER_PORT"])


def job_of(number: int) -> dict[str, str]:
    """What Slurm tells a job of one node."""
    return {"SLURM_JOB_ID": str(number), "SLURM_JOB_NODELIST": "n1"}


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
def test_a_port_that_is_taken_is_not_given_to_a_job(ground: Ground, host: str) -> None:
    job = os.getpid()  # others may be at the same test
    port = port_of(ground, job)
    assert 12000 <= port < 30000
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as taken:
        taken.bind((host, port))
        taken.listen()
        assert port_of(ground, job) == port + 1
        assert port_of(ground, job + 1) == 12000 + (port - 12000 + 7) % 18000


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
    file, whole = ground.root / "script.sh", {"PATH": f"{ground.root}/bin:/usr/bin:/bin"}
    Path(made.paths.record).mkdir(parents=True, exist_ok=True)
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


@given(words, texts, texts)
@settings(max_examples=60)
def test_no_value_changes_the_shape_of_a_script(word: str, name: str, text: str) -> None:
    def shape(word: str, name: str, text: str, key: str) -> tuple[str, ...]:
        config = RunConfiguration(script="train.py", arguments=[word])
        config.environment_variables = {"VALUE": word}
        config.display_name, config.description = name, text
        config.tags = {name: text}
        config.secrets = {"KEY": key}
        made = plan(config)
        made = replace(made, workspace="/lab/history")
        lines = script(made).split("\n")
        return tuple(line.split("=")[0].split(" ")[0] for line in lines)

    assert shape(word, name, text, f"/keys/{word}") == shape("word", "name", "text", "/keys/key")


@given(texts, texts)
@settings(max_examples=30)
def test_what_is_for_people_is_not_in_the_script(name: str, text: str) -> None:
    config = RunConfiguration(script="train.py")
    before = script(plan(config))
    config.display_name, config.description, config.tags = name, text, {name: text}
    assert script(plan(config)) == before


def test_a_secret_is_read_without_tracing(ground: Ground, tmp_path: Path) -> None:
    key = tmp_path / "it's the key"
    key.write_text("planted $(id)\nof two lines\n")
    config = RunConfiguration(script="a.py", secrets={"KEY": str(key)})
    text = SITE.replace("default_target", "setup: [set -x]\ndefault_target")
    made = ground.plan(config, text)
    file = ground.root / "traced.sh"
    rendered = script(made)
    assert "planted" not in rendered
    Path(UserPaths.of(str(ground.root), "ada").run(RUN_ID).record).mkdir(
        parents=True, exist_ok=True
    )
    file.write_text(rendered.replace("\nset -x\n", "\nset -x\necho traced\n"))
    env = {"PATH": f"{ground.root}/bin:/usr/bin:/bin", "SLURM_JOB_NODELIST": "n[1-2]"}
    shutil.rmtree(ground.root / "users", ignore_errors=True)
    record = Path(UserPaths.of(str(ground.root), "ada").run(RUN_ID).record)
    record.mkdir(parents=True)
    done = subprocess.run(["bash", str(file)], env=env, capture_output=True, text=True)
    assert "+ echo traced" in done.stderr
    assert "planted" not in done.stdout + done.stderr
    environ = dict(pair(item) for item in split(record / "environ"))
    assert environ["KEY"] == "planted $(id)\nof two lines"


def test_a_secret_that_is_gone_ends_the_job(ground: Ground) -> None:
    made = ground.plan(RunConfiguration(script="a.py", secrets={"KEY": "/no/such key"}), "")
    file = ground.root / "gone.sh"
    file.write_text(script(made))
    record = Path(UserPaths.of(str(ground.root), "ada").run(RUN_ID).record)
    shutil.rmtree(ground.root / "users", ignore_errors=True)
    record.mkdir(parents=True)
    done = subprocess.run(["bash", str(file)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "hpcrun: cannot read the secret KEY" in done.stderr
    assert not (record / "words").exists()


# -- quoting --------------------------------------------------------------------------------------


@given(st.lists(words, max_size=6))
@settings(max_examples=50)
def test_quoted_words_are_what_bash_reads(given_words: list[str]) -> None:
    line = f"printf '%s\\0' - {quote(given_words)}"
    assert "\n" not in line and "\r" not in line
    done = subprocess.run(["bash", "-c", line], capture_output=True, check=True)
    assert done.stdout.split(b"\0")[1:-1] == [os.fsencode(word) for word in given_words]


def test_ordinary_words_stay_readable() -> None:
    assert quote(["train.py", "--lr", "1e-3", "a b", "日本"]) == "train.py --lr 1e-3 'a b' '日本'"
    assert quote("a\nb\t'\\\x7f\u00a0\udcff") == r"$'a\nb\t\'\\\x7f\xc2\xa0\xff'"
    assert quote(["x", 1, 1.5, True]) == "x 1 1.5 true"


@pytest.mark.parametrize("value", ["a\0b", "\ud800", None, {"a": 1}])
def test_what_no_program_can_be_given_is_refused(value: object) -> None:
    with pytest.raises(TemplateError):
        quote(value)


def test_pieces_of_script_are_joined_by_quoting() -> None:
    assert joined((quote("a b"), "; id", 1)) == "'a b''; id'1"
    assert joined(("a", "b")) == "ab"


# -- templates of one's own -----------------------------------------------------------------------


def override(tmp_path: Path, **files: str | bytes) -> Assets:
    """A user's templates; the dots of their names are written as double underscores."""
    for name, text in files.items():
        file = tmp_path / "templates" / f"{name.replace('__', '/')}.sh.j2"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Assets(tmp_path)


EXTENDS = '{% extends "shipped/sbatch.sh.j2" %}\n'


def rendered(assets: Assets, **config: object) -> str:
    return script(plan(RunConfiguration(script="a b.py", **config)), assets)  # type: ignore[arg-type]


def test_a_block_can_be_added_to(tmp_path: Path) -> None:
    text = EXTENDS + (
        "{% block header %}\n{{ super() }}#SBATCH --switches=2\n{% endblock %}\n"
        "{% block stage %}\ncp {{ plan.display_name }}-{{ plan.launch.nodes }} {{ 'a b&c' }}\n"
        "{% endblock %}\n"
    )
    found = rendered(override(tmp_path, sbatch=text), display_name="it's; id")
    assert "#SBATCH --switches=2" in header_of(found)
    assert "\ncp 'it'\"'\"'s; id'-1 'a b&c'\n" in found


@pytest.mark.parametrize("forbidden", ["--nodelist", "--nodelist=n1"])
def test_a_template_writes_nothing_that_the_site_forbids(tmp_path: Path, forbidden: str) -> None:
    header = (
        "{% block header %}\n{{ super() }}#SBATCH -w n1\n#SBATCH --nodelist=n1\n{% endblock %}\n"
    )
    text = SITE.replace(
        "scheduler:\n", f"scheduler:\n  directives: {{forbid: {{{forbidden}: no nodes by name}}}}\n"
    )
    made, assets = (
        plan(RunConfiguration(script="a.py"), site(text)),
        override(tmp_path, sbatch=EXTENDS + header),
    )
    with pytest.raises(TemplateError, match="the site does not accept it") as caught:
        script(made, assets)
    assert caught.value.problems[-1].hint == "no nodes by name"
    script(plan(RunConfiguration(script="a.py"), site(SITE)), assets)


def test_a_launcher_can_be_replaced(tmp_path: Path) -> None:
    assets = override(
        tmp_path, launchers__plain="command=(nice sh {{ task }} {{ launch.command }})\n"
    )
    assert "\ncommand=(nice sh " in rendered(assets)


def test_teardown_runs_after_the_command(tmp_path: Path) -> None:
    text = EXTENDS + "{% block teardown %}\nrm -r {{ plan.display_name }}\n{% endblock %}\n"
    found = rendered(override(tmp_path, sbatch=text), display_name="a 'b'")
    line = next(line for line in found.split("\n") if "--teardown" in line)
    assert "rm -r 'a '\"'\"'b'\"'\"''" in shlex.split(found[found.index(line) :])[4]


def test_safe_opts_out_of_quoting(tmp_path: Path) -> None:
    text = EXTENDS + "{% block stage %}\necho {{ plan.display_name | safe }}\n{% endblock %}\n"
    found = rendered(override(tmp_path, sbatch=text), display_name="$HOME; echo two")
    assert "\necho $HOME; echo two\n" in found


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("{% block header %}\n{% endblock %}\n", 2, "loses '#SBATCH --job-name"),
        ("{% block header %}\necho early\n{{ super() }}{% endblock %}\n", 3, "loses '#SBATCH"),
        ("\n{% block stage %}\n{{ nonsense }}\n{% endblock %}\n", 4, "'nonsense' is undefined"),
        ("{% block stage %}\n{{ plan.nonsense }}\n{% endblock %}\n", 3, "no attribute 'nonsense'"),
        ("{% block stage %}{{ plan.user | upper }}{% endblock %}\n", 2, "No filter named 'upper'"),
        ("{% block stage %}{{ plan.user | e }}{% endblock %}\n", 2, "No filter named 'e'"),
        ("{% block stage %}\r\n{% endblock %}\n", 2, "DOS line ends"),
        ("{% block stage %}\n\n{{ plan.tags }}\n{% endblock %}\n", 4, "a dict cannot be written"),
        ("{% block stage %}\n{{ 1 / 0 }}\n{% endblock %}\n", 3, "division by zero"),
        ("{% block stage %}\n{{ super().upper() }}\n{% endblock %}\n", 3, "unsafe"),
        ("{% block stage %}\n{{ super() % 1 }}\n{% endblock %}\n", 3, "side by side"),
        (
            "{% block stage %}\n{% include 'no.sh.j2' %}\n{% endblock %}\n",
            3,
            "no template 'no.sh.j2'",
        ),
        ("{% block stage %}\n{{ plan.__class__ }}\n{% endblock %}\n", 3, "unsafe"),
        ("{% block stage %}\n{% if %}\n{% endblock %}\n", 3, "Expected an expression"),
        ("{% block header %}{{ super() }}#SBATCH --time=1\n{% endblock %}\n", 2, "stands against"),
        (
            "{% block header %}\n{{ super() }}#SBATCH -p other\n{% endblock %}\n",
            3,
            "stands against",
        ),
        (
            "{% block header %}\n{{ super() }}\n#SBATCH --mem=1G\n{% endblock %}\n",
            4,
            "own to write",
        ),
        ("{% block header %}\n{{ super() }}\n#SBATCH --parti=x\n{% endblock %}\n", 4, "short for"),
        ("{% block header %}\n{{ super() }}\n#SBATCH --x='a\n{% endblock %}\n", 4, "cannot read"),
    ],
)
def test_a_wrong_override_is_refused_at_its_line(
    tmp_path: Path, text: str, line: int, said: str
) -> None:
    with pytest.raises(TemplateError) as caught:
        rendered(override(tmp_path, sbatch=EXTENDS + text))
    problem = caught.value.problems[0]
    assert said in problem.message
    assert (problem.file, problem.line) == (str(tmp_path / "templates/sbatch.sh.j2"), line)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo no shebang\n", "does not begin with #!"),
        ("#!/bin/sh\n", "for bash, not for #!/bin/sh"),
        ('{% extends "sbatch.sh.j2" %}\n', "without end"),
        (b"#!/bin/bash\n# \xff\n", "not UTF-8"),
    ],
)
def test_a_wrong_template_is_refused(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(TemplateError) as caught:
        rendered(override(tmp_path, sbatch=text))
    problem = caught.value.problems[0]
    assert said in problem.message
    assert problem.file == str(tmp_path / "templates/sbatch.sh.j2")


def test_the_launchers_that_ship_are_known() -> None:
    files = Path(__file__).parents[1].glob("templates/launchers/*.sh.j2")
    assert {file.name.removesuffix(".sh.j2") for file in files} == set(LAUNCHERS)


def test_a_launcher_of_ones_own(tmp_path: Path) -> None:
    mine = MpiConfiguration(launcher="mine")
    assets = override(
        tmp_path, launchers__mine="command=(mine sh {{ task }} {{ launch.command }})\n"
    )
    assert "\ncommand=(mine sh " in rendered(assets, distributed_job_config=mine)
    with pytest.raises(TemplateError) as caught:
        rendered(Assets(), distributed_job_config=MpiConfiguration(launcher="mpirum"))
    assert "no launcher 'mpirum'" in str(caught.value) and "`mpirun`" in str(caught.value)


def test_a_wrong_launcher_is_refused_at_its_own_line(tmp_path: Path) -> None:
    with pytest.raises(TemplateError) as caught:
        rendered(override(tmp_path, launchers__plain="\ncommand=({{ tsak }})\n"))
    problem = caught.value.problems[0]
    file = tmp_path / "templates/launchers/plain.sh.j2"
    assert (problem.file, problem.line) == (str(file), 2)


@given(words)
@settings(max_examples=25)
def test_no_way_of_writing_a_value_leaves_it_unquoted(word: str) -> None:
    ways = (
        "{{ v }}",
        "{{ v ~ '' }}",
        "{{ '' ~ v }}",
        "{% set e %}{% endset %}{{ e ~ v }}",
        "{% set e %}{% endset %}{{ e + v }}",
        "{{ v + '' }}",
        "{{ v | default('x') }}",
        "{% set x %}{{ v }}{% endset %}{{ x }}",
        "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(v) }}",
        "{% macro m(x) %}{{ x }}{% endmacro %}{{ '' ~ m(v) }}",
        "{{ [v] }}",
        "{{ '%s' % v }}",
        "{{ '{}'.format(v) }}",
        "{% autoescape false %}{{ v }}{% endautoescape %}",
        "{% for x in [v] %}{{ x }}{% endfor %}",
    )
    for way in ways:
        text = sandbox(lambda name, way=way: (way, "t.j2")).get_template("t").render(v=word)  # type: ignore[misc]
        line = f"printf '%s\\0' {text}"
        done = subprocess.run(["bash", "-c", line], capture_output=True, check=True)
        assert done.stdout == os.fsencode(word) + b"\0", (way, text)


def test_the_header_ends_at_the_first_command() -> None:
    text = "#!/bin/bash\n#SBATCH -N1\n\n  # a comment\n\t\n#SBATCH -n1\n echo\n#SBATCH --late\n"
    assert header_of(text) == ("#SBATCH -N1", "#SBATCH -n1")


def test_one_process_puts_its_own_values_in_its_words_as_well() -> None:
    made = plan(from_yaml("script: train.py\narguments: ['${{rank}}']\n"))
    assert made.launch.launcher == "plain"
    assert "export HPCRUN_PLACEHOLDERS=2\n" in script(made)
