"""The specfuse command: its options, its chat, and its output on a terminal.

Nothing here changes an answer; the engine does all of that.
"""

__all__: list[str] = []
