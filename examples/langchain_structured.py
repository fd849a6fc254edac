"""Structured output: answers as objects of a pydantic class.

pip install '.[examples]'
python examples/langchain_structured.py
"""

from pydantic import BaseModel

from langchain_specfuse import ChatSpecFuse


class Person(BaseModel):
    """A person."""

    name: str
    age: int
    city: str


QUESTION = (
    "Extract the data. Give a JSON object with the keys name, age, city: "
    "Anna is 31 years old. Anna lives in Oslo."
)


def main() -> None:
    model = ChatSpecFuse()
    for method in ("json_schema", "function_calling", "json_mode"):
        person = model.with_structured_output(Person, method=method).invoke(QUESTION)
        print(f"{method:>16} | {person!r}")


if __name__ == "__main__":
    main()
