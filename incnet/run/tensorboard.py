"""TensorBoard event files, made from ``metrics.jsonl`` and never ahead of it."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from incnet.checked_json import parse_json
from incnet.storage.files import replace_file, write_all, writing
from incnet.storage.folder import RunFolder
from incnet.training.events import Epoch, Event, Rollback, Window

__all__ = ["TensorBoard"]

_STEM = "events.out.tfevents."
# Whose numbers are curves. All other events are texts.
CURVES = (Epoch.event, Window.event)


class TensorBoard:
    """Follows the metrics of a run with an event file in ``RUN/tensorboard``.

    Numbers of epochs and windows are scalars of the same name, at the step of their epoch; what happens besides is text
    under the name of the event. A run that is resumed, or rolled back, has forgotten events: its file is then made
    anew, and begins with the mark at which a TensorBoard that is open forgets them too.

    Needs the package ``tensorboard``, not TensorFlow.

    Raises
    ------
    WriteError
        Here and in :meth:`event`, if a file cannot be written.
    """

    def __init__(self, folder: RunFolder) -> None:
        assert folder.metrics is not None
        self._folder, self._metrics = folder, folder.metrics.path
        self._begin()

    def event(self, event: Event) -> None:
        """Write what the metrics have more."""
        if isinstance(event, Rollback):
            self._begin_anew()
        with writing(self._path):
            for logged in self._read():
                write_all(self._descriptor, framed(self._proto(logged)))

    def close(self) -> None:
        """Close the file, once it agrees with the metrics: a run that diverged may have gone back without an event."""
        if self._metrics.stat().st_size < self._read_bytes:
            self._begin_anew()
        os.close(self._descriptor)

    def _begin_anew(self) -> None:
        os.close(self._descriptor)
        self._begin()

    def _begin(self) -> None:
        """Write all that the metrics have to a new file, and empty the one before.

        It is not removed yet: a TensorBoard that is reading it would wait for it, and never look at the new one.
        """
        from tensorboard.compat.proto.event_pb2 import Event as Proto
        from tensorboard.compat.proto.event_pb2 import SessionLog

        self._read_bytes = 0
        folder = self._folder.path / "tensorboard"
        # Files are read in the order of their names: this one comes last, though the clock may have been set back.
        latest = max((_nanoseconds(path) for path in folder.glob(f"{_STEM}*")), default=0)
        seconds, rest = divmod(max(time.time_ns(), latest + 1), 10**9)
        self._path = folder / f"{_STEM}{seconds:010d}.{rest:09d}.incnet"
        forget = Proto(wall_time=time.time(), step=0, session_log=SessionLog(status=SessionLog.START))
        head = [Proto(wall_time=time.time(), file_version="brain.Event:2"), forget]
        with writing(folder):
            folder.mkdir(exist_ok=True)
        replace_file(self._path, (framed(proto) for proto in [*head, *map(self._proto, self._read())]))
        with writing(self._path):
            for path in set(folder.glob(f"{_STEM}*")) - {self._path}:
                if path.stat().st_size:
                    os.truncate(path, 0)
                else:
                    path.unlink()
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND)

    def _read(self) -> Iterator[dict[str, Any]]:
        """Take the lines of the metrics that were not read yet."""
        with open(self._metrics, "rb") as file:
            file.seek(self._read_bytes)
            for line in file:
                self._read_bytes += len(line)
                yield parse_json(line)

    def _proto(self, logged: dict[str, Any]) -> Any:
        """Return TensorBoard's event for one of ours."""
        from tensorboard.compat.proto.event_pb2 import Event as Proto
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.text.summary_v2 import text_pb

        kind, step, seconds = (logged[name] for name in ("event", "epoch", "seconds"))
        values = {name: value for name, value in logged.items() if name not in ("event", "epoch", "seconds")}
        summary = Summary()
        if kind in CURVES:
            for name, value in values.items():
                if isinstance(value, int | float) and not isinstance(value, bool):
                    summary.value.add(tag=name, simple_value=value)
        if kind != Epoch.event:
            summary.MergeFrom(text_pb(kind, ", ".join(f"{name}: {value}" for name, value in values.items())))
        return Proto(wall_time=time.time() - self._folder.seconds + seconds, step=step, summary=summary)


def _nanoseconds(path: Path) -> int:
    """Return the time in the name of an event file; 0 for one of somebody else's."""
    seconds, _, rest = path.name.removeprefix(_STEM).removesuffix(".incnet").partition(".")
    return int(seconds) * 10**9 + int(rest) if (seconds + rest).isdecimal() and len(rest) == 9 else 0


def framed(proto: Any) -> bytes:
    """Return a message as event files hold it: length, checksum, content, checksum."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = io.BytesIO()
    RecordWriter(buffer).write(proto.SerializeToString())
    return buffer.getvalue()
