"""What a vocabulary costs: CPU time and memory at load and at the first answer in JSON.

Run ``python -m benchmarks.prompts.load_cost DIRECTORY``; the directory holds a tokenizer. Two
models with random weights and that tokenizer are saved, loaded one after the other and asked.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, logging

from specfuse_core import FusionEngine, JsonSchema, ModelConfig

__all__ = ["costs"]

_SCHEMA = JsonSchema(
    {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 20}},
        "required": ["name"],
        "additionalProperties": False,
    }
)


def costs(tokenizer: Path) -> list[dict[str, object]]:
    """CPU seconds of each step, and the memory after it in MiB: resident, and held by objects.

    Args:
        tokenizer: a directory with a tokenizer.json and its configuration.
    """
    rows: list[dict[str, object]] = []

    def timed(step: str, work: Callable[[], object]) -> None:
        started = time.process_time()
        work()
        spent, resident = time.process_time() - started, _resident()
        rows.append(
            {
                "step": step,
                "cpu_seconds": round(spent, 2),
                "resident_mib": round(resident),
                "held_mib": round(_held()),
            }
        )

    with tempfile.TemporaryDirectory() as made:
        # In another process, since what is freed in this one may stay resident.
        with ProcessPoolExecutor(1, get_context("spawn")) as apart:
            paths = [
                apart.submit(_model, Path(made, name), tokenizer, seed).result()
                for seed, name in enumerate("ab")
            ]
        # What the first load of any model costs: modules, and the first forward passes.
        small = FusionEngine.bundled()
        small.generate("How many lamps?", constraint=_SCHEMA, max_new_tokens=20)
        timed("before", lambda: None)
        engines = [
            FusionEngine.from_pretrained([ModelConfig(path=path, device="cpu")]) for path in paths
        ]
        for place, engine in zip(("first", "second"), engines, strict=True):
            timed(f"load the {place} model", engine.warm_up)
            for nth in ("first", "second"):
                timed(
                    f"its {nth} answer in JSON",
                    lambda engine=engine: engine.generate(  # type: ignore[misc]
                        "Who?", constraint=_SCHEMA, max_new_tokens=20, seed=1
                    ),
                )
    return rows


def _model(directory: Path, tokenizer: Path, seed: int) -> str:
    """Save a model with random weights and a copy of the tokenizer."""
    shutil.copytree(tokenizer, directory)
    torch.manual_seed(seed)
    config = LlamaConfig(
        # Padded, as the vocabularies of published models are.
        vocab_size=(len(AutoTokenizer.from_pretrained(tokenizer)) + 127) // 128 * 128,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    return str(directory)


def _held() -> float:
    """Resident memory in MiB after what is free has been given back."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return _resident()


def _resident() -> float:
    """Resident memory of this process in MiB. Linux only."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, help="a directory with a tokenizer.json")
    directory = parser.parse_args().directory
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    for row in costs(directory):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
