"""The specfuse command: its options, its chat, and what a terminal shows of an answer.

Nothing here decides anything about an answer; that is the engine's.
"""

__all__: list[str] = []
