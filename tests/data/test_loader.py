import gc
import threading

import numpy as np
import pytest

from incnet.backend import host_kernels, substituted, use
from incnet.data import Augmentation, DataError, Loader, Normalisation, Split
from incnet.data.shard import Shard
from incnet.kernels.reference import resize_area, resize_bilinear

N = 23


@pytest.fixture(scope="module")
def split():
    rng = np.random.default_rng(0)
    return Split(rng.integers(0, 256, (N, 6, 5, 3), np.uint8), np.arange(N, dtype=np.int64))


@pytest.fixture(autouse=True)
def no_thread_left_behind():
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "incnet-loader"]


def make(split, batch_size=5, **options):
    options = {"seed": 7, "shuffle": True, "augmentation": Augmentation(2, True)} | options
    return Loader(split, Normalisation.fit(split), batch_size, **options)


def collect(batches):
    return [(x.copy(), labels.copy()) for x, labels in batches]


def assert_same(one, other):
    assert len(one) == len(other)
    for (x, labels), (other_x, other_labels) in zip(one, other, strict=True):
        np.testing.assert_array_equal(x, other_x)
        np.testing.assert_array_equal(labels, other_labels)


def test_an_epoch_visits_every_image_once(split):
    labels = np.concatenate([batch.labels for batch in make(split).epoch(0)])
    assert sorted(labels) == list(range(N))
    assert labels.tolist() != list(range(N))


def test_without_shuffle_or_augmentation(split):
    loader = make(split, shuffle=False, augmentation=None)
    batches = collect(loader.epoch(3))
    assert [len(labels) for _, labels in batches] == [5, 5, 5, 5, 3]
    x = np.concatenate([x for x, _ in batches])
    mean, std = loader.normalisation.mean, loader.normalisation.std
    np.testing.assert_allclose(x, (split.images - mean) / std, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_resized_images_are_the_augmented_ones_interpolated(split, prefetch):
    loader = make(split, resize=12, prefetch=prefetch)
    assert loader.image_shape == (12, 12, 3)
    expected = [(resize_bilinear(x, (12, 12)), labels) for x, labels in collect(make(split).epoch(1))]
    found = collect(loader.epoch(1))
    for (x, labels), (expected_x, expected_labels) in zip(found, expected, strict=True):
        assert x.dtype == np.float32
        np.testing.assert_allclose(x, expected_x, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(labels, expected_labels)


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("resize", [None, 12])
def test_the_image_size_may_change_between_epochs(split, prefetch, resize):
    loader, full = make(split, prefetch=prefetch, resize=resize), make(split, prefetch=prefetch, resize=resize)
    for size in (3, 4, None):
        loader.image_size = size
        found, expected = collect(loader.epoch(1)), collect(full.epoch(1))
        assert_same(collect(loader.at_size(None).epoch(1)), expected)
        assert loader.image_shape == found[0][0].shape[1:]
        for (x, labels), (whole, expected_labels) in zip(found, expected, strict=True):
            averaged = whole if size is None else resize_area(whole, (size, size))
            np.testing.assert_allclose(x, averaged, rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(labels, expected_labels)


@pytest.mark.parametrize("prefetch", [1, 2, 5, 100])
def test_prefetch_changes_nothing(split, prefetch):
    assert_same(collect(make(split, prefetch=prefetch).epoch(1)), collect(make(split, prefetch=0).epoch(1)))


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("start", [0, 1, 3, 5])
def test_parts_make_up_every_batch(split, start, prefetch):
    whole = collect(make(split).epoch(2, start))
    for ranks in (1, 2, 3, 5, 7):
        parts = [
            collect(make(split, shard=Shard(rank, ranks), prefetch=prefetch).epoch(2, start)) for rank in range(ranks)
        ]
        joined = []
        for number in range(len(whole)):
            some = [part[number] for part in parts if number < len(part)]
            joined.append(tuple(np.concatenate(arrays) for arrays in zip(*some, strict=True)))
        assert_same(joined, whole)
        assert_same(collect(make(split, shard=Shard(ranks - 1, ranks)).unsharded().epoch(2, start)), whole)
        sizes = [len(labels) for part in parts for _, labels in part[:1]]
        assert max(sizes, default=0) - min(sizes, default=0) <= 1


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("start", [0, 1, 3, 5])
def test_start_skips_batches(split, start, prefetch):
    loader = make(split, prefetch=prefetch)
    assert_same(collect(loader.epoch(2, start)), collect(loader.epoch(2))[start:])


def test_an_epoch_is_a_function_of_seed_and_index(split):
    loader = make(split)
    first = collect(loader.epoch(0))
    second = collect(loader.epoch(1))
    assert_same(first, collect(loader.epoch(0)))
    assert_same(first, collect(make(split).epoch(0)))
    for other in (second, collect(make(split, seed=8).epoch(0))):
        assert not np.array_equal(first[0][1], other[0][1])


def test_batches_are_float32_and_aligned(split):
    for batch in make(split).epoch(0):
        assert batch.x.dtype == np.float32
        assert batch.x.flags.c_contiguous
        assert batch.x.ctypes.data % 64 == 0


@pytest.mark.parametrize("prefetch", [0, 1, 2])
def test_a_batch_is_valid_until_the_next_and_buffers_are_reused(split, prefetch):
    loader = make(split, batch_size=1, prefetch=prefetch)
    expected = collect(make(split, batch_size=1, prefetch=0).epoch(0))
    addresses = set()
    for (x, _), (expected_x, _) in zip(loader.epoch(0), expected, strict=True):
        for _ in range(100):  # time for the thread to do damage
            pass
        np.testing.assert_array_equal(x, expected_x)
        addresses.add(x.ctypes.data)
    assert len(addresses) <= prefetch + 1


@pytest.mark.parametrize(("spare", "expected"), [(0, 5), (1, 4)])
def test_a_last_batch_of_too_few_images_is_left_out(split, spare, expected):
    loader = make(split)
    loader.least = N % loader.batch_size + spare
    assert len(loader) == expected == len(list(loader.epoch(0)))


def test_split_smaller_than_a_batch(split):
    assert [len(labels) for _, labels in make(split, batch_size=100).epoch(0)] == [N]
    assert list(make(split, batch_size=100, least=N + 1).epoch(0)) == []


@pytest.mark.parametrize("prefetch", [0, 1, 2])
def test_closing_early_ends_the_thread(split, prefetch):
    batches = make(split, batch_size=1, prefetch=prefetch).epoch(0)
    next(batches)
    batches.close()


def test_dropping_the_iterator_ends_the_thread(split):
    for _ in make(split, batch_size=1).epoch(0):
        break
    gc.collect()


def test_an_iterator_never_started_has_no_thread(split):
    make(split).epoch(0)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_in_the_loop_ends_the_thread(split, error):
    def loop():
        for _ in make(split, batch_size=1).epoch(0):
            raise error

    with pytest.raises(error):
        loop()


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("error", [MemoryError, SystemExit])
def test_an_exception_in_the_thread_reaches_the_consumer(split, monkeypatch, prefetch, error):
    kernels = host_kernels().kernels
    augment, calls = kernels.augment, []

    def failing(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise error("third batch")
        return augment(*arguments, **options)

    monkeypatch.setattr(kernels, "augment", failing)
    seen = []
    with pytest.raises(error, match="third batch"):
        seen.extend(len(labels) for _, labels in make(split, prefetch=prefetch).epoch(0))
    assert seen == [5, 5]


@pytest.mark.parametrize("resize", [None, 9])
def test_batches_are_those_of_the_definitions(split, resize):
    fast = collect(make(split, resize=resize).epoch(0))
    use("reference")
    try:
        assert_same(collect(make(split, resize=resize).epoch(0)), fast)
    finally:
        use("cpu")


def test_batches_are_real_while_steps_are_rehearsed(split):
    """Kernels that compute nothing may stand in for those of the training step; a loader runs beside it."""
    before = collect(make(split).epoch(0))
    with substituted(object()):
        assert_same(collect(make(split).epoch(0)), before)


def test_two_epochs_at_once(split):
    loader = make(split)
    for one, other in zip(loader.epoch(0), loader.epoch(0), strict=True):
        np.testing.assert_array_equal(one.x, other.x)


def test_images_that_are_not_contiguous(split):
    view = Split(split.images[:, ::-1], split.labels)
    copy = Split(view.images.copy(), split.labels)
    assert_same(collect(make(view).epoch(0)), collect(make(copy).epoch(0)))


@pytest.mark.parametrize(
    "option", [{"batch_size": 0}, {"seed": -1}, {"prefetch": -1}, {"resize": 0}, {"image_size": 0}]
)
def test_options_out_of_range(split, option):
    with pytest.raises(DataError, match="is below"):
        make(split, **option)


def test_normalisation_of_another_number_of_channels(split):
    one = Normalisation(np.zeros(1, np.float32), np.ones(1, np.float32))
    with pytest.raises(DataError, match="1 channels in the normalisation, 3 in the images"):
        Loader(split, one, 4, seed=0)


@pytest.mark.parametrize(("index", "start"), [(-1, 0), (0, -1), (0, 6)])
def test_epochs_and_batches_that_do_not_exist(split, index, start):
    with pytest.raises(DataError, match="epoch"):
        make(split).epoch(index, start)
