"""The site files that ship with hpcrun."""
