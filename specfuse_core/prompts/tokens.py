"""A response's ids, kept equal to the encoding of its text while the text grows.

This module knows nothing of models; see ``codec`` for the encoding itself.
"""

from __future__ import annotations

from specfuse_core.prompts.codec import Encoded, TextCodec

__all__ = ["ResponseTokens"]

#: Below this many tokens the whole response is encoded again: it costs next to nothing.
_SHORT = 48
#: How far back the encoding of a longer response starts again.
_BACK = 16
#: So many tokens in a row, equal in id and place, and the two encodings have met.
_MEET = 3
#: Ids of the response after which a draft is decoded.
_BEFORE = 5


class ResponseTokens:
    """Text and ids of one response in one tokenizer; ``ids == encode(lead + text)`` always.

    Args:
        codec: the tokenizer.
        lead: white space that the chat template puts before an answer; it is in the ids, but
            not in the text.
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
        """Ids of the response so far. ``[T]``"""
        return self._encoded.ids

    def peek(self, more: str) -> list[int]:
        """Ids that the response would have with ``more`` appended."""
        return self._extended(more).ids

    def push(self, more: str) -> None:
        """Append ``more``."""
        self._encoded = self._extended(more)
        self.text += more

    def decode(self, drafted: list[int]) -> str:
        """Text of ids drafted after the response."""
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
        """The encoding of ``text`` from the cached one and that of its tail, if they meet."""
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
    """Where the space of a token that starts at ``start`` is; -1 if there is none.

    White space is where encodings of a text and of its tail meet soonest; tokenizers differ in
    whether a word's place includes the space before it.
    """
    if text[start : start + 1].isspace():
        return start
    return start - 1 if start and text[start - 1].isspace() else -1
