"""The run history on disk: files are the truth, everything else is derived."""

from hpcrun.store.files import FileStore

__all__ = ["FileStore"]
