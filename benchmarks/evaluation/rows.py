"""The rows of the quality benchmark: which models answer, and with which settings.

A row with changed settings is named after them (``specem:learning_rate=2.0``). Every such name is a
valid row, even if it is not listed here. This module contains data only; it runs nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, get_args

from specfuse_core import FusionConfig, SamplingParams
from specfuse_core.config import ScoreMode
from specfuse_core.errors import UnknownOptionError

__all__ = [
    "LISTS",
    "MAX_NEW_TOKENS",
    "Row",
    "copies",
    "exit_rows",
    "report_rows",
    "select",
    "single_rows",
    "sweep_rows",
]

MAX_NEW_TOKENS = 160
GREEDY = SamplingParams()
PAPERS = SamplingParams(temperature=0.6, top_p=0.9)
SEGMENT_TOKENS = (5, 8, 10, 15, 20)
LEARNING_RATES = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
EXIT_TEMPERATURES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
EXIT_WARMUPS = (0, 1, 2)
EXIT_RECALLS = (0.1, 0.3, 0.6)
SHORT = {"segment_tokens": 3}
#: Settings with which five models of mixed strength use 2.4 models per round on average, without a
#: loss of accuracy caused by exits.
EXITS = {
    "model_exit": True,
    "exit_warmup": 0,
    "exit_temperature": 0.002,
    "exit_recall": 0.2,
}

_METHODS = ("specfuse", "specem")
#: Suffix of the names of constrained rows.
_TOOLS = "-tools"


@dataclass(frozen=True, slots=True)
class Row:
    """A set of models with settings.

    Args:
        name: name of the row in tables and on the command line.
        config: options of the fusion algorithm.
        models: names of the base models.
        sampling: sampling parameters; greedy by default.
        of_best: whether copies of the best of ``models`` answer instead of them.
        constrained: whether the tools of a question are part of the request and constrain tool
            calls. Otherwise only the system message describes them.
    """

    name: str
    config: FusionConfig
    models: tuple[str, ...]
    sampling: SamplingParams = GREEDY
    of_best: bool = False
    constrained: bool = False

    def of(self, model: str) -> Row:
        """Return the row with each model replaced by a copy of ``model``."""
        return replace(self, models=copies(model, len(self.models)), of_best=False)


def copies(model: str, count: int) -> tuple[str, ...]:
    """Return the names of ``count`` copies of one model. Each copy has its own random numbers."""
    return (model, *(f"{model}#{i}" for i in range(2, count + 1)))


def single_rows(models: Sequence[str]) -> list[Row]:
    """Return a row for each model alone."""
    return [Row(name, FusionConfig(), (name,)) for name in models]


def report_rows(models: Sequence[str]) -> list[Row]:
    """Return the rows of the table in the documentation."""
    everyone = tuple(models)
    return [
        *single_rows(models),
        Row(
            "self-ensemble",
            FusionConfig(method="specem"),
            everyone,
            PAPERS,
            of_best=True,
        ),
        *_methods(everyone),
        Row(f"specem{_TOOLS}", FusionConfig(method="specem"), everyone, constrained=True),
        # One vote over whole answers.
        Row(
            "complete-response",
            FusionConfig(segment_tokens=MAX_NEW_TOKENS, model_exit=False),
            everyone,
        ),
        *(
            _setting(everyone, "specem", score_mode=mode)
            for mode in get_args(ScoreMode)
            if mode != FusionConfig(method="specem").score_mode
        ),
    ]


def sweep_rows(models: Sequence[str]) -> list[Row]:
    """Return rows with different settings, to choose the defaults.

    A row with the settings of a preset has the name of the preset.
    """
    everyone = tuple(models)
    return _distinct(
        [
            *_methods(everyone),
            *(_setting(everyone, "specem", score_mode=mode) for mode in get_args(ScoreMode)),
            *(
                _setting(everyone, "specem", score_mode=mode, online_feedback=False)
                for mode in get_args(ScoreMode)
            ),
            *(_setting(everyone, "specem", learning_rate=rate) for rate in LEARNING_RATES),
            *(
                _setting(everyone, method, segment_tokens=tokens)
                for method, tokens in product(_METHODS, SEGMENT_TOKENS)
            ),
            *(_setting(everyone, "specfuse", exit_temperature=tau) for tau in EXIT_TEMPERATURES),
        ]
    )


def exit_rows(models: Sequence[str]) -> list[Row]:
    """Return rows for model exit: single models, no exit, and several exit settings."""
    everyone = tuple(models)
    specfuse, no_exit, _ = _methods(everyone)
    return _distinct(
        [
            *single_rows(models),
            specfuse,
            no_exit,
            *(
                _setting(everyone, "specfuse", exit_temperature=tau, exit_warmup=warmup)
                for warmup, tau in product(EXIT_WARMUPS, EXIT_TEMPERATURES)
            ),
            # Models leave early and are recalled early.
            *(
                _setting(
                    everyone,
                    "specem",
                    model_exit=True,
                    exit_warmup=0,
                    exit_temperature=0.05,
                    exit_recall=recall,
                )
                for recall in EXIT_RECALLS
            ),
            # Few models per round need many rounds: short segments, with and without exits.
            _setting(everyone, "specem", **SHORT),
            _setting(everyone, "specem", **SHORT, **EXITS),
        ]
    )


#: The lists that the command line offers.
LISTS: dict[str, Callable[[Sequence[str]], list[Row]]] = {
    "report": report_rows,
    "sweep": sweep_rows,
    "exit": exit_rows,
}


def select(names: Sequence[str], models: Sequence[str]) -> list[Row]:
    """Return the rows with the given names, in that order.

    Args:
        names: names of listed rows, or settings such as ``specem:learning_rate=2.0``.
        models: names of the base models.

    Raises:
        UnknownOptionError: if a name is neither a row nor a setting.
        ConfigError: if a setting is invalid.
    """
    known = {row.name: row for rows in LISTS.values() for row in rows(models)}
    return [known.get(name) or _parsed(name, models, known) for name in dict.fromkeys(names)]


def _methods(models: tuple[str, ...]) -> list[Row]:
    return [
        Row("specfuse", FusionConfig(method="specfuse"), models),
        Row("specfuse-no-exit", FusionConfig(method="specfuse", model_exit=False), models),
        Row("specem", FusionConfig(method="specem"), models),
    ]


def _setting(models: Sequence[str], method: str, **changes: Any) -> Row:
    name = ",".join(f"{knob}={value}" for knob, value in changes.items())
    return Row(f"{method}:{name}", FusionConfig(method=method, **changes), tuple(models))


def _parsed(name: str, models: Sequence[str], known: Iterable[str]) -> Row:
    start, colon, rest = name.partition(":")
    method = start.removesuffix(_TOOLS)
    pairs = [part.partition("=") for part in rest.split(",")]
    if not colon or method not in _METHODS or not all(value for _, _, value in pairs):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
        raise UnknownOptionError(f"no row is named {name!r}; {hint}; or use specem:option=value.")
    knobs: dict[str, Any] = {k: None if value == "None" else value for k, _, value in pairs}
    row = _setting(models, method, **knobs)
    return replace(row, name=name, constrained=start.endswith(_TOOLS))


def _distinct(rows: Iterable[Row]) -> list[Row]:
    """Remove rows that have the same models and settings as an earlier row."""
    kept: dict[str, Row] = {}
    for row in rows:
        kept.setdefault(repr((row.models, row.config.model_dump(), row.constrained)), row)
    return list(kept.values())
