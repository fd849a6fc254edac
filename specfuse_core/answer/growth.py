"""Growth: an answer while it grows. It takes text up to its limits, and knows how the answer ends.

This module joins the budget, the position in the grammar and the visible text. It knows nothing of
rounds and models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from specfuse_core.answer.budget import Budget, Gauge
from specfuse_core.answer.follower import Follower
from specfuse_core.answer.limits import ENDED, Limits
from specfuse_core.answer.outlet import Outlet, joined
from specfuse_core.grammar.thoughts import end_of_thought, thinking_in
from specfuse_core.request import Request
from specfuse_core.types import FinishReason, ModelUsage, Round, Segment, Usage

__all__ = ["Growth"]


class Growth:
    """The text of one answer, with its limits and its channels.

    Args:
        request: the request, which has a seed.
        count: counts the tokens of an answer (see ``Session.count_tokens``).
        follower: the position in the grammar, if the answer has one.
        rooms: returns the gauges of the models that take part in the answer.
    """

    def __init__(
        self,
        request: Request,
        count: Callable[[str], int],
        follower: Follower | None,
        rooms: Callable[[], Sequence[Gauge]],
    ) -> None:
        self._request = request
        self._count = count
        self._follower = follower
        self._outlet = Outlet(request)
        #: What is left of the limits.
        self.budget = Budget(
            count,
            Limits.of(request.max_new_tokens, request.max_call_tokens),
            follower,
            rooms=rooms,
            in_call=request.offered.in_call if request.calls else lambda text: False,
            closes_calls=request.on_limit == "close",
        )
        #: The part of the last text that became part of the answer.
        self.taken = ""

    @property
    def forced(self) -> str:
        """The text that comes next without a round; empty if there is a choice.

        It is what the grammar forces, or what closes reasoning that has used all its tokens.
        """
        closing = thinking_in(self.budget.text)
        if closing and self.left_to_think is not None and self.left_to_think < 1:
            return f"{closing}\n\n"
        return self._follower.forced if self._follower else ""

    @property
    def left_to_think(self) -> int | None:
        """Number of tokens that the reasoning may still have.

        None if there is no such limit, or the answer is beyond its reasoning.
        """
        limit, text = self._request.reasoning, self.budget.text
        if not limit or isinstance(limit, bool) or not self._request.offered.thinks:
            return None
        # Reasoning may begin with the next segment.
        return limit - self.budget.spent if thinking_in(text) or not text.strip() else None

    @property
    def may_end(self) -> bool:
        """Whether the text so far satisfies the grammar."""
        return self._follower is None or self._follower.may_end

    def take(
        self, text: str, played: Round | None, *, ends: bool
    ) -> tuple[list[Segment], FinishReason | None]:
        """Append text, as far as the limits allow.

        Args:
            text: the text.
            played: the round that produced it.
            ends: whether the models end the answer after it.

        Returns:
            The segments to show now, and why the answer ends; None if it goes on.
        """
        taken = self.budget.take(text)
        self.taken = taken.text
        shown = self._outlet.feed(taken.text, played) + self._outlet.close(taken.closing)
        if self._outlet.stopped:
            self.budget.keep(self._outlet.written)
            return shown, "stop_sequence"
        whole = taken.text == text and not taken.closing
        if whole and (ends or (self._follower is not None and self._follower.done)):
            return shown, "stop"
        return shown, taken.limit

    def close(self) -> list[Segment]:
        """Close the answer, because the models cannot go on, and return the segments to show."""
        return self._outlet.close(self.budget.close())

    def end(
        self,
        shown: Sequence[Segment],
        finish: FinishReason,
        played: Round | None,
        prompt_tokens: int,
        models: tuple[ModelUsage, ...],
    ) -> list[Segment]:
        """Return the last segments of the answer.

        Args:
            shown: the segments that are not shown yet.
            finish: why the answer ends.
            played: the last round.
            prompt_tokens: the size of the prompt (see ``Usage``).
            models: usage of each base model.
        """
        limit = {"length": self.budget.limit_name, "context": "the context window"}.get(finish)
        error = f"the call is incomplete, because {ENDED[finish].format(limit)}."
        forced = self._is_cut(finish) or any(segment.closed_by_force for segment in shown)
        seed = self._request.sampling.seed or 0
        usage = Usage(
            prompt_tokens, self.budget.spent, seed, models, limit, self._reasoning_tokens()
        )
        cut = finish not in ("stop", "stop_sequence")
        held = self._outlet.flush(error, played, cut=cut)
        last = Segment(
            "",
            None if forced else played,
            finish,
            usage,
            closed_by_force=forced,
            invalid=self._outlet.problem,
        )
        return joined([*shown, *held, last])

    def _reasoning_tokens(self) -> int:
        text = self.budget.text
        thought = text[: end_of_thought(text)] if self._request.offered.thinks else ""
        return min(self._count(thought), self.budget.spent) if thought else 0

    def _is_cut(self, finish: FinishReason) -> bool:
        """Whether the answer ends inside a constraint or a tool call."""
        if finish == "stop_sequence":
            return False
        constrained = self._request.constraint is not None and not self.budget.called
        return self._outlet.in_call or not self.may_end or (constrained and finish != "stop")
