"""The error that data is refused with."""

__all__ = ["DataError"]


class DataError(Exception):
    """Data that is missing, damaged or does not fit; the message is one line with the value and the remedy."""
