"""Choosing a device: by the count of devices, never by whether CuPy imports; never a silent fallback."""

import sys

import numpy as np
import pytest

from incnet import backend
from incnet.backend import DeviceError, asarray, resolve, use

from . import strict_cupy


@pytest.fixture
def no_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # importing it raises ImportError


def test_auto_counts_devices(no_cupy):
    assert resolve("auto") == "cpu"
    with strict_cupy.installed(devices=0):
        assert resolve("auto") == "cpu"
    with strict_cupy.installed(devices=1):
        assert resolve("auto") == "cuda"


def test_gpu_by_number():
    with strict_cupy.installed(devices=2):
        assert resolve("gpu") == "cuda"
        assert resolve("gpu:1") == "cuda:1"
        with pytest.raises(DeviceError, match=r"--device gpu:2: this machine has 2 CUDA devices, counted from 0"):
            resolve("gpu:2")


def test_gpu_without_cupy(no_cupy):
    with pytest.raises(DeviceError, match=r'--device gpu: CuPy is not installed; pip install "incnet\[cuda13\]"'):
        resolve("gpu")
    with pytest.raises(DeviceError, match="backend cuda: CuPy is not installed"):
        use("cuda")


def test_gpu_without_a_device():
    with strict_cupy.installed(devices=0), pytest.raises(DeviceError, match="no usable CUDA device on this machine"):
        resolve("gpu")


def test_the_definitions_by_name():
    assert resolve("reference") == "reference"


@pytest.mark.parametrize("device", ["gpu:", "gpu:x", "cuda", "tpu", "", "reference:1"])
def test_unknown_device(device):
    with pytest.raises(DeviceError, match="choose auto, cpu, gpu, gpu:1 for the second GPU, or reference"):
        resolve(device)


@pytest.mark.parametrize("name", ["torch", "cpu:1", "cuda:x"])
def test_unknown_backend(name):
    with pytest.raises(DeviceError, match="unknown backend"):
        use(name)


def test_the_second_device_is_used(device):
    use("cuda")
    assert backend.ops.name == "cuda"
    assert not isinstance(asarray(np.ones(2)), np.ndarray)


def test_tf32_where_there_is_none(device, monkeypatch):
    monkeypatch.setattr(strict_cupy._Device, "compute_capability", "75")
    with pytest.raises(DeviceError, match=r"--tf32: TF32 needs compute capability 8.0, and this GPU has 7.5; leave"):
        use("cuda", tf32=True)
    with pytest.raises(DeviceError, match="--tf32: the cpu backend has no tensor cores"):
        use("cpu", tf32=True)


def test_tf32_ends_with_the_next_choice(device):
    from incnet.kernels.cuda import product

    use("cuda", tf32=True)
    assert product._tf32
    use("cuda")
    assert not product._tf32
