"""The bundled models: their properties, and their accuracy together."""

from __future__ import annotations

import bisect
import json
import random

import pytest
from jsonschema import Draft202012Validator
from transformers import AutoModelForCausalLM, AutoTokenizer

from specfuse_core import FusionEngine, Message
from specfuse_core.bundled import bundled_models
from specfuse_core.grammar.constraints import JsonSchema
from training.recipe import RECIPES, TASKS
from training.sample import ALL, Level, is_right
from training.splits import Split

MODELS = {path.name: path for path in bundled_models()}


@pytest.fixture(scope="module")
def engine() -> FusionEngine:
    return FusionEngine.bundled()


def test_there_is_one_for_each_recipe_and_all_are_small() -> None:
    assert set(MODELS) == set(RECIPES)
    files = [file for path in MODELS.values() for file in path.iterdir()]
    assert sum(file.stat().st_size for file in files) <= 12_000_000


def test_they_differ_in_architecture_tokenizer_and_template() -> None:
    configs = [json.loads((path / "config.json").read_text()) for path in MODELS.values()]
    assert len({config["model_type"] for config in configs}) == len(MODELS)
    assert len({config["vocab_size"] for config in configs}) == len(MODELS)
    assert all(config["max_position_embeddings"] >= 2048 for config in configs)
    assert all(config["dtype"] == "float16" for config in configs)
    templates = [(path / "chat_template.jinja").read_text() for path in MODELS.values()]
    assert len(set(templates)) == len(MODELS)


@pytest.mark.parametrize("name", list(MODELS))
def test_transformers_loads_them_as_they_are(name: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(MODELS[name])
    tokenizer = AutoTokenizer.from_pretrained(MODELS[name])
    assert len(tokenizer) <= model.config.vocab_size
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    card = (MODELS[name] / "README.md").read_text(encoding="utf-8")
    assert f"python -m training {name}" in card
    assert all(f"| {task} |" in card for task in TASKS)


# Far below what benchmarks/quality.py measures, so that only a broken model or engine fails here.
@pytest.mark.parametrize(
    ("task", "least"),
    [("reading", 0.7), ("reckoning", 0.8), ("tools", 0.7), ("read_then_reckon", 0.7)],
)
def test_together_they_answer_questions_of_every_kind(
    engine: FusionEngine, task: str, least: float
) -> None:
    rng = random.Random(f"together {task}")
    samples = [TASKS[task](rng, Split.VALIDATION, ALL, Level()) for _ in range(20)]
    right = 0
    for sample in samples:
        answer = engine.generate([turn.as_dict() for turn in sample.prompt], max_new_tokens=120)
        right += is_right(answer.text, sample.answer)
    assert right >= least * len(samples)


def test_no_model_alone_answers_what_they_answer_together(engine: FusionEngine) -> None:
    rng = random.Random("alone")
    samples = [TASKS["read_then_reckon"](rng, Split.VALIDATION, ALL, Level()) for _ in range(12)]
    for name in engine.models:
        alone = engine.subset([name])
        answers = [
            alone.generate([turn.as_dict() for turn in sample.prompt], max_new_tokens=120).text
            for sample in samples
        ]
        pairs = zip(answers, samples, strict=True)
        assert sum(is_right(text, sample.answer) for text, sample in pairs) <= 4


@pytest.mark.parametrize("room", [24, 45, 61])
def test_json_is_closed_in_a_window_that_is_nearly_full(engine: FusionEngine, room: int) -> None:
    schema = {
        "type": "object",
        "properties": {
            "notes": {"type": "array", "items": {"type": "string"}, "minItems": 3},
            "number": {"type": "integer"},
        },
        "required": ["notes", "number"],
        "additionalProperties": False,
    }

    def needs(lamps: int) -> int:
        turns = [Message("user", "The hall has 12 lamps. " * lamps)]
        return max(backend.count_prompt_tokens(turns) for backend in engine.backends)

    window = engine.context_window
    lamps = bisect.bisect_right(range(window), window - room, key=needs) - 1
    answer = engine.generate("The hall has 12 lamps. " * lamps, constraint=JsonSchema(schema))
    Draft202012Validator(schema).validate(json.loads(answer.text))
    assert (answer.finish_reason, answer.closed_by_force) == ("context", True)
    for backend, used in zip(engine.backends, answer.usage.models, strict=True):
        assert used.cost.prompt_tokens + backend.count_tokens(answer.text) <= window
