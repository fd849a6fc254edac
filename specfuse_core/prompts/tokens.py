"""Keeps the token ids of a response equal to the encoding of its text while the text grows.

This module knows nothing of models or conversations. The encoding itself is in ``codec``.
"""

from __future__ import annotations

from specfuse_core.prompts.codec import Encoded, TextCodec

__all__ = ["ResponseTokens"]

#: A response with fewer tokens than this is encoded as a whole, which is fast enough.
_SHORT = 48
#: Number of tokens at the end of a longer response that are encoded again.
_BACK = 16
#: Number of successive tokens, equal in id and position, at which two encodings are joined.
_MEET = 3
#: Number of ids of the response that are decoded together with a draft.
_BEFORE = 5


class ResponseTokens:
    """Text and token ids of one response, so that always ``ids == encode(lead + text)``.

    Args:
        codec: the tokenizer.
        lead: white space that the chat template puts before an answer. It is part of the ids, but
            not of the text.
        continuing: whether the response follows ordinary text (see ``TextCodec.encode``).
    """

    def __init__(self, codec: TextCodec, lead: str = "", *, continuing: bool = False) -> None:
        self.text = ""
        self._codec = codec
        self._lead = lead
        self._continuing = continuing
        self._encoded = Encoded([], [])

    @property
    def ids(self) -> list[int]:
        """Token ids of the response so far. ``[T]``"""
        return self._encoded.ids

    def peek(self, more: str) -> list[int]:
        """Return the ids that the response would have with ``more`` appended."""
        return self._extended(more).ids

    def push(self, more: str) -> None:
        """Append ``more`` to the response."""
        self._encoded = self._extended(more)
        self.text += more

    def decode(self, drafted: list[int]) -> str:
        """Return the text of ids that were drafted after the response."""
        before = self.ids[-_BEFORE:]
        if before:
            return self._codec.decode(drafted, before)
        text = self._codec.decode(drafted, self._codec.anchor if self._continuing else ())
        return text.removeprefix(self._lead)

    def _extended(self, more: str) -> Encoded:
        text = self._lead + self.text + more if self.text or more else ""
        if len(self.ids) >= _SHORT:
            spliced = self._spliced(text)
            if spliced is not None:
                return spliced
        return self._codec.encode(text, continuing=self._continuing)

    def _spliced(self, text: str) -> Encoded | None:
        """Join the cached encoding with a new encoding of the tail; None if they do not agree."""
        ids, starts = self._encoded
        origin = -1
        first = len(ids) - _BACK
        while first > 0 and origin < 0:
            origin = _space_at(text, starts[first])
            first -= 1
        if origin <= 0:
            return None
        tail = self._codec.encode(text[origin:], continuing=True)
        places = [origin + start for start in tail.starts]
        fresh = list(zip(tail.ids, places, strict=True))
        index = {token: i for i, token in enumerate(fresh)}
        for old in range(first + 1, len(ids) - _MEET + 1):
            new = index.get((ids[old], starts[old]))
            if new is None:
                continue
            run = list(zip(ids[old : old + _MEET], starts[old : old + _MEET], strict=True))
            if fresh[new : new + _MEET] == run:
                return Encoded(ids[:old] + tail.ids[new:], starts[:old] + places[new:])
        return None


def _space_at(text: str, start: int) -> int:
    """Return the position of the space before or at ``start``; -1 if there is none.

    The encodings of a text and of its tail agree soonest if the tail begins with white space.
    Tokenizers differ in whether the position of a word includes the space before it.
    """
    if text[start : start + 1].isspace():
        return start
    return start - 1 if start and text[start - 1].isspace() else -1
