"""What test.json holds, and refuses."""

from dataclasses import replace

import numpy as np
import pytest

from incnet.training.evaluation import Evaluation, Mistake, StageTest, pack_evaluation, unpack_evaluation

MISTAKE = Mistake(index=3, label=0, predicted=1, probability=0.75, shape=[1, 2, 1], pixels="AP8=")
STAGE = StageTest("S1", "0" * 64, 0.5, [[6, 2, 0], [0, 2, 0], [0, 0, 0]])
EVALUATION = Evaluation(10, ["a", "b", "c"], [STAGE], [MISTAKE])


def test_numbers():
    assert EVALUATION.accuracy == 0.8
    assert STAGE.recall[:2].tolist() == [0.75, 1]
    assert np.isnan(STAGE.recall[2])
    assert STAGE.balanced_accuracy == 0.875  # of the classes that have images
    assert MISTAKE.image.tolist() == [[[0], [255]]]


def test_it_comes_back():
    assert unpack_evaluation(pack_evaluation(EVALUATION)) == EVALUATION
    nothing_wrong = Evaluation(10, ["a", "b"], [replace(STAGE, confusion=[[8, 0], [0, 2]])], [])
    assert unpack_evaluation(pack_evaluation(nothing_wrong)) == nothing_wrong


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": []}, "no stage was tested"),
        ({"images": 11}, "not that of 11 images"),
        ({"classes": ["a", "b"]}, "not that of 10 images"),
        ({"classes": ["a", "b", "\x1b[2J"]}, "the name"),
        ({"stages": [replace(STAGE, confusion=[[6, 4, 0], [0, 2, 0], [0, 0, -2]])]}, "not that of"),
        ({"mistakes": [replace(MISTAKE, predicted=3)]}, "taken for class 3 of 3"),
        ({"mistakes": [replace(MISTAKE, index=10)]}, "image 10 of 10"),
        ({"mistakes": [replace(MISTAKE, probability=1.5)]}, "image 3"),
        ({"mistakes": [replace(MISTAKE, shape=[1, 1, 1])]}, "the pixels of image 3"),
        ({"mistakes": [replace(MISTAKE, pixels="<b>=")]}, "the pixels of image 3"),
        ({"mistakes": [replace(MISTAKE, shape=[65, 2, 1])]}, "an image of shape"),
        ({"mistakes": [replace(MISTAKE, shape=[1, 1, 2])]}, "an image of shape"),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(EVALUATION, **change)
