"""hpcrun: the Azure ML way of training, on plain Slurm."""
