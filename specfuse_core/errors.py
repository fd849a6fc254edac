"""Every error that specfuse raises, under one root, and its warnings.

The tree (indent = subclass)::

    FusionError                       root of all errors; derives from Exception
        ConfigError                   the ensemble or its options are invalid
            UnknownOptionError        an option does not exist (the message names the nearest one)
            InvalidOptionError        the value of an option has the wrong type or is out of range
                InvalidLimitError     the value of an option is too small
            EmptyEnsembleError        no base model was given
            DuplicateNameError        two base models have the same name
            UnknownModelError         no base model of the ensemble has the given name
            NotPicklableError         a loaded engine was pickled, or read from a dictionary
        RequestError                  one request cannot be served
            EmptyConversationError    the conversation has no text to answer
            InvalidMessageError       a message has an unknown role or unsupported content
            EmptyStopStringError      a stop string is empty
            PromptTooLongError        the prompt does not fit a base model's context window
            InvalidConstraintError    a schema, pattern, choice or grammar is invalid
            InvalidToolError          the definition of a tool is invalid
            UnknownToolError          tool_choice requires a tool that was not given
        ModelLoadError                a base model could not be loaded
            ModelNotFoundError        no local directory and no hub model has the given name
            NoWeightsError            some or all weights are missing
            PickleWeightsError        the weights are stored only as pickle, which can run code
            NoEndTokenError           the model has no known end-of-turn token
            TemplateError             the chat template cannot render the conversation
        GenerationError               generation failed after the answer had started
            NoVerificationError       no verifier could score any candidate
            AnswerTimeoutError        the answer exceeded its time limit

The warnings::

    FusionWarning                     root of all warnings; derives from UserWarning
        AdapterBaseWarning            an adapter was trained on another base model
        HiddenContentWarning          media of a model or a tool became a placeholder
        RelaxedSchemaWarning          a part of a schema is only checked in the finished value
        SlowMethodWarning             a model runs slower than it should

No error derives from ValueError, TypeError or RuntimeError. LlamaIndex treats the first two as an
answer that it could not parse and returns "Empty Response", and treats a RuntimeError as a nested
event loop.
"""

from typing import Self

__all__ = [
    "AdapterBaseWarning",
    "AnswerTimeoutError",
    "ConfigError",
    "DuplicateNameError",
    "EmptyConversationError",
    "EmptyEnsembleError",
    "EmptyStopStringError",
    "FusionError",
    "FusionWarning",
    "GenerationError",
    "HiddenContentWarning",
    "InvalidConstraintError",
    "InvalidLimitError",
    "InvalidMessageError",
    "InvalidOptionError",
    "InvalidToolError",
    "ModelLoadError",
    "ModelNotFoundError",
    "NoEndTokenError",
    "NoVerificationError",
    "NoWeightsError",
    "NotPicklableError",
    "PickleWeightsError",
    "PromptTooLongError",
    "RelaxedSchemaWarning",
    "RequestError",
    "SlowMethodWarning",
    "TemplateError",
    "UnknownModelError",
    "UnknownOptionError",
    "UnknownToolError",
]


class FusionError(Exception):
    """Root of all errors raised by specfuse."""


class ConfigError(FusionError):
    """Raised if the ensemble or its options are invalid."""


class UnknownOptionError(ConfigError):
    """Raised if an option does not exist. The message says which option to use instead."""


class InvalidOptionError(ConfigError):
    """Raised if the value of an option has the wrong type or is out of range."""

    #: The option that the message begins with, and the rest of the message. Set by :meth:`of` only.
    option: str | None = None
    problem: str = ""

    @classmethod
    def of(cls, option: str, problem: str) -> Self:
        """Make an error whose message is the name of the option, followed by ``problem``."""
        error = cls(f"{option} {problem}")
        error.option, error.problem = option, problem
        return error


class InvalidLimitError(InvalidOptionError):
    """Raised if the value of an option is smaller than the smallest allowed value."""


class EmptyEnsembleError(ConfigError):
    """Raised if an ensemble has no base model, no drafter or no verifier."""


class DuplicateNameError(ConfigError):
    """Raised if two base models have the same name."""


class UnknownModelError(ConfigError):
    """Raised if no base model of the ensemble has the given name."""


class NotPicklableError(ConfigError):
    """Raised if a ``FusionEngine`` is pickled or read from a dictionary.

    Its base models are in the memory of one process.
    """


class RequestError(FusionError):
    """Raised if one request cannot be served. The engine still accepts other requests."""


class EmptyConversationError(RequestError):
    """Raised if all messages of a conversation are empty."""


class InvalidMessageError(RequestError):
    """Raised if a message has an unknown role or unsupported content."""


class EmptyStopStringError(RequestError):
    """Raised if a stop string is empty."""


class PromptTooLongError(RequestError):
    """Raised if the prompt does not fit the context window of a base model."""


class InvalidConstraintError(RequestError):
    """Raised if a constraint is invalid, is not supported, or allows no text at all."""


class InvalidToolError(RequestError):
    """Raised if a tool has an invalid name or invalid parameters, or if two have the same name."""


class UnknownToolError(RequestError):
    """Raised if ``tool_choice`` requires a call of a tool that was not given."""


class ModelLoadError(FusionError):
    """Raised if a base model could not be loaded."""


class ModelNotFoundError(ModelLoadError):
    """Raised if a model is neither a local directory, nor in the hub's cache, nor on the hub."""


class NoWeightsError(ModelLoadError):
    """Raised if some or all weights of a model are missing."""


class PickleWeightsError(ModelLoadError):
    """Raised if weights are stored only as pickle files, which can run code when opened."""


class NoEndTokenError(ModelLoadError):
    """Raised if the generation config, tokenizer and chat template name no end-of-turn token."""


class TemplateError(ModelLoadError):
    """Raised if the chat template cannot render a conversation, even after it is rewritten."""


class GenerationError(FusionError):
    """Raised if generation fails after the answer has started."""


class NoVerificationError(GenerationError):
    """Raised if no verifier could score any candidate of a round."""


class AnswerTimeoutError(GenerationError):
    """Raised if an answer takes longer than its time limit. Its base models have stopped."""


class FusionWarning(UserWarning):
    """Root of all warnings issued by specfuse."""


class AdapterBaseWarning(FusionWarning):
    """Issued if an adapter names another base model than the one that it is loaded on.

    Only names are compared. The weights of both may be equal.
    """


class HiddenContentWarning(FusionWarning):
    """Issued if the message of a model or a tool has media. A placeholder stands for them."""


class RelaxedSchemaWarning(FusionWarning):
    """Issued once per schema if it has keywords that cannot be enforced while the models write.

    The finished value is checked: an invalid call has an error, and an invalid structured answer is
    an error. ``strict_schema=True`` refuses such schemas.
    """


class SlowMethodWarning(FusionWarning):
    """Issued if a model runs with a slower method than it should need.

    The answers are the same. The message has the reason why each faster method failed.
    """
