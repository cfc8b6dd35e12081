"""Frames: whatever comes, in whatever portions, goes on unchanged."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.wire.kafka.frames import ENDLESS, HEAD, Frames, Piece
from tests.wire.kafka.messages import frame

LIMIT = 6000

bodies = st.binary(max_size=40) | st.sampled_from([LIMIT - 4, LIMIT - 3, 2 * LIMIT]).map(bytes)


def fed(frames: Frames, stream: bytes, cuts: list[int]) -> list[Piece]:
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [piece for a, b in pairwise(edges) for piece in frames.feed(stream[a:b])]


def whole(pieces: list[Piece]) -> list[tuple[bytes, int]]:
    """Frames put together from their pieces, with their sizes."""
    found: list[tuple[bytes, int]] = []
    for piece in pieces:
        if piece.first:
            found.append((b"", piece.size))
        assert found[-1][1] == piece.size
        found[-1] = (found[-1][0] + piece.data, piece.size)
        assert piece.last == (len(found[-1][0]) == piece.size)
    return found


@given(st.lists(bodies, max_size=5), st.lists(st.integers(0), max_size=8))
def test_any_split_gives_the_same_frames(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(map(frame, messages))
    frames = Frames(LIMIT)
    pieces = fed(frames, stream, cuts)
    assert whole(pieces) == [(frame(each), len(each) + 4) for each in messages]
    for piece in pieces:
        if piece.size <= LIMIT:
            assert piece.first
            assert piece.last
        elif piece.first:
            assert len(piece.data) >= HEAD
    assert frames.held() == b""


@given(st.binary(max_size=200) | st.lists(bodies).map(lambda all_: b"".join(map(frame, all_))),
       st.lists(st.integers(0), max_size=8), st.integers(0))  # fmt: skip
def test_nothing_is_lost_of_any_bytes(stream: bytes, cuts: list[int], end: int) -> None:
    stream = stream[: end % (len(stream) + 1)]
    frames = Frames(LIMIT)
    pieces = fed(frames, stream, cuts)
    assert b"".join(piece.data for piece in pieces) + frames.held() == stream


def test_byte_by_byte() -> None:
    stream = frame(b"first") + frame(b"") + frame(b"third")
    pieces = fed(Frames(LIMIT), stream, list(range(len(stream))))
    assert [piece.data for piece in pieces] == [frame(b"first"), frame(b""), frame(b"third")]


def test_a_read_that_is_a_frame_is_not_copied() -> None:
    data = frame(b"request")
    assert Frames(LIMIT).feed(data)[0].data is data


def test_a_frame_at_the_limit_comes_whole() -> None:
    assert [piece.last for piece in Frames(11).feed(frame(b"request"))] == [True]


def test_a_frame_beyond_the_limit_is_not_kept() -> None:
    frames = Frames(LIMIT)
    data = frame(bytes(50_000))
    assert frames.feed(data[:4000]) == []
    assert frames.held() == data[:4000]
    (first,) = frames.feed(data[4000:5000])
    assert (first.data, first.first, first.last, first.size) == (data[:5000], True, False, 50_004)
    (more,) = frames.feed(data[5000:5001])
    assert (more.data, more.first, more.last) == (data[5000:5001], False, False)
    last, following = frames.feed(data[5001:] + frame(b"next"))
    assert (last.data, last.first, last.last) == (data[5001:], False, True)
    assert (following.data, following.first, following.last) == (frame(b"next"), True, True)


def test_after_a_frame_that_came_in_pieces_frames_are_whole_again() -> None:
    frames = Frames(LIMIT)
    frames.feed(frame(bytes(2 * LIMIT)))
    assert frames.feed(frame(b"next")[:6]) == []
    assert [piece.data for piece in frames.feed(frame(b"next")[6:])] == [frame(b"next")]


@pytest.mark.parametrize("size", [b"\xff\xff\xff\xff", b"\x80\x00\x00\x00"])
def test_after_a_negative_size_everything_streams(size: bytes) -> None:
    frames = Frames(LIMIT)
    whole_frame, rest = frames.feed(frame(b"fine") + size + b"!")
    assert whole_frame.data == frame(b"fine")
    assert (rest.data, rest.first, rest.last, rest.size) == (size + b"!", True, False, ENDLESS)
    for data in (b"x", frame(b"no longer a frame")):
        (piece,) = frames.feed(data)
        assert (piece.data, piece.first, piece.last) == (data, False, False)
    assert frames.held() == b""
