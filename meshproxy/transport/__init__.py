"""Sockets: listeners, connections, upstream pools, flow control, time limits. On asyncio."""
