"""The interface between the fusion algorithm and the code that runs a base model.

The algorithm exchanges text with a backend. It never sees a token id or a tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from specfuse_core.grammar.tools import Tool
from specfuse_core.model_report import ModelReport
from specfuse_core.request import Message, Request
from specfuse_core.types import Candidate, Cost, Verification

__all__ = ["Backend", "Session"]


class Session(Protocol):
    """The state of one base model for one request: the prompt and the committed text.

    ``draft`` and ``verify`` leave this state unchanged. Only ``commit`` changes it.
    """

    @property
    def cost(self) -> Cost:
        """Tokens and forward passes that the request has used so far."""
        ...

    @property
    def room(self) -> int:
        """Number of tokens that still fit the context window after the committed text."""
        ...

    def count_tokens(self, answer: str) -> int:
        """Count the tokens that ``answer``, a whole answer, adds to the prompt.

        The count does not depend on the state. The engine uses the session of the first model to
        apply ``max_new_tokens``.
        """
        ...

    def draft(self, max_tokens: int) -> Candidate:
        """Decode a candidate of up to ``max_tokens`` tokens after the committed text.

        ``hf.session`` cuts its text back to complete words, unless the candidate ends the answer or
        a constraint is active (``grammar.openings.Offered.complete_segment``).
        """
        ...

    def verify(self, candidates: Sequence[Candidate]) -> Sequence[Verification]:
        """Score each candidate as a continuation of the committed text.

        Args:
            candidates: the candidates to score. ``[C]``

        Returns:
            One verification per candidate. It has no log-probabilities if the candidate adds no
            token (the tokenizer drops its text) or does not fit the context window; in the second
            case its ``fits`` is False. ``[C]``
        """
        ...

    def commit(self, segment: Candidate) -> None:
        """Append ``segment`` to the text that later drafts and verifications continue."""
        ...

    def close(self) -> None:
        """Free the resources of the request. Closing a session again has no effect."""
        ...


class Backend(Protocol):
    """A base model that any number of requests can use at the same time."""

    @property
    def name(self) -> str:
        """The model's name, which is unique in the ensemble."""
        ...

    @property
    def device(self) -> str | None:
        """The device that the model runs on (``"cpu"``, ``"cuda:0"``); None before loading."""
        ...

    @property
    def method(self) -> str | None:
        """Name of the method that stores the model's state; None before loading or if unknown."""
        ...

    @property
    def context_window(self) -> int:
        """Maximum number of tokens of prompt and answer together. Loads the model if needed."""
        ...

    @property
    def declared_window(self) -> int | None:
        """:attr:`context_window` if it is known without loading the model, otherwise None."""
        ...

    @property
    def thinks(self) -> bool:
        """Whether the model may think before it answers. Loads the model if needed."""
        ...

    @property
    def supports_logits(self) -> bool:
        """Whether verifications contain raw logits, which ``score_mode="logit"`` needs."""
        ...

    def load(self) -> None:
        """Load the model. Has no effect if it is loaded already.

        Raises:
            ModelLoadError: if loading fails. The message names the model.
        """
        ...

    def report(self) -> ModelReport:
        """Describe the model. Loads it if needed; an error of loading is a part of the report."""
        ...

    def start(self, request: Request) -> Session:
        """Open a session for a request. Renders the prompt, but does not run the model yet.

        Raises:
            PromptTooLongError: if the prompt leaves no room for an answer.
        """
        ...

    def count_tokens(self, text: str) -> int:
        """Count the tokens of ``text`` with the model's tokenizer, without special tokens."""
        ...

    def count_prompt_tokens(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> int:
        """Count the tokens of the rendered prompt, even if it exceeds the context window."""
        ...

    def token_ids(self, text: str) -> Sequence[int]:
        """Encode ``text`` with the model's tokenizer. Only the framework integrations use this."""
        ...
