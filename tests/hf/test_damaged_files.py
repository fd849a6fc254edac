"""Loading a model with a damaged file raises an error that names the file and its problem."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import checkpoints
import huggingface_hub
import pytest
from adapters import Case, change
from checkpoints import keep

from specfuse_core import FusionEngine, ModelConfig
from specfuse_core.errors import ModelLoadError

NOT_JSON = ("{", r"is not valid JSON \(.*line 1 column 2.*\)")
AGAIN = "; copy or download the file again."
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
PULL = "is a pointer of Git LFS, not the file itself; run git lfs pull."


def refusal(config: Any) -> str:
    with pytest.raises(ModelLoadError) as caught:
        FusionEngine.from_pretrained([config], progress=False, warm_up=True)
    return str(caught.value)


def assert_named(message: str, folder: Path, file: str, problem: str, hint: str = AGAIN) -> None:
    """Assert that an error says exactly this of a file."""
    start = re.escape(f"{str(folder)!r}: {file} ")
    assert re.fullmatch(start + problem + re.escape(hint), message), message


@pytest.mark.parametrize(
    "file",
    [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
    ],
)
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        NOT_JSON,
        (" \n", "is empty"),
        ("[1, 2]", r"must contain a JSON object, not '\[1, 2\]'"),
        (b"\xff\xfe{}", "is not a text file in UTF-8"),
    ],
)
def test_a_file_that_is_not_a_json_object_is_named(
    saved: Path, file: str, content: str | bytes, problem: str
) -> None:
    (saved / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert_named(refusal(saved), saved, file, problem)


@pytest.mark.parametrize(
    "file", ["config.json", "generation_config.json", "tokenizer.json", "model.safetensors"]
)
def test_a_pointer_of_git_lfs_is_recognized(saved: Path, file: str) -> None:
    (saved / file).write_text(POINTER)
    assert refusal(saved) == f"{str(saved)!r}: {file} {PULL}"


def test_a_configuration_without_a_type_is_named(saved: Path) -> None:
    described = json.loads((saved / "config.json").read_text())
    del described["model_type"]
    (saved / "config.json").write_text(json.dumps(described))
    assert_named(refusal(saved), saved, "config.json", "does not name a 'model_type'")


def test_a_file_that_describes_no_tokenizer_is_named(saved: Path) -> None:
    (saved / "tokenizer.json").write_text('{"model": {"type": "NoSuchKind"}}')
    problem = r"does not describe a tokenizer \(.+\)"
    assert_named(refusal(saved), saved, "tokenizer.json", problem)


@pytest.mark.parametrize(
    ("kept", "problem"),
    [
        (slice(0), "is empty"),
        (slice(200), "ends within its header"),
        (slice(-100), r"has [\d,]{7} bytes, but its header describes [\d,]{7}"),
        (slice(1, None), "is not a safetensors file"),
    ],
)
def test_weights_that_are_cut_off_are_named(saved: Path, kept: slice, problem: str) -> None:
    file = saved / "model.safetensors"
    file.write_bytes(file.read_bytes()[kept])
    assert_named(refusal(saved), saved, file.name, problem)


@pytest.mark.parametrize("header", [b"[]", b'{"a": 1}', b'{"a": {"data_offsets": [0]}}', b"{no}"])
def test_a_header_of_no_weights_is_named(saved: Path, header: bytes) -> None:
    file = saved / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    assert refusal(saved).startswith(f"{str(saved)!r}: model.safetensors ")
    assert refusal(saved).endswith(AGAIN)


def split(folder: Path) -> Path:
    """Give the weights the name of a part, and write an index that names two parts."""
    parts = [f"model-0000{place}-of-00002.safetensors" for place in (1, 2)]
    (folder / "model.safetensors").rename(folder / parts[0])
    index = folder / "model.safetensors.index.json"
    named = {"model.embed_tokens.weight": parts[0], "lm_head.weight": parts[1]}
    index.write_text(json.dumps({"metadata": {}, "weight_map": named}))
    return index


def test_a_part_of_the_weights_that_is_missing_is_named(saved: Path) -> None:
    split(saved)
    assert refusal(saved) == (
        f"{str(saved)!r}: model-00002-of-00002.safetensors is missing, although the index of the "
        "weights names it; copy or download it into the directory."
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        NOT_JSON,
        ("[]", r"must contain a JSON object, not '\[\]'"),
        ('{"weight_map": []}', "has no 'weight_map'"),
    ],
)
def test_a_damaged_index_is_named(saved: Path, content: str, problem: str) -> None:
    index = split(saved)
    index.write_text(content)
    assert_named(refusal(saved), saved, index.name, problem)


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize(
    ("content", "problem"), [NOT_JSON, ("", "is empty"), ("[]", r"must contain .* not '\[\]'")]
)
def test_a_damaged_description_of_an_adapter_is_named(
    tmp_path: Path, content: str, problem: str, alone: bool
) -> None:
    case = Case(tmp_path)
    (case.paths[0] / "adapter_config.json").write_text(content)
    message = refusal(case.paths[0] if alone else case.config(0))
    assert_named(message, case.paths[0], "adapter_config.json", problem)


def test_an_adapter_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    case = Case(tmp_path)
    change(case.paths[0], peft_type="NO_SUCH_KIND")
    assert re.fullmatch(
        r".*: adapter_config\.json names the peft_type 'NO_SUCH_KIND', which PEFT \d[\w.]+ does "
        r"not know; upgrade PEFT, or save the adapter again\.",
        refusal(case.config(0)),
    )
    change(case.paths[0], peft_type=None)
    problem = "does not name a 'peft_type'"
    assert_named(refusal(case.config(0)), case.paths[0], "adapter_config.json", problem)


def test_damaged_weights_of_an_adapter_are_named(tmp_path: Path) -> None:
    case = Case(tmp_path)
    file = case.paths[0] / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    problem = r"has [\d,]+ bytes, but its header describes [\d,]+"
    assert_named(refusal(case.config(0)), case.paths[0], file.name, problem)


@pytest.mark.parametrize(
    ("start", "kept", "problem"),
    [
        (b"", 0, "is empty"),
        (b"NOPE", None, "is not a GGUF file; it begins with b'NOPE'"),
        (b"GGUF\1", None, "has the GGUF version 1; versions 2 and 3 can be read"),
        (b"GGUF", 20, r"is truncated or damaged \(.+\)"),
        (b"GGUF", 2000, r"is truncated or damaged \(.+\)"),
        (b"GGUF", -100, r"is truncated or damaged \(.+\)"),
    ],
)
def test_a_damaged_gguf_file_is_named(
    tmp_path: Path, start: bytes, kept: int | None, problem: str
) -> None:
    file = tmp_path / "tiny.gguf"
    checkpoints.save_gguf(file)
    content = file.read_bytes()[:kept]
    file.write_bytes(start + content[len(start) :])
    assert_named(refusal(file), tmp_path, file.name, problem)


def test_a_damaged_file_in_the_cache_of_the_hub_is_named(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    (saved / "config.json").write_text("{")
    keep(cache, "org/model", saved)
    assert re.match(r"'org/model': config\.json is not valid JSON", refusal("org/model"))
    (cached,) = cache.glob("**/config.json")
    cached.write_text(json.dumps({"model_type": "llama"}))
    (cached.parent / "model.safetensors").write_bytes(b"")
    assert refusal(ModelConfig(path="org/model")) == (
        "'org/model': model.safetensors is empty; copy or download the file again."
    )
