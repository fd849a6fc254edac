"""astream and agenerate: the same answer, a free event loop, and an end within a round."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from specfuse_core.answer.async_stream import pulled
from specfuse_core.config import FusionConfig
from specfuse_core.errors import EmptyConversationError, PromptTooLongError, UnknownOptionError
from specfuse_core.fusion import FusionEngine
from specfuse_core.request import Request
from specfuse_core.testing import ScriptedBackend, ScriptedSession
from specfuse_core.types import Generation, Segment

WAIT = 20  # Seconds until a test that hangs fails; nothing waits that long.

CAT = "the cat sat on the mat. it was warm, and it was raining outside all day long."
RUG = "the cat lay on a rug. it was cold, and it was snowing outside all night too."


def engine(config: FusionConfig | None = None) -> FusionEngine:
    backends = [ScriptedBackend("a", CAT, confidence=0.8), ScriptedBackend("b", RUG)]
    return FusionEngine(backends, config or FusionConfig(segment_tokens=3))


def timeless(segment: Segment) -> Segment:
    played = segment.round and replace(segment.round, draft_seconds=0.0, verify_seconds=0.0)
    usage = segment.usage and replace(
        segment.usage, models=tuple(replace(m, seconds=0.0) for m in segment.usage.models)
    )
    return replace(segment, round=played, usage=usage)


def facts(generation: Generation) -> list[Segment]:
    return [timeless(segment) for segment in generation.segments]


class Gate:
    """A model whose drafts, except the first, wait for the test."""

    def __init__(self) -> None:
        self.drafts = 0
        self.entered, self.go_on, self.closed = (threading.Event() for _ in range(3))
        gate = self

        class Session(ScriptedSession):
            def close(self) -> None:
                super().close()
                gate.closed.set()

        class Backend(ScriptedBackend):
            def start(self, request: Request) -> ScriptedSession:
                return Session(self, request, 2)

        self.engine = FusionEngine([Backend("a", self._script)], FusionConfig(segment_tokens=1))

    def _script(self, request: Request, response: str) -> str:
        # Drafting and verifying both read the script, once each in a round.
        self.drafts += 1
        if self.drafts == 3:
            self.entered.set()
            assert self.go_on.wait(WAIT)
        return CAT[len(response) :]

    @property
    def rounds(self) -> int:
        return (self.drafts + 1) // 2


@pytest.mark.parametrize(
    "options",
    [{}, {"max_new_tokens": 7}, {"stop": "it was"}, {"temperature": 0.5}],
    ids=["stop", "length", "stop_sequence", "sampled"],
)
@pytest.mark.parametrize("method", ["specfuse", "specem"])
def test_all_four_ways_give_the_same_answer(options: dict[str, Any], method: Any) -> None:
    fused = engine(FusionConfig(method=method, segment_tokens=3))

    async def streamed() -> list[Segment]:
        return [segment async for segment in fused.astream("q", seed=3, **options)]

    generation = fused.generate("q", seed=3, **options)
    assert len(generation.segments) > 1
    assert [timeless(segment) for segment in fused.stream("q", seed=3, **options)] == facts(
        generation
    )
    assert [timeless(segment) for segment in asyncio.run(streamed())] == facts(generation)
    assert facts(asyncio.run(fused.agenerate("q", seed=3, **options))) == facts(generation)
    assert "".join(segment.text for segment in generation.segments) == generation.text


def test_requests_side_by_side_equal_those_one_by_one() -> None:
    fused = engine()
    questions = [f"question {i}" for i in range(8)]

    async def together() -> list[Generation]:
        return await asyncio.gather(*(fused.agenerate(q, seed=1) for q in questions))

    expected = [facts(fused.generate(question, seed=1)) for question in questions]
    assert [facts(generation) for generation in asyncio.run(together())] == expected


@pytest.mark.parametrize(
    ("conversation", "options", "error"),
    [
        ("", {}, EmptyConversationError),
        ("q", {"max_tokens": 3}, UnknownOptionError),
        ("long " * 5000, {}, PromptTooLongError),
    ],
)
def test_a_bad_request_is_refused_with_the_same_errors(
    conversation: str, options: dict[str, Any], error: type[Exception]
) -> None:
    async def first() -> Segment:
        return await anext(aiter(engine().astream(conversation, **options)))

    with pytest.raises(error):
        asyncio.run(first())
    with pytest.raises(error):
        asyncio.run(engine().agenerate(conversation, **options))


def test_an_error_in_a_model_goes_up_and_closes_the_sessions() -> None:
    def fails(request: Request, response: str) -> str:
        raise OSError("no power")

    backend = ScriptedBackend("a", fails)
    with pytest.raises(OSError, match="no power"):
        asyncio.run(FusionEngine([backend]).agenerate("q"))
    assert [session.closed for session in backend.sessions] == [True]


def test_the_event_loop_is_free_while_a_round_runs() -> None:
    gate = Gate()

    async def main() -> Generation:
        answer = asyncio.ensure_future(gate.engine.agenerate("q"))
        assert await asyncio.to_thread(gate.entered.wait, WAIT)
        # Only a loop that still turns gets here and lets the round go on.
        gate.go_on.set()
        return await answer

    assert asyncio.run(main()).text == CAT


def test_segments_arrive_one_by_one_and_only_when_asked_for() -> None:
    gate = Gate()

    async def main() -> None:
        segments = gate.engine.astream("q")
        assert (await anext(segments)).text == "the"
        assert gate.rounds == 1
        await segments.aclose()  # type: ignore[attr-defined]

    asyncio.run(main())
    assert gate.rounds == 1
    assert gate.closed.is_set()


def test_breaking_off_the_loop_closes_the_sessions() -> None:
    gate = Gate()

    async def main() -> None:
        async for segment in gate.engine.astream("q"):
            assert segment.text
            break

    asyncio.run(main())
    assert gate.rounds == 1
    assert gate.closed.is_set()


def test_an_error_of_the_consumer_closes_the_sessions() -> None:
    gate = Gate()

    async def main() -> None:
        async with contextlib.aclosing(gate.engine.astream("q")) as segments:  # type: ignore[type-var]
            async for _ in segments:
                raise OSError("the reader is gone")

    with pytest.raises(OSError, match="the reader is gone"):
        asyncio.run(main())
    assert gate.rounds == 1
    assert gate.closed.is_set()


def test_a_cancelled_consumer_stops_the_models_within_the_round() -> None:
    gate = Gate()

    async def main() -> None:
        answer = asyncio.ensure_future(gate.engine.agenerate("q"))
        assert await asyncio.to_thread(gate.entered.wait, WAIT)
        answer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answer
        # The consumer is free at once; the round that runs is ended, and nothing after it.
        assert not gate.closed.is_set()
        gate.go_on.set()
        assert await asyncio.to_thread(gate.closed.wait, WAIT)

    asyncio.run(main())
    assert gate.rounds == 2


def test_a_loop_that_ends_in_the_middle_of_a_round_closes_the_sessions() -> None:
    gate = Gate()
    complaints = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        answer = asyncio.ensure_future(gate.engine.agenerate("q"))
        assert await asyncio.to_thread(gate.entered.wait, WAIT)
        answer.cancel()

    asyncio.run(main())
    # The loop does not wait for the round, whose thread closes the session.
    assert not gate.closed.is_set()
    gate.go_on.set()
    assert gate.closed.wait(WAIT)
    assert gate.rounds == 2
    assert complaints == []


def test_a_cancelled_stream_is_closed_by_its_thread_and_not_by_garbage_collection() -> None:
    gate = Gate()
    segments = gate.engine.stream("q")  # This reference keeps it from being collected.

    async def read() -> None:
        async with contextlib.aclosing(pulled(segments)) as pieces:
            async for segment in pieces:
                assert segment.text

    async def main() -> None:
        reader = asyncio.ensure_future(read())
        assert await asyncio.to_thread(gate.entered.wait, WAIT)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader

    asyncio.run(main())
    gate.go_on.set()
    assert gate.closed.wait(WAIT)
    assert list(segments) == []


def test_models_see_the_context_variables_of_the_consumer() -> None:
    tracing: contextvars.ContextVar[str] = contextvars.ContextVar("tracing", default="nothing")
    seen = []

    def script(request: Request, response: str) -> str:
        seen.append(tracing.get())
        return CAT[len(response) :]

    backend = ScriptedBackend("a", script)
    fused = FusionEngine([backend], loader=lambda _: seen.append(f"loads in {tracing.get()}"))

    async def main(trace: str) -> None:
        tracing.set(trace)
        await fused.agenerate("q")

    async def both() -> None:
        await asyncio.gather(main("one"), main("two"))

    asyncio.run(both())
    assert set(seen) == {"one", "two", "loads in one", "loads in two"}


def test_rounds_leave_the_executor_of_the_loop_to_others() -> None:
    class Unused(ThreadPoolExecutor):
        def submit(self, *args: Any, **options: Any) -> Any:
            raise AssertionError("a round used the executor of the loop")

    async def main() -> Generation:
        asyncio.get_running_loop().set_default_executor(Unused(1))
        return await engine().agenerate("q")

    assert asyncio.run(main()).text


def test_models_that_run_event_loops_of_their_own_do_not_wait_for_each_other() -> None:
    inner = engine()

    def script(request: Request, response: str) -> str:
        text = asyncio.run(inner.agenerate("q")).text
        return text[len(response) :]

    outer = FusionEngine([ScriptedBackend("a", script)])

    async def main() -> list[Generation]:
        return await asyncio.gather(*(outer.agenerate("q") for _ in range(40)))

    expected = inner.generate("q").text
    assert {answer.text for answer in asyncio.run(main())} == {expected}


def test_cancelled_while_it_starts_closes_the_sessions() -> None:
    loading, loaded, closed = (threading.Event() for _ in range(3))
    opened = []

    class Backend(ScriptedBackend):
        def start(self, request: Request) -> ScriptedSession:
            session = super().start(request)
            session.close = closed.set  # type: ignore[method-assign]
            return session

    class Engine(FusionEngine):
        def stream(self, *args: Any, **options: Any) -> Generator[Segment, None, None]:
            opened.append(super().stream(*args, **options))  # It cannot be collected.
            return opened[0]

    def loader(backends: Any) -> None:
        loading.set()
        assert loaded.wait(WAIT)

    backend = Backend("a", CAT)
    fused = Engine([backend], loader=loader)

    async def main() -> None:
        answer = asyncio.ensure_future(fused.agenerate("q"))
        assert await asyncio.to_thread(loading.wait, WAIT)
        answer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answer

    asyncio.run(main())
    loaded.set()
    assert closed.wait(WAIT)
    assert backend.sessions[0].cost.forward_passes == 0


def test_the_cancel_event_ends_an_async_answer_too() -> None:
    fused, cancel = engine(), threading.Event()

    async def main() -> list[Segment]:
        shown = []
        async for segment in fused.astream("q", cancel=cancel):
            shown.append(segment)
            cancel.set()
        return shown

    assert [segment.finish_reason for segment in asyncio.run(main())] == [None, "cancelled"]
