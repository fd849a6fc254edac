"""Options that applications set for every model: other names, and values that change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import ConfigurableField

from langchain_specfuse import ChatSpecFuse
from llamaindex_specfuse import SpecFuseLLM
from specfuse_core import FusionEngine, ModelConfig
from specfuse_core.bundled import bundled_models
from specfuse_core.config.synonyms import SYNONYMS
from specfuse_core.errors import (
    ConfigError,
    EmptyEnsembleError,
    InvalidLimitError,
    InvalidOptionError,
    PromptTooLongError,
    UnknownModelError,
    UnknownOptionError,
)
from specfuse_core.frameworks.foreign import HOSTED, NEUTRAL, RENAMED, translated
from specfuse_core.frameworks.registry import release_engines
from specfuse_core.testing import ScriptedBackend

LLMS = (ChatSpecFuse, SpecFuseLLM)
LLM = type[ChatSpecFuse | SpecFuseLLM]
NAMES = [name for synonym in SYNONYMS for name in synonym.names.split()]


def backend(text: str = "one two three four five six", **options: Any) -> ScriptedBackend:
    return ScriptedBackend("a", text, **options)


def asked(llm: Any, /, prompt: str = "Hello", **options: Any) -> str:
    if isinstance(llm, ChatSpecFuse):
        return llm.invoke(prompt, **options).text
    text: str = llm.complete(prompt, **options).text
    return text


UNCHANGED = [(name, value) for name, values in NEUTRAL.items() for value in (*values, None)]
UNCHANGED += [(name, value) for name in sorted(HOSTED) for value in (None, "x")]
UNCHANGED += [(name, None) for name in NAMES if name not in (*NEUTRAL, "model")]
UNCHANGED += [("n", 1.0), ("presence_penalty", 0.0), ("do_sample", False)]


@pytest.mark.parametrize("llm", LLMS)
@pytest.mark.parametrize(("name", "value"), UNCHANGED)
def test_a_value_that_changes_nothing_is_accepted(llm: LLM, name: str, value: Any) -> None:
    engine = FusionEngine([backend()])
    plain = asked(llm(engine=engine))
    if name not in ("callbacks", "metadata"):  # LangChain takes these itself.
        assert asked(llm(engine=engine), **{name: value}) == plain
    if name not in llm.model_fields:
        assert asked(llm(engine=engine, **{name: value})) == plain


REFUSED = [
    ("n", 2, "a request has one answer. Ask again with another value of 'seed' for another one."),
    (
        "n",
        True,
        "a request has one answer. Ask again with another value of 'seed' for another one.",
    ),
    ("presence_penalty", 0.5, "use 'repetition_penalty'."),
    (
        "logprobs",
        True,
        "the rounds of an answer have the log-probabilities of its drafts. Leave it out.",
    ),
    ("extra_body", {"top_k": 5}, "set each of its values as an option of its own, for example "),
    ("do_sample", "yes", "use 'temperature': 0 is greedy, a higher value samples."),
    ("num_ctx", 512, "use 'context_window', which limits the prompt and the answer together."),
]


@pytest.mark.parametrize("llm", LLMS)
@pytest.mark.parametrize(("name", "value", "hint"), REFUSED)
def test_any_other_value_is_refused_by_the_name(llm: LLM, name: str, value: Any, hint: str) -> None:
    used = backend()
    for ask, owner in (
        (lambda: llm(**{name: value}), llm.__name__),
        (
            lambda: asked(llm(engine=FusionEngine([used])), **{name: value}),
            f"a call of {llm.__name__}",
        ),
    ):
        with pytest.raises(UnknownOptionError) as caught:
            ask()
        assert str(caught.value).startswith(f"{owner} has no option {name!r}; {hint}")
    assert not used.sessions


def test_every_option_with_an_accepted_value_says_what_to_do_instead_of_another() -> None:
    assert not set(NEUTRAL) - set(NAMES)
    assert not set(NEUTRAL) & (HOSTED | set(RENAMED))


@pytest.mark.parametrize("llm", LLMS)
@pytest.mark.parametrize("name", ["max_completion_tokens", "max_new_tokens", "max_tokens"])
def test_the_limit_has_the_names_of_other_integrations(llm: LLM, name: str) -> None:
    engine = FusionEngine([backend()])
    made: Any = llm(engine=engine, **{name: 2})
    assert (made.max_tokens, asked(made)) == (2, "one two")
    assert asked(llm(engine=engine, max_tokens=4), **{name: 3}) == "one two three"
    assert asked(llm(engine=engine, max_tokens=4), **{name: None}) == (
        "one two three four five six" if name == "max_tokens" else "one two three four"
    )


@pytest.mark.parametrize("llm", LLMS)
def test_two_names_of_one_option_must_agree(llm: LLM) -> None:
    assert llm(max_tokens=3, max_new_tokens=3).max_tokens == 3
    with pytest.raises(InvalidOptionError) as caught:
        llm(max_tokens=3, max_new_tokens=4)
    assert str(caught.value) == (
        "max_tokens and max_new_tokens are the same option, but 3 and 4 were given; give only "
        "max_tokens."
    )


@pytest.mark.parametrize("llm", LLMS)
def test_stop_sequences_are_stop(llm: LLM) -> None:
    engine = FusionEngine([backend()])
    assert asked(llm(engine=engine, stop_sequences=[" three"])) == "one two"
    assert asked(llm(engine=engine, stop=["two"]), stop_sequences=[" five"]) == (
        "one two three four"
    )


@pytest.mark.parametrize("llm", LLMS)
def test_do_sample_is_the_temperature(llm: LLM) -> None:
    engine = FusionEngine([backend()])
    assert llm(do_sample=False, temperature=0.7).temperature == 0
    assert llm(do_sample=True, temperature=0.7).temperature == 0.7
    asked(llm(engine=engine, temperature=0.7), do_sample=True)
    asked(llm(engine=engine), do_sample=True, temperature=0.7)
    assert asked(llm(engine=engine, temperature=0.7), do_sample=False)
    for ask in (
        lambda: llm(do_sample=True),
        lambda: asked(llm(engine=engine), do_sample=True),
        lambda: asked(llm(engine=engine, temperature=0.7), do_sample=True, temperature=0),
    ):
        with pytest.raises(InvalidOptionError) as caught:
            ask()
        assert str(caught.value) == (
            "do_sample is True, but temperature is 0; use a higher temperature."
        )
    drawn = translated({"do_sample": False}, ["temperature"])
    assert drawn == {"temperature": 0.0}


# --- model --------------------------------------------------------------------------------------


@pytest.mark.parametrize("llm", LLMS)
@pytest.mark.parametrize("name", ["model", "model_name"])
def test_model_gives_the_models(llm: LLM, name: str) -> None:
    assert llm(**{name: "org/a"}).models == ["org/a"]
    assert llm(**{name: "org/a, org/b"}).model_name == "a,b"
    assert llm(**{name: ["org/a", Path("./b")]}).model_name == "a,b"
    assert llm(**{name: ModelConfig(path="org/a", name="c")}).model_name == "c"
    with pytest.raises(EmptyEnsembleError):
        llm(**{name: []})
    with pytest.raises(InvalidOptionError, match="a model must be a hub id"):
        llm(**{name: 3})


@pytest.mark.parametrize("llm", LLMS)
@pytest.mark.parametrize("name", ["model", "model_name"])
def test_model_chooses_from_the_models(llm: LLM, name: str) -> None:
    engine = FusionEngine([ScriptedBackend(key, f"I am {key}.") for key in "abc"])
    one: Any = llm(engine=engine, **{name: "b"})
    assert (one.model_name, asked(one)) == ("b", "I am b.")
    assert asked(one, model="c") == "I am c."
    assert llm(engine=engine, **{name: ["c", "a"]}).model_name == "c,a"
    assert llm(models=["org/a", "org/b"], **{name: "b"})._windows() == [None]
    for ask in (
        lambda: llm(engine=engine, **{name: "z"}),
        lambda: llm(models=["org/a", "org/b"], **{name: "a,z"}),
    ):
        with pytest.raises(UnknownModelError) as caught:
            ask()
        assert str(caught.value).startswith(
            "model names the unknown base model 'z'; use one of: a, b"
        )


def test_model_can_be_configured_at_run_time() -> None:
    engine = FusionEngine([ScriptedBackend(key, f"I am {key}.") for key in "abc"])
    field = ConfigurableField(id="which")
    chosen = ChatSpecFuse(engine=engine).configurable_fields(model=field)
    assert chosen.invoke("Hello").response_metadata["model_name"] == "a,b,c"
    assert chosen.with_config(configurable={"which": "b"}).invoke("Hello").text == "I am b."


@pytest.mark.parametrize("llm", LLMS)
def test_model_may_name_models_of_the_package(llm: LLM) -> None:
    release_engines()
    whole = llm()
    assert whole.model_name == ",".join(path.name for path in bundled_models())
    one = llm(model="reader")
    assert (one.models, one.model_name) == (None, "reader")
    assert one._base().backends[0] in whole._base().backends
    assert llm(model=whole.model_name)._base().models == whole._base().models
    assert whole.as_single("reader").model_name == "reader"


# --- context_window -----------------------------------------------------------------------------


@pytest.mark.parametrize("llm", LLMS)
def test_the_context_window_can_be_limited(llm: LLM) -> None:
    used = backend("word " * 50, context_window=40)
    engine = FusionEngine([used])
    for model, options, window in (
        (llm(engine=engine), {}, 40),
        (llm(engine=engine, context_window=20), {}, 20),
        (llm(engine=engine), {"context_window": 10}, 10),
        (llm(engine=engine, context_window=20), {"context_window": 30}, 30),
        (llm(engine=engine, context_window=9999), {}, 40),
    ):
        answer = asked(model, **options)
        prompt = used.sessions[-1].cost.prompt_tokens
        assert len(answer.split()) == window - prompt
    with pytest.raises(PromptTooLongError, match="context window is 5"):
        asked(llm(engine=engine, context_window=5), "a b c d e f g")
    for bad, error in ((0, InvalidLimitError), ("big", InvalidOptionError)):
        with pytest.raises(error, match=r"^context_window must be "):
            llm(context_window=bad)
        with pytest.raises(error, match=r"^context_window must be "):
            asked(llm(engine=engine), context_window=bad)


def test_the_limit_of_the_window_is_told_to_the_frameworks() -> None:
    engine = FusionEngine([backend(context_window=4000)])
    profile: Any = ChatSpecFuse(engine=engine, context_window=1000).profile
    assert profile["max_input_tokens"] == 999
    assert SpecFuseLLM(engine=engine, context_window=1000).metadata.context_window == 1000
    assert SpecFuseLLM(engine=engine, context_window=9000).metadata.context_window == 4000
    assert SpecFuseLLM(context_window=1000).to_payload()["context_window"] == 1000


def test_the_window_of_one_model_can_be_limited() -> None:
    path = bundled_models()[0]
    own = FusionEngine.from_pretrained([ModelConfig(path=str(path))])
    limited = FusionEngine.from_pretrained([ModelConfig(path=str(path), context_window=48)])
    assert limited.declared_window == 48
    limited.warm_up()
    assert (limited.context_window, limited.declared_window) == (48, 48)
    assert limited.report()[0].context_window == 48
    larger = ModelConfig(path=str(path), context_window=10**9)
    assert FusionEngine.from_pretrained([larger]).declared_window == own.declared_window
    with pytest.raises(PromptTooLongError, match="context window is 48"):
        limited.generate("lamps " * 60)
    answer = limited.generate("lamps", constraint=None, context_window=24)
    assert answer.usage.prompt_tokens + answer.usage.completion_tokens <= 24
    with pytest.raises(ConfigError, match=r"^context_window must be at least 1, got 0"):
        ModelConfig(path="x", context_window=0)
