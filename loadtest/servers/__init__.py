"""Programs around the proxies: the backend, the OTLP sink, the app that makes a call."""
