"""The Kafka protocol: frames, the messages that tell of records and brokers, record batches."""
