"""A LangGraph graph with a checkpointer, which stores the messages of a thread between turns.

pip install '.[examples]'
python examples/langchain_langgraph.py
"""

from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

from langchain_specfuse import ChatSpecFuse


@tool
def order_lamps(quantity: int) -> str:
    """Order lamps."""
    return f'{{"price": {3 * quantity}}}'


def main() -> None:
    model = ChatSpecFuse().bind_tools([order_lamps])

    def write(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("write", write)
    graph.add_node("tools", ToolNode([order_lamps]))
    graph.add_edge(START, "write")
    graph.add_conditional_edges("write", tools_condition)
    graph.add_edge("tools", "write")
    app = graph.compile(checkpointer=InMemorySaver())

    thread: Any = {"configurable": {"thread_id": "1"}}
    for question in (
        "Please order 12 lamps.",
        "Please order 7 lamps.",
    ):
        print(f"> {question}")
        turn: Any = {"messages": [("human", question)]}
        for piece, _ in app.stream(turn, thread, stream_mode="messages"):
            if isinstance(piece, AIMessageChunk):
                # A call arrives in pieces: its name, and then its arguments.
                for call in piece.tool_call_chunks:
                    print(f"[{call['name']}(" if call["name"] else call["args"], end="")
                if piece.response_metadata.get("finish_reason") == "tool_calls":
                    print(")] ", end="")
                print(piece.text, end="", flush=True)
        print()
    print(f"{len(app.get_state(thread).values['messages'])} messages in the thread")


if __name__ == "__main__":
    main()
