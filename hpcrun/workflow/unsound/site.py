"""What is wrong with a site as a whole, and with what it says of its sources."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterator, Mapping
from datetime import date

from hpcrun.reading import Finding
from hpcrun.site import SiteConfig

_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])\Z")


def whole(site: SiteConfig) -> Iterator[Finding]:
    """Interpreter, days, the default target, and fields that sources and hints name."""
    words = site.shebang.split()
    if not site.shebang.isprintable() or not site.shebang.startswith("/") or len(words) > 2:
        yield Finding(
            "shebang", f"{site.shebang!r} is no interpreter", "a path, and at most one option"
        )
    elif "bash" not in site.shebang:
        yield Finding("shebang", f"scripts are for bash, not for {site.shebang}", "/bin/bash -l")
    if site.valid_until is not None and not _is_day(site.valid_until):
        told = f"{site.valid_until!r} is no day"
        yield Finding("valid_until", told, 'as yyyy-mm-dd, such as "2026-10-15"')
    if site.default_target is not None and site.default_target not in site.targets:
        told = f"there is no target {site.default_target!r}"
        yield Finding("default_target", told, "", (f"targets.{site.default_target}",))
    for number, source in enumerate(site.sources):
        if source.date and not (_is_day(source.date) or _MONTH.match(source.date)):
            told = f"{source.date!r} is no day"
            yield Finding(f"sources[{number}].date", told, 'as yyyy-mm-dd, such as "2026-10-15"')
        for place, named in enumerate(source.fields):
            if not _is_field(named):
                told = f"{named!r} is no field of site files, and the source speaks of none"
                yield Finding(
                    f"sources[{number}].fields[{place}]", told, "such as targets.gpu.time"
                )
    for named in site.hints:
        if not _is_field(named):
            told = f"{named!r} is no field of site files"
            yield Finding(f"hints.{named}", told, "such as targets.gpu.time.max")


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _is_field(path: str) -> bool:
    """Whether a path such as targets.gpu.time.max leads to a field, whatever targets there are."""
    kind: typing.Any = SiteConfig
    for part in path.partition("[")[0].split("."):
        origin = typing.get_origin(kind)
        if typing.get_args(kind) and types_of_union(kind):
            kind = types_of_union(kind)[0]
            origin = typing.get_origin(kind)
        if dataclasses.is_dataclass(kind):
            fields = typing.get_type_hints(kind)
            if part not in fields:
                return False
            kind = fields[part]
        elif origin in (dict, Mapping):
            kind = typing.get_args(kind)[1]
        else:
            return False
    return True


def types_of_union(kind: object) -> list[object]:
    """The members of `X | None` but None; none of anything else."""
    args = typing.get_args(kind)
    return [arg for arg in args if arg is not type(None)] if type(None) in args else []
