"""Chat templates, tokenizers and the training loop: training and generation have the same format.

No model is trained: tokenizers are trained on a few hundred texts, and weights are random.
"""

from __future__ import annotations

import pickle
import random
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)

from training.card import write_card
from training.composite import make_composite
from training.drills import IGNORED, draw_drills
from training.evaluate import answer, draw_questions
from training.produce import make
from training.reading import make_reading
from training.recipe import CONTEXT_WINDOW, RECIPES, WEAK, Cycle, draw_texts
from training.sample import ALL, Level, Message
from training.splits import Split
from training.tokenizer import train_tokenizer
from training.train import (
    Trained,
    batches,
    cycle_batches,
    cycle_schedule,
    descend,
    encode,
    new_model,
    render,
    save,
    schedule,
    train,
)

torch.set_num_threads(1)
NAMES = list(RECIPES)


@cache
def tokenizer_of(name: str) -> PreTrainedTokenizerFast:
    recipe = RECIPES[name]
    texts = draw_texts(recipe, 150)
    return train_tokenizer(texts, 600, recipe.chat, max_length=CONTEXT_WINDOW)


@pytest.mark.parametrize("name", NAMES)
def test_pieces_join_to_what_the_template_renders(name: str) -> None:
    tokenizer = tokenizer_of(name)
    rng = random.Random(1)
    for _ in range(20):
        sample = make_reading(rng, Split.TRAIN, ALL, Level(6))
        turns = [turn.as_dict() for turn in sample.messages]
        whole = tokenizer.apply_chat_template(turns, tokenize=False)
        assert "".join(text for text, _ in render(tokenizer, sample)) + "\n" == whole


@pytest.mark.parametrize("name", NAMES)
def test_only_answers_are_learnt_and_each_ends_its_turn(name: str) -> None:
    tokenizer = tokenizer_of(name)
    sample = make_composite(random.Random(2), Split.TRAIN, ALL, Level(6))
    (encoded,) = encode(tokenizer, [sample])
    learnt = [label for label in encoded.labels if label != IGNORED]
    assert len(encoded.ids) == len(encoded.labels)
    assert tokenizer.decode(learnt) == sample.answer + tokenizer.eos_token
    assert learnt[-1] == tokenizer.eos_token_id


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_single_digits_and_text_comes_back(name: str) -> None:
    tokenizer = tokenizer_of(name)
    text = "The hall has 120 lamps.\n\nÜber 7 naïve cafés: 日本 🙂 <tool_call>"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    tokens = tokenizer.tokenize("12 + 30 = 42")
    assert [token for token in tokens if token.isdigit()] == list("123042")


@pytest.mark.parametrize("name", NAMES)
def test_tool_marks_are_ordinary_text(name: str) -> None:
    tokenizer = tokenizer_of(name)
    special = set(tokenizer.all_special_tokens) | set(tokenizer.get_added_vocab())
    assert not any("tool_call" in token or "tool_response" in token for token in special)
    assert len(tokenizer.tokenize("<tool_call>")) > 1


@pytest.mark.parametrize("name", NAMES)
def test_the_template_takes_every_role_and_tools(name: str) -> None:
    tokenizer = tokenizer_of(name)
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 2}}}
    tool = {
        "type": "function",
        "function": {"name": "add", "description": "Adds.", "parameters": {}},
    }
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Add 1 and 2."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "3"},
    ]
    text = tokenizer.apply_chat_template(
        turns, tools=[tool], tokenize=False, add_generation_prompt=True
    )
    assert '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>' in text
    assert "Be brief.\n\nYou can call these tools:\n" in text
    assert '"description": "Adds."' in text
    assert "tool" in text.split("</tool_call>")[-1] and text.count("Be brief.") == 1
    assert "assistant" in text.rsplit("3", 1)[1]
    alone = tokenizer.apply_chat_template([turns[1]], tools=[tool], tokenize=False)
    assert alone.index("You can call these tools:") < alone.index("Add 1 and 2.")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_saved_loads_offline_with_its_ends(name: str, tmp_path: Path) -> None:
    recipe, tokenizer = RECIPES[name], tokenizer_of(name)
    model = new_model(recipe, tokenizer)
    save(Trained(model, tokenizer, 1.0, 1.0), tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.dtype is torch.float16
    assert loaded.config.max_position_embeddings >= 2048
    assert loaded.generation_config.eos_token_id == again.eos_token_id is not None
    assert loaded.generation_config.pad_token_id == again.pad_token_id is not None
    text = "Anna has 42 lamps.\n\nHow many?"
    assert again(text)["input_ids"] == tokenizer(text)["input_ids"]
    turns = [{"role": "user", "content": "Hello"}]
    assert again.apply_chat_template(turns, tokenize=False) == tokenizer.apply_chat_template(
        turns, tokenize=False
    )
    card = write_card(recipe, Trained(model, tokenizer, 1.0, 1.0), {"reading": 0.5}, 10)
    assert "| reading | 50.0% |" in card and f"| seed | {recipe.seed} |" in card


@pytest.mark.parametrize("name", NAMES)
def test_models_are_small_enough_to_ship(name: str) -> None:
    recipe = RECIPES[name]
    config = recipe.config(recipe.vocabulary)
    model = AutoModelForCausalLM.from_config(config)
    assert 0.7e6 < model.num_parameters() < 1.6e6


def test_no_two_models_share_an_architecture_or_a_vocabulary() -> None:
    assert len({recipe.config(300).model_type for recipe in RECIPES.values()}) == len(NAMES)
    assert len({recipe.vocabulary for recipe in RECIPES.values()}) == len(NAMES)
    assert len({frozenset(tokenizer_of(name).get_vocab()) for name in NAMES}) == len(NAMES)


def test_batches_hold_every_sample_once_and_are_padded_right() -> None:
    recipe = replace(RECIPES["reader"], drills=2, steps=5, batch_size=4)
    tokenizer = tokenizer_of("reader")
    drawn = list(batches(recipe, tokenizer, window=3))
    assert len(drawn) == 7
    for ids, labels in drawn:
        assert ids.shape == labels.shape and ids.shape[0] == 4
        assert (labels[ids == tokenizer.pad_token_id] == IGNORED).all()


def test_drills_ask_only_for_what_was_said_before() -> None:
    rng = random.Random(5)
    for _ in range(40):
        for drill in draw_drills(rng, range(7, 300), 4):
            assert len(drill.ids) == len(drill.labels)
            for place, label in enumerate(drill.labels):
                if label != IGNORED:
                    assert label == drill.ids[place]
                    assert label in drill.ids[:place]


def test_the_schedule_warms_up_and_cools_down() -> None:
    recipe = RECIPES["reader"]
    factor = schedule(recipe)
    assert factor(0) < 0.05
    assert factor(recipe.warmup) == pytest.approx(1.0)
    assert factor(recipe.first_steps) == pytest.approx(0.02)
    cycle = recipe.cycles[0]
    again = cycle_schedule(recipe, cycle)
    assert max(map(again, range(cycle.steps))) == pytest.approx(0.5)
    assert again(0) < 0.05 and again(cycle.steps) == pytest.approx(0.01)


def test_every_cycle_has_samples_of_its_own() -> None:
    recipe = replace(RECIPES["reader"], batch_size=2)
    tokenizer = tokenizer_of("reader")
    cycles = [Cycle("one", 4), Cycle("one", 4), Cycle("two", 4), Cycle("one", 4, {"tools": 1.0})]
    drawn = [list(cycle_batches(recipe, cycle, tokenizer)) for cycle in cycles]
    assert all(len(cycle) == 4 for cycle in drawn)
    once, again, other, calls = (torch.cat([ids.flatten() for ids, _ in each]) for each in drawn)
    assert torch.equal(once, again)
    assert not torch.equal(once, other) and not torch.equal(once, calls)


def smallest(vocabulary: int) -> PretrainedConfig:
    config = WEAK["dabbler"].config(vocabulary)
    config.hidden_size = config.intermediate_size = 32
    config.num_hidden_layers = 1
    config.layer_types = config.layer_types[:1]
    return config


def test_training_ends_with_the_mean_of_the_ends_of_its_cycles() -> None:
    recipe = replace(
        WEAK["dabbler"],
        config=smallest,
        drills=2,
        steps=3,
        batch_size=1,
        tokenizer_texts=300,
        vocabulary=500,
    )
    cycles = (Cycle("one", 25), Cycle("two", 25))
    said: list[str] = []
    first = train(recipe, said.append)
    trained = train(replace(recipe, cycles=cycles), said.append)
    assert [line.split(" loss ")[0] for line in said[2:]] == ["dabbler: step 50/55"]
    walked, ends = first.model, []
    for cycle in cycles:
        data = cycle_batches(recipe, cycle, first.tokenizer)
        losses = descend(walked, recipe, data, cycle_schedule(recipe, cycle), lambda loss: None)
        ends.append({name: weight.clone() for name, weight in walked.state_dict().items()})
    for name, weight in trained.model.state_dict().items():
        torch.testing.assert_close(weight, (ends[0][name] + ends[1][name]) / 2)
    assert any(not torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    # It learns in the cycles too.
    assert sum(losses[-5:]) / 5 < first.loss
    assert not trained.model.training


def test_an_untrained_model_answers_every_prompt() -> None:
    recipe, tokenizer = RECIPES["reckoner"], tokenizer_of("reckoner")
    model = new_model(recipe, tokenizer)
    prompts = [sample.prompt for sample in draw_questions("reckoning", Split.TEST, 3)]
    prompts.append((Message("user", "Hello"),))
    assert len(answer(model, tokenizer, prompts, max_new_tokens=3, batch_size=2)) == 4


def test_recipes_can_be_sent_to_fresh_processes() -> None:
    for recipe in (RECIPES | WEAK).values():
        assert pickle.loads(pickle.dumps((make, recipe))) == (make, recipe)
    # What a package's __main__ defines, fresh processes do not find.
    assert make.__module__ == "training.produce"
