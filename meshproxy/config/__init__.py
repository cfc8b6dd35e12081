"""The configuration file: typed model, loading, error messages, JSON Schema."""
