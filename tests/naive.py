"""The naive engine: everything is encoded and run again each round, without any cache.

The oracle of the local backend: the same tokenising rules, spelled out plainly, over plain
forward passes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from specfuse_core.hf import LocalBackend
from specfuse_core.text import complete_characters, complete_words
from specfuse_core.types import Candidate, Cost, Request, Verification


class NaiveBackend:
    """Wraps a ``LocalBackend``: its weights and template, none of its sessions."""

    supports_logits = True

    def __init__(self, backend: LocalBackend) -> None:
        self._backend = backend
        self.name = backend.name

    @property
    def context_window(self) -> int:
        return self._backend.context_window

    def load(self) -> None:
        self._backend.load()

    def count_tokens(self, text: str) -> int:
        return self._backend.count_tokens(text)

    def start(self, request: Request) -> NaiveSession:
        self._backend.start(request)  # the same refusals
        return NaiveSession(self._backend, request)


class NaiveSession:
    def __init__(self, backend: LocalBackend, request: Request) -> None:
        self._backend = backend
        self._prompt = backend.template.prompt(request.messages)
        self._text = self._prompt.opening
        self._chooser = backend._chooser(request)
        self.cost = Cost(prompt_tokens=len(self.ids))

    @property
    def ids(self) -> list[int]:
        return self._full(self._text)

    @property
    def room(self) -> int:
        return self._backend.context_window - len(self.ids)

    def _full(self, text: str) -> list[int]:
        encoded = self._backend.template.codec.encode(
            self._prompt.lead + text if text else "", continuing=self._prompt.continuing
        )
        return [*self._prompt.ids, *encoded.ids]

    def _logits(self, ids: list[int]) -> torch.Tensor:
        return self._backend.model.runner.run(ids, use_cache=False)[0].float()

    def _decoded(self, ids: list[int], drafted: list[int]) -> str:
        codec = self._backend.template.codec
        before = ids[len(self._prompt.ids) :][-5:]
        if before:
            return codec.decode(drafted, before)
        anchor = codec.anchor if self._prompt.continuing else []
        return codec.decode(drafted, anchor).removeprefix(self._prompt.lead)

    def draft(self, max_tokens: int) -> Candidate:
        ids, drafted = self.ids, []
        ends = False
        while len(drafted) < max_tokens + 4 and len(drafted) < max(self.room, max_tokens):
            if len(drafted) >= max_tokens and complete_characters(self._decoded(ids, drafted)):
                break
            logits = self._logits([*ids, *drafted])[-1]
            id_ = self._chooser.choose(logits, len(ids) + len(drafted), [*ids, *drafted])
            if id_ in self._backend.template.ends:
                ends = True
                break
            drafted.append(id_)
        text = self._decoded(ids, drafted)
        if ends:
            return Candidate(complete_characters(text), True)
        whole = complete_characters(text) or text
        return Candidate(complete_words(whole), not whole)

    def verify(self, candidates: Sequence[Candidate]) -> list[Verification]:
        ids = self.ids
        row = []
        for candidate in candidates:
            whole = self._full(self._text + candidate.text)
            if len(whole) + candidate.ends > self._backend.context_window:
                row.append(Verification(()))
                continue
            first = 0
            while first < min(len(ids), len(whole)) and ids[first] == whole[first]:
                first += 1
            logits = self._logits(whole)
            logprobs = logits.log_softmax(-1)
            raw = [float(logits[at - 1, whole[at]]) for at in range(first, len(whole))]
            log = [float(logprobs[at - 1, whole[at]]) for at in range(first, len(whole))]
            if candidate.ends:
                ends = sorted(self._backend.template.ends)
                raw.append(float(logits[-1, ends].logsumexp(0)))
                log.append(float(logprobs[-1, ends].logsumexp(0)))
            row.append(Verification(tuple(log), tuple(raw)))
        return row

    def commit(self, segment: Candidate) -> None:
        self._text += segment.text

    def close(self) -> None:
        pass
