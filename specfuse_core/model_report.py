"""What specfuse knows of one base model, as data: ``FusionEngine.report`` and ``specfuse check``.

This module decides which facts are problems and which are only notes. It does not find facts.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from specfuse_core.errors import FusionError

__all__ = [
    "ConversationReport",
    "ModelReport",
    "TemplateReport",
    "TokenizerReport",
    "WeightsReport",
    "amount",
]

#: Where a chat template comes from: ``ModelConfig``, the model's files, or neither.
TemplateSource = Literal["config", "model", "none"]
#: A model that needs more than this share of the free memory leaves little for caches.
_TIGHT = 0.8


@dataclass(frozen=True, slots=True)
class WeightsReport:
    """The weights of a model and the memory that they need.

    Args:
        size: bytes in memory once they are loaded.
        dtype: dtype of most weights once they are loaded; None if it is not known.
        parameters: number of parameters; None if it is not known.
        device: the device that they are loaded to; None if there are several.
        free: free bytes on that device before loading; None if it is not known, or if the model was
            loaded already.
    """

    size: int
    dtype: str | None = None
    parameters: int | None = None
    device: str | None = None
    free: int | None = None


@dataclass(frozen=True, slots=True)
class ConversationReport:
    """How a chat template renders one kind of conversation.

    Args:
        kind: the kind, for example ``"a later system message"``.
        repairs: how the messages are rewritten, because the template refuses or drops some of them.
        lost: roles of the messages that the template drops even then.
        refused: the template's error, if it refuses every form of the conversation.
    """

    kind: str
    repairs: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    refused: str = ""


@dataclass(frozen=True, slots=True)
class TemplateReport:
    """A chat template, and the form in which the model writes.

    Args:
        header: control tokens between the generation prompt and the content of an answer.
        closing: the control token after the content; empty if there is none.
        describes_tools: whether the template describes tools. Otherwise a system message does.
        calls: form of the tool calls: ``"common"``, the name of a native form, or
            ``"instruction"`` if no form is known, so that the prompt asks for the common one.
        thinking: marks before and after a thought; None if the template has none.
        conversations: what the template does to each kind of conversation.
        thinking_switch: the variable of the template that lets the model think, if the template
            closes the thought before each answer by default; None otherwise.
    """

    header: str
    closing: str
    describes_tools: bool
    calls: str
    thinking: tuple[str, str] | None
    conversations: tuple[ConversationReport, ...]
    thinking_switch: str | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        """What the template refuses and drops, with the kinds of conversation."""
        kinds: dict[tuple[str, str], list[str]] = {}
        for one in self.conversations:
            if one.refused:
                kinds.setdefault(("refuses", one.refused), []).append(one.kind)
            elif one.lost:
                roles = " and ".join(dict.fromkeys(one.lost))
                kinds.setdefault((f"drops {roles} messages in", ""), []).append(one.kind)
        return tuple(
            f"the chat template {verb} {', '.join(names)}" + (f": {reason}" if reason else "")
            for (verb, reason), names in kinds.items()
        )


@dataclass(frozen=True, slots=True)
class TokenizerReport:
    """A tokenizer.

    Args:
        kind: the algorithm, for example ``"byte-level BPE"``.
        tokens: number of tokens in its vocabulary.
        unconstrained: why answers with constraints or tools are impossible; empty if they are
            possible.
    """

    kind: str
    tokens: int
    unconstrained: str = ""


@dataclass(frozen=True, slots=True)
class ModelReport:
    """The properties of one base model, and its problems.

    The fields from ``method`` on are set only if the model could be loaded. A backend that is not a
    local model may leave out properties that it does not know.

    Args:
        name: the model's name in the ensemble.
        path: hub id or directory; None for a model that was loaded by the caller.
        adapter: hub id or directory of its adapter; None if it has none.
        context_window: maximum number of tokens of prompt and answer together; None if it
            is not stated.
        template_source: where the chat template comes from: ``"config"`` (``ModelConfig``),
            ``"model"`` (its files) or ``"none"``. Without a template, each message is a paragraph
            with the name of its role.
        weights: the weights and their memory.
        error: why the model cannot be loaded; empty if it can.
        traceback: where in the code that error was raised; empty if there is none.
        method: name of the method that stores the model's state; see :class:`ModelUsage`.
        failures: reason why each faster method failed, by the name of the method.
        slow: whether a model of this kind should be able to use a faster method.
        ends: the tokens that end an answer.
        ordinary_ends: those of ``ends`` that are ordinary text.
        template: the chat template.
        tokenizer: the tokenizer.
        vocabulary: number of ids that the model gives logits for.
        seconds: seconds that loading took.
        adapter_base: the base model that the adapter was trained on, if its name is not that of the
            model that it is loaded on.
    """

    name: str
    path: str | None = None
    adapter: str | None = None
    context_window: int | None = None
    template_source: TemplateSource | None = None
    weights: WeightsReport | None = None
    error: str = ""
    traceback: str = field(default="", repr=False, compare=False)
    method: str | None = None
    failures: Mapping[str, str] = field(default_factory=dict)
    slow: bool = False
    ends: tuple[str, ...] = ()
    ordinary_ends: tuple[str, ...] = ()
    template: TemplateReport | None = None
    tokenizer: TokenizerReport | None = None
    vocabulary: int | None = None
    seconds: float | None = None
    adapter_base: str | None = None

    @property
    def fits(self) -> bool:
        """Whether the model can be used as it is: there are no problems."""
        return not self.problems

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong: the model cannot be loaded, loses text, or is needlessly slow."""
        found = [self.error] if self.error else []
        weights = self.weights
        if weights and weights.free is not None and weights.size > weights.free:
            found.append(
                f"the weights need {amount(weights.size)}, but only {amount(weights.free)} are "
                f"free on {weights.device}; use a smaller dtype or another device"
            )
        if self.slow:
            found.append(
                f"the method {self.method!r} is slower than a model of this kind needs; try "
                "another attn_implementation or dtype"
            )
        if self.template is not None:
            found += self.template.problems
        return tuple(found)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is worth knowing, but not wrong."""
        found = []
        weights = self.weights
        if weights and weights.free and _TIGHT < weights.size / weights.free <= 1:
            found.append(
                f"the weights need {weights.size / weights.free:.0%} of the free memory, which "
                "leaves little for the caches of long conversations"
            )
        if self.adapter_base is not None:
            found.append(
                f"the adapter was trained on {self.adapter_base!r} and is loaded on {self.path!r}; "
                "check that they are the same model"
            )
        if self.failures and not self.slow:
            found.append(f"models of this kind cannot use a faster method than {self.method!r}")
        if self.ordinary_ends:
            texts = " and ".join(map(repr, self.ordinary_ends))
            found.append(
                f"an answer also ends at {texts}, which is ordinary text; check eos_token_id in "
                "the generation config"
            )
        if self.template_source == "none":
            found.append("there is no chat template; each message is a paragraph with its role")
        elif self.template and self.template.calls == "instruction":
            found.append(
                "the template shows no known form of tool calls; the prompt asks for the common one"
            )
        if self.template and (switch := self.template.thinking_switch):
            found.append(
                "the chat template closes the thought before each answer by default; to let the "
                f'model think, set chat_template_kwargs={{"{switch}": True}}'
            )
        tokens = self.tokenizer.tokens if self.tokenizer else 0
        if self.vocabulary is not None and tokens > self.vocabulary:
            found.append(
                f"the tokenizer has {tokens:,} tokens, but the model knows only "
                f"{self.vocabulary:,}; check that they belong together"
            )
        if self.tokenizer and self.tokenizer.unconstrained:
            found.append(self.tokenizer.unconstrained)
        return tuple(found)

    def failing(self, error: Exception) -> ModelReport:
        """Return this report with the reason why the model cannot be loaded."""
        text = str(error) if isinstance(error, FusionError) else f"{type(error).__name__}: {error}"
        return replace(self, error=text, traceback="".join(traceback.format_exception(error)))

    def as_dict(self) -> dict[str, Any]:
        """Return the report as JSON values, with ``fits``, ``problems`` and ``notes``."""
        return {
            **asdict(self),
            "fits": self.fits,
            "problems": list(self.problems),
            "notes": list(self.notes),
        }


def amount(size: float) -> str:
    """Return a number of bytes in decimal units, as ``"3.2 GB"``."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
