"""The names that other libraries give to options, and where specfuse has the option.

This module is a table and the lookup in it. Who asks says how an option is set there: a class, a
call and the command line write it in different ways.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["SYNONYMS", "Synonym", "counterpart"]


@dataclass(frozen=True, slots=True)
class Synonym:
    """Names of other libraries that have the same answer.

    Args:
        names: the names, separated by spaces.
        hint: what to do instead. ``{option}`` stands for how that option is set.
    """

    names: str
    hint: str


#: The names come from LangChain (ChatHuggingFace, HuggingFacePipeline, HuggingFaceEndpoint,
#: ChatOllama, ChatOpenAI, VLLM, ChatLlamaCpp), LlamaIndex (HuggingFaceLLM, Ollama, OpenAILike,
#: Vllm, LlamaCPP) and the ``generate`` and ``from_pretrained`` of transformers.
SYNONYMS = (
    # The models
    Synonym(
        "model model_name model_id model_path repo_id checkpoint pretrained_model_name_or_path",
        "use {path}",
    ),
    Synonym("llm pipeline", "use {path} for models to load, or {engine} for loaded models"),
    Synonym(
        "base_url api_base api_url endpoint_url inference_server_url model_url openai_api_base",
        "the models run in this process. Use {path} with hub ids or directories",
    ),
    Synonym(
        "api_key openai_api_key api_version organization max_retries extra_headers extra_query "
        "default_headers",
        "the models run in this process and need no such option. Leave it out",
    ),
    Synonym(
        "hf_token use_auth_token huggingfacehub_api_token",
        "use {token}, log in with `hf auth login`, or set the environment variable HF_TOKEN",
    ),
    Synonym("gguf model_file", "use {gguf_file} with {path}"),
    Synonym("cache_dir cache_folder download_dir", "set the environment variable HF_HUB_CACHE"),
    Synonym(
        "adapter_name adapter_path adapter_id adapter_name_or_path adapters peft peft_model lora "
        "lora_path lora_adapter lora_adapters lora_modules lora_request lora_model_id "
        "lora_name_or_path enable_lora",
        "use {adapter}",
    ),
    Synonym("lora_revision", "use {adapter_revision}"),
    # How they are loaded
    Synonym("torch_dtype", "use {dtype}"),
    Synonym("load_in_4bit load_in_8bit quantization", "use {quantization_config}"),
    Synonym(
        "num_gpu n_gpu_layers tensor_parallel_size gpu_memory_utilization",
        "use {device_map}",
    ),
    Synonym("num_thread n_threads", "set the environment variable OMP_NUM_THREADS"),
    Synonym("model_kwargs", "set each of its values as an option of its own, for example {dtype}"),
    Synonym("keep_alive", "to free the weights, call release_engines() of {registry}"),
    Synonym("task backend", "the models are always run as causal language models. Leave it out"),
    # Tokenizers, templates and windows
    Synonym(
        "tokenizer_name tokenizer_kwargs",
        "every base model uses the tokenizer that is stored with it. To use another one, use "
        "{tokenizer}",
    ),
    Synonym(
        "is_chat_model", "every base model is prompted with its own chat template. Leave it out"
    ),
    Synonym(
        "messages_to_prompt completion_to_prompt query_wrapper_prompt",
        "every base model has its own chat template, which {chat_template} replaces",
    ),
    Synonym("system_prompt system_message", "use {system}"),
    Synonym(
        "num_ctx n_ctx max_model_len max_seq_len",
        "use {context_window}, which limits the prompt and the answer together",
    ),
    Synonym(
        "reasoning_effort think thinking enable_thinking thinking_budget",
        "use {reasoning}, or {chat_template_kwargs} with the variable that the template reads",
    ),
    # What is generated
    Synonym(
        "generate_kwargs generation_kwargs generation_config pipeline_kwargs additional_kwargs "
        "vllm_kwargs options extra_body",
        "set each of its values as an option of its own, for example {temperature}",
    ),
    Synonym(
        "max_tokens max_completion_tokens max_output_tokens n_predict num_output num_predict",
        "use {max_new_tokens}",
    ),
    Synonym("max_length", "use {max_new_tokens}, which does not count the prompt"),
    Synonym("stop_sequences stop_strings stop_words", "use {stop}"),
    Synonym("stop_token_ids stopping_ids eos_token_id", "use {stop} with the texts of the tokens"),
    Synonym("do_sample", "use {temperature}: 0 is greedy, a higher value samples"),
    Synonym("repeat_penalty frequency_penalty presence_penalty", "use {repetition_penalty}"),
    Synonym(
        "n best_of num_return_sequences",
        "a request has one answer. Ask again with another value of {seed} for another one",
    ),
    Synonym("format guided_json json_mode json_schema", "use {constraint}"),
    Synonym("return_full_text echo", "an answer never contains the prompt. Leave it out"),
    Synonym("suffix", "an answer ends where the models end it. Leave it out"),
    Synonym("logit_bias", "use {constraint} to allow only some answers"),
    Synonym(
        "logprobs top_logprobs",
        "the rounds of an answer have the log-probabilities of its drafts. Leave it out",
    ),
    Synonym("num_beams", "beam search is not supported. Leave it out"),
    Synonym("use_cache", "the models always use a key-value cache. Leave it out"),
    Synonym("request_timeout max_time", "use {timeout}"),
    Synonym("streaming", "call a streaming method instead. Leave it out"),
)

_HINTS = {name: synonym.hint for synonym in SYNONYMS for name in synonym.names.split()}


class _Forms(dict[str, str]):
    """How options are set; each is asked for when a hint mentions it."""

    def __init__(self, form: Callable[[str], str]) -> None:
        super().__init__()
        self._form = form

    def __missing__(self, option: str) -> str:
        return self._form(option)


def counterpart(name: str, form: Callable[[str], str]) -> str | None:
    """What to do instead of setting ``name``; None if the table does not have that name.

    Args:
        name: an option that does not exist.
        form: how an option of specfuse is set where ``name`` was given.
    """
    hint = _HINTS.get(name)
    return None if hint is None else hint.format_map(_Forms(form))
