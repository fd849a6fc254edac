"""Runs what pages and examples show, all in one process: a script for an environment of its own.

Reads from standard input, as JSON, texts of pages and paths of examples, and writes the texts as
``docs/outputs.py`` fills them.
"""

import json
import runpy
import sys
from contextlib import redirect_stdout

from specfuse_core import FusionEngine

asked = json.load(sys.stdin)
# While this one is there, every other engine of the bundled models shares its weights.
engine = FusionEngine.bundled(warm_up=True)
filled = runpy.run_path("docs/outputs.py")["filled"]
texts = []
for text in asked["texts"]:
    sys.stderr.write(f"running what is shown in:\n{text}\n")
    texts.append(filled(text))
with redirect_stdout(sys.stderr):
    for example in asked["examples"]:
        sys.stderr.write(f"running {example}\n")
        runpy.run_path(example, run_name="__main__")
json.dump(texts, sys.stdout)
