"""Finds templates and site files: the nearest one counts, and what ships comes last."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from hpcrun.arguments import is_path
from hpcrun.errors import ConfigError, Problem, SiteError, TemplateError

SHIPPED = "shipped/"
"""A template reaches the one that ships as `shipped/NAME`, whatever stands between."""

SITE_FOLDER = "HPCRUN_SITE_FOLDER"
"""The variable that names the folder which a cluster's staff keeps, laid out as `.hpcrun` is."""


class Layer(NamedTuple):
    """A folder of templates. origin: flag, project, user, site or shipped."""

    origin: str
    folder: Path


class Found(NamedTuple):
    """A template's file, and whose it is (as `Layer.origin`)."""

    origin: str
    path: Path

    @property
    def text(self) -> str:
        """What stands in it. TemplateError."""
        return _text(self.path, TemplateError)


@dataclass(frozen=True)
class Templates:
    """The layers of templates that count for one site, nearest first; the last is what ships."""

    layers: tuple[Layer, ...]

    def load(self, name: str) -> tuple[str, str] | None:
        """(text, file) of a template, None if there is none.

        `parent/NAME` is the one that the nearest of that name hides, `shipped/NAME` what ships.
        """
        from hpcrun.templating import PARENT  # brings jinja2, which most commands do without

        own = name.removeprefix(SHIPPED)
        depth = 0
        while own.startswith(PARENT):
            own = own.removeprefix(PARENT)
            depth += 1
        chain = self.chain(own)
        if name.startswith(SHIPPED):
            chain = tuple(found for found in chain if found.origin == "shipped")
        return (chain[depth].text, str(chain[depth].path)) if depth < len(chain) else None

    def chain(self, name: str) -> tuple[Found, ...]:
        """All templates of a name, nearest first: each hides those behind it."""
        if not is_path(name):
            return ()
        found = (Found(origin, folder / name) for origin, folder in self.layers)
        return tuple(
            one
            for one in found
            if (name.endswith(".j2") or one.origin != "shipped")
            and _is_file(one.path, TemplateError)
        )

    @property
    def names(self) -> Sequence[str]:
        """The names of all templates, sorted."""
        return sorted(
            {
                path.relative_to(folder).as_posix()
                for _, folder in self.layers
                for path in folder.rglob("*.j2")
            }
        )


_Kind = type[SiteError] | type[TemplateError]

_HEADLINE = re.compile(r"^(title|status|valid_until): *(?:\"(.*)\"|'(.*)'|(.*?)) *$", re.MULTILINE)


class Known(NamedTuple):
    """A site that can be named. title, status and valid_until as they stand on lines of their
    own, also of a file that one of the same name lies on."""

    site: str
    title: str
    status: str
    file: str
    valid_until: str | None = None


@dataclass(frozen=True)
class Assets:
    """Where templates and site files are looked for, before the shipped ones.

    project, user, site: folders that hold `templates/` and `site_configs/`; of the last, which a
    cluster's staff keeps, only site_configs. A site's templates lie beside its file, in a folder of
    the site's name. given: a folder of templates that comes before all others. site_file: a site
    file that comes before all others of its name.
    """

    project: Path | None = None
    user: Path | None = None
    site_folder: Path | None = None
    given: Path | None = None
    site_file: Path | None = None

    @classmethod
    def of(
        cls, project: Path | None, environ: Mapping[str, str], given: Path | None = None
    ) -> Assets:
        """The project's .hpcrun folder, the user's configuration folder, the staff's folder."""
        config = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "/")) / ".config")
        own = project / ".hpcrun" if project is not None else None
        staff = environ.get(SITE_FOLDER)
        return cls(own, Path(config) / "hpcrun", Path(staff) if staff else None, given)

    @property
    def folders(self) -> Sequence[Path]:
        """Where site files are looked for, nearest first."""
        return [folder for folder in (self.project, self.user, self.site_folder) if folder]

    def templates(self, *sites: str) -> Templates:
        """The templates that count for a site: its name, then those that it inherits."""
        layers = [Layer("flag", self.given)] if self.given else []
        for origin, folder in (("project", self.project), ("user", self.user)):
            if folder:
                layers.append(Layer(origin, folder / "templates"))
        files = [*(folder / "site_configs" for folder in self.folders), _shipped("site_configs")]
        layers += [Layer("site", folder / site) for site in sites for folder in files]
        return Templates((*layers, Layer("shipped", _shipped("templates"))))

    def with_file(self, path: Path) -> Assets:
        """The same, and a site file that counts as if it stood in the nearest place."""
        return replace(self, site_file=path)

    def site(self, name: str) -> Sequence[tuple[str, str]]:
        """(text, file) of each site file of that name, nearest first.

        ConfigError names the nearest name if there is none.
        """
        is_name = is_path(f"{name}.yaml")
        folders = self.folders if is_name else ()
        paths = [folder / "site_configs" / f"{name}.yaml" for folder in folders]
        if self.site_file is not None and self.site_file.name == f"{name}.yaml":
            own = self.site_file.resolve()
            paths = [own, *(path for path in paths if path.resolve() != own)]
        there = [path for path in paths if _is_file(path, SiteError)]
        found = [(_text(path, SiteError), str(path)) for path in there]
        resource = _shipped("site_configs").joinpath(f"{name}.yaml")
        if is_name and "/" not in name and resource.is_file():
            found.append((resource.read_text(encoding="utf-8"), str(resource)))
        if not found:
            known = self.sites()
            raise ConfigError(Problem(f"there is no site {name!r}", _nearest(name, known)))
        return found

    def sites(self) -> Sequence[str]:
        """The names of all sites that can be found, sorted."""
        names = {entry.name for entry in _shipped("site_configs").iterdir()}
        for folder in self.folders:
            names |= _listed(folder / "site_configs")
        return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))

    def known_sites(self) -> Sequence[Known]:
        """All sites, by name. Their files are only looked through, not read as YAML."""
        return [self._known(name) for name in self.sites()]

    def _known(self, name: str) -> Known:
        try:
            files = self.site(name)
        except SiteError as error:
            return Known(name, "", f"unreadable: {error}", "")
        said: dict[str, str] = {}
        for text, _ in files:
            said = {key: a or b or c for key, a, b, c in _HEADLINE.findall(text)} | said
            if not re.search(rf"^inherits: *\[(.*, *)?{re.escape(name)} *[],]", text, re.MULTILINE):
                break
        (_, file), *_ = files
        status = said.get("status", "active")
        return Known(name, said.get("title", ""), status, file, said.get("valid_until"))


def _is_file(path: Path, kind: _Kind) -> bool:
    """Whether a user's file is there; an error of a kind where that cannot be known."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _unreadable(path, error, kind) from error


def _listed(folder: Path) -> set[str]:
    """The names of what stands in a folder of site files; none if there is none."""
    try:
        return set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as error:
        raise _unreadable(folder, error, SiteError) from error


def _unreadable(path: Path, error: OSError, kind: _Kind) -> SiteError | TemplateError:
    return kind(Problem(f"it cannot be read: {error.strerror}", "", str(path)))


def _text(path: Path, kind: _Kind) -> str:
    """The text of a user's file, its line ends as they are."""
    try:
        data = path.read_bytes()
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise kind(Problem("not UTF-8", "save it as UTF-8", str(path), line)) from None
    except OSError as error:
        raise _unreadable(path, error, kind) from error


def _shipped(folder: str) -> Path:
    """Where hpcrun's own ones lie. importlib.resources would cost 5 ms."""
    return Path(import_module(f"hpcrun.{folder}").__path__[0])


def _nearest(name: str, known: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
