"""A LlamaIndex agent that reads, calculates, calls a tool and answers, with streamed events.

pip install '.[llamaindex]'
python examples/llamaindex_agent.py
"""

import asyncio

from llama_index.core.agent.workflow import AgentStream, FunctionAgent, ToolCallResult
from llama_index.core.memory import ChatMemoryBuffer

from llamaindex_specfuse import SpecFuseLLM

QUESTION = (
    "The hall has 12 lamps. The attic has 7 lamps. How many lamps are in the hall and the attic in "
    "total? Please order as many lamps."
)


def order_lamps(quantity: int) -> str:
    """Order lamps."""
    return f'{{"price": {3 * quantity}}}'


async def main() -> None:
    llm = SpecFuseLLM()
    agent = FunctionAgent(tools=[order_lamps], llm=llm)
    memory = ChatMemoryBuffer.from_defaults(llm=llm, tokenizer_fn=llm.tokenizer)
    running = agent.run(QUESTION, memory=memory)
    async for event in running.stream_events():
        if isinstance(event, AgentStream) and event.delta and event.raw:
            author = event.raw["specfuse"]["segment"]["model"]
            print(f"{author:>8} | {event.delta.strip()}")
        elif isinstance(event, ToolCallResult):
            print(f"    tool | {event.tool_name}({event.tool_kwargs}) = {event.tool_output}")
    print(f"  answer | {await running}")


if __name__ == "__main__":
    asyncio.run(main())
