"""Launch arguments have the types that the kernels declare."""

import inspect
import re

import numpy as np
import pytest

from incnet.kernels import reference
from incnet.kernels.shapes import OPERATIONS

STRUCTURES = {"BackwardEpilogue", "Geometry", "Source", "Tensors"}  # handed over by value


@pytest.fixture
def loader(device):
    from incnet.kernels.cuda import loader

    return loader


def test_every_parameter_is_of_a_known_type(loader):
    for path in sorted(loader.FOLDER.glob("*.cu")):
        names = re.findall(
            r'extern "C" __global__ void\s+(?:__launch_bounds__\([\w, ]+\)\s*)?(\w+)', loader.source(path.name)
        )
        assert names, path.name
        for name in names:
            for declared in loader.parameters(path.name, name):
                kind = declared.replace("REAL", "float")
                known = kind[:-1] in loader.POINTERS if kind.endswith("*") else kind in loader.SCALARS
                assert known or declared in STRUCTURES, f"{name}: {declared}"


def test_scalars_get_the_declared_type(loader):
    launched = []
    declared = ("REAL*", "REAL", "int", "long long", "unsigned long long")
    kernel = loader.Kernel(lambda grid, block, arguments: launched.append(arguments), "k", declared, "float")
    kernel((1,), (1,), None, 0.5, 3, 4, 2**63)
    assert [type(value) for value in launched[0]] == [type(None), np.float32, np.int32, np.int64, np.uint64]


def test_an_array_of_another_type_is_refused(loader):
    from incnet.backend import asarray, ops

    with pytest.raises(TypeError, match="an array of float64 for a parameter REAL"):
        ops.add(asarray(np.ones(3, np.float32)), asarray(np.ones(3)))
    with pytest.raises(TypeError, match="an array of int32"):
        ops.softmax_cross_entropy(asarray(np.ones((2, 3), np.float32)), asarray(np.zeros(2, np.int32)))


def test_the_number_of_arguments_is_checked(loader):
    kernel = loader.load("pointwise.cu", "add", np.float32, VEC=1)
    with pytest.raises(TypeError, match="takes 4 arguments, not 1"):
        kernel((1,), (1,), None)


def test_headers_are_part_of_the_source(loader):
    source = loader.source("norm.cu")
    assert "#include" not in source
    assert source.count("struct alignas") == 1


@pytest.mark.parametrize("kernel", OPERATIONS)
def test_every_kernel_is_there_with_its_signature(device, kernel):
    from incnet.kernels import cuda

    expected, found = (list(inspect.signature(getattr(k, kernel)).parameters.values()) for k in (reference, cuda))
    assert [(p.name, p.default) for p in found[: len(expected)]] == [(p.name, p.default) for p in expected]
    assert all(p.default is not p.empty for p in found[len(expected) :])
