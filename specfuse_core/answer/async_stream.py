"""Turns a stream of segments into an async one: each segment is generated in a thread.

This module knows nothing of engines; it only calls ``next`` on an open stream.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Generator

from specfuse_core.types import Segment

__all__ = ["pulled"]


async def pulled(segments: Generator[Segment, None, None]) -> AsyncGenerator[Segment, None]:
    """Yield the segments of an open stream. Each is generated in a thread when it is requested.

    If the consumer is cancelled or closes the iterator, ``segments`` is closed: at once, or after
    the current round if one is running.

    Args:
        segments: an open stream of segments.
    """
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    job: asyncio.Future[Segment | None] | None = None
    try:
        while True:
            # A future, not a task: an event loop that shuts down cancels all tasks, and the round
            # would then seem to have ended while its thread still runs.
            job = loop.run_in_executor(None, lambda: context.run(next, segments, None))
            segment = await asyncio.shield(job)
            if segment is None:
                return
            yield segment
    finally:
        if job is None or job.done():
            segments.close()
        else:
            # A running generator cannot be closed, so close it after its round.
            job.add_done_callback(lambda _: segments.close())
