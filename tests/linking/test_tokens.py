"""Which words count as tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.linking.tokens import MOST_TOKENS, Tokens
from tests.linking.contents import NOW_NS, UUID, read, uuid


@pytest.mark.parametrize(
    "text",
    [
        UUID,
        b"4bf92f3577b34da6a3ce929d0e0e4736",
        b"tok_1NvJ2x2eZvKYlo2C7d8s9f0g",
        b"123456",
        b"9876543210123",
        b"ORD-12345",
        b"order-17",
    ],
)
def test_what_looks_like_an_id_is_a_token(text: bytes) -> None:
    assert len(read(b"/orders/" + text + b"?expand=items")) == 1


@pytest.mark.parametrize(
    "text",
    [
        b"content-type",
        b"newsletter",
        b"/v1/orders",
        b"1.2.3",
        b"12345",
        b"quantity=2&price=19.99",
        b"us-east-1",
        b"10.0.0.12:8080",
        b"2024-05-01",
        b"2024-05-01T12:34:56Z",
        b"20240501T123456",
        b"1760000123",
        b"1759999999123",
    ],
)
def test_words_small_numbers_versions_and_times_are_none(text: bytes) -> None:
    assert read(text) == []


def test_a_number_that_is_no_time_near_now_is_a_token() -> None:
    assert len(read(b"1460000123 1459999999123")) == 2


def test_an_id_is_the_same_in_any_case_and_around_any_punctuation() -> None:
    once = read(UUID)
    assert read(UUID.upper()) == read(UUID.replace(b"-", b"")) == once
    assert read(b'{"id":"' + UUID + b'"}') == read(b"/orders/" + UUID + b"/items") == once


def test_another_key_gives_other_tokens() -> None:
    assert read(UUID) != Tokens(b"another key here").read(UUID, NOW_NS)


def test_the_half_of_a_word_at_the_end_is_no_token() -> None:
    assert read(UUID + b" " + UUID[:20], cut=True) == read(UUID)


def test_a_text_full_of_tokens_gives_so_many_and_no_more() -> None:
    tokens = read(b",".join(uuid(number) for number in range(10_000)))
    assert tokens == [token for number in range(MOST_TOKENS) for token in read(uuid(number))]


@given(st.binary(max_size=3000))
def test_any_bytes_can_be_read(data: bytes) -> None:
    tokens = read(data)
    assert len(set(tokens)) == len(tokens) <= MOST_TOKENS
    assert all(0 <= token < 1 << 60 for token in tokens)


@pytest.mark.parametrize("text", [b"7f" * 500_000, b"7-" * 500_000, b"\xff7" * 500_000])
def test_endless_words_can_be_read(text: bytes) -> None:
    assert len(read(text)) <= 1
