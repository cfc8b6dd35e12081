"""Measures meshproxy beside other proxies: ``python -m loadtest.bench``."""
