"""Images of every size and kind, brought to what a model takes; and files that are none."""

import io
import os
import pickle
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from incnet.colours import parse_colour
from incnet.data import pictures as module
from incnet.data.dataset import DataError
from incnet.deploy.images import read_images
from tests.deploy.products import pictures
from tests.faults.readers import KINDS, TOKENS, spoil

pillow = pytest.importorskip("PIL.Image")

GREY, COLOUR = (8, 6, 1), (8, 6, 3)


def save(array, path, **options):
    pillow.fromarray(array).save(path, **options)
    return path


def read_one(path, shape):
    ((name, pixels),) = read_images(path, shape)
    assert name == str(path)
    assert (pixels.shape, pixels.dtype) == (shape, np.uint8)
    return pixels


# Pictures.


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm"])
def test_a_picture_of_the_right_size_keeps_its_pixels(suffix, tmp_path):
    pixels = pictures(COLOUR, 1)[0]
    np.testing.assert_array_equal(read_one(save(pixels, tmp_path / f"a.{suffix}"), COLOUR), pixels)
    grey = pixels[..., 0]
    np.testing.assert_array_equal(read_one(save(grey, tmp_path / f"g.{suffix}"), GREY)[..., 0], grey)


def test_grey_for_one_channel_and_colour_for_three(tmp_path):
    red = save(np.full((8, 6, 3), (255, 0, 0), np.uint8), tmp_path / "red.png")
    assert set(read_one(red, GREY).ravel()) == {76}  # ITU-R 601: 0.299 of the red
    grey = save(np.full((8, 6), 40, np.uint8), tmp_path / "grey.png")
    assert set(read_one(grey, COLOUR).ravel()) == {40}


@pytest.mark.parametrize(("rows", "columns"), [(16, 40), (60, 12)])
def test_the_middle_of_a_longer_picture(rows, columns, tmp_path):
    """A white square in the middle, on black: it fills the model's square input, whichever side is longer."""
    side = min(rows, columns)
    top, left = (rows - side) // 2, (columns - side) // 2
    pixels = np.zeros((rows, columns), np.uint8)
    pixels[top : top + side, left : left + side] = 255
    square = read_one(save(pixels, tmp_path / "a.png"), (6, 6, 1))
    assert (square[2:-2, 2:-2] == 255).all()
    assert square.min() > 200  # at the edges the interpolation sees a little of the black


def test_scaled_down_by_means_not_by_samples(tmp_path):
    """Stripes finer than a pixel become grey."""
    stripes = np.zeros((80, 60), np.uint8)
    stripes[:, ::2] = 255
    assert abs(read_one(save(stripes, tmp_path / "a.png"), GREY).astype(int) - 127).max() <= 12


def test_photographs_are_turned_upright(tmp_path):
    pixels = np.zeros((6, 8), np.uint8)
    pixels[:, :2] = 255  # to the left; orientation 6 says that the top is there on the right
    exif = pillow.Exif()
    exif[0x0112] = 6
    upright = read_one(save(pixels, tmp_path / "a.png", exif=exif), GREY)[..., 0]
    assert (upright[:2] == 255).all()
    assert (upright[2:] == 0).all()


def test_pixels_of_16_bits(tmp_path):
    wide = np.linspace(0, 65535, 48).astype(np.uint16).reshape(8, 6)
    np.testing.assert_array_equal(read_one(save(wide, tmp_path / "a.png"), GREY)[..., 0], wide >> 8)


# Transparency.

HIDDEN, SEEN = (200, 30, 90), (9, 8, 7)


def transparent(mode, below):
    """A picture of one colour, SEEN, with ``below`` in each pixel that is wholly transparent: the upper half."""
    pixels = np.full((8, 6, 4), (*SEEN, 255), np.uint8)
    pixels[:4] = (*below, 0)
    picture = pillow.fromarray(pixels)
    if mode == "LA":
        return pillow.fromarray(np.ascontiguousarray(pixels[..., [0, 3]]))
    if mode == "P":
        flat = pillow.new("P", (6, 8), 1)
        flat.putpalette([*below, *SEEN])
        flat.paste(0, (0, 0, 6, 4))
        flat.info["transparency"] = 0
        return flat
    if mode == "RGB":
        flat = picture.convert("RGB")
        flat.info["transparency"] = below
        return flat
    return picture


MODES = {"png": ("RGBA", "LA", "P", "RGB"), "webp": ("RGBA", "LA", "P"), "gif": ("RGBA", "P"), "tiff": ("RGBA", "LA")}


@pytest.mark.parametrize(("form", "mode"), [(form, mode) for form, modes in MODES.items() for mode in modes])
def test_what_lies_below_a_transparency_decides_nothing(form, mode, tmp_path):
    seen = []
    for below in (HIDDEN, (0, 0, 0)):
        path = tmp_path / f"{below[0]}.{form}"
        picture = transparent(mode, below)
        options = {"transparency": picture.info["transparency"]} if "transparency" in picture.info else {}
        picture.save(path, **options, **({"lossless": True} if form == "webp" else {}))
        for background in ("white", "black", "#0a6432"):
            pixels = read(path, COLOUR, background)
            assert (pixels[:4] == parse_colour(background)).all()
            assert (pixels[4:] == (SEEN[:1] if mode == "LA" else SEEN)).all()
            seen.append(pixels.tobytes())
        assert (read(path, GREY, "white")[:4] == 255).all()
    assert seen[:3] == seen[3:]


def read(path, shape, background):
    ((_, pixels),) = read_images(path, shape, parse_colour(background))
    return pixels


def test_half_transparent(tmp_path):
    pixels = pictures((8, 6, 4), 1)[0]
    path = save(pixels, tmp_path / "a.png")
    alpha = pixels[..., 3:] / 255
    for background in ("white", "#103050"):
        expected = pixels[..., :3] * alpha + np.array(parse_colour(background)) * (1 - alpha)
        assert np.abs(read(path, COLOUR, background) - expected).max() <= 1
    np.testing.assert_array_equal(read_one(path, COLOUR), read(path, COLOUR, "white"))


def test_palettes(tmp_path):
    pillow.fromarray(np.full((8, 6, 3), (9, 8, 7), np.uint8)).quantize(4).save(tmp_path / "p.png")
    assert read_one(tmp_path / "p.png", COLOUR)[0, 0].tolist() == [9, 8, 7]


@pytest.mark.parametrize("text", ["", "grey", "#fff", "#1234567", "ffffff", "#12345\n"])
def test_what_is_no_colour(text):
    with pytest.raises(ValueError, match="choose white, black, or a colour such as #808080"):
        parse_colour(text)


# Files that end too early.

JPEGS = [{}, {"progressive": True}, {"quality": 100}, {"restart_marker_rows": 1}, {"restart_marker_blocks": 2}]


@pytest.mark.parametrize("options", JPEGS, ids=str)
@pytest.mark.parametrize("shape", [(40, 30), (40, 30, 3)], ids=str)
def test_a_jpeg_cut_anywhere(shape, options, tmp_path):
    """Without the last two bytes it is whole; without so much that a row is missing, it is damaged."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    pixels = (rows * 3 + columns * 2).astype(np.uint8) + rng.integers(0, 20, (*shape[2:][::-1], 40, 30), np.uint8)
    whole = save(np.moveaxis(pixels, 0, -1) if len(shape) == 3 else pixels, tmp_path / "whole.jpg", **options)
    content, expected = whole.read_bytes(), read_one(whole, (40, 30, 3))
    path, whole_as_well = tmp_path / "cut.jpg", 0
    for missing in range(1, len(content)):
        path.write_bytes(content[:-missing])
        if missing <= 2:
            np.testing.assert_array_equal(read_one(path, (40, 30, 3)), expected)
            continue
        with suppress(DataError):
            found = read_one(path, (40, 30, 3))
            # Of the last block a part may be missing, as anybody would show it; but nothing else.
            np.testing.assert_array_equal(found[:24], expected[:24])
            np.testing.assert_array_equal(found[:, :16], expected[:, :16])
            whole_as_well += 1
    assert whole_as_well < 20


@pytest.mark.parametrize("form", module.FORMATS)
def test_half_a_picture_is_damaged(form, tmp_path):
    content = encoded(form)
    (tmp_path / "a").write_bytes(content[: len(content) // 2])
    refused(tmp_path / "a", COLOUR, "cannot be read")


# Arrays.


def test_arrays(tmp_path):
    many = pictures(COLOUR, 3)
    np.save(tmp_path / "many.npy", many)
    names, pixels = zip(*read_images(tmp_path / "many.npy", COLOUR), strict=True)
    assert names == tuple(f"{tmp_path / 'many.npy'}[{i}]" for i in range(3))
    np.testing.assert_array_equal(pixels, many)
    np.save(tmp_path / "one.npy", many[0])
    np.testing.assert_array_equal(read_one(tmp_path / "one.npy", COLOUR), many[0])
    np.save(tmp_path / "flat.npy", many[0, ..., 0])
    np.testing.assert_array_equal(read_one(tmp_path / "flat.npy", GREY), many[0, ..., :1])


def test_arrays_of_another_size_are_scaled_like_pictures(tmp_path):
    for shape in (GREY, COLOUR):
        pixels = pictures((31, 20, shape[2]), 1)[0]
        np.save(tmp_path / "a.npy", pixels)
        picture = save(pixels.squeeze(), tmp_path / "a.png")
        np.testing.assert_array_equal(read_one(tmp_path / "a.npy", shape), read_one(picture, shape))


def test_channels_that_no_picture_has(tmp_path):
    pixels = pictures((8, 6, 2), 1)[0]
    np.save(tmp_path / "a.npy", pixels)
    np.testing.assert_array_equal(read_one(tmp_path / "a.npy", (8, 6, 2)), pixels)
    for path in (tmp_path / "a.npy", save(pixels[..., 0], tmp_path / "a.png")):
        refused(path, (4, 4, 2), "the model takes 2 channels")


# What is refused.


def refused(path, shape, message):
    with pytest.raises(DataError, match=message) as caught:
        list(read_images(path, shape))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("array", "found"), [
    (np.zeros((8, 6), np.float32), r"float32 \(8, 6, 1\)"),
    (np.zeros((8, 6, 3), np.uint8), r"uint8 \(8, 6, 3\)"),
    (np.zeros((8, 6, 4), np.uint8), r"uint8 \(8, 6, 4\)"),
    (np.zeros(8, np.uint8), r"uint8 \(8,\)"),
    (np.zeros((0, 8, 6, 1), np.uint8), r"uint8 \(0, 8, 6, 1\)"),
])  # fmt: skip
def test_arrays_that_do_not_fit(array, found, tmp_path):
    np.save(tmp_path / "a.npy", array)
    refused(tmp_path / "a.npy", GREY, rf"holds {found}, the model takes uint8 \(H, W, 1\) or \(N, H, W, 1\)")


def test_an_array_that_promises_more_than_there_is(tmp_path):
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000, 1000, 1), }\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    refused(tmp_path / "a.npy", GREY, "cannot be read")


def test_nothing_is_ever_unpickled(tmp_path):
    """In neither of the two ways in which NumPy could be brought to do it."""
    exploit = Exploit(str(tmp_path / "executed"))
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps(exploit))
    np.save(tmp_path / "objects.npy", np.array([exploit], object), allow_pickle=True)
    for name in ("pickle.npy", "objects.npy"):
        refused(tmp_path / name, GREY, "cannot be read")
    assert not (tmp_path / "executed").exists()


class Exploit:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("name", ["a.png", "a.npy"])
@pytest.mark.parametrize("content", [None, b"", b"hello", bytes(300)])
def test_files_that_are_no_images(name, content, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, GREY, "cannot be read")


def test_pictures_that_are_too_large(tmp_path, monkeypatch):
    path = save(np.zeros((40, 40), np.uint8), tmp_path / "a.png")
    for bound in (1000, 100):  # Pillow warns of the one, and refuses the other
        monkeypatch.setattr(pillow, "MAX_IMAGE_PIXELS", bound)
        refused(path, GREY, f"too large a picture, of more than {bound:,} pixels: make it smaller")


def test_values_of_unknown_range(tmp_path):
    (tmp_path / "a.ppm").write_bytes(b"P5\n6 8\n65535\n" + bytes(96))
    refused(tmp_path / "a.ppm", GREY, "has values of more than 8 bits")


def test_programs_are_no_pictures(tmp_path, monkeypatch):
    """Pillow would hand a PostScript file to an interpreter."""
    plugin, ran = pytest.importorskip("PIL.EpsImagePlugin"), []
    monkeypatch.setattr(plugin, "Ghostscript", lambda *arguments: ran.append(arguments))
    (tmp_path / "a.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n%%EndComments\nshowpage\n")
    refused(tmp_path / "a.eps", GREY, "no whole picture as AVIF, BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP")
    assert ran == []


def test_without_pillow(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.zeros(GREY, np.uint8))
    (tmp_path / "a.png").touch()
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    assert len(list(read_images(tmp_path / "a.npy", GREY))) == 1
    with pytest.raises(DataError, match=r'pip install "incnet\[images\]"'):
        list(read_images(tmp_path / "a.png", GREY))


def encoded(form):
    buffer = io.BytesIO()
    pixels = pictures((16, 16, 3), 1)[0]
    if form == "NPY":
        np.save(buffer, pixels)
    else:
        pillow.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize("form", [*module.FORMATS, "NPY"])
def test_spoilt_files(form, tmp_path):
    whole, path = encoded(form), tmp_path / f"a.{form.lower()}"
    payloads = st.sampled_from(TOKENS) | st.binary(max_size=8)

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.tuples(st.sampled_from(KINDS), st.floats(0, 1, exclude_max=True), payloads), max_size=4))
    def attempt(edits):
        path.write_bytes(spoil(whole, edits))
        with suppress(DataError):
            list(read_images(path, COLOUR))

    attempt()
