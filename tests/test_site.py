"""Site files that lie on one another, what targets want otherwise, and where facts come from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpcrun.assets import Assets
from hpcrun.errors import ConfigError, SiteError
from hpcrun.site import Source, source_of
from hpcrun.workflow.session import Session
from hpcrun.workflow.site import choose_target, load_site
from hpcrun.workflow.sites import check_file, facts_of
from tests.commands import hpcrun

BASE = """\
schema_version: 1
id: base
title: All of them
scheduler:
  account: {required: true}
  gpu: {form: implicit}
  directives:
    forbid: {--mem: memory comes with the node}
    always: [--hint=nomultithread]
  poll: {interval_seconds: 180}
targets:
  normal: {partition: normal, node: {cpus: 48}}
"""

ONE = """\
id: one
inherits: [base]
title: One of them
default_target: gpu
scheduler:
  poll: {max_interval_seconds: 600}
  directives: {always+: [--network=x]}
targets:
  gpu:
    partition: gpu
    override:
      scheduler:
        gpu: {form: gres}
        directives: {always+: [--cluster=y]}
      modules: {load: [cuda]}
"""


@pytest.fixture
def assets(tmp_path: Path) -> Assets:
    """The project's and the user's folder, with sites in the user's."""
    found = Assets(tmp_path / "project", tmp_path / "user")
    put(found, 1, "base", BASE)
    put(found, 1, "one", ONE)
    return found


def put(assets: Assets, place: int, name: str, text: str) -> Path:
    file = assets.folders[place] / "site_configs" / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_mappings_merge_and_lists_replace_or_are_appended_to(assets: Assets) -> None:
    site = load_site("one", assets)
    assert (site.id, site.title, site.schema_version) == ("one", "One of them", 1)
    assert site.scheduler.account.required
    assert site.scheduler.poll.interval_seconds == 180
    assert site.scheduler.poll.max_interval_seconds == 600
    assert site.scheduler.directives.always == ("--hint=nomultithread", "--network=x")
    assert set(site.targets) == {"normal", "gpu"}
    put(assets, 1, "one", ONE.replace("always+", "always"))
    assert load_site("one", assets).scheduler.directives.always == ("--network=x",)


def test_a_target_may_want_it_otherwise(assets: Assets) -> None:
    site, target = choose_target("one", assets)
    assert (target, site.scheduler.gpu.form, site.modules.load) == ("gpu", "gres", ("cuda",))
    assert site.scheduler.directives.always[-1] == "--cluster=y"
    assert site.scheduler.account.required
    other = choose_target("one/normal", assets)[0]
    assert (other.scheduler.gpu.form, other.modules.load) == ("implicit", ())


def test_a_session_keeps_what_each_target_wants_apart(assets: Assets, tmp_path: Path) -> None:
    session = Session(tmp_path / "history", assets)
    forms = [session.site(f"one/{name}").scheduler.gpu.form for name in ("gpu", "normal", "gpu")]
    assert forms == ["gres", "implicit", "gres"]


def test_a_file_may_lie_on_the_one_that_it_hides(assets: Assets) -> None:
    put(assets, 0, "one", "inherits: [one]\nstorage: {run_history_root: /lab/history}\n")
    site = load_site("one", assets)
    assert (site.storage.run_history_root, site.title) == ("/lab/history", "One of them")
    assert load_site("one", assets, "gpu").scheduler.gpu.form == "gres"
    put(assets, 0, "one", "inherits: [base, one]\nscheduler: {gpu: {form: total}}\n")
    wanted = load_site("one", assets, "gpu")
    assert (wanted.scheduler.gpu.form, wanted.modules.load) == ("total", ("cuda",))
    own = "inherits: [one]\ntargets: {gpu: {override: {scheduler: {gpu: {form: implicit}}}}}\n"
    put(assets, 0, "one", own + "scheduler: {gpu: {form: total}}\n")
    assert load_site("one", assets, "gpu").scheduler.gpu.form == "implicit"
    put(assets, 0, "test-cluster", "inherits: [test-cluster]\ndefault_target: short\n")
    assert choose_target("test-cluster", assets)[1] == "short"


def test_what_is_wrong_is_told_where_it_stands(assets: Assets) -> None:
    base = put(assets, 1, "base", BASE.replace("form: implicit", "form: none"))
    one = put(assets, 1, "one", ONE.replace("modules:", "moduls:"))
    with pytest.raises(SiteError) as caught:
        load_site("one", assets)
    found = {(problem.file, problem.line) for problem in caught.value.problems}
    assert found == {(str(base), 6), (str(one), 15)}


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("master_address: {variable: HEAD, suffix: i}", "no suffix is written"),
        ("master_port: {number: 1, command: free}", "a port is told by number and by command"),
        ("master_port: {number: 65536}", "65536 is no port"),
        ("master_port: {variable: A B}", "'A B' is no name for a variable"),
    ],
)
def test_a_site_tells_one_place_of_the_first_process(assets: Assets, rules: str, said: str) -> None:
    put(assets, 1, "own", f"schema_version: 1\nid: own\nlaunch: {{{rules}}}\n")
    with pytest.raises(SiteError, match=said):
        load_site("own", assets)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("valid_until: tomorrow\n", "'tomorrow' is no day"),
        ("scheduler: {directives: {forbid: {mem: no}}}\n", "'mem' is no flag.*--mem"),
        ("scheduler: {gpu: {allowed_counts: [2, 0]}}\n", "0 is too small.*at least 1"),
        ("scheduler: {poll: {interval_seconds: 0}}\n", "0 is too small"),
        ("scheduler: {poll: {max_interval_seconds: 59}}\n", "59 is too small.*at least 60"),
        ("scheduler: {max_array_size: -1}\n", "-1 is too small"),
        ("scheduler: {max_jobs: 0}\n", "0 is too small"),
        ("scheduler: {account: {default: ' '}}\n", "`scheduler.account.default` is empty"),
        ("storage: {node_tmp: $TMPDIR}\n", r"'\$TMPDIR' is no whole path"),
        ("storage: {data: {images: data/images}}\n", "'data/images' is no whole path"),
        ("targets: {t: {nodes: {min: 0}}}\n", "0 is too small"),
        ("targets: {t: {nodes: {min: 3, max: 2}}}\n", "2 is too small.*at least 3"),
        ("targets: {t: {node: {gpus: -1}}}\n", "-1 is too small"),
        ("targets: {t: {node: {cpus: 0}}}\n", "0 is too small"),
        ("targets: {t: {time: {node_minutes: 0}}}\n", "0 is too small"),
        (
            "targets: {t: {time: {rules: [{max: 1h, nodes_min: 3, nodes_max: 2}]}}}\n",
            "2 is too small.*at least 3",
        ),
    ],
)
def test_what_no_job_could_be_made_of_is_refused(assets: Assets, text: str, said: str) -> None:
    put(assets, 1, "own", f"schema_version: 1\nid: own\n{text}")
    with pytest.raises(SiteError, match=said):
        load_site("own", assets)


def test_the_name_of_a_site_file_ends_in_yaml(assets: Assets, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("id: one\n")
    (found,) = check_file(tmp_path / "one.txt", assets)
    assert found.message.endswith("the name of a site file ends in .yaml")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("one", "inherits: [one]\n", "hides no file of that name"),
        ("base", "inherits: [one]\n", "one and base inherit each other"),
        ("base", "inherits: [bse]\n", "there is no site 'bse'.*did you mean 'base'"),
    ],
)
def test_sites_that_lie_on_nothing_are_refused(
    assets: Assets, name: str, text: str, said: str
) -> None:
    put(assets, 1, name, text)
    with pytest.raises((ConfigError, SiteError), match=said):
        load_site("one", assets)


def test_a_fact_comes_from_the_source_that_names_it_most_closely() -> None:
    page = Source("docs", "2026-08-20", "A")
    tests = Source("tests", "2026-05-06", "B", ("targets.gpu.node", "scheduler"))
    notes = Source("notes", "2026-01-01", "C", ("targets.gpu.node.memory",))
    sources = (page, tests, notes)
    assert source_of("targets.gpu.partition", sources) is page
    assert source_of("targets.gpu.node.cpus", sources) is tests
    assert source_of("targets.gpu.nodes.max", sources) is page
    assert source_of("targets.gpu.node.memory", sources) is notes
    assert source_of("scheduler.directives.always[0]", sources) is tests
    assert source_of("title", (tests,)) is None


# -- what is known of them ------------------------------------------------------------------------


def test_all_sites_are_known_by_their_titles(assets: Assets) -> None:
    put(assets, 0, "lab", 'title: "A, B"\nstatus: retiring  \nnonsense: [\n')
    found = {site.site: (site.title, site.status) for site in assets.known_sites()}
    assert found["base"] == ("All of them", "active")
    assert found["lab"] == ("A, B", "retiring")
    assert found["local"] == ("This machine", "active")
    put(assets, 0, "base", "inherits: [base]\nstatus: restricted\n")
    put(assets, 0, "one", "inherits: [base]\n")
    found = {site.site: (site.title, site.status) for site in assets.known_sites()}
    assert found["base"] == ("All of them", "restricted")
    assert found["one"] == ("", "active")


SOURCES = """sources:
  - {url: docs, date: "2026-08-20", fields: [targets, scheduler.poll]}
  - {url: notes, date: "2026-01-01", grade: C, fields: [scheduler.directives]}
hints: {targets.gpu.time.max: 48h says a user}
"""


def test_each_value_tells_its_file_and_source(assets: Assets) -> None:
    base, one = (assets.folders[1] / "site_configs" / f"{name}.yaml" for name in ("base", "one"))
    one.write_text(ONE + SOURCES)
    facts = {fact.key: fact for fact in facts_of("one", assets)}
    told = facts["scheduler.directives.always[1]"]
    assert (told.value, told.origin) == ("--network=x", f"{one}:7")
    assert told.source is not None and told.source.grade == "C"
    assert facts["targets.normal.node.cpus"].origin == f"{base}:12"
    assert facts["scheduler.account.required"].source is None
    assert "hints.targets.gpu.time.max" in facts


def test_a_source_speaks_of_the_files_of_those_who_name_it(assets: Assets) -> None:
    put(assets, 1, "base", BASE + "sources: [{url: of-base}]\n")
    put(assets, 1, "one", ONE + SOURCES)
    put(assets, 0, "one", "inherits: [one]\ntargets: {normal: {node: {cpus: 7}}}\n")
    own = assets.folders[0] / "site_configs/one.yaml"

    def said() -> dict[str, str | None]:
        facts = facts_of("one", assets)
        return {fact.key: fact.source.url if fact.source else None for fact in facts}

    # Who replaces one value three levels deep is not who said what was there before.
    assert said()["targets.normal.node.cpus"] is None
    assert said()["targets.gpu.partition"] == "docs"
    assert said()["scheduler.account.required"] == "of-base"
    told = [message for grade, message in findings(own, assets) if grade == "warning"]
    assert [message for message in told if "has no source" in message] == [
        "targets.normal.node.cpus = 7 has no source"
    ]
    # One who names sources takes nobody else's away.
    own.write_text(own.read_text() + "sources: [{url: mine, fields: [targets.normal]}]\n")
    assert said()["targets.normal.node.cpus"] == "mine"
    assert said()["targets.gpu.partition"] == "docs"
    assert said()["scheduler.account.required"] == "of-base"


def findings(path: Path, assets: Assets) -> list[tuple[str, str]]:
    return [(finding.grade, finding.message) for finding in check_file(path, assets)]


def test_a_file_is_checked_before_it_is_in_place(assets: Assets, tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(
        "inherits: [one]\nstorage: {run_history_root: /scratch/ada/history}\n" + SOURCES
    )
    told = findings(path, assets)
    assert told[-1] == ("ok", "can be read; its targets: normal, gpu")
    assert ("warning", "storage.run_history_root = /scratch/ada/history has no source") in told
    assert ("warning", "scheduler.directives.always[1] = --network=x is of third parties") in told
    # Nothing but the file itself is hidden by it, also where it stands already.
    assert ("ok", "can be read; its targets: normal, gpu") in findings(
        assets.folders[1] / "site_configs/one.yaml", assets
    )


def test_runtimes_without_a_template_are_errors(assets: Assets, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    image = "environments: {a: {image: /i.sif, runtime: own}}\n"
    path.write_text("id: mine\ninherits: [base]\ncontainers: {runtime: aptainer}\n" + image)
    wrong = [message for grade, message in findings(path, assets) if grade == "error"]
    assert wrong == [f"there is no template containers/{n}.sh.j2" for n in ("aptainer", "own")]
    own = assets.folders[1] / "site_configs/mine/containers/own.sh.j2"
    own.parent.mkdir(parents=True)
    own.write_text("container=(env own)\n")
    assert ("error", "there is no template containers/own.sh.j2") not in findings(path, assets)


@pytest.mark.parametrize(
    ("root", "said"),
    [
        ("{path: /scratch, purge: {days: 10}}", "from which files go after 10 days"),
        ("{env: SCRATCH, writable_on_compute: false}", "where jobs cannot write"),
        ("{path: /scratch, scope: node}", "which each node has for itself"),
    ],
)
def test_a_history_that_would_be_lost_is_an_error(
    assets: Assets, tmp_path: Path, root: str, said: str
) -> None:
    path = tmp_path / "mine.yaml"
    history = "$SCRATCH/history" if "env" in root else "/scratch/history"
    path.write_text(
        "inherits: [base]\nid: mine\nstorage:\n"
        f"  run_history_root: {history}\n  roots: {{scratch: {root}}}\n"
    )
    errors = [message for grade, message in findings(path, assets) if grade == "error"]
    assert len(errors) == 1 and said in errors[0]


def test_what_a_target_wants_is_checked_too(assets: Assets, tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(ONE.replace("[--cluster=y]", "[cluster]"))
    assert findings(path, assets) == [
        ("error", f"{path}:14: 'cluster' is no directive (--hint=nomultithread)")
    ]


def test_a_target_that_takes_no_run_is_told(assets: Assets, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "inherits: [base]\nid: mine\n"
        "scheduler: {directives: {always: [--mem=0], multi_node: [--nodelist=n1],"
        " forbid: {--nodelist: nodes are ours to choose}}}\n"
        "targets: {one: {nodes: {max: 1}}}\n"
    )
    assert [text for text in findings(path, assets) if text[0] == "error"] == [
        ("error", "not even a small run: mine does not accept --mem (memory comes with the node)"),
        (
            "error",
            "not even a small run: mine does not accept --nodelist (nodes are ours to choose)",
        ),
        ("error", "not even a small run: mine does not accept --mem (memory comes with the node)"),
    ]


MPI = "launch: {mpi: {type: pmi2}}\n"


def test_sites_from_the_command_line(project: Path) -> None:
    listed = json.loads(hpcrun("sites", "list", "--json").stdout)
    assert "test-cluster" in {site["site"] for site in listed}
    facts = json.loads(hpcrun("sites", "show", "test-cluster", "--json").stdout)
    (mpi,) = [fact for fact in facts if fact["key"] == "launch.mpi.type"]
    assert (mpi["value"], mpi["grade"]) == ("pmix", "B")
    own = put(Assets(project / ".hpcrun"), 0, "own", "id: own\ninherits: [test-cluster]\n" + MPI)
    shown = hpcrun("sites", "show", "own").stdout.splitlines()
    (mpi,) = [line.split("\t") for line in shown if line.startswith("launch.mpi.type\t")]
    assert mpi[1:] == ["pmi2", f"{own}:3"]
    assert (
        "targets"
        in json.loads(hpcrun("sites", "schema").stdout)["$defs"]["SiteConfig"]["properties"]
    )
    (project / "bad.yaml").write_text("id: bad\n")
    done = hpcrun("sites", "check", "bad.yaml", code=1)
    assert "`schema_version` is missing" in done.stdout
