"""Environments that are built of packages: what they hold, where they lie, how they are made."""
