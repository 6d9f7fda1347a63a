"""Templates and site files: the nearest one counts, and what is wrong with one names its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcrun.assets import Assets
from hpcrun.errors import ConfigError, SiteError, TemplateError
from hpcrun.workflow.site import choose_target, load_site
from tests.ordinary_user import as_ordinary_user

UNREADABLE = "cannot be read: Permission denied"

SITE = "schema_version: 1\nid: lab\ndefault_target: gpu\ntargets:\n  gpu: {}\n"


@pytest.fixture
def assets(tmp_path: Path) -> Assets:
    """A project's and a user's folder."""
    return Assets.of(tmp_path / "project", {"HOME": str(tmp_path / "home")})


def put(assets: Assets, place: int, name: str, text: str | bytes) -> Path:
    file = assets.folders[place] / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_folders_are_the_projects_and_the_users(tmp_path: Path) -> None:
    home = {"HOME": "/home/ada"}
    user = Path("/home/ada/.config/hpcrun")
    assert Assets.of(None, home).folders == [user]
    assert Assets.of(Path("/p"), home).folders == [Path("/p/.hpcrun"), user]
    config = {**home, "XDG_CONFIG_HOME": "/c"}
    assert Assets.of(None, config).folders == [Path("/c/hpcrun")]
    staff = {**home, "HPCRUN_SITE_FOLDER": "/apps/hpcrun"}
    assert Assets.of(Path("/p"), staff).folders == [Path("/p/.hpcrun"), user, Path("/apps/hpcrun")]


def test_the_nearest_template_counts(assets: Assets) -> None:
    name = "launchers/srun.sh.j2"
    shipped = assets.templates().load(name)
    assert shipped is not None and "command=" in shipped[0]
    users = put(assets, 1, f"templates/{name}", "of the user")
    assert assets.templates().load(name) == ("of the user", str(users))
    projects = put(assets, 0, f"templates/{name}", "of the project")
    assert assets.templates().load(name) == ("of the project", str(projects))
    assert assets.templates().load(f"shipped/{name}") == shipped


@pytest.mark.parametrize("name", ["no.sh.j2", "__init__.py", "launchers", "shipped/no.sh.j2", ""])
def test_what_is_no_template_is_none(assets: Assets, name: str) -> None:
    assert assets.templates().load(name) is None


def test_a_templates_line_ends_stay(assets: Assets) -> None:
    put(assets, 0, "templates/a.j2", b"\xef\xbb\xbfone\r\ntwo\r")
    found = assets.templates().load("a.j2")
    assert found is not None and found[0] == "one\r\ntwo\r"


def test_files_that_are_not_utf8_are_refused_at_their_line(assets: Assets) -> None:
    template = put(assets, 0, "templates/a.j2", b"one\ntw\xff\n")
    with pytest.raises(TemplateError, match="not UTF-8") as caught:
        assets.templates().load("a.j2")
    assert (caught.value.problems[0].file, caught.value.problems[0].line) == (str(template), 2)
    put(assets, 0, "site_configs/lab.yaml", b"\xff")
    with pytest.raises(SiteError, match="not UTF-8"):
        assets.site("lab")


def test_sites_are_found_in_all_places(assets: Assets) -> None:
    put(assets, 1, "site_configs/lab.yaml", SITE)
    put(assets, 0, "site_configs/other.yaml", SITE)
    put(assets, 0, "site_configs/notes.txt", "no site")
    assert {"lab", "other", "local", "generic-slurm", "test-cluster"} <= set(assets.sites())
    assert list(assets.sites()) == sorted(set(assets.sites()))
    assert "notes.txt" not in assets.sites() and "__init__.py" not in assets.sites()
    assert [text for text, _ in assets.site("lab")] == [SITE]


@pytest.mark.parametrize(
    ("name", "hint"),
    [("generic-slrm", "did you mean 'generic-slurm'"), ("xyzzy", "known are"), ("", "known are")],
)
def test_a_site_that_is_not_there_names_the_nearest(assets: Assets, name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        assets.site(name)


@pytest.mark.parametrize("name", Assets().sites())
def test_all_shipped_sites_can_be_read(name: str) -> None:
    site = load_site(name, Assets())
    assert site.id == name
    if site.status != "abstract":
        assert choose_target(name, Assets())[1] in site.targets


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (SITE.replace("{}", "{time: {max: '1:30'}}"), 5, "can mean two things"),
        (SITE.replace("{}", "{time: {default: soon}}"), 5, "no duration"),
        (SITE.replace("{}", "{node: {memory: '500'}}"), 5, "needs a unit"),
        (SITE.replace("{}", "{time: {default: 2h, max: 1h}}"), 5, "2h, is above the max, 1h"),
        (SITE.replace("{}", "{nodes: {max: 0}}"), 5, "0 is too small"),
        (SITE.replace("{}", "{nodes: {min: 3, max: 2}}"), 5, "2 is too small"),
        (SITE + "shebang: /bin/sh\n", 6, "scripts are for bash"),
        (SITE + "shebang: bash\n", 6, "no interpreter"),
        (SITE + 'shebang: "/bin/bash\\nid"\n', 6, "no interpreter"),
        (SITE + "launch: {env: {A-B: x}}\n", 6, "no name for an environment variable"),
        (SITE + "scheduler: {directives: {always: [exclusive]}}\n", 6, "no directive"),
        (SITE.replace(": gpu\n", ": cpu\n"), 3, "no target 'cpu'"),
        (SITE.replace("id: lab", "id: other"), 2, "id is 'other'"),
        (SITE.replace(": 1", ": 2"), 1, "schema_version is 2"),
    ],
)
def test_a_wrong_site_is_refused_at_its_line(
    assets: Assets, text: str, line: int, said: str
) -> None:
    file = put(assets, 0, "site_configs/lab.yaml", text)
    with pytest.raises(SiteError) as caught:
        load_site("lab", assets)
    (problem,) = caught.value.problems
    assert said in problem.message
    assert (problem.file, problem.line) == (str(file), line)


def test_all_that_is_wrong_with_one_target_is_told_at_once(assets: Assets) -> None:
    wrong = "{node: {gpus: four, memory: 5 apples}, time: {max: '1:30'}, nodse: 1}"
    put(assets, 0, "site_configs/lab.yaml", SITE.replace("{}", wrong))
    with pytest.raises(SiteError) as caught:
        load_site("lab", assets)
    told = "\n".join(problem.message for problem in caught.value.problems)
    for said in ("not 'four'", "5 apples", "two things", "no key `targets.gpu.nodse`"):
        assert said in told
    assert len(caught.value.problems) == 4
    put(assets, 0, "site_configs/lab.yaml", SITE.replace("{}", "5"))
    with pytest.raises(SiteError, match="must be a mapping, not '5'") as caught:
        load_site("lab", assets)
    assert len(caught.value.problems) == 1


def test_targets_that_are_not_there_are_refused(assets: Assets) -> None:
    put(assets, 0, "site_configs/lab.yaml", SITE.replace("default_target: gpu\n", ""))
    with pytest.raises(ConfigError, match=r"no target 'cpu'.*it has lab/gpu"):
        choose_target("lab/cpu", assets)
    with pytest.raises(ConfigError, match=r"no default target.*choose of lab/gpu"):
        choose_target("lab", assets)
    with pytest.raises(ConfigError, match=r"site tacc-base has no targets \(other site files"):
        choose_target("tacc-base", assets)


@pytest.mark.parametrize("closed", ["site_configs", "site_configs/lab"])
def test_a_folder_that_cannot_be_looked_into_is_named(open_folder: Path, closed: str) -> None:
    """As where staff have forgotten its rights: without them one may not even ask what is there."""
    (open_folder / "site_configs/lab").mkdir(parents=True)
    (open_folder / "site_configs/lab.yaml").write_text(SITE)
    assets = Assets(site_folder=open_folder)
    assets.templates("lab").load("sbatch.sh.j2")  # what it imports, the child may not reach
    (open_folder / closed).chmod(0)
    if closed == "site_configs":
        told = as_ordinary_user(lambda: load_site("lab", assets))
        assert told == f"SiteError: {open_folder}/site_configs/lab.yaml: it {UNREADABLE}"
        told = as_ordinary_user(assets.sites)
        assert told == f"SiteError: {open_folder}/site_configs: it {UNREADABLE}"
    else:
        told = as_ordinary_user(lambda: assets.templates("lab").load("sbatch.sh.j2"))
        assert told == f"TemplateError: {open_folder}/{closed}/sbatch.sh.j2: it {UNREADABLE}"
    (open_folder / closed).chmod(0o755)
