"""LocalSession: drafts, verifies and commits text for one request with one local base model.

The state is ``ids == prompt ids + encode(response so far)``, whichever model wrote a segment. This
module combines ``prompts.tokens``, which tokenizes, with ``context``, which runs the model. The
line of the context may be shorter than the state; then the missing ids are run when they are
needed. It may also be longer: the part of the model's own winning draft that was cut off opens the
next draft. This module knows nothing of votes or of other models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from specfuse_core.grammar.boundaries import complete_characters
from specfuse_core.grammar.calls import CALL_CLOSE, CALL_OPEN
from specfuse_core.grammar.openings import Offered
from specfuse_core.grammar.thoughts import THOUGHT_CLOSE, THOUGHT_OPEN, thinking_in
from specfuse_core.hf.context import Context, Path, shared_length
from specfuse_core.hf.guide import Guide
from specfuse_core.hf.sampling import Chooser
from specfuse_core.prompts.dialects.speech import Speech
from specfuse_core.prompts.template import Prompt
from specfuse_core.prompts.tokens import ResponseTokens
from specfuse_core.types import Candidate, Cost, Verification

__all__ = ["LocalSession"]

#: Number of tokens that a draft may exceed its limit by to complete its first character.
_CHARACTER_TOKENS = 4
#: Tokens that a draft may go on beyond its limit while they are all marks of the model's form.
_MARK_TOKENS = 64
#: The same while they are a call that has not ended.
_CALL_TOKENS = 4096


class LocalSession:
    """A session of a ``LocalBackend``.

    Args:
        context: an empty context of the model.
        prompt: the rendered conversation.
        response: text and ids of the answer, which begins with the prompt's opening.
        ends: end-of-turn ids.
        chooser: samples the ids of drafts.
        context_window: maximum number of tokens of prompt and answer together.
        offered: the tools that the answer may call, and whether it may begin with reasoning.
        guide: the position in the grammar; None if the answer is unconstrained.
        speech: how the model writes the answer in its own form; None if that is the common form.
    """

    def __init__(
        self,
        context: Context,
        prompt: Prompt,
        response: ResponseTokens,
        ends: frozenset[int],
        chooser: Chooser,
        context_window: int,
        offered: Offered,
        guide: Guide | None = None,
        speech: Speech | None = None,
    ) -> None:
        self._context = context
        self._prompt = list(prompt.ids)
        self._response = response
        self._ends = ends
        self._chooser = chooser
        self._window = context_window
        self._offered = offered
        self._guide = guide
        self._speech = speech
        # Whether the last draft was the beginning of a call in the model's own form.
        self._calling = False
        # The last drafted id, which has not been run yet. Verification runs it in the same pass.
        self._unrun: list[int] = []
        # The paths of the last verification.
        self._paths: list[Path] = []
        self._cost = Cost(prompt_tokens=len(self.ids))

    @property
    def ids(self) -> list[int]:
        """Ids of the prompt and the response. ``[n]``"""
        return self._prompt + self._response.ids

    @property
    def cost(self) -> Cost:
        """Tokens and forward passes that the request has used so far."""
        return replace(self._cost, forward_passes=self._context.passes)

    @property
    def room(self) -> int:
        """Number of tokens that still fit the context window."""
        return self._window - len(self._prompt) - len(self._response.ids)

    @property
    def _is_guided(self) -> bool:
        """Whether drafts have the common form, of which the grammar masks every token."""
        if self._speech is None:
            return True
        if self._free:
            return self._offered.in_call(self._response.answer)
        return not thinking_in(self._response.answer)

    @property
    def _free(self) -> bool:
        """Whether the text of the answer may be anything."""
        return self._guide is None or self._guide.free

    def count_tokens(self, answer: str) -> int:
        """Count the tokens by which ``answer`` lengthens the prompt."""
        return self._response.count(answer)

    def draft(self, max_tokens: int) -> Candidate:
        """Decode up to ``max_tokens`` tokens, cut back to complete words unless the answer ends."""
        ids = self._catch_up()
        # The line still has the ids that were cut off the last draft. They open this draft.
        drafted = self._context.ids[len(ids) :][:max_tokens]
        if self._speech is not None:
            if not self._is_guided:
                return self._spoken(self._speech, ids, drafted, max_tokens)
            if not self._free and not self._response.answer.strip():
                thought = self._thought(self._speech, ids, drafted, max_tokens)
                if thought is not None:
                    return thought
            ids = self._with_header(ids)
            drafted = self._context.ids[len(ids) :][:max_tokens]
        ends = self._draw_more(ids, drafted, max_tokens, self._guide)
        run = len(self._context.ids) - len(ids)
        self._unrun = drafted[run:]
        if self._guide is not None:
            return self._guided(self._guide, ends)
        text = self._response.decode(drafted)
        if ends:
            return Candidate(complete_characters(text), True)
        whole = complete_characters(text) or text
        # If the drafted tokens have no text, the model ends the answer.
        return Candidate(self._complete(whole) if whole else whole, not whole)

    def _spoken(
        self, speech: Speech, ids: list[int], drafted: list[int], max_tokens: int
    ) -> Candidate:
        """A draft in the model's own form, read as text in the common form."""
        limit = max_tokens
        while True:
            ends = self._draw_more(ids, drafted, limit, None)
            native = self._response.decode_marked(drafted)
            text = speech.reader.read(self._response.text, native, ended=ends)
            if text is None or self._quotes(text):
                text = self._response.decode(drafted)
            # Marks alone are not a text yet, and half a call cannot be read.
            more = _CALL_TOKENS if self._calling and _opens(text) else _MARK_TOKENS
            known = bool(text) and not (self._calling and _opens(text))
            if known or ends or limit >= min(max_tokens + more, self.room):
                break
            limit += 1
        text = text or self._response.decode(drafted)
        run = len(self._context.ids) - len(ids)
        self._unrun = drafted[run:]
        self._calling = _opens(text)
        return self._common(text, drafted, ends)

    def _common(self, text: str, drafted: list[int], ends: bool) -> Candidate:
        """The candidate of a draft that reads ``text``, if that may follow."""
        guide = self._guide
        if guide is not None and guide.legal(text) < len(text):
            # A call that the tools do not take is text.
            text = self._response.decode(drafted)
            text = text[: guide.legal(text)]
        text = complete_characters(text)
        if ends and (guide is None or guide.ends_after(text)):
            return Candidate(text, True)
        closed_at = text.rfind(CALL_CLOSE)
        if closed_at >= 0:
            # Calls that a model writes as one list are one segment.
            return Candidate(text[: closed_at + len(CALL_CLOSE)])
        thought, closed, _ = text.partition(THOUGHT_CLOSE)
        if closed:
            # A thought and the answer after it are segments of their own.
            return Candidate(thought + closed)
        opening = THOUGHT_OPEN if text.startswith(THOUGHT_OPEN) else ""
        rest = text.removeprefix(opening)
        if not text and thinking_in(self._response.answer) and not self._free:
            # The model ended its turn within a thought, which a constrained answer cannot do.
            return Candidate(THOUGHT_CLOSE)
        said, called, _ = rest.partition(CALL_OPEN)
        if self._speech is not None and called and said.strip():
            # The line break before a call is a part of its spelling.
            return Candidate(opening + said.rstrip())
        whole = self._complete(rest, opening) if rest else rest
        return Candidate(opening + whole, not text)

    def _thought(
        self, speech: Speech, ids: list[int], drafted: list[int], max_tokens: int
    ) -> Candidate | None:
        """A draft that begins with a thought in the model's own form; None if there is none."""
        first = drafted[0] if drafted else self._draw(ids, [], None)
        if first not in speech.opens_thought:
            return None
        candidate = self._spoken(speech, ids, drafted or [first], max_tokens)
        if candidate.text.startswith(THOUGHT_OPEN):
            return candidate
        self._context.truncate(len(ids))
        self._unrun, self._calling = [], False
        self._catch_up()
        return None

    def _with_header(self, ids: list[int]) -> list[int]:
        """Run the marks of the model's form that precede the text. Returns the ids with them."""
        header = self._response.header
        if self._context.ids[len(ids) :][: len(header)] != header:
            self._context.truncate(len(ids))
            for id_ in header:
                # One by one, so that the logits after each of them are known to the verification.
                self._context.extend([id_])
        return [*ids, *header]

    def _quotes(self, text: str) -> bool:
        """Whether a call in a draft stands where calls are text, such as in a code fence."""
        said, called, _ = text.partition(CALL_OPEN)
        if not called or thinking_in(self._response.answer):
            return False
        return not self._offered.place(self._response.answer).after(f"{said}\n").begins_line

    def _complete(self, text: str, opening: str = "") -> str:
        """Cut a draft back to a complete segment after the answer so far and ``opening``."""
        answer = self._response.answer + opening
        return self._offered.complete_segment(answer, text, free=self._free)

    def _draw_more(
        self, ids: list[int], drafted: list[int], max_tokens: int, guide: Guide | None
    ) -> bool:
        """Append sampled ids to ``drafted``. Returns whether the model ended the answer."""
        if guide is not None:
            guide.rewind()
            legal = [guide.take(id_) for id_ in drafted]
            if not all(legal):
                del drafted[legal.index(False) :]
        while not self._enough(drafted, max_tokens, guide):
            id_ = self._draw(ids, drafted, guide)
            if id_ is None:
                return False
            if id_ in self._ends:
                return True
            drafted.append(id_)
        return False

    def _guided(self, guide: Guide, ends: bool) -> Candidate:
        """Return the candidate that was drafted under a grammar, from the bytes of its ids."""
        text = guide.drafted.decode(errors="ignore")
        if not ends:
            text = (self._complete(text) if text else "") or guide.rescue()
        return Candidate(text, ends)

    def verify(self, candidates: Sequence[Candidate]) -> list[Verification]:
        """Return log-probability and logit of every token of each candidate. ``[C]``"""
        ids = self._catch_up()
        wholes = [self._prompt + self._response.peek(candidate.text) for candidate in candidates]
        found: list[Path | None] = []
        for candidate, whole in zip(candidates, wholes, strict=True):
            fits = len(whole) + candidate.ends <= self._window
            found.append(self._path(whole, candidate.ends) if fits else None)
        self._paths = [path for path in dict.fromkeys(found) if path is not None and path.tokens]
        if self._paths and self._unrun and self._context.one_pass:
            unrun = Path(len(self._context.ids), tuple(self._unrun))
            # First, so that its row directly follows the rows of the line.
            self._paths = [unrun, *(path for path in self._paths if path != unrun)]
        logits = self._context.branch(self._paths) if self._paths else []
        self._spend(verified=sum(len(path.tokens) for path in self._paths))
        known = dict(zip(self._paths, logits, strict=True))
        return [
            Verification((), fits=False)
            if path is None
            else self._verification(shared_length(ids, whole), whole, candidate.ends, path, known)
            for candidate, whole, path in zip(candidates, wholes, found, strict=True)
        ]

    def commit(self, segment: Candidate) -> None:
        """Append the segment's text, and keep the rows that verification computed for it."""
        thinks = self._speech is not None and segment.text.lstrip().startswith(THOUGHT_OPEN)
        guide = self._guide if self._is_guided and not thinks else None
        before = len(self.ids)
        self._response.push(segment.text)
        self._calling = False
        ids, drafted = self.ids, self._context.ids + self._unrun
        if drafted[: len(ids)] != ids:
            self._adopt(ids)
        elif guide is None or guide.spells(ids[before:], segment.text):
            # The segment is the model's own draft or its beginning: the rest opens the next draft.
            self._adopt(drafted)
        else:
            # Another text with the same ids, such as that of unknown characters: a grammar may
            # allow other tokens after it than after the draft.
            self._context.truncate(len(ids))
        if self._guide is not None:
            self._guide.commit(segment.text)
        self._context.forget(len(ids) - 1)
        self._unrun = []

    def close(self) -> None:
        """Free the cache."""
        self._context.release()
        self._paths, self._unrun = [], []

    def _adopt(self, ids: list[int]) -> None:
        """Make the verified path that leads to ``ids`` part of the line, if there is one."""
        for index, (start, tokens) in enumerate(self._paths):
            if start + len(tokens) == len(ids) and [*self._context.ids[:start], *tokens] == ids:
                self._context.adopt(index)
                break
        self._paths = []

    def _catch_up(self) -> list[int]:
        """Run the committed ids that have not been run yet. Returns the ids of the state."""
        ids, context = self.ids, self._context
        have = shared_length(context.ids, ids)
        if have == len(ids) and not context.knows(have - 1):
            have -= 1
        if have < len(ids):
            if have < len(context.ids):
                context.truncate(have)
            context.extend(ids[have:])
        if len(context.ids) == len(ids):
            context.mark()
        return ids

    def _enough(self, drafted: list[int], max_tokens: int, guide: Guide | None) -> bool:
        if len(drafted) < max_tokens:
            return False
        most = min(max_tokens + _CHARACTER_TOKENS, self.room)
        if len(drafted) >= most:
            return True
        if guide is not None:
            return bool(guide.drafted.decode(errors="ignore"))
        if self._speech is not None:
            return True
        return bool(complete_characters(self._response.decode(drafted)))

    def _draw(self, ids: list[int], drafted: list[int], guide: Guide | None) -> int | None:
        """Sample the next id; None if the grammar allows none."""
        at = len(ids) + len(drafted) - 1
        if at == len(self._context.ids):
            self._context.extend(drafted[-1:])
        logits = self._context.logits_after(at)
        for exact in (False, True):
            masked = logits if guide is None else self._masked(logits, guide, exact=exact)
            if masked is None:
                return None
            id_ = self._chooser.choose(masked, at + 1, [*ids, *drafted])
            if guide is None or id_ in self._ends or guide.take(id_):
                self._spend(drafted=1)
                return id_
        return None

    def _masked(self, logits: Tensor, guide: Guide, *, exact: bool) -> Tensor | None:
        """The logits of the ids that the grammar allows; None if it allows none. ``[V]``"""
        allowed = guide.allowed(exact=exact)
        allowed[sorted(self._ends)] = guide.may_end
        if not allowed.any():
            return None
        return logits.masked_fill(~allowed.to(logits.device), -torch.inf)

    def _path(self, whole: list[int], ends: bool) -> Path:
        """Return the path from the line to ``whole``; without tokens if all logits are known."""
        line = self._context.ids
        if self._unrun and not ends and whole == line + self._unrun:
            return Path(len(line), ())
        shared = shared_length(line, whole)
        if shared < len(whole) and not self._context.knows(shared - 1):
            # The logits at the branching point were dropped: run that id again.
            shared -= 1
        return Path(shared, tuple(whole[shared:]))

    def _verification(
        self,
        first: int,
        whole: list[int],
        ends: bool,
        path: Path,
        known: dict[Path, Tensor],
    ) -> Verification:
        """Return log-probabilities and logits of ``whole[first:]``, and of the end if ``ends``."""
        positions = range(first - 1, len(whole) - (not ends))
        if not positions:
            return Verification(())
        rows = [self._context.logits_after(at) for at in positions if at < path.start] + list(
            known[path][max(first - 1 - path.start, 0) :] if path in known else []
        )
        logits = torch.stack(rows[: len(positions)]).float()  # [R, V]
        mass = logits.logsumexp(-1)
        targets = torch.tensor(whole[first:], device=logits.device)
        chosen = logits[: len(targets)].gather(1, targets[:, None])[:, 0]
        if ends:
            # The probability of any of the end-of-turn tokens.
            end = logits[-1, sorted(self._ends)].logsumexp(0, keepdim=True)
            chosen = torch.cat([chosen, end])
        logprobs = (chosen - mass).tolist()
        return Verification(tuple(logprobs), tuple(chosen.tolist()))

    def _spend(self, *, drafted: int = 0, verified: int = 0) -> None:
        self._cost = replace(
            self._cost,
            drafted_tokens=self._cost.drafted_tokens + drafted,
            verified_tokens=self._cost.verified_tokens + verified,
        )


def _opens(text: str) -> bool:
    """Whether ``text`` is the mark of a call that has not ended."""
    return text.strip() == CALL_OPEN
