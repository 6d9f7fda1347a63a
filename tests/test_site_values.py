"""No value of a site file that makes no sense passes without a word: `hpcrun sites check`."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from hpcrun.assets import Assets
from hpcrun.site import SiteConfig
from hpcrun.workflow.sites import check_file

BASE = "schema_version: 1\nid: own\nsources: [{url: docs}]\n"
SOME = "some"
"""The name in every mapping."""


def told(path: Path, text: str) -> list[str]:
    """What is wrong with a file, in order."""
    path.write_text(text)
    return [one.message for one in check_file(path, Assets()) if one.grade == "error"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("storage: {roots: {s: {path: /s, purge: {days: -1}}}}", "-1 is too small"),
        ("storage: {roots: {s: {path: /s, purge: {days: 0}}}}", "0 is too small"),
        ("storage: {roots: {s: {path: s}}}", "'s' is no whole path"),
        ("storage: {roots: {s: {path: /s, env: S}}}", "by its path and by a variable"),
        ("storage: {roots: {s: {path: /s, env_after: module reset}}}", "no variable that it"),
        ("storage: {roots: {s: {path: /s, size: much}}}", "'much' is no amount of memory"),
        ("storage: {roots: {s: {path: /s, request: {}}}}", "it asks for nothing"),
        ("storage: {roots: {s: {path: /s, request: {directive: bb}}}}", "'bb' is no directive"),
        ("storage: {run_history_root: history}", "'history' is no whole path"),
        ("ssh: {endpoints: {a: {host: ''}}}", "'' is no host"),
        ("ssh: {endpoints: {a: {host: -oProxyCommand=x}}}", "is no host"),
        ("ssh: {endpoints: {a: {host: x, port: 65536}}}", "65536 is no port"),
        ("ssh: {endpoints: {a: {host: x}, b: {host: X, port: 22}}}", "b is a once more"),
        ("ssh: {credential_lifetime: soon}", "'soon' is no duration"),
        ("ssh: {connect_gap_seconds: -0.5}", "`ssh.connect_gap_seconds` is -0.5"),
        ("ssh: {connect_gap_seconds: .inf}", "`ssh.connect_gap_seconds` is inf"),
        ("default_target: main", "there is no target 'main'"),
        ("launch: {master_port: {first: 9, last: 8}}", "the range is upside down"),
        ("launch: {master_port: {first: 9}}", "a range of ports has no last"),
        ("launch: {master_port: {first: 9, last: 10, number: 9}}", "told by number and by range"),
        ("launch: {unset: [A B]}", "'A B' is no name for a variable"),
        ("launch: {unset: [HPCRUN_RECORD]}", "no job can be without HPCRUN_RECORD"),
        ("launch: {unset: [PATH]}", "no job can be without PATH"),
        ("launch: {unset: [SLURM_JOB_ID]}", "no job can be without SLURM_JOB_ID"),
        ("launch: {unset: [UID]}", "no job can be without UID"),
        ("launch: {env: {HPCRUN_RUN_ID: x}}", "the variable HPCRUN_RUN_ID is not yours to set"),
        ("launch: {gpu_env: {RANK: '1'}}", "the variable RANK is not yours to set"),
        ("launch: {env: {SLURM_JOB_ID: '1'}}", "the variable SLURM_JOB_ID is not yours to set"),
        ("launch: {env: {LIBS: '/x:$LIBS'}}", "LIBS would be '/x:$LIBS' as it stands"),
        ("launch: {mpi: {env: {PATH: '/x:${PATH}'}}}", "PATH would be '/x:${PATH}' as it stands"),
        ("launch: {srun_args: [wait]}", "'wait' is no flag of srun"),
        ("launch: {srun_args: ['-n 5']}", "'-n 5' is several words"),
        ("launch: {srun_args: [--ntasks=2]}", "--ntasks is hpcrun's own to write"),
        ("launch: {cpu_bind: cores verbose}", "'cores verbose' is several words"),
        ("launch: {cpu_binds: {8: '0x1, 0x2'}}", "'0x1, 0x2' is several words"),
        ("launch: {cpu_binds: {none: x}}", "'none' is no number of processes"),
        ("modules: {load: ['']}", "`modules.load[0]` is empty"),
        ("modules: {system: none, load: [gcc]}", "there are no modules (modules.system), and"),
        (
            "modules: {profiles: {torch: [x]}}\nenvironments: {a: {module_profile: troch}}",
            "there is no modules.profiles.troch (did you mean `torch`?)",
        ),
        ("storage: {caches: {HF_HOME: $WORK/hf}}", "$WORK is none of the variables that are"),
        ("storage: {caches: {HPCRUN_FILES: /x}}", "HPCRUN_FILES is not yours to set"),
        ("storage: {scratch: '${WORK}/x'}", "$WORK is none of the variables that are heeded"),
        ("storage: {roots: {s: {request: {gres: 'gpu:4'}}}}", "it asks for GPUs"),
        ("storage: {roots: {s: {request: {gres: nvme 4}}}}", "'nvme 4' is several words"),
        ("modules: {profiles: {'': [x]}}", "`modules.profiles` has the name ''"),
        ("scheduler: {max_jobs: 2, max_running_jobs: 3}", "3 jobs may run, and there may be 2"),
        ("scheduler: {poll: {submit_gap_seconds: 61}}", "is more than 60"),
        (
            "scheduler: {poll: {interval_seconds: 60, max_interval_seconds: 2}}",
            "2 is too small for `scheduler.poll.max_interval_seconds` (at least 60)",
        ),
        (
            "scheduler: {directives: {always: [--gpus-per-node=2]}}",
            "--gpus-per-node says what a run",
        ),
        ("scheduler: {client_env: {SBATCH_QOS: x}}", "sbatch would heed SBATCH_QOS, and not"),
        ("scheduler: {account: {variable: MY PROJECT}}", "none of the variables that are heeded"),
        ("scheduler: {account: {variable: MINE}}", "none of the variables that are heeded"),
        (
            "scheduler: {memory: {mode: ignored, default: 1G}}",
            "by default, and its mode is ignored",
        ),
        ("scheduler: {memory: {default: much}}", "'much' is no amount of memory"),
        ("scheduler: {requeue: {signal: 'TERM now'}}", "'TERM now' is no signal"),
        ("scheduler: {requeue: {notice_seconds: -1}}", "`scheduler.requeue.notice_seconds` is -1"),
        ("hints: {targets.a.tme: x}", "'targets.a.tme' is no field of site files"),
        ("sources: [{url: x, fields: [schduler]}]", "'schduler' is no field of site files"),
        ("sources: [{url: x, date: yesterday}]", "'yesterday' is no day"),
        ("targets: {t: {qos: ''}}", "`targets.t.qos` is empty"),
        ('targets: {t: {partition: "a\\nb"}}', "`targets.t.partition` holds a line break"),
        ("targets: {t: {time: {min: 2h, max: 1h}}}", "the min, 2h, is above max, 1h"),
        ("targets: {t: {time: {min: 2h, default: 1h}}}", "the default, 1h, is below the min, 2h"),
        ("targets: {t: {node: {gpu_memory: big}}}", "'big' is no amount of memory"),
        ("targets: {t: {node: {gpus: 0}, gpus_required: true}}", "have no GPUs that a job could"),
        ("targets: {t: {node: {gpus: 0}, kind: gpu}}", "its nodes have none"),
        ("targets: {t: {node: {gpus: 0, gpu_model: a}}}", "its GPUs are described"),
        ("ssh: {endpoints: {a: {host: x}}}\ntargets: {t: {endpoint: b}}", "has no 'b'"),
        (
            "targets: {t: {qos: a}}\nscheduler: {directives: {forbid: {--qos: it is chosen}}}",
            "qos is a, and own does not accept --qos (it is chosen)",
        ),
        (
            "targets: {t: {node: {memory: 1G}, override: {scheduler: {memory: {default: 2G}}}}}",
            "a run that names no memory asks for 2G, and its nodes have 1G",
        ),
        (
            "targets: {t: {node: {gpus: 1}}}\nscheduler: {gpu: {allowed_counts: [2, 4]}}",
            "its nodes have 1 GPUs, and none of the counts",
        ),
    ],
)
def test_nonsense_is_told_at_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "own.yaml"
    base = BASE if not text.startswith("sources") else BASE.replace("sources: ", "docs_url: x # ")
    found = told(path, base + text + "\n")
    lines = range(4, 4 + len(text.splitlines()))
    assert len(found) == 1 and said in found[0], found
    assert any(found[0].startswith(f"{path}:{line}: ") for line in lines), found


def test_all_of_it_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    text = """schema_version: 2
id: own
default_target: main
storage: {roots: {s: {path: /s, purge: {days: -1}}}}
scheduler: {max_jobs: many, poll: {interval_seconds: -3}}
targets:
  t: {nodes: {min: -1}}
"""
    found = told(path, text)
    assert [one.partition(": ")[0].rpartition(":")[2] for one in sorted(found)] == [
        *("1", "2", "3", "4", "5", "5", "7")
    ]


def test_what_each_target_wants_is_told_too(tmp_path: Path) -> None:
    first = "scheduler: {comment: 1}\n"
    one, other = ("{override: {scheduler: {max_jobs: 0}}}", "{override: {setup: ['']}}")
    found = told(tmp_path / "own.yaml", f"{BASE}{first}targets:\n  a: {one}\n  b: {other}\n")
    assert [text.partition(": ")[2] for text in found] == [
        "`scheduler.comment` must be true or false, not '1' (true or false)",
        "0 is too small for `scheduler.max_jobs` (at least 1)",
        "`setup[0]` is empty (leave it out)",
    ]


# -- every field ----------------------------------------------------------------------------------


def fields(
    kind: Any, path: tuple[str | int, ...] = ()
) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """(path, type) of every value that a site file can hold; targets' overrides are the site's."""
    args = typing.get_args(kind)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        (kind,) = [arg for arg in args if arg is not types.NoneType]
        args = typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        for name, inner in typing.get_type_hints(kind).items():
            if name != "override":
                yield from fields(inner, (*path, name))
    elif typing.get_origin(kind) in (Mapping, dict):
        yield from fields(args[1], (*path, SOME))
    elif typing.get_origin(kind) in (tuple, list):
        yield from fields(args[0], (*path, 0))
    else:
        yield path, kind


FIELDS = list(fields(SiteConfig))
ANY_TEXT = ("title", "docs_url", "url", "date", "suffix", "account_suffix", "description")
"""What may be empty: it is so by default."""


def wrong(kind: Any, path: tuple[str | int, ...]) -> list[object]:
    """Values that a field of that type cannot have."""
    bad: list[object] = [[], {}, ["a"], {"a": "b"}]
    if kind is str:
        is_variable = len(path) > 1 and str(path[-2]).endswith(("env", "environment_variables"))
        return bad if path[-1] in ANY_TEXT or is_variable else [*bad, "", " "]
    if kind is bool:
        return [*bad, "yes", 1, -1, ""]
    if kind in (int, float):
        return [*bad, "many", -1, True, "", "1e", -(10**400)]
    assert typing.get_origin(kind) is Literal
    return [*bad, "nonsense", -1, ""]


def file_with(path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """A site file with a value at a path."""
    held: Any = value
    for part in reversed(path):
        held = [held] if part == 0 else {part: held}
    return {"schema_version": 1, "id": "own", **held}


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_value_of_a_wrong_type_or_sign_passes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path, kind = data.draw(st.sampled_from(FIELDS))
    value = data.draw(st.sampled_from(wrong(kind, path)))
    file = tmp_path_factory.getbasetemp() / "own.yaml"
    with file.open("w") as stream:
        YAML(typ="safe", pure=True).dump(file_with(path, value), stream)
    found = [one for one in check_file(file, Assets()) if one.grade == "error"]
    assert found, (path, value)
    assert all(str(file) in one.message and "\n" not in one.message for one in found), found


def test_every_field_is_looked_at() -> None:
    names = {".".join(map(str, path)) for path, _ in FIELDS}
    assert {"scheduler.gpu.allowed_counts.0", f"storage.roots.{SOME}.purge.days"} <= names
    assert len(names) > 130
