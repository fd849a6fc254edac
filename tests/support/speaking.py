"""A local backend that drafts given tokens, whatever its random weights say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from specfuse_core.hf import LocalBackend
from specfuse_core.hf.sampling import Chooser
from specfuse_core.request import Request

__all__ = ["speaks"]


class _Scripted:
    """Chooses the ids of a script, and the end of the turn after them or off them."""

    def __init__(self, script: Sequence[int], end: int, prompt: int) -> None:
        self._script = list(script)
        self._end = end
        self._prompt = prompt

    def choose(self, logits: Tensor, position: int, ids: Sequence[int]) -> int:
        written = list(ids[self._prompt :])
        if written != self._script[: len(written)] or len(written) == len(self._script):
            return self._end
        return self._script[len(written)]


def speaks(
    backend: LocalBackend, text: str | Callable[[Request], str], *, end: str | None = None
) -> LocalBackend:
    """``backend``, drafting ``text`` and then the end of the turn.

    Args:
        backend: of a model with random weights.
        text: what it writes, with the text of control tokens; or what it writes to a request.
        end: the control token that ends the turn; by default any.
    """

    def chooser(request: Request) -> Chooser:
        template = backend.template
        tools = request.tools if request.calls else ()
        prompt = template.prompt(request.messages, tools, speech=backend._speech(request))
        stop = template.codec.control_id(end) if end else min(template.ends)
        assert stop in template.ends
        written = text if isinstance(text, str) else text(request)
        return _Scripted(template.codec.encode_marked(written), stop, len(prompt.ids))

    backend._chooser = chooser  # type: ignore[method-assign]
    return backend
