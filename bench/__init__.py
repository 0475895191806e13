"""Measurements, each a module: ``python -m bench.train_step``."""
