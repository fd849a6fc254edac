"""What is said of an option that another library has, or that another class here has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from specfuse_core import FusionConfig, FusionEngine, Message, ModelConfig, Request, SamplingParams
from specfuse_core.config.options import Options
from specfuse_core.config.synonyms import SYNONYMS, counterpart
from specfuse_core.errors import UnknownOptionError
from specfuse_core.frameworks.fields import EngineFields
from specfuse_core.models.constructors import EnsembleOptions

OWNERS: dict[str, Callable[..., Any]] = {
    "FusionConfig": FusionConfig,
    "SamplingParams": SamplingParams,
    "ModelConfig": lambda **options: ModelConfig(path="x", **options),
    "the request": lambda **options: Request.of("Hello", **options),
    "from_pretrained": lambda **options: FusionEngine.from_pretrained(["x"], **options),
}
NAMES = [name for synonym in SYNONYMS for name in synonym.names.split()]
OURS = {name for owner in Options.__subclasses__() for name in owner.model_fields}


def test_each_name_is_in_the_table_once_and_is_no_option_of_the_core() -> None:
    assert len(NAMES) == len(set(NAMES))
    core = OURS | set(Request.__dataclass_fields__) | set(EnsembleOptions.__annotations__)
    assert not core & set(NAMES)


@pytest.mark.parametrize("owner", OWNERS)
@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_answered_everywhere(owner: str, name: str) -> None:
    with pytest.raises(UnknownOptionError) as caught:
        OWNERS[owner](**{name: 1})
    said = str(caught.value)
    assert said.startswith(f"{owner} has no option {name!r}; ")
    assert said.endswith(".")
    assert "did you mean" not in said
    assert "known options" not in said
    assert "{" not in said


@pytest.mark.parametrize(
    ("owner", "name", "hint"),
    [
        ("ModelConfig", "torch_dtype", "use 'dtype'."),
        ("ModelConfig", "model_name", "use 'path'."),
        ("ModelConfig", "load_in_4bit", "use 'quantization_config'."),
        ("ModelConfig", "temperature", "use SamplingParams(temperature=...)."),
        ("ModelConfig", "drafters", "use FusionEngine.from_pretrained(..., drafters=...)."),
        (
            "SamplingParams",
            "do_sample",
            "use 'temperature': 0 is greedy, a higher value samples.",
        ),
        ("SamplingParams", "num_predict", "use max_new_tokens=... in generate() or stream()."),
        ("SamplingParams", "temprature", "did you mean 'temperature'?"),
        ("FusionConfig", "model_name", "use ModelConfig(path=...)."),
        ("FusionConfig", "stop", "use stop=... in generate() or stream()."),
        ("the request", "max_tokens", "use 'max_new_tokens'."),
        ("the request", "method", "use FusionConfig(method=...)."),
        (
            "the request",
            "request_timeout",
            "use cancel=Deadline(seconds) in generate() or stream().",
        ),
        ("from_pretrained", "torch_dtype", "use ModelConfig(dtype=...)."),
        ("from_pretrained", "segment_tokens", "use FusionConfig(segment_tokens=...)."),
    ],
)
def test_hints(owner: str, name: str, hint: str) -> None:
    with pytest.raises(UnknownOptionError) as caught:
        OWNERS[owner](**{name: 1})
    assert str(caught.value) == f"{owner} has no option {name!r}; {hint}"


@pytest.mark.parametrize("given", ["tool", "contents", "roll"])
def test_a_name_that_is_not_like_an_option_is_not_compared_to_one(given: str) -> None:
    with pytest.raises(UnknownOptionError) as caught:
        Message.of({"role": "user", given: "x"})
    assert ("did you mean 'content'?" in str(caught.value)) == (given == "contents")


def test_hints_ask_only_for_options_that_exist() -> None:
    asked: set[str] = set()
    for name in NAMES:
        counterpart(name, lambda option: str(asked.add(option)))
    known = OURS | set(Request.__dataclass_fields__) | set(EngineFields.model_fields)
    assert asked - known == {"system", "registry"}
