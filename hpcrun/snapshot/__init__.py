"""The snapshot of a source folder: gathered, kept under its digest, laid out again."""

from hpcrun.snapshot.git import GitFacts, git_properties
from hpcrun.snapshot.push import push
from hpcrun.snapshot.restore import read_manifest, restore
from hpcrun.snapshot.scan import scan

__all__ = ["GitFacts", "git_properties", "push", "read_manifest", "restore", "scan"]
