"""Shows the reports of models (``specfuse check``): a table for each model, or JSON.

The engine makes the reports; this module only arranges them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence

from rich.table import Table
from rich.text import Text

from specfuse_core.command.lines import one_line
from specfuse_core.config import ModelConfig
from specfuse_core.errors import ModelLoadError
from specfuse_core.fusion import FusionEngine
from specfuse_core.model_report import ModelReport, TemplateReport, WeightsReport, amount
from specfuse_core.models.naming import default_name

__all__ = ["as_json", "checked", "table_of", "verdict"]

_NONE = "none"
_CALLS = {
    "common": "<tool_call> with JSON, the common form",
    "instruction": "<tool_call> with JSON, by an instruction in the prompt",
}
_SOURCES = {
    "config": "given by ModelConfig",
    "model": "in the model's files",
    "none": _NONE,
}


def checked(
    models: Sequence[ModelConfig], make: Callable[[Sequence[ModelConfig]], FusionEngine]
) -> Iterator[ModelReport]:
    """Yield the report of each model as soon as it is loaded.

    All models stay loaded to the end, since an ensemble needs memory for all of them.

    Args:
        models: the models; none for the bundled ones.
        make: makes an engine of models.
    """
    engines = []
    # One engine for each, so that a model that is not found does not hide the others.
    for group in [[model] for model in models] or [[]]:
        try:
            engines.append(make(group))
        except ModelLoadError as error:
            if not group:
                raise
            (model,) = group
            yield ModelReport(model.name or default_name(model), model.path).failing(error)
        else:
            yield from engines[-1].report()


def table_of(report: ModelReport) -> Table:
    """Return the table of one model, which ends with what is wrong and what is worth knowing."""
    title = Text(one_line(report.name)).append(f"  {one_line(report.path or '')}", "dim")
    table = Table(
        box=None, show_header=False, title=title, title_justify="left", title_style="bold"
    )
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for label, text in _facts(report):
        table.add_row(label, Text(one_line(text)))
    for text in report.notes:
        table.add_row(Text("note", "yellow"), Text(one_line(text)))
    for text in report.problems:
        table.add_row(Text("wrong", "red"), Text(one_line(text)))
    table.add_row("fit", Text("yes", "green") if report.fits else Text("no", "red"))
    return table


def as_json(reports: Sequence[ModelReport]) -> str:
    """Return the reports as one JSON object."""
    fits = all(report.fits for report in reports)
    models = [report.as_dict() for report in reports]
    return json.dumps({"fits": fits, "models": models}, indent=2)


def verdict(reports: Sequence[ModelReport]) -> str:
    """Return one line that says whether the models fit."""
    wrong = [one_line(report.name) for report in reports if not report.fits]
    fits = f"{len(reports) - len(wrong)} of {len(reports)} models fit"
    return f"{fits}; these do not: {', '.join(wrong)}." if wrong else f"{fits}."


def _facts(report: ModelReport) -> Iterator[tuple[str, str]]:
    if report.adapter is not None:
        yield "adapter", report.adapter
    if report.weights is not None:
        yield "memory", _memory(report.weights)
        if report.weights.parameters is not None:
            yield "parameters", f"{report.weights.parameters:,}"
    if report.context_window is not None:
        yield "context window", f"{report.context_window:,} tokens"
    elif report.seconds is not None:
        yield "context window", "not stated in the configuration"
    if report.template_source is not None:
        yield "chat template", _SOURCES[report.template_source]
    if report.seconds is not None:
        yield "loaded in", f"{report.seconds:.2f} s"
    if report.method is not None:
        yield "method", report.method
    for method, reason in report.failures.items():
        yield f"not {method}", reason
    if report.ends:
        yield "end tokens", _quoted(report.ends)
    if report.template is not None:
        yield from _template(report.template)
    if report.tokenizer is not None:
        rows = f", {report.vocabulary:,} logits" if report.vocabulary is not None else ""
        yield "tokenizer", f"{report.tokenizer.kind}, {report.tokenizer.tokens:,} tokens{rows}"


def _template(template: TemplateReport) -> Iterator[tuple[str, str]]:
    yield "answer header", _quoted([template.header])
    yield "tool calls", _CALLS.get(template.calls, template.calls)
    yield "thinking", _quoted(template.thinking or ())
    repaired: dict[str, list[str]] = {}
    for conversation in template.conversations:
        for repair in conversation.repairs:
            repaired.setdefault(repair, []).append(conversation.kind)
    unchanged = [
        one for one in template.conversations if not (one.repairs or one.lost or one.refused)
    ]
    tried = len(template.conversations)
    yield "conversations", f"{len(unchanged)} of {tried} kinds are rendered as they are"
    for repair, kinds in repaired.items():
        yield "repair", f"{repair}: {', '.join(kinds)}"


def _memory(weights: WeightsReport) -> str:
    parts = [amount(weights.size)]
    if weights.dtype is not None:
        parts.append(f"in {weights.dtype}")
    if weights.device is not None:
        parts.append(f"on {weights.device}")
    if weights.free is not None:
        parts.append(f"({amount(weights.free)} free)")
    return " ".join(parts)


def _quoted(texts: Iterable[str]) -> str:
    shown = " ".join(repr(text)[1:-1] for text in texts if text)
    return shown or _NONE
