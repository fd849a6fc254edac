"""Runs what the pages show, and writes into them what it prints.

``python docs/outputs.py`` does so for all pages, ``python docs/outputs.py PAGE`` for one.

- A ``python`` block is a program of its own and runs in the root of the repository. What it prints
  stands in the ``text`` block after it; a program that prints nothing has none.
- A ``python`` block after the line ``<!-- not run: REASON -->`` is left as it is.
- In a ``console`` block each line ``$ specfuse ...`` or ``$ python examples/...`` is a command that
  runs, on a terminal of 80 columns without colours. What it prints stands below it.
- A ``bash`` block has commands without their output. They do not run.

This module knows nothing of what the pages are about.
"""

import io
import os
import re
import runpy
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path

from specfuse_core.command.cli import main

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

_FENCED = r"^```{language}\n(?P<{name}>(?:(?!```).*\n)*)```\n"
_PROGRAM = re.compile(
    r"(?P<mark>^<!-- not run: [^\n]+ -->\n)?"
    + _FENCED.format(language="python", name="program")
    + r"(?:\n"
    + _FENCED.format(language="text", name="output")
    + r")?",
    re.MULTILINE,
)
_CONSOLE = re.compile(_FENCED.format(language="console", name="session"), re.MULTILINE)
_TIME = re.compile(r" *\d+\.\d\d s")
_COMMAND = re.compile(r"^\$ (?P<command>[^\n]+)\n(?P<output>(?:(?!\$ ).*\n)*)", re.MULTILINE)


def filled(page: str) -> str:
    """``page`` with the output after each program and each command."""
    return _CONSOLE.sub(_after_session, _PROGRAM.sub(_after_program, page))


def untimed(page: str) -> str:
    """``page`` with all times the same, for comparisons."""
    return _TIME.sub(" 0.00 s", page)


def _after_program(block: re.Match[str]) -> str:
    if block["mark"]:
        return block[0]
    with tempfile.TemporaryDirectory() as folder, _captured() as printed:
        path = Path(folder) / "program.py"
        path.write_text(block["program"], encoding="utf-8")
        runpy.run_path(str(path), run_name="__main__")
    shown = f"```python\n{block['program']}```\n"
    output = _trimmed(printed.getvalue())
    return f"{shown}\n```text\n{output}```\n" if output else shown


def _after_session(block: re.Match[str]) -> str:
    return f"```console\n{_COMMAND.sub(_after_command, block['session'])}```\n"


def _after_command(block: re.Match[str]) -> str:
    program, *arguments = shlex.split(block["command"])
    with _captured() as printed:
        if program == "specfuse":
            with suppress(SystemExit):
                main(arguments)
        elif program == "python":
            runpy.run_path(str(ROOT / arguments[0]), run_name="__main__")
        else:
            raise ValueError(f"{block['command']!r} runs neither specfuse nor an example")
    return f"$ {block['command']}\n{_trimmed(printed.getvalue())}"


@contextmanager
def _captured() -> Iterator[io.StringIO]:
    """What is printed within, as on a terminal of 80 columns that nobody types at."""
    printed, columns, typed = io.StringIO(), os.environ.get("COLUMNS"), sys.stdin
    os.environ["COLUMNS"] = "80"
    try:
        with (
            chdir(ROOT),
            open(os.devnull, encoding="utf-8") as sys.stdin,
            redirect_stdout(printed),
            redirect_stderr(printed),
        ):
            yield printed
    finally:
        sys.stdin = typed
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns


def _trimmed(text: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


if __name__ == "__main__":
    for page in [Path(name).resolve() for name in sys.argv[1:]] or PAGES:
        before = page.read_text(encoding="utf-8")
        after = filled(before)
        # Times are new in every run; a page is not written for them alone.
        if untimed(after) != untimed(before):
            page.write_text(after, encoding="utf-8")
