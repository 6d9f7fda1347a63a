"""What is wrong with a site as a whole, and with what it says of its sources."""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from hpcrun.reading import Finding
from hpcrun.reading.kinds import choices_of, hints_of
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
    kind: Any = SiteConfig
    for part in path.partition("[")[0].split("."):
        kind = next((one for one in choices_of(kind) if one is not types.NoneType), None)
        if dataclasses.is_dataclass(kind):
            kind = hints_of(typing.cast("Any", kind)).get(part)
        elif typing.get_origin(kind) is Mapping:
            kind = typing.get_args(kind)[1]
        else:
            kind = None
        if kind is None:
            return False
    return True
