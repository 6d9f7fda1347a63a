"""The script templates that ship with hpcrun."""
