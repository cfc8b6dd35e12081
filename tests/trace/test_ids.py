"""Trace and span ids."""

from __future__ import annotations

import pytest

from meshproxy.trace import ids


def test_ids_are_the_random_bytes_given() -> None:
    assert ids.trace_id_from(b"t" * 16) == b"t" * 16
    assert ids.span_id_from(b"s" * 8) == b"s" * 8


def test_ids_are_never_all_zero() -> None:
    assert any(ids.trace_id_from(bytes(16)))
    assert len(ids.trace_id_from(bytes(16))) == 16
    assert any(ids.span_id_from(bytes(8)))
    assert len(ids.span_id_from(bytes(8))) == 8


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"1", bytes(7) + b"\x01"),
        (b"ABCDEF0123456789", bytes.fromhex("abcdef0123456789")),
        (b"", None),
        (b"0" * 16, None),
        (b"1" * 17, None),
        (b"xyz", None),
        (b"1 ", None),
        (b"+1", None),
    ],
)
def test_hexadecimal_is_padded_on_the_left(text: bytes, expected: bytes | None) -> None:
    assert ids.from_hex(text, 8) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"1", bytes(7) + b"\x01"),
        (b"18446744073709551615", b"\xff" * 8),
        (b"18446744073709551616", None),
        (b"0", None),
        (b"", None),
        (b"-1", None),
        (b"1_0", None),
        (b"\xb2", None),
        (b"1" * 5000, None),
    ],
)
def test_decimal_numbers_are_unsigned_and_64_bits(text: bytes, expected: bytes | None) -> None:
    assert ids.from_decimal(text) == expected
