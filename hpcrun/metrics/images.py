"""Images that are logged, and finding them again. Standard library only (Python 3.8+).

An image travels as a line of its own journal (`.artifacts.jsonl`), through the spool like every
record, so that no call waits on the shared file system. The data of a fact of kind "artifact":

    file     its name among the run's files: images/<metric>-<12 hex of its digest>.<type>
    content  its bytes, in base64

The metric's value is the file's name; the metric's fact also has the size and the digest.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from typing import Any, Dict, Iterable, List, NamedTuple, Optional

from hpcrun.arguments import is_path
from hpcrun.record import Fact, RunFile

IMAGE_LIMIT = 64 << 20
"""Bytes of one image."""

FOLDER = "images"
"""Where images stand among the files of a run."""


class Image(NamedTuple):
    """An image and its bytes."""

    file: RunFile
    content: bytes

    def metric(self, name: str) -> Dict[str, Any]:
        """The data of the metric's fact."""
        file = self.file
        return {"m": name, "y": "image", "v": file.name, "size": file.size, "sha256": file.sha256}

    def artifact(self) -> Dict[str, Any]:
        """The data of the artifact's fact."""
        content = base64.b64encode(self.content).decode("ascii")
        return {"file": self.file.name, "content": content}


def image(name: str, path: Any = None, plot: Any = None) -> Image:
    """An image read from a file, or drawn by a figure's own `savefig` as PNG.

    ValueError: both or none is given, it is no image, or longer than IMAGE_LIMIT. TypeError: the
    plot cannot draw itself. OSError: the file cannot be read.
    """
    if (path is None) == (plot is None):
        raise ValueError("log_image() takes either path or plot")
    content = _read(path) if path is not None else _drawn(plot)
    if len(content) > IMAGE_LIMIT:
        raise ValueError(
            f"the image {name!r} has {len(content)} bytes; log_image() takes {IMAGE_LIMIT} at "
            "most: write it to ./outputs instead"
        )
    kind = _kind(content)
    if kind is None:
        raise ValueError(f"the image {name!r} is no PNG, JPEG, GIF, BMP, TIFF, WebP or SVG")
    digest = hashlib.sha256(content).hexdigest()
    plain = re.sub(r"[^\w.-]+", "_", name)[:100].strip(".") or "image"
    file = RunFile(f"{FOLDER}/{plain}-{digest[:12]}.{kind}", len(content), digest)
    return Image(file, content)


def images_of(facts: Iterable[Fact]) -> List[RunFile]:
    """The images that facts of metrics tell of, by name, each once."""
    found = {
        RunFile(f.data["v"], f.data["size"], f.data["sha256"])
        for f in facts
        if f.kind == "metric" and f.data.get("y") == "image"
    }
    return sorted(found)


def content_of(facts: Iterable[Fact], name: str) -> Optional[bytes]:
    """The bytes of an image, from facts of kind "artifact"; None if they are not there."""
    for fact in facts:
        if fact.kind == "artifact" and fact.data["file"] == name:
            return base64.b64decode(fact.data["content"])
    return None


def _read(path: Any) -> bytes:
    if not is_path(path):
        raise TypeError(f"the image of log_image() comes from a path, not from {repr(path)[:40]}")
    with open(path, "rb") as file:
        return file.read(IMAGE_LIMIT + 1)


def _drawn(plot: Any) -> bytes:
    """A figure, matplotlib.pyplot itself, or what stands in a figure (axes, a seaborn grid)."""
    drawer: Any = plot if hasattr(plot, "savefig") else getattr(plot, "figure", None)
    if not hasattr(drawer, "savefig"):
        raise TypeError(f"a {type(plot).__name__} has no savefig(); a matplotlib figure has")
    buffer = io.BytesIO()
    drawer.savefig(buffer, format="png")
    return buffer.getvalue()


_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpg"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tif"),
    (b"MM\0*", "tif"),
)


def _kind(content: bytes) -> Optional[str]:
    """The file type that the first bytes tell, as a suffix."""
    for beginning, kind in _BEGINNINGS:
        if content.startswith(beginning):
            return kind
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp"
    return "svg" if b"<svg" in content[:1024] else None
