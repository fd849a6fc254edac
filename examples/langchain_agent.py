"""A LangChain agent that reads, calculates, calls a tool and answers from its result.

pip install '.[examples]'
python examples/langchain_agent.py
"""

from langchain.agents import create_agent
from langchain_core.tools import tool

from langchain_specfuse import ChatSpecFuse

QUESTION = (
    "The hall has 12 lamps. The attic has 7 lamps. How many lamps are in the hall and the attic in "
    "total? Please order as many lamps."
)


@tool
def order_lamps(quantity: int) -> str:
    """Order lamps."""
    return f'{{"price": {3 * quantity}}}'


def main() -> None:
    agent = create_agent(ChatSpecFuse(), [order_lamps])
    for message in agent.invoke({"messages": [("human", QUESTION)]})["messages"]:
        calls = [f"{call['name']}({call['args']})" for call in getattr(message, "tool_calls", [])]
        print(f"{message.type:>5} | {' '.join([message.text, *calls]).strip()}")


if __name__ == "__main__":
    main()
