"""Following the metric files that a training script writes. Standard library only (3.8+)."""
