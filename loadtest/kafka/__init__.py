"""What passing Kafka through the sidecar costs; see ``loadtest/README.md``."""
