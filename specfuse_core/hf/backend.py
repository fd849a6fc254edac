"""LocalBackend: a base model that transformers runs on this machine.

All requests share the weights; each request has its own session. This module combines model,
tokenizer and template; ``loading`` loads them.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace

import torch

from specfuse_core.config import ModelConfig
from specfuse_core.errors import (
    InvalidConstraintError,
    ModelLoadError,
    PromptTooLongError,
    TemplateError,
)
from specfuse_core.grammar.tools import Tool
from specfuse_core.hf.agreement import check_agreement
from specfuse_core.hf.description import completed
from specfuse_core.hf.downloads import Watcher
from specfuse_core.hf.failures import drop_locals
from specfuse_core.hf.guide import Guide, Vocabulary
from specfuse_core.hf.loaded import LoadedModel
from specfuse_core.hf.sampling import Chooser, Sampler
from specfuse_core.hf.session import LocalSession
from specfuse_core.model_report import ModelReport
from specfuse_core.prompts.dialects.speech import Speech
from specfuse_core.prompts.template import ChatTemplate, Prompt
from specfuse_core.prompts.tokens import ResponseTokens
from specfuse_core.request import Message, Request

__all__ = ["LocalBackend"]

#: Number of tokens of an answer to allocate memory for if the request sets no limit.
_EXPECTED_TOKENS = 512
#: The smallest request.
_TRIAL = Request.of("a", max_new_tokens=1)


class LocalBackend:
    """A base model on this machine.

    Args:
        name: name of the model in the ensemble.
        load: loads the model and its chat template. It is called once, when the model is first
            needed.
        declared: the context window if it is known before loading.
        describe: what is known before loading; by default only the name.
        download: downloads what loading needs, and shows it to a watcher.
        source: the configuration of the model; None if only this process has it.
    """

    supports_logits = True

    def __init__(
        self,
        name: str,
        load: Callable[[], tuple[LoadedModel, ChatTemplate]],
        declared: int | None = None,
        describe: Callable[[], ModelReport] | None = None,
        download: Callable[[Watcher], None] | None = None,
        source: ModelConfig | None = None,
    ) -> None:
        self.name = name
        self._declared = declared
        self.source = source
        self._describe = describe
        self._load = load
        self._seconds = 0.0
        self._download = download
        self._lock = threading.Lock()
        self._ready: tuple[LoadedModel, ChatTemplate] | None = None
        self._vocabulary: Vocabulary | None = None

    def download(self, watcher: Watcher) -> None:
        """Download what loading needs. Has no effect if the model is loaded or not on the hub.

        Raises:
            ModelLoadError: if the model cannot be found.
        """
        if self._ready is None and self._download is not None:
            self._download(watcher)

    def load(self) -> None:
        """Load the model. Has no effect if it is loaded already.

        Raises:
            ModelLoadError: if loading fails. The message names the model.
        """
        self._parts()

    @property
    def ready(self) -> bool:
        """Whether the model is loaded."""
        return self._ready is not None

    @property
    def model(self) -> LoadedModel:
        """The loaded model. Loads it if needed."""
        return self._parts()[0]

    @property
    def device(self) -> str | None:
        """The device of the model's first weights; None before loading."""
        return str(self._ready[0].runner.device) if self._ready else None

    @property
    def method(self) -> str | None:
        """Name of the context method; None before loading."""
        return self.model.method if self.ready else None

    @property
    def template(self) -> ChatTemplate:
        """The chat template, with the tokenizer. Loads the model if needed."""
        return self._parts()[1]

    @property
    def context_window(self) -> int:
        """Maximum number of tokens of prompt and answer together. Loads the model if needed."""
        window = self.model.runner.context_window
        cap = self.source.context_window if self.source is not None else None
        return window if cap is None else min(window, cap)

    @property
    def thinks(self) -> bool:
        """Whether the model may think before an answer. Loads the model if needed."""
        return self.template.thinks

    @property
    def declared_window(self) -> int | None:
        """The context window if it is known without loading the model, otherwise None."""
        return self.context_window if self.ready else self._declared

    def report(self) -> ModelReport:
        """Describe the model. Loads it if needed; an error of loading is a part of the report.

        A model whose weights need more than the free memory is not loaded.
        """
        known = ModelReport(self.name, context_window=self.declared_window)
        try:
            if self._describe is not None:
                known = replace(self._describe(), name=self.name, context_window=self._declared)
            if self.ready:
                # The weights are a part of what is no longer free.
                known = replace(known, weights=None)
            if not known.fits:
                return known
            known = completed(known, *self._parts(), self.context_window, self._seconds)
            # What the template refuses is a part of the report already.
            with suppress(TemplateError):
                self._check_window()
                self.start(_TRIAL).close()
            return known
        # The code of a model and its template can raise any error.
        except Exception as error:
            return known.failing(error)

    def start(self, request: Request) -> LocalSession:
        """Open a session for a request. Renders the prompt, but does not run the model yet.

        Raises:
            ModelLoadError: if the model could not be loaded, its tokenizer belongs to another
                model, or its adapters cannot be used.
            PromptTooLongError: if the prompt leaves no room for an answer.
            TemplateError: if the chat template refuses the conversation.
        """
        model, template = self._parts()[0], self._template(request)
        tools = request.tools if request.calls else ()
        speech = self._speech(request)
        if request.prompt is not None:
            prompt = template.raw(request.prompt, special_tokens=request.special_tokens)
            response = ResponseTokens(template.codec, continuing=prompt.continuing)
        else:
            prompt, response = self._rendered(
                template, request.messages, tools, speech, free=request.free
            )
        length = len(prompt.ids) + len(response.ids)
        window = request.window(self.context_window)
        if max(prompt.ids, default=0) >= model.runner.config.vocab_size:
            raise ModelLoadError(
                f"{self.name!r}: the tokenizer gives ids outside of the model's vocabulary of "
                f"{model.runner.config.vocab_size} ids; load the tokenizer that belongs to the "
                "model."
            )
        if length >= window:
            raise PromptTooLongError(
                f"the prompt has {length} tokens for {self.name!r}, whose context window is "
                f"{window}; shorten it or leave that model out."
            )
        # max_new_tokens counts another model's tokens, so add a margin. The cache grows if needed.
        expected = request.max_new_tokens or _EXPECTED_TOKENS
        capacity = min(window, length + expected * 5 // 4 + 64)
        return LocalSession(
            model.context(capacity),
            prompt,
            response,
            template.ends,
            self._chooser(request),
            window,
            request.offered,
            self._guide(request, prompt),
            speech,
        )

    def _check_window(self) -> None:
        """Check that the context window has room for the smallest question.

        Raises:
            ModelLoadError: if it has none.
            TemplateError: if the chat template refuses the question.
        """
        needed = self.count_prompt_tokens(_TRIAL.messages)
        if needed >= self.context_window:
            raise ModelLoadError(
                f"{self.name!r}: the context window of {self.context_window} tokens is too small: "
                f"the prompt for a question of one letter has {needed}; check the window in "
                "config.json (max_position_embeddings), or use another model."
            )

    def count_tokens(self, text: str) -> int:
        """Count the tokens of ``text`` with the model's tokenizer, without special tokens."""
        return len(self.token_ids(text))

    def token_ids(self, text: str) -> list[int]:
        """Encode ``text`` with the model's tokenizer, without special tokens."""
        return list(self.template.codec.encode(text).ids)

    def count_prompt_tokens(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> int:
        """Count the tokens of the rendered prompt, even if it exceeds the context window.

        Raises:
            TemplateError: if the chat template refuses the conversation.
        """
        template = self.template
        prompt, response = self._rendered(template, messages, tools, template.speech(tools))
        return len(prompt.ids) + len(response.ids)

    def _template(self, request: Request) -> ChatTemplate:
        """The chat template, with the variables of the request."""
        template = self.template
        switches = template.switches(request.reasoning)
        return template.varied({**switches, **request.chat_template_kwargs})

    def _rendered(
        self,
        template: ChatTemplate,
        messages: Sequence[Message],
        tools: Sequence[Tool],
        speech: Speech | None,
        *,
        free: bool = True,
    ) -> tuple[Prompt, ResponseTokens]:
        """Return the prompt, and the response with the text of a final assistant message."""
        with self._naming_itself():
            prompt = template.prompt(messages, tools, speech=speech, free=free)
        response = ResponseTokens(
            template.codec,
            prompt.lead,
            continuing=prompt.continuing,
            spelling=speech.spelling if speech is not None else None,
            opening=prompt.opening,
        )
        return prompt, response

    def _guide(self, request: Request, prompt: Prompt) -> Guide | None:
        grammar = request.grammar
        if grammar is None:
            return None
        codec = self.template.codec
        lead: str | None = None
        if not prompt.opening:
            space = codec.leading_space(continuing=prompt.continuing)
            lead = prompt.lead or space or None
        with self._lock:
            if self._vocabulary is None:
                rows = int(self._ready[0].runner.config.vocab_size) if self._ready else 0
                self._vocabulary = Vocabulary.of(codec, rows)
        with self._naming_itself():
            return Guide(self._vocabulary, grammar, lead, request.offered, free=request.free)

    def _speech(self, request: Request) -> Speech | None:
        """How the model writes the answer in its own form, if it has one."""
        template = self._template(request)
        if request.prompt is not None:
            return None
        if request.free:
            return template.speech(request.tools if request.calls else ())
        return template.thinking() if request.offered.thinks else None

    def _chooser(self, request: Request) -> Chooser:
        model, template = self._parts()[0], self._template(request)
        size = int(model.runner.config.vocab_size)
        silent = {id_ for id_ in template.codec.control if id_ < size}
        # Ids beyond the tokenizer's vocabulary have no text either.
        silent |= set(range(template.codec.vocabulary, size))
        speech = self._speech(request)
        drawable = template.ends | (speech.drawable if speech is not None else frozenset())
        undraftable = torch.tensor(sorted(silent - drawable), device=model.runner.device)
        return Sampler(request.sampling, self.name, undraftable.long())

    def _parts(self) -> tuple[LoadedModel, ChatTemplate]:
        with self._lock:
            if self._ready is None:
                started = time.perf_counter()
                try:
                    self._ready = self._loaded()
                except BaseException as error:
                    drop_locals(error)
                    raise
                self._seconds = time.perf_counter() - started
            return self._ready

    def _loaded(self) -> tuple[LoadedModel, ChatTemplate]:
        with self._naming_itself():
            model, template = self._load()
            check_agreement(model.runner, template)
            return model, template

    @contextmanager
    def _naming_itself(self) -> Iterator[None]:
        """Add the model's name to errors that do not contain it."""
        try:
            yield
        except (ModelLoadError, InvalidConstraintError) as error:
            if re.search(rf"(?<!\w){re.escape(self.name)}(?!\w)", str(error)):
                raise
            raise type(error)(f"{self.name!r}: {error}") from error
