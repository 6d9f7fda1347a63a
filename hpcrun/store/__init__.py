"""The run history on disk: files are the truth, everything else is derived."""

from hpcrun.store.files import FileStore
from hpcrun.store.sdk import publish

__all__ = ["FileStore", "publish"]
