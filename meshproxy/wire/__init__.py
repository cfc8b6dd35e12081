"""Bytes to messages and back, without I/O. Nothing here has heard of spans."""
