"""An ensemble of models that call a weather tool, each in its own native form."""

from __future__ import annotations

from functools import cache

import tiny
from dialects import Dialect, tokenizer
from speaking import speaks

from specfuse_core import FusionEngine, Request, Tool
from specfuse_core.grammar.calls import write_call
from specfuse_core.hf import LoadedModel, LocalBackend, Runner, template_of

__all__ = ["FORECAST", "weather_engine"]

FORECAST = "It is 12 degrees in Oslo."


@cache
def _loaded(rows: int) -> LoadedModel:
    model = tiny.model("llama", rows)
    model.config.max_position_embeddings = 8192
    return LoadedModel(Runner(model), "packed-full")


def weather_engine(*dialects: Dialect, tool: str = "get_weather") -> FusionEngine:
    """Models that call ``tool`` for Oslo, and tell the forecast once they have its result."""
    return FusionEngine([_speaker(dialect, tool) for dialect in dialects])


def _speaker(dialect: Dialect, tool: str) -> LocalBackend:
    own = tokenizer(dialect)
    loaded = _loaded(len(own))
    backend = LocalBackend(dialect.form, lambda: (loaded, template_of(loaded.runner.model, own)))
    call = write_call(tool, {"city": "Oslo"})

    def write(request: Request) -> str:
        if any(message.role == "tool" for message in request.messages):
            return FORECAST
        speech = backend.template.speech([Tool(tool)])
        assert speech is not None
        return "".join(piece.text for piece in speech.spelling.pieces(call))

    return speaks(backend, write)
