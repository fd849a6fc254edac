"""Outlet: turns the text of an answer into the segments that the caller sees.

It splits the text into channels and cuts it at stop strings. It passes rounds on, but does not
look into them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from specfuse_core.answer.channels import Channels, Piece
from specfuse_core.answer.validity import Validity
from specfuse_core.grammar.boundaries import StopBuffer
from specfuse_core.request import Request
from specfuse_core.types import Channel, Round, Segment

__all__ = ["Outlet", "joined"]


class Outlet:
    """The visible text of one answer.

    Args:
        request: the request, with the stop strings and the tools.
    """

    def __init__(self, request: Request) -> None:
        self._channels = Channels(request.offered)
        self._stops = StopBuffer(request.stop)
        self._validity = Validity(request)
        self._text = ""
        self._fed = 0
        self._said = 0
        self._shown = 0
        self._forced = False  # whether text that closes the answer was appended
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

    @property
    def in_call(self) -> bool:
        """Whether the answer ends inside a tool call."""
        return self._channels.in_call

    def close(self, text: str) -> list[Segment]:
        """Append text that closes the answer and that no model chose."""
        if not text or self.stopped:
            return []
        self._forced = True
        return self.feed(text)

    def flush(self, error: str, played: Round | None = None, *, cut: bool = False) -> list[Segment]:
        """Return the segments that are still held back at the end of the answer.

        Args:
            error: the error of a call that is incomplete.
            played: the last round.
            cut: whether the answer was cut off.
        """
        called = self.in_call
        segments = [
            replace(segment, closed_by_force=segment.closed_by_force or called)
            for segment in self._segments(self._channels.flush(error, cut=cut), played)
        ]
        held = "" if self.stopped else self._stops.flush()
        self._shown += len(held)
        self._text += held
        return [*segments, self._segment(held, played)] if held else segments

    @property
    def problem(self) -> str | None:
        """Why the text of the answer is not valid under the schema of its constraint."""
        return self._validity.problem(self._text)

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
                self._text += text
            if text or piece.call:
                segments.append(self._segment(text, played, piece))
        return segments

    def _segment(self, text: str, played: Round | None, piece: Piece | None = None) -> Segment:
        channel: Channel = piece.channel if piece else "text"
        call = self._validity.checked(piece.call) if piece else None
        return Segment(text, played, channel=channel, call=call, closed_by_force=self._forced)


def joined(segments: Iterable[Segment]) -> list[Segment]:
    """Merge neighbouring text segments of the same round."""
    kept: list[Segment] = []
    for segment in segments:
        last = kept[-1] if kept else None
        alike = last and last.channel == segment.channel == "text" and last.round is segment.round
        if last and alike and last.closed_by_force == segment.closed_by_force:
            kept[-1] = replace(segment, text=last.text + segment.text)
        else:
            kept.append(segment)
    return kept
