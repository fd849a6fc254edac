"""A base model on this machine, run by transformers: weights shared, requests apart.

This module joins model, tokenizer and template; see ``loading`` for where they come from.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
import transformers
from transformers import PreTrainedModel

from specfuse_core.errors import ModelLoadError, PromptTooLongError, SlowMethodWarning
from specfuse_core.grammar.tools import Tool
from specfuse_core.hf.context import Context
from specfuse_core.hf.guide import Guide, Vocabulary
from specfuse_core.hf.probe import METHODS, MethodChoice, choose_method
from specfuse_core.hf.runner import Runner
from specfuse_core.hf.sampling import Chooser, Sampler
from specfuse_core.hf.session import LocalSession
from specfuse_core.prompts.template import ChatTemplate, Prompt
from specfuse_core.prompts.tokens import ResponseTokens
from specfuse_core.request import Message, Request

__all__ = ["LoadedModel", "LocalBackend"]


class LoadedModel:
    """Weights that are ready to run, and the method that was found right for them.

    Args:
        runner: the model.
        method: name of a context method; None measures which is right, and warns
            (:class:`SlowMethodWarning`) if that is a slower one than the model should need.
    """

    #: What was measured, by model: measuring shrinks a window for a moment, and must not do so
    #: while another engine over the same object runs.
    _measured: ClassVar[weakref.WeakKeyDictionary[PreTrainedModel, MethodChoice]] = (
        weakref.WeakKeyDictionary()
    )
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, runner: Runner, method: str | None = None) -> None:
        self.runner = runner
        self._choice = self._measure(runner) if method is None else MethodChoice(method, {}, False)

    @classmethod
    def _measure(cls, runner: Runner) -> MethodChoice:
        with cls._lock:
            known = cls._measured.get(runner.model)
            choice = cls._measured[runner.model] = known or choose_method(runner)
        if choice.slow and known is None:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in choice.failures.items())
            warnings.warn(
                f"{runner.name} runs with the method {choice.method!r}, which is slower than a "
                f"model of its kind needs. The faster methods failed ({reasons}). Try another "
                "attn_implementation or dtype, or report the model with the version of "
                f"transformers ({transformers.__version__}).",
                SlowMethodWarning,
                stacklevel=3,
            )
        return choice

    @property
    def method(self) -> str:
        """Name of the context method."""
        return self._choice.method

    @property
    def failures(self) -> Mapping[str, str]:
        """Why each faster method failed when it was measured, by its name."""
        return self._choice.failures

    def context(self, capacity: int) -> Context:
        """An empty context with room for ``capacity`` ids."""
        return METHODS[self.method](self.runner, capacity)


class LocalBackend:
    """A base model on this machine.

    Args:
        name: its name in the ensemble.
        load: gives the model and its chat template; called once, when first needed.
        declared: the context window that is known before that.
    """

    supports_logits = True

    def __init__(
        self,
        name: str,
        load: Callable[[], tuple[LoadedModel, ChatTemplate]],
        declared: int | None = None,
    ) -> None:
        self.name = name
        self._declared = declared
        self._load = load
        self._lock = threading.Lock()
        self._ready: tuple[LoadedModel, ChatTemplate] | None = None
        self._vocabulary: Vocabulary | None = None

    def load(self) -> None:
        """Load the model unless it is loaded.

        Raises:
            ModelLoadError: naming the model, what was tried and what to do.
        """
        self._parts()

    @property
    def ready(self) -> bool:
        """Whether the model is loaded."""
        return self._ready is not None

    @property
    def model(self) -> LoadedModel:
        """The loaded model."""
        return self._parts()[0]

    @property
    def device(self) -> str | None:
        """Where the model's first weights are; None while it is not loaded."""
        return str(self._ready[0].runner.device) if self._ready else None

    @property
    def method(self) -> str | None:
        """Name of the context method; None while the model is not loaded."""
        return self.model.method if self.ready else None

    @property
    def template(self) -> ChatTemplate:
        """The chat template, with the tokenizer."""
        return self._parts()[1]

    @property
    def context_window(self) -> int:
        """Tokens that prompt and answer together may have."""
        return self.model.runner.context_window

    @property
    def declared_window(self) -> int | None:
        """The context window, as far as it is known without loading."""
        return self.context_window if self.ready else self._declared

    def start(self, request: Request) -> LocalSession:
        """Render and measure the prompt; no model runs yet.

        Raises:
            ModelLoadError: if the tokenizer is not the model's.
            PromptTooLongError: if the prompt leaves no room for an answer.
            TemplateError: if the chat template refuses the conversation.
        """
        model, template = self._parts()
        tools = request.tools if request.calls else ()
        prompt, response = self._rendered(request.messages, tools)
        length = len(prompt.ids) + len(response.ids)
        window = self.context_window
        if max(prompt.ids, default=0) >= model.runner.config.vocab_size:
            raise ModelLoadError(
                f"{self.name!r}: its tokenizer gives ids that the model has no row for "
                f"({model.runner.config.vocab_size} rows); load the tokenizer that belongs to it."
            )
        if length >= window:
            raise PromptTooLongError(
                f"the prompt has {length} tokens for {self.name!r}, whose context window is "
                f"{window}; shorten it, or leave that model out."
            )
        # Other models' tokens are others: leave some room, more is made when needed.
        capacity = min(window, length + request.max_new_tokens * 5 // 4 + 64)
        return LocalSession(
            model.context(capacity),
            prompt,
            response,
            template.ends,
            self._chooser(request),
            window,
            self._guide(request, prompt),
        )

    def count_tokens(self, text: str) -> int:
        """Length of ``text`` in the model's own tokens, without special tokens."""
        return len(self.token_ids(text))

    def token_ids(self, text: str) -> list[int]:
        """``text`` in the model's own tokens, without special tokens."""
        return list(self.template.codec.encode(text).ids)

    def count_prompt_tokens(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> int:
        """Length of the rendered conversation, whether or not it fits the window.

        Raises:
            TemplateError: if the chat template refuses the conversation.
        """
        prompt, response = self._rendered(messages, tools)
        return len(prompt.ids) + len(response.ids)

    def _rendered(
        self, messages: Sequence[Message], tools: Sequence[Tool]
    ) -> tuple[Prompt, ResponseTokens]:
        """The prompt, and the answer as far as the last turn has it already."""
        template = self.template
        with self._naming_itself():
            prompt = template.prompt(messages, tools)
        response = ResponseTokens(template.codec, prompt.lead, continuing=prompt.continuing)
        response.push(prompt.opening)
        return prompt, response

    def _guide(self, request: Request, prompt: Prompt) -> Guide | None:
        grammar = request.grammar
        if grammar is None:
            return None
        codec = self.template.codec
        lead: str | None = None
        if not prompt.opening:
            lead = prompt.lead or (
                " " if codec.opens_with_space and not prompt.continuing else None
            )
        with self._lock:
            if self._vocabulary is None:
                rows = int(self._ready[0].runner.config.vocab_size) if self._ready else 0
                self._vocabulary = Vocabulary(codec, rows)
        return Guide(self._vocabulary, grammar, lead, free=request.free)

    def _chooser(self, request: Request) -> Chooser:
        model, template = self._parts()
        size = int(model.runner.config.vocab_size)
        silent = {id_ for id_ in template.codec.control if id_ < size}
        # Rows of the output layer beyond the tokenizer's vocabulary have no text either.
        silent |= set(range(template.codec.vocabulary, size))
        undraftable = torch.tensor(sorted(silent - template.ends), device=model.runner.device)
        return Sampler(request.sampling, self.name, undraftable.long())

    def _parts(self) -> tuple[LoadedModel, ChatTemplate]:
        with self._lock:
            if self._ready is None:
                with self._naming_itself():
                    self._ready = self._load()
            return self._ready

    @contextmanager
    def _naming_itself(self) -> Iterator[None]:
        """Name the model in errors of layers that know no name."""
        try:
            yield
        except ModelLoadError as error:
            if self.name in str(error):
                raise
            raise type(error)(f"{self.name!r}: {error}") from error
