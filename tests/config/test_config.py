"""What a user can set, what the presets set, and how bad values are refused."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from specfuse_core.config import FusionConfig, ModelConfig, SamplingParams
from specfuse_core.config.options import Options
from specfuse_core.errors import InvalidLimitError, InvalidOptionError, UnknownOptionError

SPECFUSE = {"score_mode": "prob", "online_feedback": False, "model_exit": True}
SPECEM = {"score_mode": "logprob", "online_feedback": True, "model_exit": False}


def preset_part(config: FusionConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in SPECFUSE}


def test_the_default_method_is_specem() -> None:
    assert FusionConfig().method == "specem"
    assert FusionConfig() == FusionConfig(method="specem")


@pytest.mark.parametrize(("method", "values"), [("specfuse", SPECFUSE), ("specem", SPECEM)])
def test_presets(method: Any, values: dict[str, Any]) -> None:
    config = FusionConfig(method=method)
    assert preset_part(config) == values
    assert config.segment_tokens == 10
    assert config.self_vote is True


@pytest.mark.parametrize("method", ["specfuse", "specem"])
@pytest.mark.parametrize(
    "knob",
    [
        {"segment_tokens": 3},
        {"score_mode": "prob"},
        {"score_mode": "logit"},
        {"score_mode": "logprob"},
        {"self_vote": False},
        {"online_feedback": True},
        {"online_feedback": False},
        {"learning_rate": 0.25},
        {"model_exit": True},
        {"model_exit": False},
        {"exit_temperature": 0.7},
        {"exit_threshold": 0.25},
        {"exit_warmup": 0},
        {"min_models": 2},
    ],
)
def test_every_knob_can_be_set_over_a_preset(method: Any, knob: dict[str, Any]) -> None:
    config = FusionConfig(method=method, **knob)
    plain = FusionConfig(method=method)
    for name in FusionConfig.model_fields:
        assert getattr(config, name) == knob.get(name, getattr(plain, name))


def test_replace_keeps_following_the_preset() -> None:
    changed = FusionConfig(segment_tokens=4).replace(method="specem")
    assert preset_part(changed) == SPECEM
    assert changed.segment_tokens == 4
    assert preset_part(changed.replace(method="specfuse")) == SPECFUSE


def test_replace_keeps_what_was_set_by_hand() -> None:
    config = FusionConfig(score_mode="prob").replace(method="specem")
    assert preset_part(config) == {**SPECEM, "score_mode": "prob"}


def test_replace_leaves_the_original_alone_and_validates() -> None:
    config = FusionConfig()
    config.replace(segment_tokens=2)
    assert config.segment_tokens == 10
    with pytest.raises(InvalidLimitError, match="segment_tokens"):
        config.replace(segment_tokens=0)
    with pytest.raises(UnknownOptionError, match="'segment_tokens'"):
        config.replace(segment_token=2)


def test_copies_and_pickles_keep_the_preset() -> None:
    config = FusionConfig(method="specem", segment_tokens=7)
    for twin in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert twin == config
        assert preset_part(twin) == SPECEM
        assert preset_part(twin.replace(method="specfuse")) == SPECFUSE
    assert FusionConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize(
    ("owner", "given", "near"),
    [
        (FusionConfig, "segment_token", "segment_tokens"),
        (FusionConfig, "exit_tmperature", "exit_temperature"),
        (FusionConfig, "modelexit", "model_exit"),
        (SamplingParams, "temprature", "temperature"),
        (SamplingParams, "repetition_penality", "repetition_penalty"),
        (ModelConfig, "device_mapp", "device_map"),
    ],
)
def test_an_unknown_option_is_refused_with_the_nearest_name(
    owner: type[Options], given: str, near: str
) -> None:
    required = {"path": "somewhere"} if owner is ModelConfig else {}
    for make in (
        lambda: owner(**required, **{given: 1}),
        lambda: owner.model_validate({**required, given: 1}),
    ):
        with pytest.raises(UnknownOptionError) as caught:
            make()
        assert str(caught.value) == (
            f"{owner.__name__} has no option {given!r}; did you mean {near!r}?"
        )


def test_an_unknown_option_like_no_other_gets_the_whole_list() -> None:
    with pytest.raises(UnknownOptionError) as caught:
        SamplingParams(zzz=1)
    for name in SamplingParams.model_fields:
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (FusionConfig, "segment_tokens"),
        (FusionConfig, "exit_temperature"),
        (FusionConfig, "min_models"),
        (SamplingParams, "top_p"),
        (SamplingParams, "top_k"),
        (SamplingParams, "repetition_penalty"),
        (ModelConfig, "weight"),
    ],
)
@pytest.mark.parametrize("value", [0, -1])
def test_zero_and_negative_limits_are_refused(owner: type[Options], name: str, value: int) -> None:
    required = {"path": "somewhere"} if owner is ModelConfig else {}
    with pytest.raises(InvalidLimitError) as caught:
        owner(**required, **{name: value})
    assert re.fullmatch(
        rf"{name} must be (at least 1|greater than 0), got {value}\.", str(caught.value)
    )


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (FusionConfig, "exit_warmup"),
        (FusionConfig, "learning_rate"),
        (FusionConfig, "exit_threshold"),
        (SamplingParams, "temperature"),
        (SamplingParams, "min_p"),
    ],
)
def test_zero_is_allowed_where_it_means_something(owner: type[Options], name: str) -> None:
    assert getattr(owner(**{name: 0}), name) == 0
    with pytest.raises(InvalidLimitError, match=name):
        owner(**{name: -1})


@pytest.mark.parametrize(
    ("owner", "options", "message"),
    [
        (FusionConfig, {"method": "best"}, "method must be 'specem' or 'specfuse', got 'best'."),
        (
            FusionConfig,
            {"score_mode": "entropy"},
            "score_mode must be 'prob', 'logit' or 'logprob', got 'entropy'.",
        ),
        (
            FusionConfig,
            {"segment_tokens": "many"},
            "segment_tokens must be a valid integer, got 'many'.",
        ),
        (FusionConfig, {"segment_tokens": 2.5}, "segment_tokens must be a valid integer, got 2.5."),
        (FusionConfig, {"exit_threshold": 1.5}, "exit_threshold must be at most 1, got 1.5."),
        (
            FusionConfig,
            {"learning_rate": float("nan")},
            "learning_rate must be a finite number, got nan.",
        ),
        (
            FusionConfig,
            {"learning_rate": float("inf")},
            "learning_rate must be a finite number, got inf.",
        ),
        (
            SamplingParams,
            {"temperature": float("nan")},
            "temperature must be a finite number, got nan.",
        ),
        (SamplingParams, {"top_p": 1.01}, "top_p must be at most 1, got 1.01."),
        (SamplingParams, {"seed": "x"}, "seed must be a valid integer, got 'x'."),
        (ModelConfig, {}, "path is required."),
        (ModelConfig, {"path": ""}, "path must not be empty, got ''."),
        (ModelConfig, {"path": 3}, "path must be a valid string, got 3."),
        (ModelConfig, {"path": "somewhere", "name": ""}, "name must not be empty, got ''."),
        (
            ModelConfig,
            {"path": "somewhere", "device_map": 3},
            "device_map must be a valid string or be a valid dictionary, got 3.",
        ),
        (
            ModelConfig,
            {"path": "somewhere", "chat_template_kwargs": "no"},
            "chat_template_kwargs must be a valid dictionary, got 'no'.",
        ),
    ],
)
def test_bad_values_are_refused_by_our_own_error(
    owner: type[Options], options: dict[str, Any], message: str
) -> None:
    for make in (lambda: owner(**options), lambda: owner.model_validate(options)):
        with pytest.raises(InvalidOptionError) as caught:
            make()
        assert not isinstance(caught.value, InvalidLimitError)
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (FusionConfig(), "segment_tokens"),
        (FusionConfig(method="specem"), "score_mode"),
        (SamplingParams(), "seed"),
        (ModelConfig(path="somewhere"), "path"),
    ],
)
def test_options_are_frozen(options: Options, name: str) -> None:
    before = getattr(options, name)
    with pytest.raises(ValidationError, match="frozen"):
        setattr(options, name, before)
    assert getattr(options, name) == before


def test_configs_are_hashable_values() -> None:
    assert len({FusionConfig(), FusionConfig(method="specem"), FusionConfig(min_models=2)}) == 2


def test_sampling_defaults_to_greedy_and_a_fresh_seed() -> None:
    params = SamplingParams()
    assert (params.temperature, params.top_p, params.top_k, params.min_p) == (0.0, 1.0, None, 0.0)
    assert (params.repetition_penalty, params.seed) == (1.0, None)


def test_a_model_config_is_careful_by_default() -> None:
    config = ModelConfig(path="org/name")
    assert config.trust_remote_code is False
    assert config.allow_pickle is False
    assert config.weight == 1.0
    assert config.chat_template_kwargs == {}


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("chatml.jinja", "Path('chatml.jinja').read_text()"),
        ("./prompts/a.txt", "Path('./prompts/a.txt').read_text()"),
        (Path("a.jinja"), "Path('a.jinja').read_text()"),
        ("a.json", "json.loads(Path('a.json').read_text())['chat_template']"),
        ("plain", "Path('plain').read_text()"),
    ],
)
def test_a_chat_template_is_not_the_name_of_a_file(
    given: str | Path, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain").write_text("{{ messages }}")
    with pytest.raises(InvalidOptionError) as caught:
        ModelConfig.model_validate({"path": "somewhere", "chat_template": given})
    assert str(caught.value) == (
        f"chat_template must be the text of a template, got the name of a file, {str(given)!r}; "
        f"use chat_template={shown}."
    )


@pytest.mark.parametrize(
    "given",
    ["tool_use", "{{ messages }}.txt", "{{ messages }}\na.txt", "no such file", "long " * 2000],
)
def test_a_chat_template_is_a_text_or_a_name(given: str) -> None:
    assert ModelConfig(path="somewhere", chat_template=given).chat_template == given


def test_device_and_device_map_exclude_each_other() -> None:
    assert ModelConfig(path="p", device="cpu").device == "cpu"
    assert ModelConfig(path="p", device_map="auto").device_map == "auto"
    with pytest.raises(InvalidOptionError, match="device and device_map"):
        ModelConfig(path="p", device="cpu", device_map={"": 0})
    with pytest.raises(InvalidOptionError, match="device and device_map"):
        ModelConfig.model_validate({"path": "p", "device": "cpu", "device_map": "auto"})
