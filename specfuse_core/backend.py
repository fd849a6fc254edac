"""The seam between the algorithm and whatever runs a base model.

Text is the only currency: nothing outside a backend sees a token id or a tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from specfuse_core.grammar.tools import Tool
from specfuse_core.request import Message, Request
from specfuse_core.types import Candidate, Cost, Verification

__all__ = ["Backend", "Session"]


class Session(Protocol):
    """One base model's view of one request."""

    @property
    def cost(self) -> Cost:
        """What was spent so far."""
        ...

    @property
    def room(self) -> int:
        """Tokens that still fit the model's context window after what was committed."""
        ...

    def draft(self, max_tokens: int) -> Candidate:
        """Decode up to ``max_tokens`` tokens from what was committed; the state is unchanged."""
        ...

    def verify(self, candidates: Sequence[Candidate]) -> Sequence[Verification]:
        """Score each candidate as a continuation of what was committed; the state is unchanged.

        A candidate that adds no token (the tokenizer drops its text) gets a verification without
        tokens; so does one that does not fit the context window, with ``fits=False``.
        """
        ...

    def commit(self, segment: Candidate) -> None:
        """Make ``segment`` part of what all later drafts and verifications go on from."""
        ...

    def close(self) -> None:
        """Free what the request holds. Closing twice is harmless."""
        ...


class Backend(Protocol):
    """A loaded (or loadable) base model, shared by any number of requests at a time."""

    @property
    def name(self) -> str:
        """Unique in the ensemble."""
        ...

    @property
    def device(self) -> str | None:
        """Where the model runs (``"cpu"``, ``"cuda:0"``); None while it is not loaded."""
        ...

    @property
    def context_window(self) -> int:
        """Tokens that prompt and answer together may have."""
        ...

    @property
    def declared_window(self) -> int | None:
        """:attr:`context_window` as far as it is known without loading; None if it is not."""
        ...

    @property
    def supports_logits(self) -> bool:
        """Whether verifications carry raw logits (``score_mode="logit"`` needs them)."""
        ...

    def load(self) -> None:
        """Make the model ready. Loading twice is harmless.

        Raises:
            ModelLoadError: naming the model, what was tried and what to do.
        """
        ...

    def start(self, request: Request) -> Session:
        """Open a session. The prompt is rendered and measured, but no model runs yet.

        Raises:
            PromptTooLongError: naming the model, its window and the prompt's length.
        """
        ...

    def count_tokens(self, text: str) -> int:
        """Length of ``text`` in the model's own tokens, without special tokens."""
        ...

    def count_prompt_tokens(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> int:
        """Length of the prompt that the model reads for ``messages``, however long it is."""
        ...

    def token_ids(self, text: str) -> Sequence[int]:
        """``text`` in the model's own tokens, for frameworks that ask; the engine never does."""
        ...
