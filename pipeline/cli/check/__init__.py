"""What is wrong with a run, found in seconds by the run's own code, on a few hundred events of each sample."""
