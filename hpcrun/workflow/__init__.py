"""What is done with runs: the one place that joins configuration, scheduler, store and snapshot."""
