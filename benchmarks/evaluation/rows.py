"""The rows of the quality benchmark: which models answer, under which settings. Data only.

A row of one changed setting is named after it (``specem:learning_rate=2.0``), and any such name
is a row, whether it is listed here or not.
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
#: What five models of mixed strength come to 2.4 a round with, without a loss by exits.
EXITS = {
    "model_exit": True,
    "exit_warmup": 0,
    "exit_temperature": 0.002,
    "exit_recall": 0.2,
}

_METHODS = ("specfuse", "specem")
#: Ends the names of constrained rows.
_TOOLS = "-tools"


@dataclass(frozen=True, slots=True)
class Row:
    """Who answers, and how.

    Args:
        name: what the row is called, in tables and on the command line.
        config: the settings.
        models: names of the base models.
        sampling: how drafts are drawn; greedy unless said otherwise.
        of_best: whether copies of the best of ``models`` answer instead of them.
        constrained: whether the question's tools go with the request, which its calls then obey,
            instead of standing in the system message alone.
    """

    name: str
    config: FusionConfig
    models: tuple[str, ...]
    sampling: SamplingParams = GREEDY
    of_best: bool = False
    constrained: bool = False

    def of(self, model: str) -> Row:
        """The row with as many copies of ``model`` as it has models."""
        return replace(self, models=copies(model, len(self.models)), of_best=False)


def copies(model: str, count: int) -> tuple[str, ...]:
    """Names of ``count`` copies of one model; each draws with other random numbers."""
    return (model, *(f"{model}#{i}" for i in range(2, count + 1)))


def single_rows(models: Sequence[str]) -> list[Row]:
    """Each model alone."""
    return [Row(name, FusionConfig(), (name,)) for name in models]


def report_rows(models: Sequence[str]) -> list[Row]:
    """The table of the README."""
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
    """Settings to choose the defaults from; what equals a preset stands under its name."""
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
    """Who leaves when: each model alone, all to the end, and exits of several temperatures."""
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
            # Soon gone, soon back.
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
            # Few models a round takes many rounds: short segments, with exits and without.
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
    """The rows of these names, in their order; a setting need not be listed anywhere.

    Raises:
        UnknownOptionError: for a name that is neither a row nor a setting.
        ConfigError: for a setting that ``FusionConfig`` refuses.
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
        raise UnknownOptionError(f"no row is named {name!r}; {hint}; or specem:knob=value.")
    knobs: dict[str, Any] = {k: None if value == "None" else value for k, _, value in pairs}
    row = _setting(models, method, **knobs)
    return replace(row, name=name, constrained=start.endswith(_TOOLS))


def _distinct(rows: Iterable[Row]) -> list[Row]:
    """Without those that do the same as one before them."""
    kept: dict[str, Row] = {}
    for row in rows:
        kept.setdefault(repr((row.models, row.config.model_dump(), row.constrained)), row)
    return list(kept.values())
