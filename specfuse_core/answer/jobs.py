"""Runs functions in threads for coroutines, apart from the event loop's own threads.

Other tasks use the executor of the event loop, and a round can take seconds. The threads here are
daemons, so a model that hangs delays the end of the interpreter only by seconds. This module knows
nothing of answers.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import os
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

__all__ = ["run_in_thread", "submit"]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

#: A job returns what delivers its result.
_Job = Callable[[], Callable[[], None]]

#: As many as in asyncio's executor: a model may wait, or run outside of this process.
_MOST = min(32, (os.cpu_count() or 1) + 4)
#: Seconds that the end of the interpreter waits for running jobs. The interpreter aborts if it ends
#: while a thread is in C++ code, such as a forward pass.
_PATIENCE = 5.0


class _Pool:
    """Daemon threads that run jobs. Threads start when they are needed, and end with the pool."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        weakref.finalize(self, _end, self._jobs, self._threads)

    def put(self, job: _Job) -> None:
        """Run ``job`` as soon as a thread is free."""
        self._jobs.put(job)
        if self._idle.acquire(blocking=False) or len(self._threads) >= _MOST:
            return
        thread = threading.Thread(
            target=_work, args=(self._jobs, self._idle), name="specfuse-job", daemon=True
        )
        self._threads.append(thread)
        thread.start()


class _Pools(threading.local):
    """The pool of each thread that runs event loops.

    A model may run an event loop of its own, in a thread of a pool. With one pool for the process,
    its jobs would wait for the threads that wait for it.
    """

    pool: _Pool | None = None


_pools = _Pools()
#: One event for each running job, which is set when the job has ended.
_running: set[threading.Event] = set()


def submit(function: Callable[[], Result]) -> Future[Result]:
    """Run ``function`` in a thread. The callbacks of the future run there too."""
    if _pools.pool is None:
        _pools.pool = _Pool()
    future: Future[Result] = Future()
    _pools.pool.put(partial(_run, future, function))
    return future


async def run_in_thread(
    function: Callable[Arguments, Result],
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Result:
    """Run ``function`` in a thread, with the context variables of the caller.

    If the task is cancelled, a result that has a ``close`` method is closed when it is there.
    """
    call = partial(contextvars.copy_context().run, function, *args, **kwargs)
    job: Future[Result] = submit(call)
    try:
        return await asyncio.wrap_future(job)
    except asyncio.CancelledError:
        job.add_done_callback(_discard)
        raise


def _discard(job: Future[Any]) -> None:
    if not job.cancelled() and job.exception() is None:
        close = getattr(job.result(), "close", None)
        if close is not None:
            close()


def _run(future: Future[Result], function: Callable[[], Result]) -> Callable[[], None]:
    if not future.set_running_or_notify_cancel():
        return lambda: None
    try:
        return partial(future.set_result, function())
    except BaseException as error:
        return partial(future.set_exception, error)


def _work(jobs: SimpleQueue[_Job | None], idle: threading.Semaphore) -> None:
    while (job := jobs.get()) is not None:
        ended = threading.Event()
        _running.add(ended)
        deliver = job()
        # First, so that the next round of an answer gets the same thread.
        idle.release()
        deliver()
        del job, deliver  # They hold the result.
        _running.discard(ended)
        ended.set()


def _end(jobs: SimpleQueue[_Job | None], threads: list[threading.Thread]) -> None:
    for _ in threads:
        jobs.put(None)


def _wait() -> None:
    until = time.monotonic() + _PATIENCE
    for ended in tuple(_running):
        ended.wait(max(0.0, until - time.monotonic()))


def _forget() -> None:
    # Threads do not survive a fork.
    _pools.pool = None
    _running.clear()


atexit.register(_wait)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
