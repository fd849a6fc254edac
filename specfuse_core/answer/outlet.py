"""Outlet: turns the text of an answer into the segments that the caller sees.

It splits the text into channels and cuts it at stop strings. It passes rounds on, but does not
look into them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from specfuse_core.answer.channels import Channels, Piece
from specfuse_core.grammar.boundaries import StopBuffer
from specfuse_core.request import Request
from specfuse_core.types import Round, Segment

__all__ = ["Outlet", "joined"]


class Outlet:
    """The visible text of one answer.

    Args:
        request: the request, with the stop strings and the tools.
    """

    def __init__(self, request: Request) -> None:
        final = request.messages[-1]
        # An answer that continues an assistant message does not begin with reasoning.
        begun = final.role == "assistant" and bool(final.content)
        self._channels = Channels(calls=request.calls, thinks=not begun)
        self._stops = StopBuffer(request.stop)
        self._fed = 0
        self._said = 0
        self._shown = 0
        #: Whether a stop string was found. No text after it is shown.
        self.stopped = False

    @property
    def written(self) -> int:
        """Number of characters that were fed, without those that a stop string cut off."""
        return self._fed - (self._said - self._shown)

    def feed(self, text: str, played: Round | None = None) -> list[Segment]:
        """Append ``text`` to the answer and return the segments to show now."""
        self._fed += len(text)
        return self._segments(self._channels.feed(text), played)

    def flush(self, played: Round | None = None) -> list[Segment]:
        """Return the segments that are still held back at the end of the answer."""
        segments = self._segments(self._channels.flush(), played)
        held = "" if self.stopped else self._stops.flush()
        self._shown += len(held)
        return [*segments, Segment(held, played)] if held else segments

    def _segments(self, pieces: Iterable[Piece], played: Round | None) -> list[Segment]:
        segments: list[Segment] = []
        for piece in pieces:
            text = piece.text
            if self.stopped:
                break
            if piece.channel == "text":
                self._said += len(text)
                text, self.stopped = self._stops.feed(text)
                self._shown += len(text)
            if text or piece.call:
                segments.append(Segment(text, played, channel=piece.channel, call=piece.call))
        return segments


def joined(segments: Iterable[Segment]) -> list[Segment]:
    """Merge neighbouring text segments of the same round."""
    kept: list[Segment] = []
    for segment in segments:
        last = kept[-1] if kept else None
        if last and last.channel == segment.channel == "text" and last.round is segment.round:
            kept[-1] = replace(last, text=last.text + segment.text)
        else:
            kept.append(segment)
    return kept
