"""One base model: where its weights are, and how they are loaded and prompted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, field_serializer, field_validator, model_validator

from specfuse_core.config.options import Options
from specfuse_core.errors import InvalidOptionError
from specfuse_core.values import shown

__all__ = ["ModelConfig"]

#: Short names of dtypes.
_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
#: Suffixes of files that contain chat templates.
_TEMPLATE_SUFFIXES = (".jinja", ".jinja2", ".j2", ".txt", ".json")


class ModelConfig(Options):
    """One base model: where its weights are, and how to load and prompt it.

    Args:
        path: a hub id (``"org/name"``) or a local directory. It may be an adapter of PEFT, which
            names its base model.
        name: the model's name in the ensemble; by default the last part of ``adapter`` or ``path``,
            or the name of the GGUF file.
        revision: branch, tag or commit of a hub id.
        token: access token of the hub, for private and gated models. It is never shown. By default
            it is the one of ``hf auth login`` or of the environment variable HF_TOKEN.
        adapter: a hub id or a local directory of an adapter for the model (needs PEFT). Models that
            have the same ``path`` and different adapters share the weights of ``path``.
        adapter_revision: branch, tag or commit of the adapter's hub id.
        tokenizer: hub id or directory of a tokenizer that is not stored with the weights.
        gguf_file: name of a GGUF file in ``path``, which may also end with that name. Its weights
            are converted to ``dtype``, so that they need as much memory as others (needs gguf).
        dtype: a torch dtype or its name (``"bfloat16"``, ``"bf16"``), or ``"auto"`` for the dtype
            of the saved weights.
        device: where the model runs, for example ``"cpu"`` or ``"cuda:1"``. By default it is a GPU
            if there is one. It cannot be combined with ``device_map``.
        device_map: passed to transformers (needs accelerate).
        max_memory: passed to transformers: the most memory per device that weights may take, for
            example ``{0: "20GiB", "cpu": "60GiB"}``. With it, ``device_map`` is ``"auto"`` by
            default.
        attn_implementation: ``"sdpa"``, ``"eager"``, ...; by default transformers chooses.
        quantization_config: passed to transformers.
        chat_template: the text of a Jinja template that replaces the tokenizer's own, or the name
            of one of the tokenizer's templates if it has several.
        chat_template_kwargs: extra variables for the template (``{"enable_thinking": False}``).
        response_template: a response template of transformers, which says how the model writes tool
            calls and thoughts. By default it is the tokenizer's own, or the form that the chat
            template shows.
        context_window: the largest number of tokens of prompt and answer together. It never extends
            the context window of the model, which is read from its configuration.
        trust_remote_code: whether code that is stored with the weights may run.
        allow_pickle: whether weights that are stored only as pickle may be opened. Opening a pickle
            file can run code.
        weight: prior voting weight, relative to the weights of the other models.
    """

    path: str = Field(min_length=1)
    name: str | None = Field(default=None, min_length=1)
    revision: str | None = None
    token: SecretStr | None = Field(default=None, repr=False)
    adapter: str | None = Field(default=None, min_length=1)
    adapter_revision: str | None = None
    tokenizer: str | None = Field(default=None, min_length=1)
    gguf_file: str | None = Field(default=None, min_length=1)
    dtype: str = "auto"
    device: str | None = None
    device_map: str | dict[str, Any] | None = None
    max_memory: dict[int | str, int | str] | None = None
    attn_implementation: str | None = None
    quantization_config: Any = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    response_template: dict[str, Any] | None = None
    context_window: int | None = Field(default=None, ge=1)
    trust_remote_code: bool = False
    allow_pickle: bool = False
    weight: float = Field(default=1.0, gt=0.0)

    @classmethod
    def of(cls, model: str | PathLike[str] | ModelConfig | Mapping[str, Any]) -> ModelConfig:
        """``model`` itself, or a ``ModelConfig`` made from a name, a path or a mapping.

        Raises:
            InvalidOptionError: for anything else.
        """
        if isinstance(model, ModelConfig):
            return model
        if isinstance(model, str | PathLike):
            return cls(path=fspath(model))
        if isinstance(model, Mapping) and all(isinstance(name, str) for name in model):
            return cls(**model)
        got = shown(model)
        if "\n" in got or len(got) > 80:
            got = f"an object of the type {type(model).__name__}"
        raise InvalidOptionError(
            f"a model must be a hub id, a path or a ModelConfig, got {got}. Give models that are "
            "already loaded to FusionEngine.from_models."
        )

    @property
    def adapter_source(self) -> ModelConfig | None:
        """Where the files of the adapter are, in the form of a model; None without an adapter."""
        if self.adapter is None:
            return None
        return ModelConfig(
            path=self.adapter,
            revision=self.adapter_revision,
            token=self.token,
            allow_pickle=self.allow_pickle,
        )

    @model_validator(mode="before")
    @classmethod
    def _file_in_folder(cls, values: Any) -> Any:
        """Split the path of a GGUF file into its folder or hub id and its name."""
        if not isinstance(values, Mapping):
            return values
        path = values.get("path")
        path = fspath(path) if isinstance(path, PathLike) else path
        if isinstance(path, str) and path.endswith(".gguf") and not values.get("gguf_file"):
            folder, _, file = path.replace(os.sep, "/").rpartition("/")
            return {**values, "path": folder or ".", "gguf_file": file}
        return values

    @field_validator("dtype", mode="before")
    @classmethod
    def _name_of_dtype(cls, value: Any) -> Any:
        # A torch.dtype is written as "torch.bfloat16". This module does not load torch.
        name = str(value) if type(value).__module__ == "torch" else value
        if not isinstance(name, str):
            return value
        name = name.removeprefix("torch.")
        return _DTYPES.get(name, name)

    @field_validator("path", "adapter", "tokenizer", mode="before")
    @classmethod
    def _text_of_path(cls, value: Any) -> Any:
        return fspath(value) if isinstance(value, PathLike) else value

    @field_validator("chat_template", mode="before")
    @classmethod
    def _text_of_template(cls, value: Any) -> Any:
        if not _names_file(value):
            return value
        read = f"Path({fspath(value)!r}).read_text()"
        if Path(value).suffix == ".json":
            read = f"json.loads({read})['chat_template']"
        raise InvalidOptionError.of(
            "chat_template",
            f"must be the text of a template, got the name of a file, {fspath(value)!r}; use "
            f"chat_template={read}.",
        )

    @field_validator("token", mode="before")
    @classmethod
    def _secret(cls, value: Any) -> Any:
        # Other errors would show the value.
        if value is None or isinstance(value, str | SecretStr):
            return value
        raise ValueError("give a string")

    @field_validator("max_memory", mode="before")
    @classmethod
    def _numbers_of_devices(cls, value: Any) -> Any:
        # JSON has no other keys than strings.
        if not isinstance(value, Mapping):
            return value
        digits = {key: int(key) for key in value if isinstance(key, str) and key.isdecimal()}
        return {digits.get(key, key): most for key, most in value.items()}

    @field_serializer("token", when_used="json")
    def _no_token(self, value: SecretStr | None) -> None:
        """A token is not written to files. Without it, the one of ``hf auth login`` is used."""

    @field_serializer("quantization_config", when_used="json-unless-none")
    def _described_quantization(self, value: Any) -> Any:
        return value.to_dict() if hasattr(value, "to_dict") else value

    def model_post_init(self, context: Any, /) -> None:
        for other in ("device_map", "max_memory"):
            if self.device is not None and getattr(self, other) is not None:
                raise InvalidOptionError(
                    f"device and {other} were both given; give only one of them."
                )
        if self.adapter_revision is not None and self.adapter is None:
            raise InvalidOptionError(
                "adapter_revision was given without adapter; use revision for the model in path."
            )


def _names_file(template: Any) -> bool:
    """Whether a value for ``chat_template`` is the name of a file, not a template or its name."""
    if not isinstance(template, str) or "\n" in template or "{" in template:
        return isinstance(template, PathLike)
    if Path(template).suffix in _TEMPLATE_SUFFIXES:
        return True
    # A text may be too long for the name of a file.
    with suppress(OSError, ValueError):
        return Path(template).expanduser().is_file()
    return False
