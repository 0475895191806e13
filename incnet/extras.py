"""Optional packages, which the extras of ``pyproject.toml`` bring: why one cannot be had."""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["install", "why_not"]


def install(extra: str) -> str:
    """Return the command that brings the packages of an extra; quoted, since brackets mean something to some shells."""
    return f'pip install "incnet[{extra}]"'


def why_not(package: str, error: Exception, missing: str) -> str:
    """Return in a line what is wrong with an optional package.

    Parameters
    ----------
    package : str
        As users know it.
    error : Exception
        That importing it has raised. Packages with libraries of their own raise more than ImportError.
    missing : str
        What to say, and to do, where the package, or one that it needs, is not installed.
    """
    if isinstance(error, ModuleNotFoundError) and error.name and find_spec(error.name.partition(".")[0]) is None:
        return missing
    cause = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{package} is installed, but cannot be loaded ({cause:.300})"
