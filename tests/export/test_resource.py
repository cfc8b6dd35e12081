"""Which service spans are about."""

from meshproxy.config.model import Service
from meshproxy.export.resource import resource_attributes


def test_names_of_the_conventions() -> None:
    service = Service(name="cart", namespace="shop", version="2.4.1", environment="production")
    attributes = resource_attributes(
        service, instance="i-1", version="9.9", detected={"process.pid": 7, "host.name": "h"}
    )
    assert attributes == (
        ("deployment.environment.name", "production"),
        ("host.name", "h"),
        ("process.pid", 7),
        ("service.instance.id", "i-1"),
        ("service.name", "cart"),
        ("service.namespace", "shop"),
        ("service.version", "2.4.1"),
        ("telemetry.distro.name", "meshproxy"),
        ("telemetry.distro.version", "9.9"),
    )


def test_what_is_not_known_is_left_out() -> None:
    keys = [key for key, _ in resource_attributes(Service(), instance="i", version="1")]
    assert keys == [
        "service.instance.id",
        "service.name",
        "telemetry.distro.name",
        "telemetry.distro.version",
    ]


def test_configuration_wins_over_detection_and_named_fields_over_free_ones() -> None:
    service = Service(
        name="cart", instance="mine", attributes={"host.name": "set", "service.name": "other"}
    )
    attributes = dict(
        resource_attributes(service, instance="i", version="1", detected={"host.name": "found"})
    )
    assert attributes["host.name"] == "set"
    assert attributes["service.name"] == "cart"
    assert attributes["service.instance.id"] == "mine"
