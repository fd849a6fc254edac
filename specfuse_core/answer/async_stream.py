"""A stream of segments for an event loop: a thread drafts each segment when it is asked for.

This module knows nothing of engines; it only calls ``next`` on an open stream.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Generator

from specfuse_core.types import Segment

__all__ = ["pulled"]


async def pulled(segments: Generator[Segment, None, None]) -> AsyncGenerator[Segment, None]:
    """A stream that is open already, one thread job per segment, each when it is asked for.

    A consumer that is cancelled, or that closes the iterator, closes ``segments``: at once, or when
    the round that runs is over.
    """
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    job: asyncio.Future[Segment | None] | None = None
    try:
        while True:
            # A future, not a task: a loop that shuts down cancels all tasks, and would then
            # call the round ended while its thread still runs.
            job = loop.run_in_executor(None, lambda: context.run(next, segments, None))
            segment = await asyncio.shield(job)
            if segment is None:
                return
            yield segment
    finally:
        if job is None or job.done():
            segments.close()
        else:
            # A running generator cannot be closed: its round ends first.
            job.add_done_callback(lambda _: segments.close())
