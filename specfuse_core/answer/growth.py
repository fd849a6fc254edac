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
        """The text that the grammar forces next; empty if there is a choice."""
        return self._follower.forced if self._follower else ""

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
        usage = Usage(prompt_tokens, self.budget.spent, seed, models, limit)
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

    def _is_cut(self, finish: FinishReason) -> bool:
        """Whether the answer ends inside a constraint or a tool call."""
        if finish == "stop_sequence":
            return False
        constrained = self._request.constraint is not None and not self.budget.called
        return self._outlet.in_call or not self.may_end or (constrained and finish != "stop")
