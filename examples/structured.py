"""Constraints: answers that follow a JSON schema, a choice or a pattern.

pip install .
python examples/structured.py
"""

import json

from specfuse_core import Choice, FusionEngine, JsonSchema, Regex

TEXT = "Anna is 31 years old. Anna lives in Oslo."
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "city": {"type": "string"},
    },
    "required": ["name", "age", "city"],
    "additionalProperties": False,
}


def main() -> None:
    engine = FusionEngine.bundled()
    question = f"Extract the data. Give a JSON object with the keys name, age, city: {TEXT}"
    answer = engine.generate(question, constraint=JsonSchema(PERSON))
    print(f"person  | {json.loads(answer.text)}")

    answer = engine.generate("Which is larger, 12 or 9?", constraint=Choice(["9", "12"]))
    print(f"choice  | {answer.text}")

    question = "How much is 12 plus 7?"
    answer = engine.generate(question, constraint=Regex(r"(?s:.*)The answer is \d+\."))
    print(f"pattern | {answer.text}")


if __name__ == "__main__":
    main()
