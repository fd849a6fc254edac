"""The form of an answer: constraints, tools, tool calls, and where a segment may end.

These modules see text and grammars only. They know nothing of models or rounds.
"""

__all__: list[str] = []
