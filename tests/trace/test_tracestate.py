"""W3C Trace Context, tracestate: rules 5 and 6 of the notes, case by case."""

from __future__ import annotations

import pytest
from opentelemetry.trace import TraceState

from meshproxy.trace import tracestate

LONGEST_KEY = "k" * 256
LONGEST_VALUE = "v" * 256


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param(["foo=1"], "foo=1", id="one member"),
        pytest.param(["foo=1,bar=2"], "foo=1,bar=2", id="two members"),
        pytest.param(["foo=1", "bar=2", "baz=3"], "foo=1,bar=2,baz=3", id="headers join in order"),
        pytest.param(["foo=1,bar=2", "baz=3"], "foo=1,bar=2,baz=3", id="lists join in order"),
        pytest.param(["foo=1 \t , \tbar=2, baz=3 "], "foo=1,bar=2,baz=3", id="blanks go"),
        pytest.param(["foo=1,,  ,bar=2,"], "foo=1,bar=2", id="empty members go"),
        pytest.param(["", "foo=1", ""], "foo=1", id="empty headers go"),
        pytest.param([""], "", id="empty is accepted"),
        pytest.param([" , "], "", id="only empty members"),
        pytest.param([], "", id="no header"),
        pytest.param(["a= 1"], "a= 1", id="a value may begin with a blank"),
        pytest.param(["a=!#~:;x y"], "a=!#~:;x y", id="all sorts of characters"),
        pytest.param(["0@a/b*c-d_e=1"], "0@a/b*c-d_e=1", id="level 2 keys"),
        pytest.param(["t@v@w=1"], "t@v@w=1", id="more than one @"),
        pytest.param(["foo=1,foo=2"], "foo=1,foo=2", id="duplicates stay"),
        pytest.param([f"{LONGEST_KEY}=1"], f"{LONGEST_KEY}=1", id="longest key"),
        pytest.param([f"a={LONGEST_VALUE}"], f"a={LONGEST_VALUE}", id="longest value"),
    ],
)
def test_rule_6_what_is_propagated(values: list[str], expected: str) -> None:
    assert tracestate.parse([value.encode() for value in values]) == expected


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("Foo=1", id="upper-case key"),
        pytest.param("@foo=1", id="key begins with @"),
        pytest.param("-foo=1", id="key begins with a dash"),
        pytest.param("fo o=1", id="blank in a key"),
        pytest.param("foo =1", id="blank after a key"),
        pytest.param("=1", id="no key"),
        pytest.param("foo", id="no equals sign"),
        pytest.param("foo=", id="empty value"),
        pytest.param("foo= ", id="blank value"),
        pytest.param("foo=a=b", id="equals sign in a value"),
        pytest.param("foo=a\tb", id="tab in a value"),
        pytest.param("foo=\x7f", id="control character"),
        pytest.param("foo=é", id="not ASCII"),
        pytest.param(f"{LONGEST_KEY}k=1", id="key too long"),
        pytest.param(f"foo={LONGEST_VALUE}v", id="value too long"),
    ],
)
def test_rule_6_an_illegal_member_discards_the_whole(value: str) -> None:
    assert tracestate.parse([f"ok=1,{value},fine=2".encode("latin-1")]) == ""
    assert tracestate.parse([b"ok=1", value.encode("latin-1")]) == ""


def test_rule_6_at_most_32_members() -> None:
    members = [f"k{number}=1" for number in range(33)]
    assert tracestate.parse([",".join(members[:32]).encode()]) == ",".join(members[:32])
    assert tracestate.parse([",".join(members).encode()]) == ""
    assert tracestate.parse([m.encode() for m in members]) == ""


def test_rule_6_empty_members_do_not_count_towards_32() -> None:
    members = ",,".join(f"k{number}=1" for number in range(32))
    assert tracestate.parse([members.encode()]) == members.replace(",,", ",")


def _sized(key: str, size: int) -> str:
    return f"{key}=".ljust(size, "x")


def test_rule_6_512_characters_are_propagated_and_one_more_is_cut() -> None:
    members = [_sized("a", 127), _sized("b", 127), _sized("c", 127), _sized("d", 128)]
    whole = ",".join(members)
    assert len(whole) == 512
    assert tracestate.parse([whole.encode()]) == whole
    assert tracestate.parse([f"{whole}x".encode()]) == ",".join(members[:3])


def test_rule_6_members_over_128_characters_go_first() -> None:
    members = [_sized("big", 200), *(_sized(f"k{n}", 100) for n in range(4))]
    assert tracestate.parse([",".join(members).encode()]) == ",".join(members[1:])


def test_rule_6_large_members_stay_when_there_is_room_for_them() -> None:
    members = [_sized("big", 200), _sized("a", 100), _sized("also", 200), _sized("b", 100)]
    assert tracestate.parse([",".join(members).encode()]) == ",".join(
        (members[0], members[1], members[3])
    )


def test_rule_6_then_members_go_from_the_right() -> None:
    members = [_sized(f"k{n}", 128) for n in range(6)]
    assert tracestate.parse([",".join(members).encode()]) == ",".join(members[:3])


def test_rule_6_our_own_key_goes_leftmost() -> None:
    assert tracestate.put("a=1,b=2", "ot", "th:0") == "ot=th:0,a=1,b=2"
    assert tracestate.put("a=1,ot=th:8,b=2", "ot", "th:0") == "ot=th:0,a=1,b=2"
    assert tracestate.put("", "ot", "th:0") == "ot=th:0"


def test_put_makes_room_at_the_right() -> None:
    full = [f"k{number}=1" for number in range(32)]
    assert tracestate.put(",".join(full), "own", "1").split(",") == ["own=1", *full[:31]]
    long = [_sized(f"k{n}", 127) for n in range(4)]
    assert tracestate.put(",".join(long), "own", "1").split(",") == ["own=1", *long[:3]]


@pytest.mark.parametrize(("key", "value"), [("A", "1"), ("", "1"), ("a", ""), ("a", "x,y")])
def test_put_refuses_what_is_illegal(key: str, value: str) -> None:
    with pytest.raises(ValueError, match="tracestate member"):
        tracestate.put("", key, value)


def test_get_reads_the_leftmost() -> None:
    assert tracestate.get("a=1,b=2,a=3", "a") == "1"
    assert tracestate.get("ab=1", "b") is None
    assert tracestate.get("", "a") is None


def test_remove_takes_all_with_the_key_and_no_other() -> None:
    assert tracestate.remove("a=1,b=2,a=3,ba=4", "a") == "b=2,ba=4"
    assert tracestate.remove("a=1", "a") == ""
    assert tracestate.remove("a=1", "b") == "a=1"


@pytest.mark.parametrize("value", ["foo=1", "foo=1,bar=2", "a-b_c*d/e=x y;z:1,t@v=2"])
def test_opentelemetry_reads_the_same(value: str) -> None:
    theirs = TraceState.from_header([value])
    assert tracestate.parse([value.encode()]) == theirs.to_header()
