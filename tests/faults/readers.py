"""Every reader of files from outside, with whole files to start from and a way to spoil them."""

import gzip
import hashlib
import io
import json
import pickle
import re
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
from safetensors.numpy import load_file

from incnet.checked_json import parse_json
from incnet.config import Config, ConfigError
from incnet.data.archive import extract_folder
from incnet.data.cifar import CIFAR10
from incnet.data.dataset import DataError
from incnet.data.mnist import MNIST
from incnet.data.npz import load_npz
from incnet.data.pictures import pillow_image, read_picture
from incnet.deploy import Description, ModelError, load_model, save_model
from incnet.networks.description import Architecture
from incnet.networks.own import make_network
from incnet.networks.stored import StoredNetwork, pack_network
from incnet.options_file import OptionsFileError, read_options
from incnet.report.reading import ReportError, find_runs, read_history
from incnet.run import network as network_module
from incnet.run.network import NetworkFactory
from incnet.run.run import Run
from incnet.run.start import Start, StartModel
from incnet.stopping import ConditionError, parse
from incnet.storage.checkpoint import CheckpointError
from incnet.storage.folder import RunFolder, RunFolderError
from incnet.storage.tensors import digest
from incnet.user_code import UserCodeError
from tests.report.folders import write_evaluation, write_run

from .runs import dropout_network

# What each reader may raise; anything else, or more memory than this, is a fault.
DOCUMENTED = (DataError, CheckpointError, ConfigError, ConditionError, RunFolderError, ReportError, ModelError)
DOCUMENTED += (UserCodeError, OptionsFileError)
MEMORY = 256 * 2**20  # bytes, beyond what the process had; a file here takes some thousand


@dataclass(frozen=True)
class Reader:
    """A reader of one kind of file.

    Parameters
    ----------
    seeds : list of bytes
        Content of whole files.
    read : callable
        Takes content, puts it where the reader looks, and lets it read.
    """

    seeds: list[bytes]
    read: Callable[[bytes], object]


def readers(folder: Path) -> dict[str, Reader]:
    """Return all of them by name; each works in a folder of its own below ``folder``."""
    made = {}
    for name, make in MAKERS.items():
        (folder / name).mkdir()
        made[name] = make(folder / name)
    return made


# CIFAR: one training file of two images, one test file of one.

SMALL_CIFAR = replace(CIFAR10, train_files=("data_batch_1",), train_records=2, test_records=1)


def _record(label: int) -> bytes:
    return bytes([label]) + bytes(range(256)) * 12


def _binary(folder: Path) -> Reader:
    place = folder / "cifar-10-batches-bin"
    place.mkdir()
    (place / "test_batch.bin").write_bytes(_record(9))

    def read(content: bytes) -> object:
        (place / "data_batch_1.bin").write_bytes(content)
        return SMALL_CIFAR.read(folder)

    return Reader([_record(0) + _record(9)], read)


def _batch(count: int, protocol: int) -> bytes:
    data = np.frombuffer(bytes(range(256)) * 12 * count, np.uint8).reshape(count, 3072)
    return pickle.dumps({b"data": data, b"labels": [0] * count, b"filenames": [b"a.png"] * count}, protocol)


class _Exploit:
    def __reduce__(self):
        import os

        return os.system, ("touch executed",)


def _python(folder: Path) -> Reader:
    place = folder / "cifar-10-batches-py"
    place.mkdir()
    (place / "test_batch").write_bytes(_batch(1, 2))

    def read(content: bytes) -> object:
        (place / "data_batch_1").write_bytes(content)
        return SMALL_CIFAR.read(folder)

    exploits = [pickle.dumps({b"data": _Exploit(), b"labels": [0, 0]}, protocol) for protocol in (2, 4)]
    return Reader([*(_batch(2, protocol) for protocol in (2, 3, 4, 5)), *exploits], read)


# IDX: two training images, one test image.

SMALL_MNIST = replace(MNIST, train_images=2, test_images=1)


def _idx(shape: tuple[int, ...], value: int = 0) -> bytes:
    header = bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
    return header + bytes([value]) * int(np.prod(shape))


def _idx_reader(suffix: str, encode: Callable[[bytes], bytes]) -> Callable[[Path], Reader]:
    def make(folder: Path) -> Reader:
        (folder / "train-labels-idx1-ubyte").write_bytes(_idx((2,)))
        (folder / "t10k-images-idx3-ubyte").write_bytes(_idx((1, 28, 28)))
        (folder / "t10k-labels-idx1-ubyte").write_bytes(_idx((1,), value=7))  # MNIST's first

        def read(content: bytes) -> object:
            (folder / f"train-images-idx3-ubyte{suffix}").write_bytes(content)
            return SMALL_MNIST.read(folder)

        return Reader([encode(_idx((2, 28, 28)))], read)

    return make


# Archives.


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("data_batch_1.bin", "test_batch.bin"):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = 600
            tar.addfile(member, io.BytesIO(bytes(600)))
        link = tarfile.TarInfo("cifar-10-batches-bin/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    return buffer.getvalue()[:5120]


def _archive_reader(encode: Callable[[bytes], bytes], seed: bytes) -> Callable[[Path], Reader]:
    def make(folder: Path) -> Reader:
        inside = folder / "inside"
        inside.mkdir()

        def read(content: bytes) -> object:
            archive = inside / "cifar-10-binary.tar.gz"
            archive.write_bytes(encode(content))
            try:
                return extract_folder(archive, "cifar-10-batches-bin", max_bytes=2**20)
            finally:
                shutil.rmtree(inside / "cifar-10-batches-bin", ignore_errors=True)
                left = [path.name for path in (*inside.iterdir(), *folder.iterdir()) if path != archive]
                assert left == ["inside"], f"the archive wrote {left}"

        return Reader([seed], read)

    return make


def _fast_gzip(content: bytes) -> bytes:
    return gzip.compress(content, compresslevel=1, mtime=0)


# Runs: a network of three tiny sub-networks.

RUN = Config(arch="resnet8", limit=200, epochs=6, window=2, lookahead_epochs=1).resolve()


class _SmallRun:
    """A run folder with a checkpoint from the middle of a look-ahead, and a run to resume from it."""

    def __init__(self, folder: Path) -> None:
        with mock.patch.object(network_module, "build", dropout_network):
            self.run = Run(RUN)
        # The network stays the small one, whoever begins the run anew.
        self.run.begin = self.begin
        self.folder = RunFolder.create(folder / "run", {"config": RUN.as_json()})
        self.checkpoints = folder / "run" / "checkpoints"

    def begin(self) -> None:
        with mock.patch.object(network_module, "build", dropout_network):
            Run.begin(self.run)

    def content(self) -> bytes:
        """Train for a few steps; return the newest checkpoint."""

        class Enough(Exception):
            pass

        class Signals:
            received = None

            def check(signals) -> None:
                if self.run.state.epochs == 2 and self.run.state.running.batches == 4:
                    raise Enough

        self.run.config = replace(RUN, checkpoint_minutes=1e-9)
        try:
            self.run.train(self.folder, signals=Signals())
        except Enough:
            content = max(self.checkpoints.iterdir()).read_bytes()
        shutil.rmtree(self.checkpoints)
        self.checkpoints.mkdir()
        return content

    def resume(self, content: bytes) -> object:
        """Let the run read ``content``, which is given the right checksum: else nobody would look any further."""
        name = f"000001-epoch2-batch4-{hashlib.sha256(content).hexdigest()[:32]}.safetensors"
        path = self.checkpoints / name
        path.write_bytes(content)
        try:
            return self.run.resume(self.folder)
        finally:
            path.unlink(missing_ok=True)


def _parts(content: bytes) -> tuple[bytes, bytes]:
    end = 8 + int.from_bytes(content[:8], "little")
    return content[8:end], content[end:]


def _checkpoint(folder: Path) -> Reader:
    run = _SmallRun(folder)
    return Reader([run.content()], run.resume)


def _header(folder: Path) -> Reader:
    """The header alone is spoilt; its length is made right."""
    run = _SmallRun(folder)
    header, body = _parts(run.content())
    return Reader([header], lambda content: run.resume(len(content).to_bytes(8, "little") + content + body))


def _state(folder: Path) -> Reader:
    """The state alone is spoilt: the JSON text in the header."""
    run = _SmallRun(folder)
    header, body = _parts(run.content())
    decoded = json.loads(header)
    text = decoded["__metadata__"]["state"].encode()

    def read(content: bytes) -> object:
        decoded["__metadata__"]["state"] = content.decode("utf-8", "replace")
        encoded = json.dumps(decoded).encode()
        return run.resume(len(encoded).to_bytes(8, "little") + encoded + body)

    return Reader([text], read)


def _config(folder: Path) -> Reader:
    run = RunFolder.create(folder / "run", {"config": RUN.as_json(), "data": {"sha256": "0"}, "environment": {}})
    path = run.path / "config.json"
    seed = path.read_bytes()

    def read(content: bytes) -> object:
        path.write_bytes(content)
        return Config.from_json(run.read_config().get("config"))

    return Reader([seed], read)


# Reports: a run folder with every event, and a study that lists it.


def _report(name: str) -> Callable[[Path], Reader]:
    def make(folder: Path) -> Reader:
        run = write_run(folder / "run", epochs=5)
        write_evaluation(run, [[3, 1], [0, 2]])
        (folder / "study.json").write_text(json.dumps({"runs": [{"path": "run", "arm": "lookahead"}]}))
        path = folder / name

        def read(content: bytes) -> object:
            path.write_bytes(content)
            return [read_history(*found) for found in find_runs([folder])], read_history(run)

        return Reader([path.read_bytes()], read)

    return make


# Models: the first sub-network of a small ResNet, and the classifier.

MODEL = Description("resnet8", "filters", 1, [8, 8, 1], None, ["a", "b"], [100.0], [50.0], "digits", 0.5, 5018, 1, "0")


def _saved_model(path: Path) -> bytes:
    graph = MODEL.graph()
    network = Architecture.of(graph.subnetworks, graph.classifier)
    save_model(path, replace(MODEL, params=graph.num_parameters(), network=network), graph.state())
    return path.read_bytes()


def _model(folder: Path) -> Reader:
    path = folder / "S1.safetensors"
    seed = _saved_model(path)

    def read(content: bytes) -> object:
        path.write_bytes(content)
        return load_model(path)

    return Reader([seed], read)


def _start(folder: Path) -> Reader:
    """A model that a run is to begin with: of its arrays, not even the names are trusted."""
    path = folder / "S1.safetensors"
    seed = _saved_model(path)
    networks = NetworkFactory(Config(dataset="digits", arch="resnet8").resolve(), (8, 8, 1), 2)

    def read(content: bytes) -> object:
        path.write_bytes(content)
        start = Start(StartModel.read(path), networks, ("a", "b"), all_at_once=False)
        start.fill(networks.subnetworks())
        assert all(line.isprintable() for line in start.said)
        return start

    return Reader([seed], read)


def _description(folder: Path) -> Reader:
    """What the model says of itself is spoilt, and its checksum made right."""
    path = folder / "S1.safetensors"
    header, body = _parts(_saved_model(path))
    decoded = json.loads(header)
    arrays = load_file(path)
    described = json.loads(decoded["__metadata__"]["state"])["model"]

    def read(content: bytes) -> object:
        text = content.decode("utf-8", "replace")
        try:
            checksum = digest(parse_json(text.encode()), arrays)
        except (ValueError, RecursionError):
            checksum = ""
        decoded["__metadata__"]["state"] = f'{{"model": {text}, "sha256": "{checksum}"}}'
        encoded = json.dumps(decoded).encode()
        path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + body)
        return load_model(path)

    return Reader([json.dumps(described).encode()], read)


def _network(folder: Path) -> Reader:
    """The network of the user's own in a run folder; what is said of it, whose checksum is made right."""
    subnetworks = dropout_network("", (8, 8, 1), rng=np.random.default_rng(0), split="filters")
    header, body = _parts(b"".join(map(bytes, pack_network(subnetworks))))
    decoded, path = json.loads(header), folder / "network.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + body)
    arrays = load_file(path)
    described = json.loads(decoded["__metadata__"]["state"])["network"]

    def read(content: bytes) -> object:
        text = content.decode("utf-8", "replace")
        try:
            checksum = digest(parse_json(text.encode()), arrays)
        except (ValueError, RecursionError):
            checksum = ""
        decoded["__metadata__"]["state"] = f'{{"network": {text}, "sha256": "{checksum}"}}'
        encoded = json.dumps(decoded).encode()
        stored = StoredNetwork(len(encoded).to_bytes(8, "little") + encoded + body)
        return make_network(stored, "network", (8, 8, 1), 0)

    return Reader([json.dumps(described).encode()], read)


def _options(folder: Path) -> Reader:
    """A file of options, with which a run is then described."""
    path = folder / "options.toml"

    def read(content: bytes) -> object:
        path.write_bytes(content)
        try:
            return Config(**Config.completed(read_options(Config, path))).resolve()
        except ValueError as error:  # of a preset, which the command line says so
            raise OptionsFileError(str(error)) from error

    seeds = [
        b'epochs = 9\nbatch-size = 64\narch = "vgg16"\naverage = false\nlr = 1e-3\n',
        b'preset = "fast"\nepochs = 9\n',
    ]
    return Reader(seeds, read)


def _arrays(folder: Path) -> Reader:
    """Images and labels in Keras' layout."""
    path = folder / "mine.npz"
    images, labels = np.zeros((6, 4, 4), np.uint8), np.arange(6) % 2
    np.savez(path, x_train=images, y_train=labels, x_test=images[:2], y_test=labels[:2])

    def read(content: bytes) -> object:
        path.write_bytes(content)
        return load_npz(path)

    return Reader([path.read_bytes()], read)


def _picture(folder: Path) -> Reader:
    """Pictures as Pillow reads them, several kinds of them."""
    pillow, path, seeds = pillow_image(), folder / "picture.png", []
    for kind, mode in (("PNG", "RGBA"), ("GIF", "P"), ("BMP", "L"), ("TIFF", "CMYK"), ("JPEG", "RGB")):
        content = io.BytesIO()
        pillow.effect_noise((9, 7), 50).convert(mode).save(content, kind)
        seeds.append(content.getvalue())

    def read(content: bytes) -> object:
        path.write_bytes(content)
        return read_picture(path, (8, 8, 3), (255, 255, 255))

    for seed in seeds:  # Pillow loads what it needs for a kind
        read(seed)
    return Reader(seeds, read)


def _stop(folder: Path) -> Reader:
    """Text of --stop, which is read again as it is spelt."""

    def read(content: bytes) -> object:
        condition = parse(content.decode("utf-8", "replace"))
        assert parse(str(condition)) == condition, f"{condition} is read as {parse(str(condition))}"
        return condition

    seeds = [b"accuracy>=0.88 | seconds>=3600", b"(accuracy>0.5|epochs>=10)&flops<=1e15 & (gain<-.5 | macs >= 2)"]
    return Reader(seeds, read)


MAKERS = {
    "binary": _binary,
    "python": _python,
    "idx": _idx_reader("", bytes),
    "idx.gz": _idx_reader(".gz", _fast_gzip),
    "tar": _archive_reader(_fast_gzip, _tar()),
    "tar.gz": _archive_reader(bytes, _fast_gzip(_tar())),
    "checkpoint": _checkpoint,
    "header": _header,
    "state": _state,
    "config": _config,
    "stop": _stop,
    "reported config": _report("run/config.json"),
    "reported metrics": _report("run/metrics.jsonl"),
    "reported summary": _report("run/summary.json"),
    "reported test": _report("run/test.json"),
    "study": _report("study.json"),
    "model": _model,
    "start": _start,
    "description": _description,
    "network": _network,
    "options": _options,
    "arrays": _arrays,
    "picture": _picture,
}

# Spoiling.

TOKENS = (
    *(b"null", b"true", b"-1", b"0", b"1", b"1e999", b"NaN", b"1e-400", b"0.5", b"99999999999999999999", b'""', b"[]"),
    *(b"{}", b'"\\ud800"', b'"\\u0000"', b'"F64"', b'"BOOL"', b"[[[[", b"9" * 5000, b"18446744073709551615"),
    *(b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f", b"\x80", b"../../x", b"/etc/passwd", b"cos\nsystem\n", b"R", b"."),
)
_LEAF = re.compile(rb'-?\d+(?:\.\d+)?|"[^"]*"|null|true|false')

Edit = tuple[str, float, bytes]
KINDS = ("set", "flip", "insert", "delete", "leaf", "cut", "repeat")


def spoil(content: bytes, edits: list[Edit]) -> bytes:
    """Return ``content`` after changes: (kind, place as a fraction of the length, bytes)."""
    for kind, place, payload in edits:
        at = int(place * len(content))
        if kind == "leaf" and (leaves := list(_LEAF.finditer(content))):
            leaf = leaves[int(place * len(leaves))]
            content = content[: leaf.start()] + payload + content[leaf.end() :]
        elif kind == "set":
            content = content[:at] + payload + content[at + len(payload) :]
        elif kind == "flip" and at < len(content):
            bit = 1 << (payload[0] % 8 if payload else 0)
            content = content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]
        elif kind == "insert":
            content = content[:at] + payload + content[at:]
        elif kind == "delete":
            content = content[:at] + content[at + len(payload) :]
        elif kind == "cut":
            content = content[:at]
        elif kind == "repeat":
            content = content + content[at : at + 64 * len(payload)]
    return content
