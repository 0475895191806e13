"""What is left on disk: files that are whole or not there, logs, checkpoints, the run folder."""
