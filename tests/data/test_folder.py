"""Folders of pictures of every kind, taken as a data set or refused in one line."""

import os
import warnings

import numpy as np
import pytest

from incnet.data import folder as module
from incnet.data.dataset import DataError, split_validation
from incnet.data.folder import PictureOptions, load_folder
from incnet.data.loader import Loader, Normalisation

pillow = pytest.importorskip("PIL.Image")

NAMES = ("zwölf", "два", "三", "עשר", "خمسة")  # five scripts


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def picture(seed, side=10, mode="L"):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 4), dtype=np.uint8)
    return pillow.fromarray(pixels).convert(mode)


def write(root, names=NAMES, each=10, suffix="png", **kind):
    for label, name in enumerate(names):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            picture(100 * label + i, **kind).save(root / name / f"{i:03}.{suffix}")
    return root


def load(root, seed=0, **options):
    return load_folder(root, PictureOptions(**options), seed)


def as_they_are(split):
    return split.pixels().tobytes(), split.labels.tobytes()


def test_names_in_five_scripts_and_a_test_part_of_every_class(tmp_path):
    dataset = load(write(tmp_path / "pets"))
    assert (dataset.name, dataset.classes) == ("pets", tuple(sorted(NAMES)))
    assert (dataset.image_shape, len(dataset.train), len(dataset.test)) == ((10, 10, 1), 45, 5)
    assert sorted(dataset.test.labels) == [0, 1, 2, 3, 4]
    for i, place in enumerate(dataset.train.places(slice(None))[:7]):
        assert (dataset.train.pixels()[i] == dataset.train.images[place]).all()


def test_the_first_images_are_of_all_classes(tmp_path):
    dataset = load(write(tmp_path / "a"))
    assert np.bincount(dataset.train.take(np.arange(10)).labels, minlength=5).min() >= 1


def test_parts_that_are_there_are_taken(tmp_path):
    root = tmp_path / "a"
    write(root / "train", each=6)
    write(root / "val", each=2)
    write(root / "test", NAMES[:2], each=3)
    dataset = load(root)
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [30, 10, 6]


def test_the_seed_decides_the_split(tmp_path):
    root = write(tmp_path / "a")
    first, again, other = load(root, 1), load(root, 1), load(root, 2)
    assert as_they_are(first.train) == as_they_are(again.train) != as_they_are(other.train)
    assert first.checksum == again.checksum != other.checksum


def test_nothing_is_decoded_twice(tmp_path, monkeypatch):
    root = write(tmp_path / "a")
    first = load(root)
    monkeypatch.setattr(module, "read_picture", None)
    assert as_they_are(load(root).train) == as_they_are(first.train)


@pytest.mark.parametrize("what", ["picture", "kept images", "kept description"])
def test_what_has_changed_is_decoded_again(what, tmp_path):
    root = write(tmp_path / "a")
    before = load(root)
    kept, images = (next((tmp_path / "cache").rglob(f"*.{suffix}")) for suffix in ("json", "npy"))
    if what == "picture":
        path = root / NAMES[0] / "000.png"
        picture(999).save(path)
        os.utime(path, ns=(1, 1))
    elif what == "kept images":
        content = bytearray(images.read_bytes())
        content[-5] ^= 1
        images.unlink()  # it is mapped
        images.write_bytes(content)
    else:
        kept.write_text('{"sha256": 3')
    after = load(root)
    assert (after.train.images.tobytes() == before.train.images.tobytes()) == (what != "picture")
    assert (after.checksum == before.checksum) == (what != "picture")


def test_pictures_of_every_kind(tmp_path):
    """Transparent, turned, grey, of 16 bits, CMYK, moving; and files that are passed over."""
    root = write(tmp_path / "a", NAMES[:2], each=4, mode="RGB")
    place = root / NAMES[0]
    transparent = np.zeros((10, 10, 4), np.uint8)
    transparent[5:] = (255, 0, 0, 255)
    pillow.fromarray(transparent).save(place / "p-transparent.png")
    turned = pillow.Exif()
    turned[0x0112] = 3
    pillow.fromarray(np.repeat(np.arange(10, dtype=np.uint8)[:, None], 10, 1)).save(place / "q-exif.png", exif=turned)
    pillow.fromarray(np.full((10, 10), 40000, np.uint16)).save(place / "r-wide.png")
    picture(3, mode="CMYK").save(place / "s-cmyk.tiff")
    picture(4, mode="P").save(place / "t-palette.gif", save_all=True, append_images=[picture(5, mode="P")])
    (place / ".hidden.png").write_bytes(b"nothing")
    (place / "notes.txt").write_text("nothing")
    (root / "README.md").write_text("nothing")
    dataset = load(root)
    assert len(dataset.train) + len(dataset.test) == 13
    assert dataset.remarks[1] == "passed over, since their names end otherwise than those of pictures: 1 .txt"
    images = {picture.path.name: i for i, picture in enumerate(module._find(root)[1]) if "-" in picture.path.name}
    kept = dataset.train.images
    assert kept[images["p-transparent.png"]][0, 0].tolist() == [255, 255, 255]
    assert kept[images["q-exif.png"]][:, 0, 0].tolist() == list(range(9, -1, -1))
    assert kept[images["r-wide.png"]].max() == 40000 >> 8
    np.testing.assert_array_equal(kept[images["s-cmyk.tiff"]], np.asarray(picture(3, mode="CMYK").convert("RGB")))


def test_damaged_pictures_are_left_out_and_named_or_refused(tmp_path):
    root = write(tmp_path / "a")
    (root / NAMES[0] / "x.png").write_bytes(b"no picture")
    dataset = load(root)
    assert len(dataset.train) + len(dataset.test) == 50
    assert any("x.png" in remark for remark in dataset.remarks)
    with pytest.raises(DataError, match=r"1 of 51 pictures are damaged: .*x\.png"):
        load(root, damaged="refuse")


def test_a_picture_that_is_too_large_is_left_out_without_a_warning(tmp_path, monkeypatch):
    root = write(tmp_path / "a", side=10)
    monkeypatch.setattr(pillow, "MAX_IMAGE_PIXELS", 200)  # up to twice as many are a warning
    picture(3, side=15).save(root / NAMES[0] / "x.png")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        assert any("x.png" in remark for remark in load(root).remarks)
    assert not warned


def test_classes_of_different_sizes_are_named(tmp_path):
    """An accuracy is to be compared with what it takes no network for."""
    alike = load(write(tmp_path / "alike", NAMES[:2], each=10)).remarks
    assert not any("every time" in remark for remark in alike)
    write(write(tmp_path / "a", NAMES[:1], each=27), NAMES[1:2], each=9)
    remarks = load(tmp_path / "a").remarks
    said = (
        f"classes have from 9 ({NAMES[1]}) to 27 pictures ({NAMES[0]}): answering {NAMES[0]} every time would be right"
    )
    assert f"{said} for 75% of them" in remarks


def test_sizes_and_channels_are_seen_or_chosen(tmp_path):
    assert load(write(tmp_path / "large", side=80, mode="RGB", suffix="jpg")).image_shape == (32, 32, 3)
    assert load(tmp_path / "large", image_size=20, channels=1).image_shape == (20, 20, 1)


def one_class(root):
    write(root, NAMES[:1])


def few(root):
    write(root, NAMES[:2])
    write(root, ("few",), each=2)


def unknown_in_test(root):
    write(root / "train", NAMES[:2])
    write(root / "test", ("other",))


def unprintable(root):
    write(root, (*NAMES[:2], "a\x1b[31m"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (one_class, "one class, zwölf"),
        (lambda root: root.mkdir(), "no folders"),
        (few, "class few has 2 whole pictures, too few for training, validation and test"),
        (unknown_in_test, "test holds a class other"),
        (unprintable, "whose name cannot be shown"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(make, message, tmp_path):
    make(tmp_path / "a")
    with pytest.raises(DataError, match=message) as refused:
        load(tmp_path / "a")
    assert "\n" not in str(refused.value)


def test_a_mapped_split_is_served_as_its_copy_is(tmp_path):
    train, _ = split_validation(load(write(tmp_path / "a")).train, 0.2, 0)
    copy = type(train)(train.pixels(), train.labels)
    assert isinstance(train.images, np.memmap)
    normalisation = Normalisation.fit(copy)
    assert Normalisation.fit(train).mean.tolist() == normalisation.mean.tolist()
    for ours, theirs in zip(
        *(Loader(split, normalisation, 7, seed=3, shuffle=True).epoch(1) for split in (train, copy)), strict=True
    ):
        np.testing.assert_array_equal(ours.x, theirs.x)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
