"""Schedulers: Slurm through its commands, and this machine alone."""
