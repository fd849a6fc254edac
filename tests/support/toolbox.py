"""Two tools for tests."""

from specfuse_core import Tool

WEATHER = Tool(
    "get_weather",
    "Tells the weather.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
LAMPS = Tool("order_lamps", "", {"properties": {"count": {"type": "integer"}}})
