"""The class of a check, and how to run one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from llama_index.core.llms import LLM

__all__ = ["Check", "Checks", "Run", "perform"]

Run = Callable[[LLM, bool], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class Check:
    """A check of one thing that applications do.

    Args:
        name: unique name.
        group: name of the group.
        run: a function that takes an LLM and whether the content must be correct.
        bundled: whether the bundled models can give the correct content.
    """

    name: str
    group: str
    run: Run
    bundled: bool


class Checks(list[Check]):
    """The checks of one file, in order."""

    def add(self, group: str, *, bundled: bool = True, name: str = "") -> Callable[[Run], Run]:
        """Return a decorator that adds a function as a check.

        Args:
            group: name of the group.
            bundled: whether the bundled models can give the correct content.
            name: name of the check; by default derived from the name of the function.
        """

        def kept(run: Run) -> Run:
            label = name or getattr(run, "__name__", "").strip("_").replace("_", " ")
            self.append(Check(label, group, run, bundled))
            return run

        return kept


def perform(check: Check, llm: LLM, *, content: bool) -> None:
    """Run a check. It raises an error if the check fails.

    Args:
        check: the check.
        llm: the LLM to check.
        content: whether the content of results must be correct, and not only their form.
    """
    done = check.run(llm, content)
    if done is not None:

        async def waited() -> None:
            await done

        asyncio.run(waited())
