"""Every error that specfuse raises, under one root.

The tree (indent = subclass)::

    FusionError                       root; derives from Exception
        ConfigError                   the ensemble or its options make no sense
            UnknownOptionError        an option that does not exist (names the nearest one)
            InvalidOptionError        an option with a value of the wrong kind
                InvalidLimitError     a limit that is zero or negative
            EmptyEnsembleError        no base model was given
            DuplicateNameError        two base models were given the same name
            UnknownModelError         a name that no base model of the ensemble has
        RequestError                  this one request cannot be served
            EmptyConversationError    there is nothing to answer
            InvalidMessageError       a message with an unknown role or unusable content
            EmptyStopStringError      a stop string of no characters would stop every answer
            PromptTooLongError        the prompt does not fit a base model's context window
            InvalidConstraintError    a schema, pattern or grammar that cannot be followed
            InvalidToolError          a tool without a name, or two of one name
            UnknownToolError          a tool_choice that names no tool
        ModelLoadError                a base model could not be loaded
            ModelNotFoundError        neither a directory nor a reachable or cached hub id
            NoWeightsError            no weights, or not all of them
            PickleWeightsError        weights in pickle format only, which can run code
            NoEndTokenError           nothing tells when the model ends its turn
            TemplateError             the chat template cannot render a conversation
        GenerationError               the answer could not go on
            NoVerificationError       no verifier could score any candidate
            AnswerTimeoutError        the answer took longer than it may

No error here is a ValueError, TypeError or RuntimeError. LlamaIndex takes the first two for an
answer that cannot be parsed, and the last for a nested event loop.
"""

from typing import Self

__all__ = [
    "AnswerTimeoutError",
    "ConfigError",
    "DuplicateNameError",
    "EmptyConversationError",
    "EmptyEnsembleError",
    "EmptyStopStringError",
    "FusionError",
    "GenerationError",
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
    "PickleWeightsError",
    "PromptTooLongError",
    "RequestError",
    "TemplateError",
    "UnknownModelError",
    "UnknownOptionError",
    "UnknownToolError",
]


class FusionError(Exception):
    """Root of all errors raised by specfuse."""


class ConfigError(FusionError):
    """The ensemble or its options make no sense."""


class UnknownOptionError(ConfigError):
    """An option that does not exist."""


class InvalidOptionError(ConfigError):
    """An option whose value is of the wrong kind or out of range."""

    #: Name of the option that the message begins with, and the rest of the message, if it was made
    #: by :meth:`of`.
    option: str | None = None
    problem: str = ""

    @classmethod
    def of(cls, option: str, problem: str) -> Self:
        """The error whose message is the name of the option followed by ``problem``."""
        error = cls(f"{option} {problem}")
        error.option, error.problem = option, problem
        return error


class InvalidLimitError(InvalidOptionError):
    """A limit that must be at least one is zero or negative."""


class EmptyEnsembleError(ConfigError):
    """No base model was given."""


class DuplicateNameError(ConfigError):
    """Two base models were given the same name."""


class UnknownModelError(ConfigError):
    """A name that no base model of the ensemble has."""


class RequestError(FusionError):
    """This one request cannot be served; the engine is unharmed."""


class EmptyConversationError(RequestError):
    """A conversation without a single non-empty message."""


class InvalidMessageError(RequestError):
    """A message with an unknown role or unusable content."""


class EmptyStopStringError(RequestError):
    """A stop string of no characters."""


class PromptTooLongError(RequestError):
    """The prompt does not fit the context window of a base model."""


class InvalidConstraintError(RequestError):
    """A schema, pattern, choice or grammar that cannot be followed, or that admits nothing."""


class InvalidToolError(RequestError):
    """A tool without a name, two tools of one name, or parameters that are no schema."""


class UnknownToolError(RequestError):
    """A ``tool_choice`` that asks for a tool which was not given."""


class ModelLoadError(FusionError):
    """A base model could not be loaded."""


class ModelNotFoundError(ModelLoadError):
    """Neither a directory, nor a hub id that can be reached or is cached."""


class NoWeightsError(ModelLoadError):
    """A directory that holds no weights, or weights of which some are missing."""


class PickleWeightsError(ModelLoadError):
    """Weights stored only as pickle files, which can run code when opened."""


class NoEndTokenError(ModelLoadError):
    """Neither generation config, tokenizer nor chat template names an end-of-turn token."""


class TemplateError(ModelLoadError):
    """The chat template cannot render a conversation, even a repaired one."""


class GenerationError(FusionError):
    """The answer could not go on."""


class NoVerificationError(GenerationError):
    """No verifier could score any candidate (all verifications void)."""


class AnswerTimeoutError(GenerationError):
    """The answer took longer than it may. The models have stopped."""
