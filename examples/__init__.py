"""The examples that ship with hpcrun."""
