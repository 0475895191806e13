"""Where a run computes, and how: device, way to convolve, TF32, threads, and what carries the sums of several ranks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from incnet import backend
from incnet.backend import Selection
from incnet.communicator import Communicator
from incnet.config import Config
from incnet.parallel.transport import device_of_rank
from incnet.threads import available_threads, use_threads

__all__ = ["choose_machine", "use_as_asked"]


def choose_machine(config: Config, communicator: Communicator, before: Mapping[str, Any]) -> str | None:
    """Set device and threads: those of the options. Where these leave it open, those of ``before``, if they are here.

    Other ones round differently.

    Returns
    -------
    str or None
        What carries the sums of device arrays over the ranks, and why, in words; None where there is nothing to carry.
    """

    def choose() -> None:
        device = device_of_rank(_device(config.device, before.get("device")), communicator)
        backend.use(device, convolution=config.convolution, tf32=config.tf32)
        available = 1 if device == "reference" else available_threads(communicator.core_sharing)
        earlier = _number(before.get("threads")) if before.get("ranks", "1") == str(communicator.size) else None
        use_threads(config.threads or min(available, earlier or available))

    communicator.on_every(choose)
    return communicator.reach_devices(config.allreduce)


def use_as_asked(config: Config, communicator: Communicator) -> Selection:
    """Compute as ``config`` says from here on, and return how. Device and threads that it leaves open stay as they are.

    Raises
    ------
    DeviceError
        This machine does not have what is asked for.
    """
    device = backend.ops.name if config.device == "auto" else device_of_rank(config.device, communicator)
    asked = Selection(device, config.convolution, config.tf32)
    if asked != backend.selected():
        backend.use(*asked)
    if config.threads is not None or config.device == "reference":
        use_threads(config.threads or 1)
    if backend.ops.on_device and communicator.size > 1 and not communicator.carried_by:
        communicator.reach_devices(config.allreduce)
    return asked


def _device(asked: str, before: Any) -> str:
    """Return the device that is asked for; where that is any, the one that the run was begun on, if it is here."""
    if asked != "auto" or not isinstance(before, str):
        return asked
    try:
        backend.resolve(before)
    except backend.DeviceError:
        return asked
    return before


def _number(text: Any) -> int | None:
    """Return the positive number that a text of config.json spells, if it spells one."""
    return int(text) if isinstance(text, str) and text.isdecimal() and len(text) < 10 and int(text) else None
