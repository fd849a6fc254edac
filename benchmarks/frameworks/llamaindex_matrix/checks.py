"""What a check is, and how it is performed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from llama_index.core.llms import LLM

__all__ = ["Check", "Checks", "Run", "perform"]

Run = Callable[[LLM, bool], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that applications do.

    Args:
        name: unique.
        group: what it is part of.
        run: does it with an LLM; whether the content must be right is the second argument.
        bundled: whether the bundled models are good enough for the content.
    """

    name: str
    group: str
    run: Run
    bundled: bool


class Checks(list[Check]):
    """Those of one file, in their order."""

    def add(self, group: str, *, bundled: bool = True, name: str = "") -> Callable[[Run], Run]:
        """Decorates what a check does; without a name, the function's is the check's."""

        def kept(run: Run) -> Run:
            label = name or getattr(run, "__name__", "").strip("_").replace("_", " ")
            self.append(Check(label, group, run, bundled))
            return run

        return kept


def perform(check: Check, llm: LLM, *, content: bool) -> None:
    """Do it; what fails raises.

    Args:
        content: whether what comes back must be right, not only of the right form.
    """
    done = check.run(llm, content)
    if done is not None:

        async def waited() -> None:
            await done

        asyncio.run(waited())
