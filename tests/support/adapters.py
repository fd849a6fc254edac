"""Adapters of PEFT with random weights, for the tiny models."""

from __future__ import annotations

import copy
import json
import warnings
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import peft
import pytest
import tiny
import torch
from transformers import PreTrainedModel

from specfuse_core import FusionConfig, FusionEngine, Generation, ModelConfig
from specfuse_core.hf import LoadedModel, Runner

QUESTION = "How many lamps are in the hall?"
IDS = [5, 9, 3, 3, 7, 11]
SPECEM = FusionConfig(method="specem", segment_tokens=4)

#: The layers that get an adapter, by the name of the architecture.
TARGETS = {
    "llama": ["q_proj", "v_proj", "down_proj"],
    "gemma3": ["q_proj", "o_proj", "up_proj"],
    "gpt2": ["c_attn", "c_proj"],
    "bloom": ["query_key_value"],
    "mamba2": ["in_proj"],
}


def lora(targets: str | list[str], **options: Any) -> peft.LoraConfig:
    """Create the configuration of a LoRA adapter."""
    return peft.LoraConfig(
        **{"task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "target_modules": targets, **options}
    )


def adapted(
    model: PreTrainedModel, config: peft.PeftConfig, seed: int, name: str = "default"
) -> peft.PeftModel:
    """Put an adapter with random weights on a model. PEFT changes the model in place."""
    with warnings.catch_warnings():
        # PEFT uses a name that transformers is about to drop, and tells what it does for GPT-2.
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        made = peft.get_peft_model(model, config, adapter_name=name)
        fill(made, seed, name)
    return made.eval()


def fill(model: torch.nn.Module, seed: int, name: str = "default") -> None:
    """Give the weights of an adapter random values that change the model clearly."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if f".{name}." in f"{key}." and "lora_magnitude" not in key:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)


def merged(model: peft.PeftModel) -> PreTrainedModel:
    """Return a copy of a model with the active adapter merged into its weights."""
    return copy.deepcopy(model).merge_and_unload().eval()


def save_base(directory: Path, architecture: str = "llama", seed: int = 0) -> Path:
    """Save a tiny model with its tokenizer."""
    model, tokenizer = tiny.pair(architecture, "bytelevel", seed=seed)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def save_adapter(
    directory: Path,
    base: Path,
    seed: int,
    architecture: str = "llama",
    **options: Any,
) -> peft.PeftModel:
    """Save a LoRA adapter for the model in ``base``, and return the model with the adapter."""
    model = tiny.pair(architecture, "bytelevel")[0]
    model.name_or_path = str(base)
    config = lora(options.pop("targets", TARGETS[architecture]), **options)
    made = adapted(model, config, seed)
    made.save_pretrained(directory)
    return made


class Case:
    """A base model in a directory, and two adapters for it."""

    def __init__(self, folder: Path, architecture: str = "llama") -> None:
        self.architecture = architecture
        self.base = folder / "base"
        self.paths = [folder / "first", folder / "second"]
        files, self.models = _made(architecture)
        for name, content in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        for path in self.paths:
            change(path, base_model_name_or_path=str(self.base))

    def config(self, index: int, **options: Any) -> ModelConfig:
        return ModelConfig(path=str(self.base), adapter=str(self.paths[index]), **options)

    def engine(self, *models: Any, **options: Any) -> FusionEngine:
        listed = list(models) or [str(self.base), self.config(0), self.config(1)]
        return FusionEngine.from_pretrained(listed, SPECEM, progress=False, **options)

    def whole(self) -> FusionEngine:
        """The same ensemble of whole models, into which the adapters were merged."""
        base, tokenizer = tiny.pair(self.architecture, "bytelevel")
        models = [base, *map(merged, self.models)]
        return FusionEngine.from_models(
            [(model, tokenizer) for model in models],
            SPECEM,
            names=["base", "first", "second"],
            progress=False,
        )


@cache
def _made(architecture: str) -> tuple[dict[str, bytes], list[peft.PeftModel]]:
    """Make the files of a case, and its models with their adapters."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        base = save_base(root / "base", architecture)
        models = [
            save_adapter(root / name, base, seed, architecture)
            for seed, name in enumerate(["first", "second"], start=1)
        ]
        files = [file for file in root.glob("*/*") if file.is_file()]
        return {str(file.relative_to(root)): file.read_bytes() for file in files}, models


def change(folder: Path, **described: Any) -> None:
    """Change what the adapter in a folder says of itself."""
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **described}))


def two_over_one(names: tuple[str, str] = ("first", "second")) -> Any:
    """Two PEFT models over one base model, and copies of them with merged adapters."""
    base, tokenizer = tiny.pair("llama", "bytelevel")
    config = lora(TARGETS["llama"])
    models = [adapted(base, config, 1, names[0])]
    whole = [merged(models[0])]
    models.append(adapted(base, copy.deepcopy(config), 2, names[1]))
    whole.append(merged(models[1]))
    return models, whole, tokenizer


def runner_of(engine: FusionEngine, index: int = 0) -> Runner:
    model: LoadedModel = engine.backends[index].model
    return model.runner


def logits(model: Any, ids: list[int] = IDS) -> torch.Tensor:
    with torch.inference_mode():
        if isinstance(model, Runner):
            return model.run(ids)[0]
        found: torch.Tensor = model(input_ids=torch.tensor([ids])).logits[0]
        return found


def close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, rtol=1e-4, atol=1e-4)


def same(one: Generation, other: Generation) -> None:
    """Assert that two answers have the same candidates and votes."""
    assert one.text == other.text
    assert len(one.rounds) > 2
    assert [r.candidates for r in one.rounds] == [r.candidates for r in other.rounds]
    for played, expected in zip(one.rounds, other.rounds, strict=True):
        assert played.votes == pytest.approx(expected.votes, abs=1e-4)
