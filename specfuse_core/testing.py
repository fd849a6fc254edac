"""ScriptedBackend: a base model without weights, for tests of code that uses specfuse.

It implements ``backend.Backend``. A token is a word together with the white space before it. The
model drafts a given answer. It gives a high probability to tokens that agree with the answer and a
low one to all others. Under a constraint it drafts the allowed part of the answer; if no part is
allowed, it drafts the shortest text that satisfies the constraint. This module does not need torch.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Callable, Sequence

from specfuse_core.answer.follower import Follower, follow
from specfuse_core.errors import PromptTooLongError
from specfuse_core.grammar.thoughts import end_of_thought
from specfuse_core.grammar.tools import Tool
from specfuse_core.model_report import ModelReport
from specfuse_core.request import Message, Request
from specfuse_core.types import Candidate, Cost, Verification

__all__ = ["ScriptedBackend", "ScriptedSession"]

Script = str | Callable[[Request, str], str]
Scorer = Callable[[str, Candidate], Sequence[float]]

_TOKEN = re.compile(r"\s*\S+|\s+")


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)


class ScriptedBackend:
    """A base model that drafts a given answer.

    Args:
        name: name of the model in the ensemble.
        script: the answer, or a function that takes the request and the answer so far and returns
            the rest of the answer.
        confidence: probability of a token that agrees with the answer.
        doubt: mean probability of any other token. The hash of the token varies it between half
            and one and a half times this value, so that scores rarely tie.
        scorer: a function that replaces ``confidence`` and ``doubt``. It takes the answer so far
            and a candidate, and returns the probability of each token.
        context_window: maximum number of tokens of prompt and answer together.
        supports_logits: whether verifications contain logits (each is the log-probability + 1).
    """

    def __init__(
        self,
        name: str,
        script: Script,
        *,
        confidence: float = 0.9,
        doubt: float = 0.05,
        scorer: Scorer | None = None,
        context_window: int = 4096,
        supports_logits: bool = True,
    ) -> None:
        self.name = name
        self.context_window = context_window
        self.supports_logits = supports_logits
        self.script = script
        self.confidence = confidence
        self.doubt = doubt
        self.scorer = scorer
        self.loads = 0
        self.sessions: list[ScriptedSession] = []

    @property
    def device(self) -> str | None:
        """``"cpu"`` after loading; None before."""
        return "cpu" if self.loads else None

    @property
    def method(self) -> None:
        """None, because a script has no state."""

    @property
    def thinks(self) -> bool:
        """Whether the script may begin with reasoning."""
        return callable(self.script) or end_of_thought(self.script) != 0

    @property
    def declared_window(self) -> int | None:
        """The context window, which is always known."""
        return self.context_window

    def load(self) -> None:
        """Count the call in ``loads``. There is nothing to load."""
        self.loads += 1

    def report(self) -> ModelReport:
        """Return the name and the context window. There is nothing else to report."""
        return ModelReport(self.name, context_window=self.context_window)

    def start(self, request: Request) -> ScriptedSession:
        """Open a session and append it to ``sessions``, so that tests can inspect it.

        Raises:
            PromptTooLongError: if the prompt leaves no room for an answer.
        """
        tools = request.tools if request.calls else ()
        length = self.count_prompt_tokens(request.messages, tools)
        length += len(_tokens(request.prompt or ""))
        window = request.window(self.context_window)
        if length >= window:
            raise PromptTooLongError(
                f"the prompt has {length} tokens for {self.name!r}, whose context window is "
                f"{window}; shorten it or leave that model out."
            )
        session = ScriptedSession(self, request, length)
        self.sessions.append(session)
        return session

    def count_tokens(self, text: str) -> int:
        """Count the words of ``text``."""
        return len(_tokens(text))

    def count_prompt_tokens(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> int:
        """Count the words of the messages, plus one per message, and those of the tools' JSON."""
        described = sum(len(_tokens(json.dumps(tool.as_dict()))) for tool in tools)
        return described + sum(len(_tokens(message.content)) + 1 for message in messages)

    def token_ids(self, text: str) -> list[int]:
        """Return a checksum of each word, with the white space before it."""
        return [zlib.crc32(token.encode(errors="replace")) for token in _tokens(text)]


class ScriptedSession:
    """A session of a :class:`ScriptedBackend`. Tests can read ``commits`` and ``closed``."""

    def __init__(self, backend: ScriptedBackend, request: Request, prompt_tokens: int) -> None:
        self._backend = backend
        self._request = request
        self.response = ""
        self.commits: list[Candidate] = []
        self.closed = False
        self.cost = Cost(prompt_tokens=prompt_tokens)
        self._follower = follow(request)
        self._offered = request.offered
        self._free = request.free

    @property
    def room(self) -> int:
        """Number of tokens that still fit the context window."""
        used = self.cost.prompt_tokens + len(_tokens(self.response))
        return self._request.window(self._backend.context_window) - used

    def count_tokens(self, answer: str) -> int:
        """Count the tokens that ``answer`` adds to a final assistant message."""
        final = self._request.messages[-1] if self._request.messages else None
        before = final.content if final is not None and final.role == "assistant" else ""
        count = self._backend.count_tokens
        return count(before + answer) - (count(before) if before else 0)

    def draft(self, max_tokens: int) -> Candidate:
        """Draft the next ``max_tokens`` tokens of the script, cut back to a complete segment."""
        rest = self._rest()
        drafted = _tokens(rest)[:max_tokens]
        self._spend(drafted=len(drafted), forwards=len(drafted))
        text = "".join(drafted)
        ends = text == rest
        if self._follower is not None:
            text, ends = self._legal(self._follower, text, ends)
        if ends or not text:
            return Candidate(text, ends)
        return Candidate(
            self._offered.complete_segment(self.response, text, free=self._free), False
        )

    def _legal(self, follower: Follower, text: str, ends: bool) -> tuple[str, bool]:
        """Cut a draft to the part that the constraint allows, or close the answer."""
        legal = text[: follower.legal(text)]
        if not legal and not follower.may_end:
            return follower.closing() or "", False
        after = follower.copy()
        after.push(legal)
        return legal, after.may_end and (ends or legal != text or not legal)

    def verify(self, candidates: Sequence[Candidate]) -> list[Verification]:
        """Score each candidate by its agreement with the script, or with the ``scorer``."""
        row = []
        for candidate in candidates:
            if len(_tokens(candidate.text)) > self.room:
                row.append(Verification((), fits=False))
                continue
            self._spend(verified=len(_tokens(candidate.text)))
            score = self._backend.scorer
            probabilities = score(self.response, candidate) if score else self._agreement(candidate)
            logprobs = tuple(math.log(p) if p > 0 else -math.inf for p in probabilities)
            logits = tuple(value + 1 for value in logprobs)
            row.append(Verification(logprobs, logits if self._backend.supports_logits else ()))
        self._spend(forwards=1)
        return row

    def commit(self, segment: Candidate) -> None:
        """Append the segment to the response."""
        self.response += segment.text
        if self._follower is not None:
            self._follower.push(segment.text)
        self.commits.append(segment)

    def close(self) -> None:
        """Set ``closed``."""
        self.closed = True

    def _rest(self) -> str:
        script = self._backend.script
        if callable(script):
            return script(self._request, self.response)
        if script.startswith(self.response):
            return script[len(self.response) :]
        # Other models wrote different text: continue the script after as many tokens.
        return "".join(_tokens(script)[len(_tokens(self.response)) :])

    def _agreement(self, candidate: Candidate) -> list[float]:
        wanted = _tokens(self._rest())
        tokens = _tokens(candidate.text)
        agreed = [
            i < len(wanted) and token.strip() == wanted[i].strip() for i, token in enumerate(tokens)
        ]
        if candidate.ends:
            agreed.append(len(wanted) <= len(tokens))
            tokens = [*tokens, ""]
        return [
            self._backend.confidence if same else self._backend.doubt * _wobble(token)
            for same, token in zip(agreed, tokens, strict=True)
        ]

    def _spend(self, *, drafted: int = 0, verified: int = 0, forwards: int = 0) -> None:
        self.cost = Cost(
            self.cost.prompt_tokens,
            self.cost.drafted_tokens + drafted,
            self.cost.verified_tokens + verified,
            self.cost.forward_passes + forwards,
        )


def _wobble(token: str) -> float:
    return 0.5 + (zlib.crc32(token.encode()) % 1000) / 1000
