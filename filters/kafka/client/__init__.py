"""Tracing for applications on aiokafka: drop-in producer and consumer, and the spans of processing.

    from filters.kafka.client import AIOKafkaConsumer, AIOKafkaProducer

is all that has to change (docs/kafka-clients.md).
"""

from filters.kafka.client.consumer import AIOKafkaConsumer
from filters.kafka.client.interceptors import (
    ConsumerInterceptor,
    ProducerInterceptor,
    ProducerRecord,
)
from filters.kafka.client.processing import process, process_batch
from filters.kafka.client.producer import AIOKafkaProducer
from meshproxy.inprocess import TraceContextMiddleware, current, request_context

__all__ = [
    "AIOKafkaConsumer",
    "AIOKafkaProducer",
    "ConsumerInterceptor",
    "ProducerInterceptor",
    "ProducerRecord",
    "TraceContextMiddleware",
    "current",
    "process",
    "process_batch",
    "request_context",
]
