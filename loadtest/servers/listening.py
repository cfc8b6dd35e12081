"""What every program here has in common: one uvloop loop and one listening port."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

import uvloop


def serve(factory: Callable[[], asyncio.Protocol], port: int) -> None:
    """Serve a protocol on a loopback port until the process is ended."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(factory, "127.0.0.1", port, backlog=1024)
        gc.freeze()
        await server.serve_forever()

    uvloop.run(main())
