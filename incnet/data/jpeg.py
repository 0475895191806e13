"""JPEG files that end too early: whether a part of the picture is missing, or its end marker alone.

A decoder fills up what it does not find, so that a picture of which half was lost looks whole to a program. But
whatever it finds behind the last block of a scan, it skips. Endings of different bits therefore show the same pixels
where no block of the scans that were begun is missing; and which scans were begun is in their headers.

Source: ITU-T Recommendation T.81 (1992), annexes B and G.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["endings"]

_BEGINNING, _END = b"\xff\xd8", b"\xff\xd9"
# Bits that no block is made of, two kinds: of a part of the last block one of them may look like the rest.
_BITS = [b"\x55\xaa" * 32, b"\xfe\xfe" * 32]
_RESTARTS = [bytes([0xFF, 0xD0 + i]) for i in range(8)]  # after one of them decoding begins anew
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SCAN, _COEFFICIENTS = 0xDA, 64


def endings(content: bytes) -> list[bytes]:
    """Return a file's content with several endings, which show the same picture if nothing of it is missing.

    There is none if no ending can help: it is no JPEG, or a whole scan is missing.
    """
    if not content.startswith(_BEGINNING) or not _has_all_scans(content):
        return []
    begun = content.rstrip(b"\xff")  # the first half of the end marker
    others = [bits + b"".join(restart + bits for restart in 2 * _RESTARTS) for bits in _BITS]
    return [begun + bits + _END for bits in (b"", *others)]


def _has_all_scans(content: bytes) -> bool:
    """Whether every coefficient of every component is begun to its last bit: a progressive picture has many scans."""
    components, final = 0, set[tuple[int, int]]()
    for kind, segment in _segments(content):
        if kind in _FRAMES and len(segment) > 5:
            components = segment[5]
        if kind == _SCAN and segment and len(segment) == 2 * segment[0] + 4:
            *_, first, last, shift = segment
            if shift % 16 == 0:
                final |= {(i, k) for i in segment[1:-3:2] for k in range(first, min(last + 1, _COEFFICIENTS))}
    return 0 < len(final) == components * _COEFFICIENTS


def _segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield kind and content of each marker segment; the blocks of a scan, which follow its header, are passed over."""
    position = 2
    while (position := content.find(b"\xff", position)) >= 0:
        kind = content[position + 1] if position + 1 < len(content) else 0
        if kind in (0x00, 0xFF) or 0xD0 <= kind <= 0xD9:  # a byte of a block, a filling, a marker by itself
            position += 1
            continue
        length = int.from_bytes(content[position + 2 : position + 4], "big")
        yield kind, content[position + 4 : position + 2 + length]
        position += 2 + max(length, 2)
