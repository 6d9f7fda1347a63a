"""Finds templates and site files: the project's and the user's own before those that ship."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from hpcrun.arguments import is_path
from hpcrun.errors import ConfigError, Problem, SiteError, TemplateError

SHIPPED = "shipped/"
"""An override reaches the template it replaces as `shipped/NAME`."""


_HEADLINE = re.compile(r"^(title|status|valid_until): *(?:\"(.*)\"|'(.*)'|(.*?)) *$", re.MULTILINE)


class Known(NamedTuple):
    """A site that can be named. title and status as they stand on lines of their own."""

    site: str
    title: str
    status: str
    file: str


@dataclass(frozen=True)
class Assets:
    """Where templates and site files are looked for, nearest first, before the shipped ones."""

    folders: tuple[Path, ...] = ()
    site_file: Path | None = None
    """A site file that comes before all others of its name."""

    @classmethod
    def of(cls, project: Path | None, environ: Mapping[str, str]) -> Assets:
        """The project's .hpcrun folder, then the user's configuration folder."""
        config = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "/")) / ".config")
        near = (project / ".hpcrun",) if project is not None else ()
        return cls((*near, Path(config) / "hpcrun"))

    def with_file(self, path: Path) -> Assets:
        """The same, and a site file that counts as if it stood in the nearest place."""
        return replace(self, site_file=path)

    def template(self, name: str) -> tuple[str, str] | None:
        """(text, file) of a template, or None."""
        if not is_path(name):
            return None
        if not name.startswith(SHIPPED):
            for folder in self.folders:
                path = folder / "templates" / name
                if path.is_file():
                    return _text(path, TemplateError), str(path)
        resource = _shipped("templates").joinpath(name.removeprefix(SHIPPED))
        if not name.endswith(".j2") or not resource.is_file():
            return None
        return resource.read_text(encoding="utf-8"), str(resource)

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
        found = [(_text(path, SiteError), str(path)) for path in paths if path.is_file()]
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
            if (folder / "site_configs").is_dir():
                names |= {path.name for path in (folder / "site_configs").iterdir()}
        return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))

    def known_sites(self) -> Sequence[Known]:
        """All sites, by name. Their files are only looked through, not read as YAML."""
        return [self._known(name) for name in self.sites()]

    def _known(self, name: str) -> Known:
        try:
            ((text, file), *_) = self.site(name)
        except SiteError as error:
            return Known(name, "", f"unreadable: {error}", "")
        said = {key: a or b or c for key, a, b, c in _HEADLINE.findall(text)}
        return Known(name, said.get("title", ""), said.get("status", "active"), file)


def _text(path: Path, kind: type[SiteError] | type[TemplateError]) -> str:
    """The text of a user's file, its line ends as they are."""
    try:
        data = path.read_bytes()
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise kind(Problem("not UTF-8", "save it as UTF-8", str(path), line)) from None
    except OSError as error:
        raise kind(Problem(f"it cannot be read: {error.strerror}", "", str(path))) from error


def _shipped(folder: str) -> Path:
    """Where hpcrun's own ones lie. importlib.resources would cost 5 ms."""
    return Path(import_module(f"hpcrun.{folder}").__path__[0])


def _nearest(name: str, known: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
