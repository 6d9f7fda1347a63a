"""The way to a login node: the user's own `ssh`, and what travels over it."""
