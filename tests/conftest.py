"""Runs every test offline and on one thread, regardless of the environment variables."""

import asyncio
import gc
import os
from collections.abc import Iterator

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


def pytest_collection_finish() -> None:
    """Keep the garbage collector from scanning all imported modules again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def own_loop() -> Iterator[None]:
    """Set an event loop for synchronous code; llama-index-core would make one and not close it."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()
    asyncio.set_event_loop(None)
