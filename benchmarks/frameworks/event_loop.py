"""Measures how long an answer that streams on an event loop blocks the loop.

Run: ``python -m benchmarks.frameworks.event_loop``. The bundled ensemble answers through
``astream`` of the engine, of ChatSpecFuse and of SpecFuseLLM, while a task on the same loop wakes
up as often as possible. A pause is the time between two of its turns. For comparison, the benchmark
measures an idle loop while another thread generates the same answers, and a loop that makes the
blocking call itself. Times are in milliseconds. The last line is a JSON object.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable

from llama_index.core.llms import ChatMessage

from langchain_specfuse import ChatSpecFuse
from llamaindex_specfuse import SpecFuseLLM
from specfuse_core import FusionEngine

QUESTION = (
    "The hall has 12 lamps. The attic has 7 lamps.\n\n"
    "How many lamps are in the hall and the attic in total?"
)
ANSWERS = 20


async def _pauses(work: Callable[[], Awaitable[None]]) -> list[float]:
    """Return the milliseconds between the turns of a task that runs beside ``work``."""
    found: list[float] = []

    async def beat() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            found.append(1000 * (now - last))
            last = now

    beating = asyncio.create_task(beat())
    await asyncio.sleep(0)
    for _ in range(ANSWERS):
        await work()
    beating.cancel()
    return found


def _told(found: list[float]) -> dict[str, float]:
    ranked = sorted(found)
    return {
        "longest": round(ranked[-1], 1),
        "second": round(ranked[-2], 1),
        "p99.9": round(ranked[len(ranked) * 999 // 1000], 2),
    }


async def _measure() -> dict[str, dict[str, float]]:
    engine = FusionEngine.bundled()
    chat, llm = ChatSpecFuse(engine=engine), SpecFuseLLM(engine=engine)
    engine.generate(QUESTION)

    async def on_engine() -> None:
        async for _ in engine.astream(QUESTION):
            pass

    async def on_langchain() -> None:
        async for _ in chat.astream(QUESTION):
            pass

    async def on_llamaindex() -> None:
        async for _ in await llm.astream_chat([ChatMessage(QUESTION)]):
            pass

    async def idle() -> None:
        answering = threading.Thread(target=engine.generate, args=(QUESTION,))
        answering.start()
        while answering.is_alive():
            await asyncio.sleep(0)

    async def blocking() -> None:
        await asyncio.sleep(0)
        engine.generate(QUESTION)
        await asyncio.sleep(0)

    found: dict[str, dict[str, float]] = {}
    for name, work in (
        ("engine.astream", on_engine),
        ("ChatSpecFuse.astream", on_langchain),
        ("SpecFuseLLM.astream_chat", on_llamaindex),
        ("another thread answers", idle),
        ("the loop itself answers", blocking),
    ):
        found[name] = _told(await _pauses(work))
        print(f"{name}: {found[name]}", flush=True)
    return found


def main() -> None:
    print(json.dumps(asyncio.run(_measure())))


if __name__ == "__main__":
    main()
