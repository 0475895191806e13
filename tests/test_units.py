import pytest

from incnet.units import parse_size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0B", 0),
        ("512B", 512),
        ("3kB", 3_000),
        ("500MB", 500_000_000),
        ("2GB", 2_000_000_000),
        ("1.5 GB", 1_500_000_000),
        ("1KiB", 1024),
        ("1.5GiB", 3 * 2**29),
        ("1TiB", 2**40),
    ],
)
def test_sizes(text, expected):
    assert parse_size(text) == expected


@pytest.mark.parametrize(
    "text", ["", "2", "GB", "-1GB", "+1GB", "1e3GB", "2gb", "2G", "2 GB ", "2  GB", "1,5GB", ".5GB", "inf GB", "²GB"]
)
def test_anything_else_is_refused(text):
    with pytest.raises(ValueError, match="is no size: write a number and a unit"):
        parse_size(text)
