"""Schedulers: Slurm through its commands or its library, and this machine alone."""
