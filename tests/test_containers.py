"""Containers: what each runtime is told under each launcher, and what no runtime can be told.

UPDATE_GOLDEN=1 pytest tests/test_containers.py    writes tests/golden/containers anew.
"""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from hpcrun import (
    DockerConfiguration,
    Environment,
    Run,
    RunConfiguration,
    ScriptRunConfig,
    Workspace,
)
from hpcrun.agent.preflight.trial import launcher_words
from hpcrun.assets import Assets
from hpcrun.config import RUNTIMES
from hpcrun.errors import ConfigError, PlanError, TemplateError
from hpcrun.plan import Plan
from hpcrun.site import SiteConfig
from hpcrun.workflow.doctor.containers import containers
from tests.commands import hpcrun, told
from tests.ground import make_ground
from tests.make_plan import SITE, from_yaml, plan, script, shipped, site
from tests.nasty import WORDS

GOLDEN = Path(__file__).with_name("golden") / "containers"

LAB = site(
    SITE
    + """\
storage:
  roots: {home: {env: HOME}, scratch: {env: SCRATCH}, data: {path: /data}}
containers:
  runtime: apptainer
  runtimes:
    apptainer: {modules: [apptainer/1.3], image_root: $HOME/images}
    pyxis: {mpi_type: pmi2, env: {PMIX_MCA_psec: native}}
    shifter: {gpu_arguments: [gpu, nccl-plugin]}
"""
)

IMAGES = {
    "apptainer": "torch.sif",
    "singularity": "docker://python:3.12",
    "charliecloud": "/images/python",
    "uenv": "prgenv-gnu/25.6:v2",
    "container_engine": "nvcr.io/nvidia/pytorch:24.01-py3",
}

ENVIRONMENT = """\
environment:
  docker:
    base_image: {image}
    runtime: {runtime}
    volumes: ["/data/it's mine:/mine:ro"]
    arguments: [--one, "two words"]
  environment_variables: {{MODE: 'a "$b"'}}
secrets: {{A_KEY: /home/ada/key}}
resources: {{gpus_per_node: 2, time: 1h}}
"""

LAUNCHERS = {
    "one": "",
    "srun": "distributed_job_config: {kind: mpi, node_count: 2, process_count_per_node: 2}\n",
    "mpirun": "distributed_job_config: {kind: mpi, node_count: 2, launcher: mpirun}\n",
    "torchrun": "distributed_job_config: {kind: pytorch, node_count: 2, process_count: 4}\n",
    "torchrun_mpirun": (
        "distributed_job_config:\n"
        "  {kind: pytorch, node_count: 2, process_count: 4, launcher: torchrun_mpirun}\n"
    ),
    "torchrun_one": "distributed_job_config: {kind: pytorch, process_count: 2}\n",
    "tensorflow": "distributed_job_config: {kind: tensorflow, worker_count: 2}\n",
}

BY_STEP = ("pyxis", "container_engine", "uenv")

CASES = [
    (runtime, launcher)
    for runtime in RUNTIMES
    for launcher in LAUNCHERS
    if not launcher.endswith("mpirun") or runtime not in BY_STEP
]


def of(runtime: str, launcher: str) -> Plan:
    image = IMAGES.get(runtime, "nvcr.io/nvidia/pytorch:24.01-py3")
    text = ENVIRONMENT.format(image=image, runtime=runtime)
    return plan(from_yaml(f"script: train.py\n{text}{LAUNCHERS[launcher]}"), LAB, environ=AROUND)


AROUND = {"HOME": "/home/ada", "VIRTUAL_ENV": "/venvs/mine"}


def of_container(text: str) -> str:
    """What the container adds to a script, with its directives and the launch."""
    lines = text.split("\n")
    own = [
        line
        for line in lines
        if line.startswith(("#SBATCH --image", "#SBATCH --mod", "#SBATCH --vol"))
    ]
    begin = next(n for n, line in enumerate(lines) if line.startswith("export PYTHONPATH=")) - 1
    network = next(n for n, line in enumerate(lines) if line.startswith("export HPCRUN_NNODES"))
    sees = lines.index("export HPCRUN_MASTER_PORT") + 1
    end = next(n for n, line in enumerate(lines) if line.startswith("agent=("))
    return "\n".join((*own, *lines[begin:network], *lines[sees:end]))


@pytest.mark.parametrize(("runtime", "launcher"), CASES)
def test_what_each_runtime_is_told(runtime: str, launcher: str, tmp_path: Path) -> None:
    text = script(of(runtime, launcher))
    file, told = GOLDEN / f"{runtime}-{launcher}.sh", of_container(text)
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        file.write_text(told)
    assert told == file.read_text()
    whole = tmp_path / "script.sh"
    whole.write_text(text)
    done = subprocess.run(["bash", "-n", str(whole)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_golden_file_is_of_a_case() -> None:
    assert {file.stem for file in GOLDEN.iterdir()} == {"-".join(case) for case in CASES}


def asked(docker: str, more: str = "", where: SiteConfig = LAB) -> Plan:
    text = f"script: train.py\nenvironment: {{docker: {{{docker}}}}}\n{more}"
    return plan(from_yaml(text), where, environ=AROUND)


TORCH_ON = "distributed_job_config: {{kind: mpi, node_count: 2, launcher: {}}}\n"


@pytest.mark.parametrize(
    ("docker", "more", "where", "message"),
    [
        ("base_image: python:3.12", "", site(), "lab does not say what makes containers of"),
        ("base_image: python, runtime: uenv", "", shipped("local"), "local has no srun"),
        ("base_image: /a.sif, runtime: pyxis", "", LAB, "pyxis cannot read /a.sif, which is Appta"),
        ("base_image: /a.sqsh, runtime: shifter", "", LAB, "/a.sqsh is a file"),
        ("base_image: a.sif, runtime: singularity", "", LAB, "in which folder a.sif lies"),
        ("base_image: python, view: default", "", LAB, "only a uenv has views, and the runtime is"),
        ("base_image: python, volumes: [data]", "", LAB, "'data:data' is no volume"),
        ("base_image: python, volumes: ['/a:/b:rx']", "", LAB, "'/a:/b:rx' is no volume"),
        ("base_image: python, volumes: ['/a,b']", "", LAB, "'/a,b:/a,b' holds a ','"),
        ("base_image: python", "inputs: {x: '/a:b'}\n", LAB, "'/a:b' holds a ':'"),
        ("base_image: python", "outputs: {x: {path: '/a,b', mode: direct}}\n", LAB, "holds a ','"),
        ("base_image: python, runtime: pyxis", TORCH_ON.format("mpirun"), LAB, "tasks without it"),
    ],
)
def test_what_no_container_can_be_made_of_is_refused(
    docker: str, more: str, where: SiteConfig, message: str
) -> None:
    with pytest.raises(PlanError, match=re.escape(message)):
        asked(docker, more, where)


def test_data_that_is_copied_to_the_node_may_have_any_name() -> None:
    data = "inputs: {x: {path: '/a:b,c', mode: stage}}\n"
    assert [each.path for each in asked("base_image: python", data).data] == ["/a:b,c"]
    assert asked("base_image: python, runtime: uenv", "inputs: {x: '/a:b'}\n").data


def test_what_contradicts_an_image_is_told_at_once() -> None:
    with pytest.raises(ConfigError, match="others cannot be installed into it"):
        plan(from_yaml("script: a\nenvironment: {pip: [numpy], docker: {base_image: python}}\n"))


@pytest.mark.parametrize(
    ("text", "is_used"),
    [
        ("environment: {docker: {base_image: python}}", True),
        ("environment: {docker: {base_image: python}}\ndocker: {use_docker: false}", False),
        ("environment: {docker: {base_image: python, enabled: false}}", False),
        (
            "environment: {docker: {base_image: p, enabled: false}}\ndocker: {use_docker: true}",
            True,
        ),
        ("docker: {use_docker: true}", False),
    ],
)
def test_azure_mls_switches_say_whether_the_image_is_used(text: str, is_used: bool) -> None:
    made = plan(from_yaml(f"script: train.py\n{text}\n"), LAB, environ=AROUND)
    assert (made.container is not None) == is_used
    # Of an active environment no image knows anything.
    assert made.launch.python == ("python3" if is_used else "/venvs/mine/bin/python")
    assert ("apptainer/1.3" in made.setting.modules) == is_used


def test_a_runfiles_words_are_azure_mls(tmp_path: Path) -> None:
    image = Environment.from_docker_image("torch", "python:3.12")
    switch = DockerConfiguration(use_docker=True, arguments=["--cleanenv"])
    source = ScriptRunConfig(".", "a.py", environment=image, docker_runtime_config=switch)
    made = plan(source.asked(), LAB, environ=AROUND)
    assert made.container is not None
    assert (made.container.uri, made.container.arguments) == (
        "docker://python:3.12",
        ("--cleanenv",),
    )
    source.run_config.save(tmp_path, "image")
    text = (tmp_path / ".azureml/image.runconfig").read_text()
    assert 'baseImage: "python:3.12"' in text and "useDocker: true" in text
    assert RunConfiguration.load(tmp_path, "image").uses_image
    source.run_config.docker = DockerConfiguration(use_docker=False)
    source.run_config.save(tmp_path, "image")
    assert not RunConfiguration.load(tmp_path, "image").uses_image


def test_a_preflight_looks_at_the_nodes_from_outside() -> None:
    for runtime, words in (
        ("apptainer", "srun --nodes=2 env apptainer exec /image sh {}/task.sh python a.py"),
        ("pyxis", "srun --nodes=2 --container-image=a --container-mounts=/b sh {}/task.sh python"),
        ("uenv", "srun --nodes=2 --uenv=a --view=b sh {}/task.sh python a.py"),
        ("engine", "srun --nodes=2 --environment=/a.toml sh -c late python sh {}/task.sh python"),
    ):
        found = launcher_words(words.format("/sdk/hpcrun/agent").split())
        assert found == ("srun", "--nodes=2"), runtime
    made = of("apptainer", "srun").preflight
    assert made is not None and made.python is None


def test_amds_gpus_are_shown_in_their_own_way() -> None:
    text = "script: a\nenvironment: {docker: {base_image: python}}\nresources: {gpus_per_node: 1}\n"
    amd = site(SITE.replace("a100", "mi250") + "containers: {runtime: apptainer}\n")
    for where, words in ((amd, ("--rocm",)), (LAB, ("--nv",))):
        made = plan(from_yaml(text), where, environ=AROUND).container
        assert made is not None and made.gpu_arguments == words
    without = plan(from_yaml(text.replace("1}", "0}")), amd).container
    assert without is not None and without.gpu_arguments == ()


def test_a_template_of_ones_own_is_a_runtime(tmp_path: Path) -> None:
    made = asked("base_image: python, runtime: mine")
    with pytest.raises(TemplateError, match="there is no container runtime 'mine'"):
        script(made)
    folder = tmp_path / "containers"
    folder.mkdir()
    (folder / "mine.sh.j2").write_text("container=(env mine {{ container.reference }})\n")
    assert "\ncontainer=(env mine python)\n" in script(made, Assets(given=tmp_path))


def test_what_is_not_there_is_told_before_anything_is_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPCRUN_WORKSPACE", str(tmp_path / "ws"))
    monkeypatch.chdir(tmp_path)
    Path("train.py").touch()
    Path("run.yaml").write_text(
        "script: train.py\nenvironment:\n  docker:\n    base_image: ./torch.sif\n"
        "    runtime: apptainer\n    volumes: [/none/here:/data]\n"
    )
    said = hpcrun("submit", code=2).stderr
    assert f"run.yaml:4: there is no image {tmp_path}/torch.sif" in said
    assert "run.yaml:6: there is no /none/here" in said
    Path("torch.sif").touch()
    said = hpcrun(
        "submit", "--set", "environment.docker={base_image: ./torch.sif, runtime: aptainer}", code=3
    )
    assert "there is no container runtime 'aptainer'" in said.stderr
    assert "did you mean `apptainer`" in said.stderr


def test_doctor_looks_for_what_makes_containers(tmp_path: Path) -> None:
    def found(runtime: str, more: str = "", **environ: str) -> list[tuple[str, str]]:
        text = f"{SITE}containers: {{runtime: {runtime}, runtimes: {{{runtime}: {{{more}}}}}}}\n"
        findings = containers(site(text), {"PATH": str(tmp_path), **environ})
        return [(finding.grade, finding.message) for finding in findings]

    assert list(containers(site(), {})) == []
    assert found("podman_hpc") == [("warning", "there is no command podman-hpc here")]
    assert found("apptainer", "modules: [a/1]") == [("ok", "jobs load a/1 for apptainer")]
    (tmp_path / "apptainer").touch(0o755)
    root = "image_root: $SCRATCH/images"
    there = ("ok", str(tmp_path / "apptainer"))
    assert found("apptainer", root)[1][1] == "$SCRATCH/images: 'SCRATCH' is not set"
    missing = ("warning", f"there is no folder {tmp_path}/images")
    assert found("apptainer", root, SCRATCH=str(tmp_path)) == [there, missing]
    assert found("pyxis")[0][0] == "warning"
    srun = tmp_path / "srun"
    srun.write_text("#!/bin/sh\necho ' --container-image=IMAGE'\n")
    srun.chmod(0o755)
    assert found("pyxis") == [("ok", "srun knows --container-image")]
    assert found("uenv") == [("error", "srun knows no --uenv")]


def test_an_image_that_was_replaced_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPCRUN_WORKSPACE", str(tmp_path / "ws"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ".hpcrun/templates/containers"
    folder.mkdir(parents=True)
    # It runs things where they are, under a name that tells that it did.
    (folder / "bare.sh.j2").write_text("container=(env OF={{ container.image }})\n")
    image = tmp_path / "torch.sif"
    image.write_text("one")
    Path("s.py").write_text("import os\nprint('in', os.environ['OF'], os.environ['PYTHONPATH'])\n")
    Path("run.yaml").write_text(
        "script: s.py\nenvironment: {docker: {base_image: ./torch.sif, runtime: bare}}\n"
    )
    monkeypatch.setenv("PYTHONPATH", "/of/the/node")
    first = hpcrun("submit", "--follow").stdout
    assert f"in {image} " in first and "/of/the/node" not in first
    image.write_text("another")
    second = hpcrun("submit", "--follow").stdout
    a, b = first.split()[2], second.split()[2]
    changes = {c["name"]: (c["a"], c["b"]) for c in told("diff", a, b)["values"]}
    assert changes["image file"][0].startswith("3 bytes of")
    assert changes["image file"][1].startswith("7 bytes of") and "image" not in changes
    found = Run.get(Workspace.from_config(), b).get_environment()
    assert found.docker.base_image == str(image) and found.docker.runtime == "bare"
    image.unlink()
    said = hpcrun("resubmit", b, code=8).stderr
    assert f"its image, {image}, is gone" in said


def test_a_site_file_whose_containers_cannot_be_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    runtimes = "{apptainer: {binds: [sw], env: {A-B: c}, how: never}}"
    file.write_text(f"{SITE}containers: {{runtimes: {runtimes}}}\n")
    said = hpcrun("sites", "check", str(file), code=1).stdout
    assert "`containers.runtimes.apptainer.how`" in said
    file.write_text(file.read_text().replace(", how: never", ""))
    said = hpcrun("sites", "check", str(file), code=1).stdout
    assert (
        "'sw' is no whole path" in said and "'A-B' is no name for an environment variable" in said
    )


def test_the_container_engine_is_given_every_variable_as_it_is(tmp_path: Path) -> None:
    ground = make_ground(tmp_path)
    given = {f"V{number}": word for number, word in enumerate(WORDS)}
    config = RunConfiguration(
        script="a.py",
        environment=Environment.from_docker_image("e", "nvcr.io/nvidia/pytorch:24.01-py3"),
        environment_variables=given,
    )
    made = ground.plan(config, f"{SITE}containers: {{runtime: container_engine}}\n")
    seen = ground.run(
        script(made), SLURM_JOB_NODELIST="n1", TMPDIR=str(tmp_path), HPCRUN_RESUME_FROM="/etc/hosts"
    )
    (file,) = Path(made.paths.record).glob("container-*.toml")
    assert f"--environment={file}" in seen.words
    told = tomllib.loads(file.read_text(encoding="utf-8"))
    assert told["image"] == "nvcr.io#nvidia/pytorch:24.01-py3"
    assert {name: told["env"][name].replace("$$", "$") for name in given} == given
    assert told["env"]["PYTHONPATH"] == f"{made.paths.files}:{made.sdk}"
    assert f"{tmp_path}:{tmp_path}" in told["mounts"] and "/etc/hosts:/etc/hosts" in told["mounts"]
