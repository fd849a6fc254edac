"""What an answer may look like: constraints, tools, calls, and where a segment may end.

These modules only see text and grammars; they know no model and no round.
"""

__all__: list[str] = []
