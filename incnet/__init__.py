"""Incremental training of deep convolutional networks, on an engine written from scratch."""

__version__ = "0.1.0"
