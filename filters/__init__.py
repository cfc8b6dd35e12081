"""Filters, one module or package for each protocol. meshproxy finds them by entry point."""
