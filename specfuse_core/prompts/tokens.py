"""Keeps the token ids of a response equal to the encoding of its text while the text grows.

This module knows nothing of models or conversations. The encoding itself is in ``codec``.
"""

from __future__ import annotations

from specfuse_core.prompts.codec import Encoded, TextCodec
from specfuse_core.prompts.dialects.spelling import Piece, Spelling

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
    """Text and token ids of one response in one tokenizer.

    Always ``ids == encode(lead + text)``. With a spelling, ``ids`` is the encoding of the pieces in
    which the model reads ``text``.

    Args:
        codec: the tokenizer.
        lead: white space that the chat template puts before an answer. It is part of the ids, but
            not of the text.
        continuing: whether the response follows ordinary text (see ``TextCodec.encode``).
        spelling: spells the response in the model's own form, if it has one.
        opening: what the response begins with. The answer goes on after it.
    """

    def __init__(
        self,
        codec: TextCodec,
        lead: str = "",
        *,
        continuing: bool = False,
        spelling: Spelling | None = None,
        opening: str = "",
    ) -> None:
        self.text = ""
        self._codec = codec
        self._lead = lead
        self._continuing = continuing
        self._spelling = spelling
        #: The pieces before the last one, with their ids.
        self._before: list[Piece] = []
        self._before_ids: list[int] = []
        self._last = _Growing(codec, continuing=continuing)
        self._opening = opening
        self.push(opening)
        self._opening_tokens = len(self.ids) - self._headers(opening)

    @property
    def ids(self) -> list[int]:
        """Token ids of the response so far. ``[T]``"""
        return [*self._before_ids, *self._last.encoded.ids]

    def peek(self, more: str) -> list[int]:
        """Return the ids that the response would have with ``more`` appended."""
        (_, ids), last, text = self._grown(more)
        return [*ids, *last.extended(text).ids]

    def push(self, more: str) -> None:
        """Append ``more`` to the response."""
        (self._before, self._before_ids), self._last, text = self._grown(more)
        self._last.push(text)
        self.text += more

    def count(self, answer: str) -> int:
        """Return the number of tokens by which ``answer`` lengthens the prompt and the opening.

        Tokens that precede the text of an answer do not count: white space that the template or the
        tokenizer puts there, and the marks of the model's own form.
        """
        whole = self._opening + answer
        if whole.startswith(self.text):
            ids = self.peek(whole[len(self.text) :])
        else:
            ids = ResponseTokens(
                self._codec, self._lead, continuing=self._continuing, spelling=self._spelling
            ).peek(whole)
        tokens = len(ids) - self._headers(whole)
        if self._opening:
            return max(tokens - self._opening_tokens, 0)
        return tokens - _blanks(self._codec, self._lead, answer, ids, self._continuing)

    @property
    def answer(self) -> str:
        """The text of the response after its opening."""
        return self.text[len(self._opening) :]

    @property
    def header(self) -> list[int]:
        """Ids of the marks that the model's form has before more text. ``[H]``"""
        (_, ids), _, _ = self._grown("x")
        return ids[len(self.ids) :] if ids[: len(self.ids)] == self.ids else []

    def decode(self, drafted: list[int]) -> str:
        """Return the text of ids that were drafted after the response."""
        before = self.ids[-_BEFORE:]
        if before:
            return self._codec.decode(drafted, before)
        text = self._codec.decode(drafted, self._codec.anchor)
        return self._begun(text).removeprefix(self._lead)

    def decode_marked(self, drafted: list[int]) -> str:
        """:meth:`decode` with the text of control tokens."""
        before = self.ids[-_BEFORE:]
        if before:
            return self._codec.decode_marked(drafted, before)
        return self._begun(self._codec.decode_marked(drafted, self._codec.anchor))

    def _begun(self, text: str) -> str:
        """``text`` without the space that the tokenizer puts at the beginning of the response."""
        return text.removeprefix(self._codec.leading_space(continuing=self._continuing))

    def _grown(self, more: str) -> tuple[tuple[list[Piece], list[int]], _Growing, str]:
        """The response with ``more``: what stands before its last piece, and that piece's text."""
        pieces = self._pieces(self.text + more)
        before, text = pieces[:-1], pieces[-1].text if pieces else ""
        if pieces and pieces[-1].marked:
            before, text = pieces, ""
        if before == self._before:
            return (self._before, self._before_ids), self._last, text
        ids: list[int] = []
        continuing = self._continuing
        for piece in before:
            ids += self._encode(piece, continuing)
            continuing = not (piece.marked and self._codec.opens_with_space_after_control)
        return (before, ids), _Growing(self._codec, continuing=continuing), text

    def _pieces(self, text: str) -> list[Piece]:
        if self._spelling is None:
            return [Piece(self._lead + text)] if text else []
        pieces = self._spelling.pieces(text)
        if pieces and not pieces[0].marked:
            pieces[0] = Piece(self._lead + pieces[0].text)
        return pieces

    def _headers(self, text: str) -> int:
        """The number of tokens of the marks before the texts in a response."""
        if self._spelling is None or not self._spelling.header.text:
            return 0
        header = self._spelling.header
        return self._pieces(text).count(header) * len(self._codec.encode_marked(header.text))

    def _encode(self, piece: Piece, continuing: bool) -> list[int]:
        if piece.marked:
            return self._codec.encode_marked(piece.text)
        return self._codec.encode(piece.text, continuing=continuing).ids


class _Growing:
    """Text that grows at its end, with its encoding.

    Args:
        codec: the tokenizer.
        continuing: whether the text follows ordinary text.
    """

    def __init__(self, codec: TextCodec, *, continuing: bool) -> None:
        self.encoded = Encoded([], [])
        self._codec = codec
        self._continuing = continuing

    def push(self, text: str) -> None:
        """Grow to ``text``, which begins with the text so far."""
        self.encoded = self.extended(text)

    def extended(self, text: str) -> Encoded:
        """The encoding of ``text``, which begins with the text so far."""
        if len(self.encoded.ids) >= _SHORT:
            spliced = self._spliced(text)
            if spliced is not None:
                return spliced
        return self._codec.encode(text, continuing=self._continuing)

    def _spliced(self, text: str) -> Encoded | None:
        """Join the cached encoding with a new encoding of the tail; None if they do not agree."""
        ids, starts = self.encoded
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


def _blanks(codec: TextCodec, lead: str, text: str, ids: list[int], continuing: bool) -> int:
    """Return how many of the ids of ``lead + text`` are only the white space before ``text``."""
    alone = codec.encode(lead, continuing=continuing).ids
    same = 0
    while same < min(len(alone), len(ids)) and alone[same] == ids[same]:
        same += 1
    space = codec.leading_space(continuing=continuing)
    if (lead + text).startswith(" ") and codec.encode(" a").ids == codec.encode("a").ids:
        space = ""  # the tokenizer adds no space where one is
    space += lead
    blank = 0
    for id_ in ids:
        piece = codec.decode([id_], codec.anchor)
        if not piece or not space.startswith(piece):
            break
        space = space.removeprefix(piece)
        blank += 1
    return max(same, blank)


def _space_at(text: str, start: int) -> int:
    """Return the position of the space before or at ``start``; -1 if there is none.

    The encodings of a text and of its tail agree soonest if the tail begins with white space.
    Tokenizers differ in whether the position of a word includes the space before it.
    """
    if text[start : start + 1].isspace():
        return start
    return start - 1 if start and text[start - 1].isspace() else -1
