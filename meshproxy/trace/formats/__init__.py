"""The propagation formats beside W3C Trace Context, by the names the configuration gives them."""

from __future__ import annotations

from meshproxy.trace.formats.b3 import B3Multi, B3Single
from meshproxy.trace.formats.base import Fields, Foreign, Format
from meshproxy.trace.formats.datadog import Datadog
from meshproxy.trace.formats.gcp import Gcp
from meshproxy.trace.formats.jaeger import Jaeger
from meshproxy.trace.formats.ot import OpenTracing
from meshproxy.trace.formats.skywalking import SkyWalking
from meshproxy.trace.formats.xray import XRay

_ALL: tuple[Format, ...] = (
    B3Single(),
    B3Multi(),
    Jaeger(),
    XRay(),
    Gcp(),
    Datadog(),
    SkyWalking(),
    OpenTracing(),
)

FORMATS: dict[str, Format] = {format.name: format for format in _ALL}

__all__ = ["FORMATS", "Fields", "Foreign", "Format"]
