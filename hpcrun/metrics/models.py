"""The models of a user: folders with versions, each a copy of files of a run. Python 3.8+.

    models/<name>/<version>/model.json    what is known of it, written once
    models/<name>/<version>/model/        its files

Versions count from 1. One is made aside and renamed: it is there as a whole or not at all.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from hpcrun.errors import StoreError
from hpcrun.forms import array_of, is_count, is_text, is_time, object_of, or_none, tuple_of
from hpcrun.metrics.uploads import files_below, put
from hpcrun.record import RunFile
from hpcrun.rights import kept_to

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}\Z")
"""Azure ML's rule for the name of a model."""

RECORD, CONTENT = "model.json", "model"

DELETED = ".deleted"
"""Ends the hidden name of a version that is gone: its number is not given again."""

_VERSION = re.compile(r"(\d+)\Z|\.(\d+)\.deleted\Z")


class ModelRecord(NamedTuple):
    """One version of a model. path: the folder with its files. created: Unix seconds.

    files: with names relative to path. run_id: the run that made it, if one did.
    """

    name: str
    version: int
    path: str
    created: float
    files: Tuple[RunFile, ...] = ()
    run_id: Optional[str] = None
    description: str = ""
    tags: Mapping[str, str] = {}
    properties: Mapping[str, str] = {}
    framework: Optional[str] = None
    framework_version: Optional[str] = None

    @property
    def id(self) -> str:
        """`<name>:<version>`."""
        return f"{self.name}:{self.version}"


def register(models: str, name: str, source: str, details: Mapping[str, Any]) -> ModelRecord:
    """Copies a file or folder as the next version of a model. StoreError, ValueError.

    models: the user's folder of models. details: fields of ModelRecord.
    """
    _check(name)
    if not os.path.exists(source):
        hint = "upload it to the run first" if details.get("run_id") else ""
        raise StoreError(f"there is no file or folder {source!r}", hint)
    folder = os.path.join(models, name)
    aside = os.path.join(folder, f".{os.urandom(6).hex()}")
    base = os.path.basename(os.path.normpath(source))
    found = files_below(base, source) if os.path.isdir(source) else [(base, source)]
    try:
        with kept_to(models):
            os.makedirs(aside)
            try:
                files = [_copied(os.path.join(aside, CONTENT), each, path) for each, path in found]
                told = {**details, "created": time.time(), "files": [list(file) for file in files]}
                with open(os.path.join(aside, RECORD), "x", encoding="utf-8") as file:
                    json.dump(told, file, indent=1)
                    file.flush()
                    os.fsync(file.fileno())
                version = _take_version(aside, folder)
            except BaseException:
                shutil.rmtree(aside, ignore_errors=True)
                raise
    except OSError as error:
        raise StoreError(f"cannot register model {name}: {error.strerror}") from error
    return read(models, name, version)


def read(models: str, name: str, version: int) -> ModelRecord:
    """A version of a model. StoreError."""
    folder = os.path.join(models, name, str(version))
    try:
        with open(os.path.join(folder, RECORD), "rb") as file:
            text = file.read()
    except FileNotFoundError as error:
        raise StoreError(f"there is no model {name}:{version}") from error
    except OSError as error:
        raise StoreError(f"the model in {folder} cannot be read: {error.strerror}") from error
    return record_in(text, folder)


def record_in(text: bytes, folder: str) -> ModelRecord:
    """The record that the text of a version's model.json tells. StoreError: it is damaged."""
    try:
        told: Dict[str, Any] = json.loads(text)
        is_whole = {"created", "files"} <= told.keys() <= _FORMS.keys()
    except (ValueError, AttributeError, RecursionError):
        is_whole = False
    if not is_whole or not all(_FORMS[field](value) for field, value in told.items()):
        raise StoreError(f"{folder}/{RECORD} is damaged: it is no record of a model")
    rest, number = os.path.split(folder)
    files = tuple([RunFile(*each) for each in told.pop("files")])
    content = os.path.join(folder, CONTENT)
    return ModelRecord(os.path.basename(rest), int(number), content, files=files, **told)


_FORMS = {
    "created": is_time,
    "files": array_of(tuple_of(is_text, is_count, or_none(is_text))),
    "description": is_text,
    **dict.fromkeys(("tags", "properties"), object_of(is_text)),
    **dict.fromkeys(("run_id", "framework", "framework_version"), or_none(is_text)),
}
"""What model.json holds."""


def versions(models: str, name: str) -> List[int]:
    """The versions of a model, ascending; none if there is no such model."""
    try:
        names = os.listdir(os.path.join(models, name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StoreError(f"cannot read the model {name}: {error.strerror}") from error
    return sorted(int(each) for each in names if each.isdecimal())


def _check(name: str) -> None:
    if not NAME.match(name):
        raise ValueError(
            f"{name!r} is no name for a model: 1 to 255 letters, digits, dots, _ and -, "
            "beginning with a letter or digit"
        )


def _copied(root: str, name: str, path: str) -> RunFile:
    with open(path, "rb") as stream:
        return put(os.path.join(root, name), name, stream, lambda: False)


def _take_version(aside: str, folder: str) -> int:
    """Renames a folder to the next free number."""
    taken = [_VERSION.match(name) for name in os.listdir(folder)]
    version = max([int(each[1] or each[2]) for each in taken if each is not None], default=0)
    while True:
        version += 1
        try:
            os.rename(aside, os.path.join(folder, str(version)))
            return version
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
