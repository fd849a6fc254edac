"""How base models write tool calls, thoughts and answers in their own words.

Declarative forms, their choice, and the translation to and from the common form belong here. What
the common form is stands in ``grammar.calls``; nothing here runs a model.
"""

__all__: list[str] = []
