"""Tracing of Kafka: `filters.kafka.tracing` on the wire, `filters.kafka.client` in applications.

Neither imports the other, so that an application does not load the wire filter.
"""
