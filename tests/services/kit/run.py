"""Clients as processes: run to their end."""

from __future__ import annotations

import asyncio

from meshproxy.demo.processes import plain_environment

PATIENCE = 60.0


async def run(*command: str, feed: bytes = b"") -> str:
    """What a command prints, given ``feed`` to read; an exit code other than 0 fails the test."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=plain_environment({}),
    )
    try:
        async with asyncio.timeout(PATIENCE):
            output, errors = await process.communicate(feed)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"{command[0]} ended with {process.returncode}: {errors!r}"
    return output.decode()
