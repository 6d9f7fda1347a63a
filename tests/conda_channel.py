"""A conda channel in a folder: tiny packages, made by hand."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

PLACEHOLDER = "/opt/anaconda1anaconda2anaconda3"
"""What stands in a text for the environment's folder."""
IN_TEXT = {"prefix_placeholder": PLACEHOLDER, "file_mode": "text"}


def add_package(
    channel: Path,
    name: str,
    version: str,
    files: Mapping[str, str],
    links: Mapping[str, str] | None = None,
    depends: Sequence[str] = (),
) -> None:
    """Puts a package for any machine into a channel, and makes its index anew.

    files, links: path in the environment → text, or what the link leads to. Whoever installs it
    writes the environment's folder for PLACEHOLDER.
    """
    index = {
        **{"name": name, "version": version, "build": "0", "build_number": 0},
        **{"depends": list(depends), "subdir": "noarch", "noarch": "generic"},
    }
    paths = [
        {
            **{"_path": path, "path_type": kind, "sha256": _digest(text.encode())},
            **(IN_TEXT if PLACEHOLDER in text else {}),
            "size_in_bytes": 0,
        }
        for kind, parts in (("hardlink", files), ("softlink", links or {}))
        for path, text in parts.items()
    ]
    inside = {
        **files,
        "info/index.json": json.dumps(index),
        "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}),
        "info/files": "".join(f"{each['_path']}\n" for each in paths),
    }
    folder, file = channel / "noarch", f"{name}-{version}-0.tar.bz2"
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / file, "w:bz2") as archive:
        for path, text in inside.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(text.encode()), 0o755
            archive.addfile(member, io.BytesIO(text.encode()))
        for path, target in (links or {}).items():
            member = tarfile.TarInfo(path)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    data = (folder / file).read_bytes()
    told = index | {"md5": hashlib.md5(data).hexdigest(), "sha256": _digest(data)}
    known = channel / "noarch/repodata.json"
    packages = json.loads(known.read_text())["packages"] if known.exists() else {}
    packages[file] = told | {"size": len(data)}
    for subdir, of in (("noarch", packages), ("linux-64", {}), ("linux-aarch64", {})):
        text = {"info": {"subdir": subdir}, "packages": of, "packages.conda": {}}
        (channel / subdir).mkdir(exist_ok=True)
        (channel / subdir / "repodata.json").write_text(json.dumps(text | {"repodata_version": 1}))


def add_python(channel: Path) -> None:
    """A package `python` whose interpreter is the one that runs the tests."""
    home = Path(sys.executable).resolve()
    version = ".".join(map(str, sys.version_info[:3]))
    config = f"home = {home.parent}\nversion = {version}\n"
    add_package(channel, "python", version, {"pyvenv.cfg": config}, {"bin/python": str(home)})


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
