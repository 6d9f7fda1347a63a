"""run.yaml: a RunConfiguration as a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from hpcrun.config.model import RunConfiguration
from hpcrun.errors import ConfigError, Problem
from hpcrun.reading import Origin, read_text


def load_config(
    file: Path, overrides: Sequence[str] = ()
) -> tuple[RunConfiguration, Mapping[str, Origin]]:
    """What a run.yaml asks for, and where each value stands. ConfigError with all its problems.

    overrides: `key.key=value`, which win over the file.
    """
    read = read_text(RunConfiguration, file_text(file), str(file), overrides=overrides)
    return read.value, read.origins


def file_text(file: Path) -> str:
    """The text of a file that somebody named. ConfigError if it cannot be read."""
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        hint = "`hpcrun init` writes one" if file.name == "run.yaml" else ""
        raise ConfigError(Problem(f"there is no file {file}", hint)) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(Problem("not UTF-8", "save it as UTF-8", str(file), line)) from None
    except OSError as error:
        raise ConfigError(Problem(f"cannot read {file}: {error.strerror}")) from error
