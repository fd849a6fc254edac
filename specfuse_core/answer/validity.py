"""Whether the calls and the text of an answer are valid under their schemas as they were given.

The grammar of an answer does not enforce every keyword of a schema (see ``grammar.relaxing``), so
finished values are validated. This module knows nothing of grammars and models.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from specfuse_core.errors import (
    InvalidConstraintError,
    InvalidToolError,
    RelaxedSchemaWarning,
    RequestError,
)
from specfuse_core.grammar.constraints import JsonSchema
from specfuse_core.grammar.relaxing import Relaxed
from specfuse_core.grammar.validating import problem_of, text_of
from specfuse_core.request import Request
from specfuse_core.types import CallDelta

__all__ = ["Validity", "check_schemas"]


class Validity:
    """Validates the parts of one answer.

    Args:
        request: the request, with its constraint and its tools.
    """

    def __init__(self, request: Request) -> None:
        self._tools = {tool.name: tool.parameters for tool in request.tools}
        constraint = request.constraint
        self._schema = constraint.schema if isinstance(constraint, JsonSchema) else None

    def checked(self, delta: CallDelta | None) -> CallDelta | None:
        """Return an update of a call. If it completes an invalid call, the call has an error."""
        if delta is None or delta.call is None or delta.call.error is not None:
            return delta
        schema = self._tools.get(delta.call.name)
        problem = None if schema is None else problem_of(schema, delta.call.arguments)
        if problem is None:
            return delta
        error = f"the arguments are not valid under the schema of the tool: {problem}."
        return replace(delta, call=replace(delta.call, error=error))

    def problem(self, text: str) -> str | None:
        """Return why a text is not valid under the constraint of the answer; None if it is valid.

        A text that is not JSON is incomplete, which is told elsewhere.
        """
        if self._schema is None:
            return None
        try:
            value = json.loads(text)
        except ValueError:
            return None
        return problem_of(self._schema, value)


def check_schemas(request: Request) -> None:
    """Check that the schemas of a request can be followed, and warn of what is only validated.

    Raises:
        InvalidToolError: if the schema of a tool is invalid, or ``strict_schema`` is set and the
            grammar cannot enforce all of it.
        InvalidConstraintError: if the same holds for the schema of the constraint.
    """
    for tool in request.tools if request.calls else ():
        what = f"the schema of the tool {tool.name!r}"
        _check(what, tool.parameters, tool.relaxed, InvalidToolError, strict=request.strict_schema)
    constraint = request.constraint
    if isinstance(constraint, JsonSchema):
        found, error = constraint.relaxed, InvalidConstraintError
        _check("the schema", constraint.schema, found, error, strict=request.strict_schema)


def _check(
    what: str,
    schema: Mapping[str, Any] | bool,
    relaxed: Relaxed,
    error: type[RequestError],
    *,
    strict: bool,
) -> None:
    if not relaxed.unenforced:
        return
    keywords = ", ".join(map(str, relaxed.unenforced[:5]))
    if len(relaxed.unenforced) > 5:
        keywords += f" and {len(relaxed.unenforced) - 5} more"
    if strict:
        raise error(
            f"{what} has keywords that cannot be enforced while the models write: {keywords}. "
            "Leave them out, or use strict_schema=False to check only the finished value."
        )
    _warn_once(what, keywords, text_of(schema))


@lru_cache(1024)
def _warn_once(what: str, keywords: str, schema: str) -> None:
    warnings.warn(
        f"{what} has keywords that cannot be enforced while the models write: {keywords}. The "
        "finished value is checked, and is an error if it is not valid.",
        RelaxedSchemaWarning,
        stacklevel=5,
    )
