"""Read numbers, add them, and call a tool with the result: one answer of three models.

pip install .
python examples/tools.py
"""

from pathlib import Path

from specfuse_core import FusionEngine, Message, Tool

HOUSE = (Path(__file__).parent / "house.txt").read_text(encoding="utf-8").strip()
QUESTION = "How many lamps are in the hall and the attic in total? Please order as many lamps."
ORDER = Tool(
    "order_lamps",
    "Order lamps.",
    {
        "type": "object",
        "properties": {"quantity": {"type": "integer"}, "city": {"type": "string"}},
        "required": ["quantity"],
    },
)
WEATHER = Tool(
    "get_weather",
    "Tells the weather in a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)


def main() -> None:
    engine = FusionEngine.bundled()
    turns = [Message("user", f"{HOUSE}\n\n{QUESTION}")]
    calls = []
    for segment in engine.stream(turns, tools=[ORDER, WEATHER]):
        if segment.text:
            print(f"{segment.author or '':>10} | {segment.channel:>9} | {segment.text.strip()}")
        if segment.call and segment.call.call:
            calls.append(segment.call.call)
    for call in calls:
        print(f"\n{call.name}({dict(call.arguments)})")
    # Send the result as a message with the role "tool", and let the models answer from it.
    turns.append(Message("assistant", tool_calls=tuple(calls)))
    turns.append(Message("tool", '{"price": 57}', tool_call_id=calls[0].id))
    print(f"\n{engine.generate(turns, tools=[ORDER, WEATHER]).text}")


if __name__ == "__main__":
    main()
