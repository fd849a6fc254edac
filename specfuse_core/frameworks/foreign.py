"""Options of other integrations that are accepted: other names, and values that change nothing.

Applications set such options for every model that they use. A value that would change the answer is
refused by its name. What to use instead is in ``config.synonyms``. This module knows no framework.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from specfuse_core.config.synonyms import SYNONYMS
from specfuse_core.errors import InvalidOptionError
from specfuse_core.values import shown

__all__ = ["HOSTED", "NEUTRAL", "RENAMED", "translated"]

#: Other names of options that exist here.
RENAMED = {
    "max_completion_tokens": "max_tokens",
    "max_new_tokens": "max_tokens",
    "model_name": "model",
    "stop_sequences": "stop",
    "think": "reasoning",
    "enable_thinking": "reasoning",
}
#: Options that have no effect on the answer of a model in this process, with any value.
HOSTED = frozenset({"api_key", "callbacks", "max_retries", "metadata", "stream", "user"})


#: Options that do not exist here, and the values that ask for what happens in any case. For all of
#: them, as for every option of ``config.synonyms``, None is such a value.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    **dict.fromkeys(("n", "best_of", "num_beams", "num_return_sequences"), (1,)),
    **dict.fromkeys(("presence_penalty", "frequency_penalty"), (0,)),
    "repeat_penalty": (1,),
    **dict.fromkeys(("logprobs", "echo", "json_mode", "return_full_text"), (False,)),
    "top_logprobs": (0,),
    **dict.fromkeys(("logit_bias", "extra_body", "extra_headers", "extra_query"), ({},)),
    **dict.fromkeys(("model_kwargs", "tokenizer_kwargs", "additional_kwargs"), ({},)),
    **dict.fromkeys(("generate_kwargs", "generation_kwargs", "pipeline_kwargs"), ({},)),
    **dict.fromkeys(("vllm_kwargs", "options"), ({},)),
    "format": ("",),
    "suffix": ("",),
    **dict.fromkeys(("is_chat_model", "use_cache"), (True,)),
    "streaming": (False,),
}
_NAMES = frozenset(name for synonym in SYNONYMS for name in synonym.names.split())


def translated(
    options: Mapping[str, Any], known: Collection[str], *, sampled: bool = False
) -> dict[str, Any]:
    """Return ``options`` with the names of this package, without those that change nothing.

    Options that are not accepted remain, so that they can be refused.

    Args:
        options: options as an application sets them.
        known: names of the options that exist.
        sampled: whether drafts are sampled, unless ``options`` has a temperature.

    Raises:
        InvalidOptionError: if two names of one option have different values, or ``do_sample`` is
            True although the temperature is 0.
    """
    kept = {
        name: value
        for name, value in options.items()
        if name in known or not (name in HOSTED or _neutral(name, value))
    }
    for name, ours in RENAMED.items():
        if name in kept and name not in known:
            value = kept.pop(name)
            if value is None:
                continue
            if kept.get(ours) is None:
                kept[ours] = value
            elif value != kept[ours]:
                raise InvalidOptionError(
                    f"{ours} and {name} are the same option, but {shown(kept[ours])} and "
                    f"{shown(value)} were given; give only {ours}."
                )
    if "do_sample" not in known and isinstance(kept.get("do_sample"), bool):
        _choose_greedy(kept, sampled)
    return kept


def _neutral(name: str, value: Any) -> bool:
    if value is None:
        return name in NEUTRAL or name in _NAMES
    # A bool is no number here, but 1.0 is 1.
    kind = float if type(value) is int else type(value)
    return any(
        kind is (float if type(same) is int else type(same)) and value == same
        for same in NEUTRAL.get(name, ())
    )


def _choose_greedy(options: dict[str, Any], sampled: bool) -> None:
    """Replace ``do_sample`` by its temperature."""
    if not options.pop("do_sample"):
        options["temperature"] = 0.0
        return
    temperature = options.get("temperature")
    if temperature == 0 or (temperature is None and not sampled):
        raise InvalidOptionError.of(
            "do_sample", "is True, but temperature is 0; use a higher temperature."
        )
