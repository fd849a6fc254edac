"""Checks of agents, handoff between agents, and tool calls without an agent."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from typing import Any

from llama_index.core.agent.workflow import (
    AgentStream,
    AgentWorkflow,
    CodeActAgent,
    FunctionAgent,
    ReActAgent,
    ToolCallResult,
)
from llama_index.core.llms import LLM
from llama_index.core.workflow import Context
from workflows.errors import WorkflowRuntimeError

from benchmarks.frameworks.llamaindex_matrix.checks import Checks
from benchmarks.frameworks.llamaindex_matrix.common import (
    FACTS,
    ORDER,
    PRICE,
    TOTAL,
    Orders,
    new_memory,
    or_says_why,
    order_tool,
    says,
)

CHECKS = Checks()


async def _events(handler: Any) -> tuple[str, list[Any]]:
    seen = [event async for event in handler.stream_events()]
    return str(await handler), seen


@CHECKS.add("agents")
async def _function_agent(llm: LLM, content: bool) -> None:
    orders = Orders()
    agent = FunctionAgent(tools=[order_tool(orders)], llm=llm)
    said, seen = await _events(agent.run(ORDER, memory=new_memory(), max_iterations=4))
    says(said, PRICE, content)
    if content:
        assert orders.quantities == [12]
    streamed = "".join(event.delta for event in seen if isinstance(event, AgentStream))
    assert said.strip() in streamed
    assert len([each for each in seen if isinstance(each, ToolCallResult)]) == len(
        orders.quantities
    )


@CHECKS.add("agents")
async def _function_agent_without_streaming(llm: LLM, content: bool) -> None:
    orders = Orders()
    agent = FunctionAgent(tools=[order_tool(orders)], llm=llm, streaming=False)
    says(str(await agent.run(ORDER, memory=new_memory(), max_iterations=4)), PRICE, content)


@CHECKS.add("agents", name="function agent, read then reckon then call")
async def _composite(llm: LLM, content: bool) -> None:
    orders = Orders()
    agent = FunctionAgent(tools=[order_tool(orders)], llm=llm)
    question = f"{FACTS[0]} {FACTS[1]} {TOTAL} Please order as many lamps."
    says(str(await agent.run(question, memory=new_memory(), max_iterations=4)), "57", content)
    if content:
        assert orders.quantities == [19]


@CHECKS.add("agents")
async def _function_agent_with_memory(llm: LLM, content: bool) -> None:
    orders = Orders()
    agent = FunctionAgent(tools=[order_tool(orders)], llm=llm)
    context, memory = Context(agent), new_memory()
    said = await agent.run(ORDER, ctx=context, memory=memory, max_iterations=4)
    says(str(said), PRICE, content)
    again = await agent.run("Please order 7 lamps.", ctx=context, memory=memory, max_iterations=4)
    says(str(again), "21", content)
    assert [message.role.value for message in memory.get_all()].count("user") == 2
    if content:
        assert orders.quantities == [12, 7]


@CHECKS.add("agents", bundled=False)
async def _handoff(llm: LLM, content: bool) -> None:
    orders = Orders()
    clerk = FunctionAgent(
        name="clerk", description="orders lamps", tools=[order_tool(orders)], llm=llm
    )
    porter = FunctionAgent(
        name="porter",
        description="knows who does what",
        system_prompt="Hand off to the clerk what is an order.",
        tools=[],
        can_handoff_to=["clerk"],
        llm=llm,
    )
    workflow = AgentWorkflow(agents=[porter, clerk], root_agent="porter")
    with or_says_why(content, WorkflowRuntimeError):
        said, seen = await _events(workflow.run(ORDER, memory=new_memory(), max_iterations=5))
        says(said, PRICE, content)
        if content:
            called = [each.tool_name for each in seen if isinstance(each, ToolCallResult)]
            assert called == ["handoff", "order_lamps"]


@CHECKS.add("agents")
async def _agent_workflow_from_tools(llm: LLM, content: bool) -> None:
    orders = Orders()
    workflow = AgentWorkflow.from_tools_or_functions([orders.order_lamps], llm=llm)
    with or_says_why(content, WorkflowRuntimeError):
        says(str(await workflow.run(ORDER, memory=new_memory(), max_iterations=4)), PRICE, content)


@CHECKS.add("agents", bundled=False)
async def _react_agent(llm: LLM, content: bool) -> None:
    orders = Orders()
    agent = ReActAgent(tools=[order_tool(orders)], llm=llm)
    with or_says_why(content, WorkflowRuntimeError):
        said, seen = await _events(agent.run(ORDER, memory=new_memory(), max_iterations=4))
        says(said, PRICE, content)
        assert [event for event in seen if isinstance(event, AgentStream)]
        if content:
            assert orders.quantities == [12]
            # The application writes observations, not the model.
            streamed = [event.delta for event in seen if isinstance(event, AgentStream)]
            assert "Observation:" not in "".join(streamed)


@CHECKS.add("agents", bundled=False)
async def _code_act_agent(llm: LLM, content: bool) -> None:
    orders = Orders()

    def execute(code: str) -> str:
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(code, {"order_lamps": orders.order_lamps})
        return printed.getvalue()

    agent = CodeActAgent(code_execute_fn=execute, tools=[order_tool(orders)], llm=llm)
    with or_says_why(content, WorkflowRuntimeError):
        says(str(await agent.run(ORDER, memory=new_memory(), max_iterations=4)), PRICE, content)
        if content:
            assert orders.quantities == [12]


@CHECKS.add("agents", name="predict and call")
async def _predict_and_call(llm: LLM, content: bool) -> None:
    for wait in (False, True):
        orders = Orders()
        tools = [order_tool(orders)]
        if wait:
            done = await llm.apredict_and_call(tools, user_msg=ORDER)
        else:
            done = llm.predict_and_call(tools, user_msg=ORDER)
        assert len(orders.quantities) == len(done.sources) == 1, done.response
        assert done.response == done.sources[0].content
        if content:
            assert orders.quantities == [12]
