"""Arrays in a file, in Keras' layout."""

import numpy as np
import pytest

from incnet.data.dataset import DataError
from incnet.data.npz import load_npz

X, Y = np.arange(6 * 4 * 4, dtype=np.uint8).reshape(6, 4, 4), np.array([3, 5, 3, 5, 9, 9])


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_grey_images_and_numbered_classes(tmp_path):
    dataset = load_npz(save(tmp_path / "mine.npz", x_train=X, y_train=Y[:, None], x_test=X[:2], y_test=Y[:2]))
    assert (dataset.name, dataset.classes, dataset.image_shape) == ("mine", ("3", "5", "9"), (4, 4, 1))
    assert dataset.train.labels.tolist() == [0, 1, 0, 1, 2, 2]
    np.testing.assert_array_equal(dataset.train.images[..., 0], X)
    assert dataset.test.labels.tolist() == [0, 1]


def test_classes_named_by_texts(tmp_path):
    names = np.array(["cat", "dog"])[[0, 1, 0, 1, 1, 1]]
    dataset = load_npz(save(tmp_path / "mine.npz", x_train=X, y_train=names))
    assert (dataset.classes, dataset.train.labels.tolist()) == (("cat", "dog"), [0, 1, 0, 1, 1, 1])


def test_a_file_of_another_kind(tmp_path):
    path = tmp_path / "a.npz"
    np.save(tmp_path / "a.npy", X)
    (tmp_path / "a.npy").rename(path)
    with pytest.raises(DataError, match=r"a.npz is no .npz file, as numpy.savez writes it"):
        load_npz(path)


def test_without_test_images(tmp_path):
    assert len(load_npz(save(tmp_path / "a.npz", x_train=X, y_train=Y)).test) == 0


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": X, "labels": Y}, "holds no y_train, but labels, x_train; expected x_train, y_train, and perhaps"),
        ({"x_train": X, "two\nlines": Y}, r"holds no y_train, but 'two\\nlines', x_train; expected"),
        ({"x_train": X, "y_train": Y, "x_test": X}, "one of x_test and y_test"),
        ({"x_train": X / 255, "y_train": Y}, r"x_train: images are float64 \(6, 4, 4\), .*\(255 \* images\).round"),
        ({"x_train": X, "y_train": Y / 2}, "y_train: the labels are float64 .*: give whole numbers"),
        ({"x_train": X, "y_train": np.eye(6)}, r"y_train: the labels are .*labels.argmax\(axis=1\)"),
        ({"x_train": X, "y_train": Y[:5]}, r"a.npz: y_train: the labels are .* for 6 images"),
        ({"x_train": X, "y_train": Y, "x_test": X[:1], "y_test": Y[:1] + 1}, "y_test holds 4"),
        ({"x_train": X, "y_train": np.array([None] * 6)}, "cannot be read"),
    ],
)
def test_another_content_is_refused_in_a_line(arrays, message, tmp_path):
    with pytest.raises(DataError, match=message) as refused:
        load_npz(save(tmp_path / "a.npz", **arrays))
    assert "\n" not in str(refused.value)
