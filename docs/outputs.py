"""Writes into README.md what its program and its commands really print.

python docs/outputs.py
"""

import io
import os
import re
import runpy
import shlex
import subprocess
import sys
from contextlib import chdir, redirect_stdout
from pathlib import Path

ROOT = Path(__file__).parent.parent
_PROGRAM = re.compile(r"(?<=```python\n)(?P<program>[^`]*)```\n\n```text\n(?P<output>[^`]*)(?=```)")
_COMMAND = re.compile(
    r"(?<=```console\n)\$ specfuse (?P<arguments>[^\n]*)\n(?P<output>[^`]*)(?=```)"
)
_EXAMPLE = re.compile(r"(?<=```console\n)\$ python (?P<path>[^\n]*)\n(?P<output>[^`]*)(?=```)")


def filled(page: str) -> str:
    """``page`` with the output after each program, and after each command of a console."""
    page = _COMMAND.sub(_after_command, _PROGRAM.sub(_after_program, page))
    return _EXAMPLE.sub(_after_example, page)


def _after_program(block: re.Match[str]) -> str:
    printed = io.StringIO()
    with chdir(ROOT), redirect_stdout(printed):
        exec(compile(block["program"], "README.md", "exec"), {})
    return f"{block['program']}```\n\n```text\n{_trimmed(printed.getvalue())}"


def _after_example(block: re.Match[str]) -> str:
    printed = io.StringIO()
    with chdir(ROOT), redirect_stdout(printed):
        runpy.run_path(str(ROOT / block["path"]), run_name="__main__")
    return f"$ python {block['path']}\n{_trimmed(printed.getvalue())}"


def _after_command(block: re.Match[str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "specfuse_core.command.cli", *shlex.split(block["arguments"])],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "80"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    return f"$ specfuse {block['arguments']}\n{_trimmed(done.stdout)}"


def _trimmed(text: str) -> str:
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(filled(readme.read_text(encoding="utf-8")), encoding="utf-8")
