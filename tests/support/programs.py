"""A script that runs the programs of pages and examples in one process, in another environment.

It reads texts of pages and paths of examples from standard input, as JSON. It writes the texts with
the outputs that ``docs/outputs.py`` inserts.
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
