"""The agent: the command's parent inside a job. Standard library only (Python 3.8+)."""
