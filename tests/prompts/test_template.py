"""Each model's own template renders conversations, with repairs if it refuses them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import tiny
from transformers import PreTrainedTokenizerFast

from specfuse_core import FusionEngine, Message, Tool
from specfuse_core.errors import NoEndTokenError, TemplateError
from specfuse_core.hf import LoadedModel, LocalBackend, Runner, template_of
from specfuse_core.prompts.template import PLAIN_TEMPLATE, ChatTemplate
from specfuse_core.request import Request, ToolCall

#: Knows tools and their results, as Qwen's and SmolLM's templates do.
TOOLS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}\n<call>{{ c.function.name }}"
    "{{ c.function.arguments | tojson }}</call>{% endfor %}"
    "{% if m.role == 'tool' %}[{{ m.name }}/{{ m.tool_call_id }}]{% endif %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: Strict alternation, but a system turn is welcome.
WITH_SYSTEM = tiny.STRICT.replace(
    "{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}", ""
).replace(
    "{% for m in messages %}",
    "{% if messages[0].role == 'system' %}<<{{ messages[0].content }}>>"
    "{% set messages = messages[1:] %}{% endif %}{% for m in messages %}",
)


def made(text: str | None, **options: object) -> ChatTemplate:
    tokenizer = tiny.tokenizer("bytelevel", text)
    return ChatTemplate(
        tokenizer, options.pop("template", None), options.pop("variables", {}), [], **options
    )


def rendered(owner: ChatTemplate, *turns: Message) -> str:
    """Return the prompt as text, including control tokens."""
    return tiny.tokenizer("bytelevel").decode(owner.prompt(turns).ids)


SYSTEM = Message("system", "Be brief.")
ASK, ANSWER, AGAIN = Message("user", "How?"), Message("assistant", "So."), Message("user", "Why?")
CALL = Message(
    "assistant", "", (ToolCall("get_weather", {"city": "Köln", "days": [1, 2]}, id="7"),)
)
RESULT = Message("tool", "sunny", tool_call_id="7", name="get_weather")


# Repairs


def test_a_template_that_takes_the_conversation_gets_it_as_it_is() -> None:
    text = rendered(made(tiny.CHATML), SYSTEM, ASK, ASK, ANSWER, AGAIN)
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nHow?<|im_end|>\n<|im_start|>user\nHow?<|im_end|>\n"
        "<|im_start|>assistant\nSo.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_refused_system_turn_opens_the_next_user_turn() -> None:
    text = rendered(made(tiny.STRICT), SYSTEM, ASK, ANSWER, AGAIN)
    assert text == "<s>[INST] Be brief.\n\nHow? [/INST] So. <|im_end|>[INST] Why? [/INST]"


def test_no_more_is_mended_than_is_refused() -> None:
    shape = tiny.CHATML.replace(
        "{% for m in messages %}",
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no') }}{% endif %}",
    )
    text = rendered(made(shape), SYSTEM, ASK, AGAIN)
    assert text.startswith("<|im_start|>user\nBe brief.\n\nHow?<|im_end|>\n<|im_start|>user\nWhy?")


def test_several_system_turns_are_all_kept() -> None:
    text = rendered(made(tiny.STRICT), SYSTEM, Message("system", "In verse."), ASK)
    assert text == "<s>[INST] Be brief.\n\nIn verse.\n\nHow? [/INST]"
    text = rendered(made(tiny.STRICT), ASK, ANSWER, SYSTEM, AGAIN)
    assert text == "<s>[INST] How? [/INST] So. <|im_end|>[INST] Be brief.\n\nWhy? [/INST]"


def test_a_conversation_of_system_turns_alone_becomes_a_question() -> None:
    assert rendered(made(tiny.STRICT), SYSTEM) == "<s>[INST] Be brief. [/INST]"
    assert "system\nBe brief." in rendered(made(tiny.CHATML), SYSTEM)


def test_a_system_turn_at_the_end_is_kept() -> None:
    text = rendered(made(tiny.STRICT), ASK, SYSTEM)
    assert text == "<s>[INST] How?\n\nBe brief. [/INST]"


def test_doubled_roles_are_merged_where_roles_must_alternate() -> None:
    text = rendered(made(tiny.STRICT), ASK, AGAIN, ANSWER, Message("assistant", "Yes."), ASK)
    assert text == "<s>[INST] How?\n\nWhy? [/INST] So.\n\nYes. <|im_end|>[INST] How? [/INST]"


def test_a_system_turn_that_is_welcome_stays_one() -> None:
    """The first repair merges neighbouring messages of the same role."""
    text = rendered(made(WITH_SYSTEM), SYSTEM, ASK, AGAIN)
    assert text == "<s><<Be brief.>>[INST] How?\n\nWhy? [/INST]"


def test_an_assistant_that_speaks_first_is_asked_first() -> None:
    text = rendered(made(tiny.STRICT), ANSWER, ASK)
    assert text == "<s>[INST] ... [/INST] So. <|im_end|>[INST] How? [/INST]"


def test_tool_turns_reach_a_template_that_knows_them() -> None:
    text = rendered(made(TOOLS), ASK, CALL, RESULT)
    assert '<call>get_weather{"city": "Köln", "days": [1, 2]}</call>' in text
    assert "<|im_start|>tool\nsunny[get_weather/7]<|im_end|>" in text
    assert text.endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize("shape", [tiny.CHATML, tiny.STRICT, None], ids=["ml", "strict", "plain"])
def test_tool_calls_become_text_where_a_template_does_not_know_them(shape: str | None) -> None:
    text = rendered(made(shape), SYSTEM, ASK, CALL, RESULT)
    start = text.index("<tool_call>\n") + len("<tool_call>\n")
    call, _, rest = text[start:].partition("\n</tool_call>")
    assert json.loads(call) == {
        "name": "get_weather",
        "arguments": {"city": "Köln", "days": [1, 2]},
    }
    assert "<tool_response>\nsunny\n</tool_response>" in rest
    assert "Be brief." in text


def test_a_call_with_words_before_it_keeps_both() -> None:
    text = rendered(made(tiny.STRICT), ASK, Message("assistant", "Let me see.", CALL.tool_calls))
    assert "Let me see.\n<tool_call>\n" in text


def test_several_results_become_one_user_turn_where_roles_alternate() -> None:
    second = Message("tool", "rainy", tool_call_id="8")
    text = rendered(made(tiny.STRICT), ASK, CALL, RESULT, second)
    assert text.count("[INST]") == 2
    assert text.index("sunny") < text.index("rainy")


def test_a_template_that_drops_content_on_purpose_is_not_repaired() -> None:
    """For example templates that leave out earlier reasoning."""
    shape = tiny.CHATML.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] }}")
    text = rendered(made(shape), ASK, Message("assistant", "<think>hm</think>So."), AGAIN)
    assert text.count("<|im_start|>") == 4
    assert "hm" not in text
    assert "So." in text


def test_a_template_that_silently_drops_tool_turns_is_repaired() -> None:
    shape = tiny.CHATML.replace(
        "{% for m in messages %}",
        "{% for m in messages if m.role in ('system', 'user', 'assistant') %}",
    )
    assert "sunny" in rendered(made(shape), ASK, CALL, RESULT)


def test_a_template_that_refuses_everything_says_what_to_do() -> None:
    owner = made("{{ raise_exception('never mind') }}")
    with pytest.raises(TemplateError, match=r"never mind.*ModelConfig\(chat_template=") as caught:
        owner.prompt([ASK])
    assert "the model" in str(caught.value)


@pytest.mark.parametrize(
    "shape", ["{% for %}", "{{ messages | no_such_filter }}", "{{ messages[0].content + 1 }}"]
)
def test_a_template_with_an_error_names_the_model_and_the_remedy(shape: str) -> None:
    model, tokenizer = tiny.pair("llama", "bytelevel", template=shape)
    engine = FusionEngine.from_models([(model, tokenizer)], names=["odd one"], progress=False)
    with pytest.raises(TemplateError, match=r"'odd one'.*ModelConfig\(chat_template="):
        engine.stream("Why?")


# The final assistant turn


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("shape", [tiny.CHATML, tiny.STRICT, None], ids=["ml", "strict", "plain"])
def test_a_final_assistant_turn_is_gone_on_from(family: str, shape: str | None) -> None:
    model, tokenizer = tiny.pair("llama", family, template=shape)
    backend = LocalBackend(
        "m", lambda: (LoadedModel(Runner(model), "packed-full"), template_of(model, tokenizer))
    )
    asked = backend.template.prompt([ASK])
    opening = Message("assistant", "The hall has")
    prompt = backend.template.prompt([ASK, opening])
    assert prompt == type(prompt)(asked.ids, asked.lead, asked.continuing, "The hall has")
    session = backend.start(Request.of([ASK, opening]))
    encoded = backend.template.codec.encode(
        prompt.lead + "The hall has", continuing=prompt.continuing
    )
    assert session.ids == [*prompt.ids, *encoded.ids]
    assert session.cost.prompt_tokens == len(session.ids)
    # As the turn is written in a finished conversation, unless its first tokens fuse with others.
    if shape is not None and (family, shape) != ("sentencepiece", tiny.STRICT):
        messages = [{"role": t.role, "content": t.content} for t in (ASK, opening)]
        whole = tokenizer.apply_chat_template(messages)["input_ids"]
        assert whole[: len(session.ids)] == session.ids


def test_several_final_assistant_turns_are_one_opening() -> None:
    prompt = made(tiny.CHATML).prompt([ASK, ANSWER, Message("assistant", "And so")])
    assert prompt.opening == "So.\n\nAnd so"


def test_a_final_tool_call_is_a_turn_and_not_an_opening() -> None:
    prompt = made(TOOLS).prompt([ASK, CALL])
    assert prompt.opening == ""


def test_an_assistant_turn_alone_is_an_opening() -> None:
    for shape in (tiny.CHATML, tiny.STRICT, None):
        prompt = made(shape).prompt([ANSWER])
        assert prompt.opening == "So."
        assert prompt.ids


def test_an_empty_final_assistant_turn_changes_nothing() -> None:
    owner = made(tiny.STRICT)
    assert owner.prompt([ASK, Message("assistant", "")]) == owner.prompt([ASK])


# Lead and ends


@pytest.mark.parametrize(
    ("shape", "lead"),
    [
        (tiny.CHATML, ""),
        (tiny.STRICT, " "),
        (tiny.STRICT.replace("{% else %} ", "{% else %}{{ '\\n\\n' }}"), "\n\n"),
        (tiny.STRICT.replace("{% else %} ", "{% else %}"), ""),
        (None, " "),
        # What is more than white space is the template's own text, and no habit of the model's.
        (tiny.STRICT.replace("{% else %} ", "{% else %} Answer: "), ""),
        # A generation prompt that history does not repeat tells nothing.
        (tiny.CHATML.replace("assistant\n", "assistant\n<think></think>\n"), ""),
    ],
)
def test_the_lead_is_the_white_space_before_an_answer(shape: str | None, lead: str) -> None:
    assert made(shape).lead == lead


def test_ends_come_from_tokenizer_configuration_and_template() -> None:
    tokenizer = tiny.tokenizer("bytelevel", tiny.CHATML, eos_token="</s>")
    end, closing, pad = tokenizer.convert_tokens_to_ids(["</s>", "<|im_end|>", "<pad>"])
    assert ChatTemplate(tokenizer, None, {}, []).ends == {end, closing}
    assert ChatTemplate(tokenizer, None, {}, [pad]).ends == {end, closing, pad}
    tokenizer.chat_template = tiny.STRICT
    assert ChatTemplate(tokenizer, None, {}, []).ends == {end}


def test_ends_come_from_the_generation_config_one_or_many() -> None:
    model, tokenizer = tiny.pair("llama", "bytelevel")
    model.generation_config.eos_token_id = 2
    assert template_of(model, tokenizer).ends == {2, 5}
    model.generation_config.eos_token_id = [1, 2]
    assert template_of(model, tokenizer).ends == {1, 2, 5}
    model.generation_config.eos_token_id = None
    assert template_of(model, tokenizer).ends == {5}


def test_a_model_without_any_end_is_refused_by_name() -> None:
    model = tiny.model("llama", 900)
    model.generation_config.eos_token_id = None
    tokenizer = tiny.tokenizer("bytelevel", "{{ messages[-1].content }}", eos_token=None)
    engine = FusionEngine.from_models([(model, tokenizer)], names=["endless"], progress=False)
    with pytest.raises(NoEndTokenError, match=r"'endless'.*set tokenizer\.eos_token"):
        engine.warm_up()


def test_an_end_that_the_template_alone_names_will_do() -> None:
    tokenizer = tiny.tokenizer("bytelevel", tiny.CHATML, eos_token=None)
    assert ChatTemplate(tokenizer, None, {}, []).ends == {
        tokenizer.convert_tokens_to_ids("<|im_end|>")
    }


# Which template


def test_a_tokenizer_without_template_gets_the_plain_one() -> None:
    owner = made(None)
    text = rendered(owner, SYSTEM, ASK, ANSWER, AGAIN)
    assert text == (
        "System: Be brief.\n\nUser: How?\n\nAssistant: So.<|im_end|>\n\nUser: Why?\n\nAssistant:"
    )
    assert "Assistant:" in PLAIN_TEMPLATE
    assert owner.lead == " "


@pytest.mark.parametrize("adds", [False, True])
def test_the_plain_template_begins_as_the_tokenizer_begins_a_text(adds: bool) -> None:
    from tokenizers import processors

    tokenizer = tiny.tokenizer("bytelevel", None)
    if adds:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
        )
    ids = ChatTemplate(tokenizer, None, {}, []).prompt([ASK]).ids
    assert list(ids).count(1) == adds
    assert (ids[0] == 1) == adds


def test_a_template_with_bos_is_not_given_a_second_one() -> None:
    from tokenizers import processors

    tokenizer = tiny.tokenizer("bytelevel", "{{ bos_token }}" + tiny.CHATML)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
    )
    assert list(ChatTemplate(tokenizer, None, {}, []).prompt([ASK]).ids).count(1) == 1


def test_a_given_template_replaces_the_tokenizers_own() -> None:
    owner = made(tiny.STRICT, template="Q: {{ messages[-1].content }} A:")
    assert rendered(owner, ASK) == "Q: How? A:"


def test_variables_reach_the_template() -> None:
    shape = "{{ 'quiet ' if not loud else 'LOUD ' }}{{ messages[-1].content }}"
    assert rendered(made(shape, variables={"loud": True}), ASK) == "LOUD How?"
    assert rendered(made(shape, variables={"loud": False}), ASK) == "quiet How?"


def several(**templates: str) -> PreTrainedTokenizerFast:
    tokenizer = tiny.tokenizer("bytelevel")
    tokenizer.chat_template = templates
    return tokenizer


def test_of_several_templates_the_default_one_is_taken() -> None:
    tokenizer = several(default="D {{ messages[-1].content }}", rag="R {{ messages[-1].content }}")
    assert rendered(ChatTemplate(tokenizer, None, {}, []), ASK) == "D How?"
    assert rendered(ChatTemplate(tokenizer, "rag", {}, []), ASK) == "R How?"
    given = ChatTemplate(tokenizer, "X {{ bos_token }}{{ messages[-1].content }}", {}, [])
    assert rendered(given, ASK) == "X <s>How?"


def test_of_several_templates_one_must_be_chosen() -> None:
    with pytest.raises(TemplateError, match=r"\(rag, tool_use\).*ModelConfig\(chat_template="):
        ChatTemplate(several(rag="a", tool_use="b"), None, {}, [])


@pytest.mark.parametrize("given", ["Answer the question.", " ", "{ messages }", "tool_us"])
def test_a_text_without_jinja_is_no_template(given: str) -> None:
    one = tiny.tokenizer("bytelevel")
    for tokenizer, names in ((one, "none"), (several(tool_use="b", default="c"), "tool_use, def")):
        with pytest.raises(TemplateError) as caught:
            ChatTemplate(tokenizer, given, {}, [])
        assert str(caught.value).startswith(f"chat_template={given!r} contains no Jinja expression")
        assert f"(names: {names}" in str(caught.value)


# Tools

#: A place of its own for tools, as Qwen's and Llama's templates have.
TAKES_TOOLS = (
    "{% if tools %}<|im_start|>system\nTools:{% for t in tools %} {{ t | tojson }}{% endfor %}"
    "<|im_end|>\n{% endif %}" + tiny.CHATML
)
WEATHER = Tool("get_weather", "Tells <|im_end|> the weather.", {"properties": {"city": {}}})


def with_tools(owner: ChatTemplate, *turns: Message) -> str:
    ids = owner.prompt(turns, [WEATHER]).ids
    return tiny.tokenizer("bytelevel").decode(ids)


def test_tools_go_through_a_template_that_takes_them() -> None:
    text = with_tools(made(TAKES_TOOLS), ASK)
    assert text.startswith("<|im_start|>system\nTools:")
    assert text.count("get_weather") == 1
    assert "You can call these tools" not in text


@pytest.mark.parametrize("template", [tiny.CHATML, tiny.STRICT, WITH_SYSTEM, None])
@pytest.mark.parametrize("turns", [(ASK,), (SYSTEM, ASK), (SYSTEM, ASK, CALL, RESULT, AGAIN)])
def test_tools_are_told_in_a_system_text_where_a_template_has_no_place_for_them(
    template: str | None, turns: tuple[Message, ...]
) -> None:
    text = with_tools(made(template), *turns)
    assert text.count("You can call these tools:") == 1
    assert text.index("get_weather") < text.index("How?")
    assert ("Be brief." in text) == (SYSTEM in turns)


@pytest.mark.parametrize("template", [TAKES_TOOLS, tiny.CHATML])
def test_what_describes_a_tool_never_becomes_a_control_token(template: str) -> None:
    owner = made(template)
    end = tiny.tokenizer("bytelevel").convert_tokens_to_ids("<|im_end|>")
    bare = owner.prompt([ASK], [replace(WEATHER, description="Tells the weather.")])
    assert owner.prompt([ASK], [WEATHER]).ids.count(end) == bare.ids.count(end)


def test_an_answer_opens_its_thinking_itself() -> None:
    # The answer is shared, and the other models' prompts do not open it.
    thinking = tiny.CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
    assert thinking != tiny.CHATML
    assert rendered(made(thinking), ASK) == rendered(made(tiny.CHATML), ASK)


def test_thinking_can_be_switched_off_by_the_template() -> None:
    template = tiny.CHATML.replace(
        "assistant\n{% endif %}",
        "assistant\n{% if not thinks %}<think>\n\n</think>\n\n{% endif %}{% endif %}",
    )
    assert rendered(made(template, variables={"thinks": True}), ASK).endswith("assistant\n")
    assert "</think>" in rendered(made(template, variables={"thinks": False}), ASK)


def test_control_tokens_in_thoughts_are_text() -> None:
    shown = tiny.CHATML.replace("{{ m.content }}", "({{ m.reasoning_content }}){{ m.content }}")
    thought = replace(ANSWER, reasoning="<|im_end|>")
    owner = made(shown)
    assert rendered(owner, ASK, thought, AGAIN).count("<|im_end|>") == 4
    ends = list(owner.prompt([ASK, thought, AGAIN]).ids).count(5)
    assert ends == list(owner.prompt([ASK, ANSWER, AGAIN]).ids).count(5) == 3
