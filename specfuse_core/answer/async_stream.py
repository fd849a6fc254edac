"""Turns a stream of segments into an async one: each segment is generated in a thread.

This module knows nothing of engines; it only calls ``next`` on an open stream.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import Future
from functools import partial

from specfuse_core.answer.jobs import submit
from specfuse_core.types import Segment

__all__ = ["pulled"]


async def pulled(segments: Generator[Segment, None, None]) -> AsyncGenerator[Segment, None]:
    """Yield the segments of an open stream. Each is generated in a thread when it is requested.

    The thread has the context variables of the consumer. If the consumer is cancelled or closes the
    iterator, ``segments`` is closed: at once, or after the current round if one is running.

    Args:
        segments: an open stream of segments.
    """
    following = partial(contextvars.copy_context().run, next, segments, None)
    job: Future[Segment | None] | None = None
    try:
        while True:
            job = submit(following)
            segment = await asyncio.wrap_future(job)
            if segment is None:
                return
            yield segment
    finally:
        if job is None or job.done():
            segments.close()
        else:
            # A running generator cannot be closed. Its thread closes it after the round, also if
            # the event loop has ended by then.
            job.add_done_callback(lambda _: segments.close())
