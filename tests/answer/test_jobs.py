"""Threads for coroutines: how many there are, and when they end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest

from specfuse_core.answer.jobs import run_in_thread, submit

WAIT = 20  # Seconds until a test that hangs fails; nothing waits that long.


def test_a_free_thread_is_used_again() -> None:
    async def main() -> set[int]:
        return {await run_in_thread(threading.get_ident) for _ in range(20)}

    workers: set[int] = set()
    # A thread of its own, since other tests have left free threads to this one.
    user = threading.Thread(target=lambda: workers.update(asyncio.run(main())))
    user.start()
    user.join(WAIT)
    assert len(workers) == 1
    assert workers != {user.ident}


def test_jobs_beyond_the_number_of_threads_wait_for_a_free_one() -> None:
    most = min(32, (os.cpu_count() or 1) + 4)
    meeting = threading.Barrier(most)

    def job() -> int:
        meeting.wait(WAIT)
        return threading.get_ident()

    jobs = [submit(job) for _ in range(3 * most)]
    assert len({each.result(WAIT) for each in jobs}) == most


def test_threads_end_with_the_thread_that_used_them() -> None:
    workers: list[threading.Thread] = []

    def use() -> None:
        workers.append(submit(threading.current_thread).result(WAIT))

    user = threading.Thread(target=use)
    user.start()
    user.join(WAIT)
    workers[0].join(WAIT)
    assert not workers[0].is_alive()


def test_errors_and_results_come_back() -> None:
    async def main() -> int:
        with pytest.raises(OSError, match="no power"):
            await run_in_thread(_fail, "no power")
        return await run_in_thread(int, "12", base=8)

    assert asyncio.run(main()) == 10


def _fail(reason: str) -> None:
    raise OSError(reason)


def _program(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=WAIT,
    )
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_that_was_forked_has_threads_of_its_own() -> None:
    code = (
        "import asyncio, os; from specfuse_core.answer.jobs import run_in_thread\n"
        "assert asyncio.run(run_in_thread(os.getpid)) == os.getpid()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    assert asyncio.run(run_in_thread(os.getpid)) == os.getpid()\n"
        "    os._exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    assert _program(code) == "7\n"


def test_a_model_that_hangs_does_not_keep_the_interpreter_alive() -> None:
    code = (
        "import asyncio, threading; from specfuse_core.answer import jobs\n"
        "from specfuse_core.answer.jobs import run_in_thread\n"
        "jobs._PATIENCE = 0.01\n"
        "async def main():\n"
        "    try:\n"
        "        await asyncio.wait_for(run_in_thread(threading.Event().wait), 0.01)\n"
        "    except TimeoutError:\n"
        "        print('ends')\n"
        "asyncio.run(main())\n"
    )
    assert _program(code) == "ends\n"


def test_the_interpreter_waits_for_a_forward_pass_since_it_would_abort() -> None:
    code = (
        "import threading, torch; from specfuse_core.answer.jobs import submit\n"
        "started, weights = threading.Event(), torch.ones(2000, 2000)\n"
        "submit(lambda: (started.set(), weights @ weights))\n"
        "started.wait(); print('ends')\n"
    )
    assert _program(code) == "ends\n"
