"""A small mesh of services that lose trace context, run without and with meshproxy."""
