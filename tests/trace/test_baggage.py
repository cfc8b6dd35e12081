"""W3C Baggage: what is handed on, what is read, and the limits."""

from __future__ import annotations

import pytest
from opentelemetry.baggage import get_all
from opentelemetry.baggage.propagation import W3CBaggagePropagator

from meshproxy.trace import baggage


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([b"a=1"], b"a=1", id="one member"),
        pytest.param([b"a=1,b=2"], b"a=1,b=2", id="two members"),
        pytest.param([b"a=1", b"b=2"], b"a=1,b=2", id="headers join in order"),
        pytest.param([b"b=1,a=2,b=3"], b"b=1,a=2,b=3", id="duplicates and order stay"),
        pytest.param([b"a=1 , b=2"], b"a=1,b=2", id="blanks around members go"),
        pytest.param([b"a=x=y==z"], b"a=x=y==z", id="a value may hold ="),
        pytest.param([b"a=%C3%A9%zz"], b"a=%C3%A9%zz", id="encoding is not touched"),
        pytest.param([b"a=1;p=2;q"], b"a=1;p=2;q", id="properties stay"),
        pytest.param([b"a = 1 ; p = 2"], b"a = 1 ; p = 2", id="blanks within a member stay"),
        pytest.param([b"a="], b"a=", id="empty value"),
        pytest.param([b'a="q u o"'], b'a="q u o"', id="values beyond the grammar stay"),
        pytest.param([b"a=caf\xc3\xa9"], b"a=caf\xc3\xa9", id="raw UTF-8 stays"),
        pytest.param([b"a=1,,b=2,"], b"a=1,b=2", id="empty members go"),
        pytest.param([b"a=1,nonsense,b=2"], b"a=1,b=2", id="no equals sign: only that member goes"),
        pytest.param([b"=1,b=2"], b"b=2", id="no key"),
        pytest.param([b"a b=1,b=2"], b"b=2", id="key is no token"),
        pytest.param([b"a=\x01,b=2"], b"b=2", id="control character"),
        pytest.param([b""], b"", id="empty"),
        pytest.param([b"rubbish"], b"", id="nothing left"),
        pytest.param([], b"", id="no header"),
    ],
)
def test_what_is_handed_on(values: list[bytes], expected: bytes) -> None:
    assert baggage.normalise(values) == expected


def test_64_members_are_handed_on_and_the_65th_is_dropped() -> None:
    members = [b"k%d=1" % number for number in range(65)]
    assert baggage.normalise([b",".join(members[:64])]) == b",".join(members[:64])
    assert baggage.normalise([b",".join(members)]) == b",".join(members[:64])
    assert baggage.normalise(members) == b",".join(members[:64])


def test_8192_bytes_are_handed_on_and_members_beyond_are_dropped_whole() -> None:
    first = b"a=".ljust(4096, b"x")
    second = b"b=".ljust(4095, b"x")
    assert len(b",".join((first, second))) == 8192
    assert baggage.normalise([first, second]) == b",".join((first, second))
    assert baggage.normalise([first, second + b"x"]) == first
    assert baggage.normalise([b"a=".ljust(8193, b"x")]) == b""


def test_a_member_that_is_too_long_does_not_take_others_along() -> None:
    assert baggage.normalise([b"a=1", b"b=".ljust(9000, b"x"), b"c=3"]) == b"a=1,c=3"


def test_entries_are_decoded() -> None:
    assert baggage.parse([b"a=caf%C3%A9;p=1; q", b"b = x=y%20z "]) == (
        baggage.Entry("a", "café", "p=1; q"),
        baggage.Entry("b", "x=y z", ""),
    )


@pytest.mark.parametrize(
    ("encoded", "decoded"),
    [
        (b"%FF", "\ufffd"),
        (b"a%C3b", "a\ufffdb"),
        (b"%zz", "%zz"),
        (b"1%2C2", "1,2"),
        (b"a+b", "a+b"),
        (b"", ""),
    ],
)
def test_a_value_is_decoded_and_invalid_utf_8_replaced(encoded: bytes, decoded: str) -> None:
    assert baggage.get(b"x=0,key=" + encoded, "key") == decoded


def test_get_reads_the_first_of_duplicates_and_no_similar_key() -> None:
    assert baggage.get(b"ab=0,a=1,a=2", "a") == "1"
    assert baggage.get(b"ab=0", "a") is None
    assert baggage.get(b"", "a") is None


def test_a_member_is_encoded_so_that_it_reads_back() -> None:
    member = baggage.member(b"key", 'ü, "x";y\\ 100%'.encode())
    assert member is not None
    assert baggage.get(b"a=1," + member, "key") == 'ü, "x";y\\ 100%'
    assert baggage.member(b"no token", b"1") is None


def test_merging_adds_only_keys_that_are_not_there() -> None:
    assert baggage.merge(b"a=1,b=2", [b"b=3", b"c=4"]) == b"a=1,b=2,c=4"
    assert baggage.merge(b"", [b"c=4"]) == b"c=4"


@pytest.mark.parametrize("value", ["a=1", "a=1,b=two%20words", "a=1;p=2,c=x%C3%A9"])
def test_opentelemetry_reads_the_same(value: str) -> None:
    # OpenTelemetry takes properties for a part of the value, so only those before them compare.
    theirs = get_all(W3CBaggagePropagator().extract({"baggage": value}))
    ours = {entry.key: entry.value for entry in baggage.parse([value.encode()])}
    assert ours == {key: str(found).partition(";")[0] for key, found in theirs.items()}
