"""Composition: configuration to listeners, filters and exporters; admin, lifecycle, reload."""
