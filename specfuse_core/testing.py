"""ScriptedBackend: a base model without weights, for tests of anything built on specfuse.

It keeps every promise of ``backend.Backend``. Its tokens are words with the white space before
them; it wants to write a given answer, and it gives high probability to tokens that agree with
that answer and low probability to others. Under a constraint it writes what of its answer is legal,
and where nothing is, the shortest way to an end. This module needs no torch.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Callable, Sequence

from specfuse_core.answer.follower import Follower, follow
from specfuse_core.errors import PromptTooLongError
from specfuse_core.grammar.calls import complete_segment
from specfuse_core.grammar.tools import Tool
from specfuse_core.request import Message, Request
from specfuse_core.types import Candidate, Cost, Verification

__all__ = ["ScriptedBackend", "ScriptedSession"]

Script = str | Callable[[Request, str], str]
Scorer = Callable[[str, Candidate], Sequence[float]]

_TOKEN = re.compile(r"\s*\S+|\s+")


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)


class ScriptedBackend:
    """A base model that wants to write a given answer.

    Args:
        name: its name in the ensemble.
        script: the answer, or a function from (request, response so far) to the rest of it.
        confidence: probability that it gives to a token that agrees with its answer.
        doubt: probability that it gives to any other token, give or take a half by the token's
            hash, so that scores seldom tie.
        scorer: replaces these: a function from (response so far, candidate) to the probability
            of each token.
        context_window: tokens that prompt and answer together may have.
        supports_logits: whether verifications carry logits (the log-probabilities plus one).
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
        """The CPU, once it is loaded."""
        return "cpu" if self.loads else None

    @property
    def declared_window(self) -> int | None:
        """The context window, which is always known."""
        return self.context_window

    def load(self) -> None:
        """Nothing to load; ``loads`` counts the calls."""
        self.loads += 1

    def start(self, request: Request) -> ScriptedSession:
        """Open a session; ``sessions`` keeps them all, for tests to look at."""
        tools = request.tools if request.calls else ()
        length = self.count_prompt_tokens(request.messages, tools)
        if length >= self.context_window:
            raise PromptTooLongError(
                f"the prompt has {length} tokens for {self.name!r}, whose context window is "
                f"{self.context_window}; shorten it, or leave that model out."
            )
        session = ScriptedSession(self, request, length)
        self.sessions.append(session)
        return session

    def count_tokens(self, text: str) -> int:
        """Length of ``text`` in words with the white space before them."""
        return len(_tokens(text))

    def count_prompt_tokens(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> int:
        """A word more than each message has, and what the tools' JSON has."""
        described = sum(len(_tokens(json.dumps(tool.as_dict()))) for tool in tools)
        return described + sum(len(_tokens(message.content)) + 1 for message in messages)

    def token_ids(self, text: str) -> list[int]:
        """A checksum per word with the white space before it."""
        return [zlib.crc32(token.encode()) for token in _tokens(text)]


class ScriptedSession:
    """One request of a :class:`ScriptedBackend`; ``commits`` and ``closed`` are for tests."""

    def __init__(self, backend: ScriptedBackend, request: Request, prompt_tokens: int) -> None:
        self._backend = backend
        self._request = request
        self.response = ""
        self.commits: list[Candidate] = []
        self.closed = False
        self.cost = Cost(prompt_tokens=prompt_tokens)
        self._follower = follow(request)
        self._free = request.free

    @property
    def room(self) -> int:
        """Tokens that still fit the context window."""
        used = self.cost.prompt_tokens + len(_tokens(self.response))
        return self._backend.context_window - used

    def draft(self, max_tokens: int) -> Candidate:
        """The next ``max_tokens`` tokens of the script."""
        rest = self._rest()
        drafted = _tokens(rest)[:max_tokens]
        self._spend(drafted=len(drafted), forwards=len(drafted))
        text = "".join(drafted)
        ends = text == rest
        if self._follower is not None:
            text, ends = self._legal(self._follower, text, ends)
        if ends or not text:
            return Candidate(text, ends)
        return Candidate(complete_segment(self.response, text, free=self._free), False)

    def _legal(self, follower: Follower, text: str, ends: bool) -> tuple[str, bool]:
        """What of a draft the constraint admits; if nothing, the shortest way to an end."""
        legal = text[: follower.legal(text)]
        if not legal and not follower.may_end:
            return follower.closing() or "", False
        after = follower.copy()
        after.push(legal)
        return legal, after.may_end and (ends or legal != text or not legal)

    def verify(self, candidates: Sequence[Candidate]) -> list[Verification]:
        """Probabilities by agreement with the script, or by the backend's ``scorer``."""
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
        """Note that the session was closed."""
        self.closed = True

    def _rest(self) -> str:
        script = self._backend.script
        if callable(script):
            return script(self._request, self.response)
        if script.startswith(self.response):
            return script[len(self.response) :]
        # Where others wrote something else, go on from as many tokens into the script.
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
