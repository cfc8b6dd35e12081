"""ApiVersions, versions 0 to 4: nothing is promised that could not be kept."""

from __future__ import annotations

import struct

import pytest
from kafka.protocol.metadata import ApiVersionsResponse

from meshproxy.wire.kafka.api_versions import UNSUPPORTED_VERSION, clamp, unsupported
from meshproxy.wire.kafka.apis import APIS, NEVER
from tests.wire.kafka.messages import (
    UNKNOWN,
    Values,
    encode,
    frames,
    kafka_python_class,
    samples,
    variants,
)

VARIANTS = pytest.mark.parametrize(("version", "encoder"), variants("ApiVersionsResponse"))
CONCEALED = {76, 78, 79}


def limited(values: Values) -> Values:
    ranges = []
    for each in values["ApiKeys"]:
        key, oldest = each["ApiKey"], each["MinVersion"]
        if key not in APIS or key in CONCEALED:
            continue
        newest = APIS[key].newest
        most = each["MaxVersion"] if newest is None else min(each["MaxVersion"], newest)
        if newest is None or oldest <= newest:
            ranges.append({**each, "MaxVersion": most})
    return {**values, "ApiKeys": ranges}


def broker(values: Values, tags: bool, count: int) -> Values:
    """A broker that knows so many APIs, and of each more versions than there are."""
    ranges = [
        {"ApiKey": key, "MinVersion": key % 3, "MaxVersion": 5 + key % 20,
         UNKNOWN: [(key + 100, b"?")] if tags else []}
        for key in range(count)
    ]  # fmt: skip
    return {**values, "ErrorCode": 0, "ApiKeys": ranges}


@VARIANTS
def test_limits(version: int, encoder: str) -> None:
    tags = encoder == "definition"
    for count in (0, 5, 78, 79, 126, 127, 200):
        for drawn in samples("ApiVersionsResponse", version, 3, unknown=tags):
            values = broker(drawn, tags, count)
            response = encode(encoder, "ApiVersionsResponse", version, values)
            expected = encode(encoder, "ApiVersionsResponse", version, limited(values))
            assert clamp(response, version) == expected


@VARIANTS
def test_errors_pass(version: int, encoder: str) -> None:
    for drawn in samples("ApiVersionsResponse", version, 4):
        values = {**broker(drawn, False, 100), "ErrorCode": 35}
        response = encode(encoder, "ApiVersionsResponse", version, values)
        assert clamp(response, version) is response


@VARIANTS
def test_any_answer_keeps_to_what_is_understood(version: int, encoder: str) -> None:
    for values, response in frames("ApiVersionsResponse", version, encoder):
        if values["ErrorCode"] == 0:
            expected = encode(encoder, "ApiVersionsResponse", version, limited(values))
            assert clamp(response, version) == expected


@pytest.mark.parametrize("version", range(5))
def test_an_old_broker_is_left_alone(version: int) -> None:
    ranges = [{"ApiKey": key, "MinVersion": 0, "MaxVersion": 0} for key in sorted(APIS)]
    values = {
        "ErrorCode": 0, "ThrottleTimeMs": 0,
        "ApiKeys": [each for each in ranges if each["ApiKey"] not in CONCEALED],
    }  # fmt: skip
    response = encode("definition", "ApiVersionsResponse", version, values)
    assert clamp(response, version) is response


def test_produce_may_begin_at_0_for_librdkafka() -> None:
    """KAFKA-18659."""
    ranges = [{"ApiKey": 0, "MinVersion": 0, "MaxVersion": 99}]
    response = encode("kafka-python", "ApiVersionsResponse", 0, {"ErrorCode": 0, "ApiKeys": ranges})
    (found,) = ApiVersionsResponse.decode(clamp(response, 0)[8:], version=0).api_keys
    assert (found.api_key, found.min_version, found.max_version) == (0, 0, 13)


def test_an_api_whose_versions_are_all_too_new_is_left_out() -> None:
    ranges = [{"ApiKey": 1, "MinVersion": 19, "MaxVersion": 20}]
    response = encode("kio", "ApiVersionsResponse", 0, {"ErrorCode": 0, "ApiKeys": ranges})
    assert clamp(response, 0) == encode(
        "kio", "ApiVersionsResponse", 0, {"ErrorCode": 0, "ApiKeys": []}
    )


def test_the_answer_to_a_version_that_is_too_new() -> None:
    answer = unsupported(-3)
    assert struct.unpack(">ii", answer[:8]) == (len(answer) - 4, -3)
    found = ApiVersionsResponse.decode(answer[8:], version=0)
    assert found.error_code == UNSUPPORTED_VERSION
    assert [(each.api_key, each.min_version, each.max_version) for each in found.api_keys] == [
        (18, 0, 4)
    ]


def test_kafka_python_and_the_table_agree_on_flexible_versions() -> None:
    for api in APIS.values():
        found = kafka_python_class(f"{api.name}Request")
        if found is not None:
            first = found._flexible_versions[0]
            assert api.first_flexible == (NEVER if first < 0 else first), api.name
