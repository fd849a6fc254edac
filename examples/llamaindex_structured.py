"""Structured output: answers as objects of a pydantic class, complete or streamed.

pip install '.[llamaindex]'
python examples/llamaindex_structured.py
"""

from llama_index.core import PromptTemplate
from llama_index.core.types import PydanticProgramMode
from pydantic import BaseModel

from llamaindex_specfuse import SpecFuseLLM


class Person(BaseModel):
    """A person."""

    name: str
    age: int
    city: str


PROMPT = PromptTemplate(
    "Extract the data. Give a JSON object with the keys name, age, city: {text}"
)
TEXT = "Anna is 31 years old. Anna lives in Oslo."


def main() -> None:
    # The constraint applies to the text (default) or to the call of a tool (function).
    for mode in (PydanticProgramMode.DEFAULT, PydanticProgramMode.FUNCTION):
        llm = SpecFuseLLM(pydantic_program_mode=mode)
        person = llm.structured_predict(Person, PROMPT, text=TEXT)
        print(f"{mode.value:>8} | {person!r}")
    for part in SpecFuseLLM(segment_tokens=4).stream_structured_predict(Person, PROMPT, text=TEXT):
        print(f"  so far | {part.model_dump()}")


if __name__ == "__main__":
    main()
