import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from incnet.data import DataError, Dataset, Normalisation, Split, split_validation


def make_split(n=20, shape=(2, 3, 1), classes=4, seed=0):
    rng = np.random.default_rng(seed)
    return Split(rng.integers(0, 256, (n, *shape), np.uint8), np.arange(n, dtype=np.int64) % classes)


class TestSplit:
    @pytest.mark.parametrize(("images", "advice"), [
        (np.zeros((3, 2, 2), np.uint8), r"add the axis of the channels, images\[..., None\]"),
        (np.ones((3, 2, 2, 1), np.float32), r"\(255 \* images\).round\(\).astype\('uint8'\)"),
        (np.full((3, 2, 2, 1), 200), r"from 0 to 255 become pixels by images.astype\('uint8'\)"),
        (np.full((3, 2, 2, 1), -1.5), "give pixels as they are, 0 to 255, and not normalised"),
        (np.zeros((3, 2, 0, 1), np.uint8), "H, W and C of at least 1"),
        (np.zeros((3, 3, 8, 8), np.uint8), r"channels come last, images.transpose\(0, 2, 3, 1\)"),
        ([[[[0]]]] * 3, "a list, not an array"),
    ])  # fmt: skip
    def test_images_of_another_kind(self, images, advice):
        with pytest.raises(DataError, match=f"^images are .*{advice}"):
            Split(images, np.zeros(3, np.int64))

    @pytest.mark.parametrize(("labels", "advice"), [
        (np.zeros(2, np.int64), r"for 3 images: give one for each, \(3,\)"),
        (np.zeros((3, 1), np.int64), r"labels.ravel\(\)"),
        (np.zeros((3, 4)), r"labels.argmax\(axis=1\)"),
        (np.zeros(3), r"labels.astype\('int64'\)"),
        (np.array(["cat", "dog", "cat"]), r"numpy.unique\(labels, return_inverse=True\)"),
        ([0, 1, 2], r"a list, not an array: try numpy.asarray\(labels\)"),
    ])  # fmt: skip
    def test_labels_of_another_kind(self, labels, advice):
        with pytest.raises(DataError, match=f"^the labels are .*{advice}"):
            Split(np.zeros((3, 2, 2, 1), np.uint8), labels)

    def test_whole_numbers_of_another_size(self):
        assert Split(np.zeros((3, 2, 2, 1), np.uint8), np.array([0, 1, 2], np.uint8)).labels.dtype == np.int64

    def test_rows_that_have_names_are_no_array(self):
        """Of a column of pandas, whose dtype and shape are an array's, ``labels[0]`` is the row called 0."""

        class Series:
            dtype, shape = np.dtype(np.int64), (3,)

        labels = Series()
        with pytest.raises(DataError, match=r"the labels are a Series, not an array: try numpy.asarray\(labels\)"):
            Split(np.zeros((3, 2, 2, 1), np.uint8), labels)

    def test_negative_label(self):
        with pytest.raises(DataError, match="label -1 is negative"):
            Split(np.zeros((1, 2, 2, 1), np.uint8), np.array([-1]))

    def test_take(self):
        split = make_split()
        taken = split.take(np.array([3, 1]))
        np.testing.assert_array_equal(taken.images, split.images[[3, 1]])
        assert taken.labels.tolist() == [3, 1]
        assert len(split.take(slice(5))) == 5
        assert len(split.take(np.array([], np.int64))) == 0


class TestDataset:
    def test_properties(self):
        dataset = Dataset("x", tuple("abcd"), make_split(), make_split(8), "here")
        assert dataset.image_shape == (2, 3, 1)
        assert dataset.num_classes == 4

    def test_label_without_a_class(self):
        with pytest.raises(DataError, match="x from here: test label 3, but there are 3 classes"):
            Dataset("x", tuple("abc"), make_split(classes=3), make_split(), "here")

    @pytest.mark.parametrize(("classes", "split", "message"), [
        (3, make_split(), "the classes are 3: give the name of each label"),
        ("abcd", make_split(), "the classes are 'abcd'"),
        (tuple("abcd"), (np.zeros((3, 2, 2, 1), np.uint8), np.zeros(3, int)), "train is a tuple: give a Split"),
    ])  # fmt: skip
    def test_something_else(self, classes, split, message):
        with pytest.raises(DataError, match=message):
            Dataset("x", classes, split, make_split())

    def test_shown_in_a_line(self):
        train, test = make_split(1200), make_split(8)
        shown = repr(Dataset("x", tuple("abcd"), train, test, "here"))
        assert shown == "<Dataset x from here: 4 classes, 2 x 3 x 1, train 1,200, test 8>"
        assert repr(train) == "<Split: 1,200 images of 2 x 3 x 1>"

    def test_two_shapes(self):
        with pytest.raises(DataError, match="one shape"):
            Dataset("x", tuple("abcd"), make_split(), make_split(shape=(3, 3, 1)), "here")


class TestSplitValidation:
    @given(st.integers(2, 200), st.floats(0.01, 0.99), st.integers(1, 12), st.integers(0, 2**32))
    def test_a_partition_by_shares(self, n, fraction, classes, seed):
        split = make_split(n, classes=classes, shape=(1, 1, 1))
        count = round(fraction * n)
        if count in (0, n):
            with pytest.raises(DataError, match="leaves one part empty"):
                split_validation(split, fraction, seed)
            return
        numbered = Split(np.arange(n * 2, dtype=np.uint8).reshape(n, 1, 2, 1), split.labels)
        kept, held_out = split_validation(numbered, fraction, seed)
        assert len(held_out) == count
        both = np.concatenate([kept.images, held_out.images]).reshape(n, 2)
        assert sorted(map(tuple, both.tolist())) == sorted(map(tuple, numbered.images.reshape(n, 2).tolist()))
        share = np.bincount(held_out.labels, minlength=classes)
        fair = np.bincount(split.labels, minlength=classes) * count / n
        assert np.abs(share - fair).max() <= 1

    def test_depends_on_the_seed_alone(self):
        split = make_split(100)
        first, again, other = (split_validation(split, 0.2, seed)[1].images for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, other)

    @pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
    def test_fraction_out_of_range(self, fraction):
        with pytest.raises(DataError, match="not between 0 and 1"):
            split_validation(make_split(), fraction, 0)


class TestNormalisation:
    @pytest.mark.parametrize("n", [1, 7, 1100])  # the last takes more than one chunk
    def test_fit(self, n):
        split = make_split(n, shape=(3, 4, 3))
        fitted = Normalisation.fit(split)
        np.testing.assert_allclose(fitted.mean, split.images.mean(axis=(0, 1, 2)), rtol=1e-6)
        np.testing.assert_allclose(fitted.std, split.images.std(axis=(0, 1, 2)), rtol=1e-6)
        assert fitted.mean.dtype == fitted.std.dtype == np.float32

    def test_order_does_not_matter(self):
        split = make_split(1000)
        fitted, shuffled = (Normalisation.fit(split.take(rows)) for rows in (slice(None), np.arange(1000)[::-1]))
        np.testing.assert_array_equal(fitted.mean, shuffled.mean)
        np.testing.assert_array_equal(fitted.std, shuffled.std)

    def test_constant_channel(self):
        images = make_split(5, shape=(2, 2, 2)).images
        images[..., 1] = 77
        fitted = Normalisation.fit(Split(images, np.zeros(5, np.int64)))
        assert fitted.mean[1] == 77
        assert fitted.std[1] == 1

    def test_no_images(self):
        with pytest.raises(DataError, match="no images"):
            Normalisation.fit(make_split(0))

    @pytest.mark.parametrize(
        ("mean", "std"),
        [
            (np.zeros(2), np.ones(2)),
            (np.zeros(2, "f4"), np.ones(3, "f4")),
            (np.zeros(2, "f4"), np.array([1, 0], "f4")),
            (np.array([np.nan], "f4"), np.ones(1, "f4")),
        ],
    )
    def test_refused(self, mean, std):
        with pytest.raises(DataError, match=r"mean|std"):
            Normalisation(mean, std)
