"""A chat about notes, with streamed answers and a memory.

pip install '.[llamaindex]'
python examples/llamaindex_chat.py
"""

import asyncio

from llama_index.core import SummaryIndex
from llama_index.core.chat_engine import ContextChatEngine
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.schema import TextNode

from llamaindex_specfuse import SpecFuseLLM

NOTES = ["The hall has 12 lamps.", "The attic has 7 lamps.", "Anna lives in Oslo."]
QUESTIONS = ["How many lamps are in the attic?", "Where does Anna live?"]


async def main() -> None:
    llm = SpecFuseLLM()
    index = SummaryIndex([TextNode(text=note) for note in NOTES])
    memory = ChatMemoryBuffer.from_defaults(llm=llm, tokenizer_fn=llm.tokenizer)
    engine = ContextChatEngine.from_defaults(retriever=index.as_retriever(), llm=llm, memory=memory)
    for question in QUESTIONS:
        print(f"     user | {question}")
        print("assistant | ", end="")
        answer = await engine.astream_chat(question)
        async for piece in answer.async_response_gen():
            print(piece, end="", flush=True)
        print()
    print(f"{len(engine.chat_history)} messages in the history")


if __name__ == "__main__":
    asyncio.run(main())
