"""All that a run needs is known before its first step; and to find that out changes nothing."""

import json

import numpy as np
import pytest

from incnet.config import Config
from incnet.kernels.cpu import emit, precompile
from incnet.run import course
from incnet.run.run import Run
from incnet.session import train_run

TIMINGS = {"seconds", "seconds_training", "seconds_compiling", "images_per_second"}

COURSES = {
    "look-ahead": {},
    "fixed features": {"lookahead_cache": "fixed", "lookahead_epochs": 2},
    "views": {"lookahead_cache": "views:1", "lookahead_epochs": 2, "cache_dtype": "float16"},
    "identity": {"init": "identity"},
    "look-ahead, identity": {"init": "lookahead+identity"},
    "statistics of the batch": {"frozen_bn": "batch"},
    "resized": {"resize": 12},
    "growing images": {"image_sizes": "4,6,8"},
    "in depth": {"arch": "resnet14", "partition": "depth", "init": "lookahead+copy", "lookahead_cache": "fixed"},
    "frozen for good": {"method": "baseline", "freeze": "0.3", "lookahead_cache": "views:1"},
    "baseline": {"method": "baseline"},
    "memory": {"batch_size": "auto", "memory_limit": "40MB"},
    "VGG": {"arch": "vgg16", "partition": "2", "init": "random", "resize": 32, "limit": 80},
}


def make(tmp_path, **options):
    given = {
        "dataset": "digits", "limit": 150, "epochs": 6, "growth": "periodic", "period": 1, "lookahead_epochs": 1,
        "partition": "2", "seed": 5, "out": tmp_path, "device": "cpu",
    }  # fmt: skip
    return Run(Config(**given | options).resolve())


def train(run, path):
    train_run(run, path, say=lambda line: None)
    lines = (path / "metrics.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in TIMINGS} for line in lines]


@pytest.mark.parametrize("options", COURSES.values(), ids=COURSES)
def test_nothing_is_compiled_later(options, tmp_path, monkeypatch):
    found, called = [], set()

    def note(work, watch):
        found.extend(precompile.needed(work()))
        return 0

    address = emit.Kernel.address.fget
    monkeypatch.setattr(course, "prepare", note)
    monkeypatch.setattr(emit.Kernel, "address", property(lambda kernel: called.add(kernel) or address(kernel)))
    train(make(tmp_path, **options), tmp_path / "run")
    assert len(called) > 5
    assert {kernel.__qualname__ for kernel in called - set(found)} == set()


@pytest.mark.parametrize("options", [{}, {"lookahead_cache": "fixed", "dropout": None}], ids=["images", "features"])
def test_it_changes_nothing(options, tmp_path, monkeypatch):
    options.pop("dropout", None)
    prepared = make(tmp_path, **options)
    ours = train(prepared, tmp_path / "prepared")
    monkeypatch.setattr(course, "prepare", lambda work, watch: 0)
    plain = make(tmp_path, **options)
    assert train(plain, tmp_path / "plain") == ours
    for name, array in plain.state.graph.state().items():
        np.testing.assert_array_equal(array, prepared.state.graph.state()[name], err_msg=name)
