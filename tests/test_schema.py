"""The JSON Schema of run.yaml: valid itself, and of one mind with what reads the file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from hpcrun.config import (
    After,
    Checkpoints,
    CondaDependencies,
    ContainerRegistry,
    DataInput,
    DataOutput,
    DockerConfiguration,
    DockerSection,
    Environment,
    HorovodConfiguration,
    Mail,
    MetricFiles,
    MpiConfiguration,
    ParallelTaskConfiguration,
    PyTorchConfiguration,
    Requeue,
    Resources,
    RunConfiguration,
    SnapshotLimits,
    Stop,
    TensorflowConfiguration,
)
from hpcrun.config.conda import PipSection
from hpcrun.config.environment import PythonSection
from hpcrun.errors import ConfigError
from hpcrun.reading import read_partly
from hpcrun.schema import field_texts, json_schema
from hpcrun.site import SiteConfig

ROOT = Path(__file__).parents[1]
SECTIONS = (
    *(RunConfiguration, Environment, PythonSection, Resources, Mail, SnapshotLimits, MetricFiles),
    *(After, Checkpoints, DataInput, DataOutput, Requeue, Stop),
    *(MpiConfiguration, HorovodConfiguration, PyTorchConfiguration, TensorflowConfiguration),
    *(ParallelTaskConfiguration, DockerConfiguration, DockerSection),
    *(CondaDependencies, PipSection, ContainerRegistry),
)
SCHEMA = json_schema(RunConfiguration)


def accepts(text: str, schema: dict[str, Any] = SCHEMA) -> bool:
    value = YAML(typ="safe", pure=True).load(text)
    return bool(Draft202012Validator(schema).is_valid(value))


def reads(text: str) -> bool:
    try:
        read_partly(RunConfiguration, text, "f").sound()
    except ConfigError:
        return False
    return True


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for inner in schema.values():
            yield from objects(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from objects(inner)


@pytest.mark.parametrize("kind", [RunConfiguration, SiteConfig])
def test_the_schema_is_one_of_the_draft_that_it_names(kind: type) -> None:
    schema = json_schema(kind)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == kind.__name__
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("kind", [RunConfiguration, SiteConfig])
def test_every_object_is_closed_and_every_key_is_described(kind: type) -> None:
    found = list(objects(json_schema(kind)))
    assert len(found) >= 9
    for one in found:
        assert one["additionalProperties"] is False
        assert one["description"].endswith(".") and "\n" not in one["description"]
        for name, key in one["properties"].items():
            assert key.get("description", "").endswith((".", ")")) or name == "max_files", name
            assert "\n" not in key["description"]


def test_every_reference_leads_somewhere_and_nothing_is_defined_in_vain() -> None:
    text = str(SCHEMA)
    assert {kind.__name__ for kind in SECTIONS} == set(SCHEMA["$defs"])
    for name in SCHEMA["$defs"]:
        assert f"'$ref': '#/$defs/{name}'" in text


@pytest.mark.parametrize("kind", SECTIONS)
def test_the_keys_of_an_object_are_the_fields_of_its_dataclass(kind: Any) -> None:
    keys = set(SCHEMA["$defs"][kind.__name__]["properties"])
    assert keys - {"kind"} == {field.name for field in dataclasses.fields(kind)}
    assert ("kind" in keys) == hasattr(kind, "kind")
    assert set(field_texts(kind)) == keys - {"kind"}


def test_a_field_s_text_is_the_one_under_it_in_the_code() -> None:
    assert field_texts(MpiConfiguration)["process_count_per_node"] == "Processes on each node."
    described = SCHEMA["$defs"]["Resources"]["properties"]["gpu_type"]["description"]
    assert described == "The GPUs' model, such as a100."


def test_only_what_has_no_default_is_required() -> None:
    assert "required" not in SCHEMA["$defs"]["RunConfiguration"]
    assert SCHEMA["$defs"]["MpiConfiguration"]["required"] == ["kind"]
    assert json_schema(SiteConfig)["$defs"]["SiteConfig"]["required"] == ["schema_version", "id"]


EXAMPLES = sorted(ROOT.glob("examples/*/run.yaml"))


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.parent.name)
def test_the_examples_are_accepted_and_read(file: Path) -> None:
    text = file.read_text()
    assert accepts(text) and reads(text)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3


@pytest.mark.parametrize("file", sorted(ROOT.glob("site_configs/*.yaml")), ids=lambda f: f.name)
def test_the_site_files_are_accepted(file: Path) -> None:
    assert accepts(file.read_text(), json_schema(SiteConfig))


ACCEPTED = [
    "{}",
    "arguments: [--lr, 1e-3, 007, true, 1.5, '']",
    "arguments: null",
    "command: python a.py",
    "command: [python, a.py]",
    "environment: /venv",
    "environment: {modules: [gcc], environment_variables: {A: 1, B: true}}",
    "environment:",
    "resources:",
    "resources: {memory: 0, time: 90, exclusive: true, partition: 1}",
    "distributed_job_config: {kind: mpi, node_count: 2}",
    "distributed_job_config: {kind: pytorch, communication_backend: gloo, process_count: null}",
    "distributed_job_config: {kind: pytorch, communication_backend: Nccl, launcher: torchrun}",
    "distributed_job_config: {kind: tensorflow, worker_count: 2}",
    "distributed_job_config: {kind: parallel_task, task_count: 8, max_parallel: 2}",
    "distributed_job_config: null",
    "mail: {on: [end, time_limit_90]}",
    "sbatch: {switches: 2, contiguous: null}",
    "snapshot: {max_bytes: 1G, max_files: null}",
    "source_directory: null",
]
REFUSED = [
    "scrpt: a.py",
    "resources: {tme: 2h}",
    "environment: {python: {path: x}}",
    "arguments: --lr",
    "arguments: [[a]]",
    "arguments: [{a: b}]",
    "command: {a: b}",
    "resources: {gpus_per_node: two}",
    "resources: {gpus_per_node: 1.5}",
    "resources: {exclusive: 1}",
    "resources: 2h",
    "distributed_job_config: {node_count: 2}",
    "distributed_job_config: {kind: ray}",
    "distributed_job_config: {kind: mpi, process_count: 2}",
    "distributed_job_config: {kind: pytorch, communication_backend: mpi}",
    "distributed_job_config: mpi",
    "mail: {on: [ended]}",
    "mail: end",
    "tags: [a]",
    "tags: {a: [b]}",
    "snapshot: {max_files: many}",
    "[a]",
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_what_is_accepted_is_read(text: str) -> None:
    assert (accepts(text), reads(text)) == (True, True)


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused_is_not_read(text: str) -> None:
    assert (accepts(text), reads(text)) == (False, False)
