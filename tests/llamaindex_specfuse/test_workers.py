"""Ingestion in several processes: extractors keep their model, and no text leaves the machine."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from ingestion import Around, Signed
from llama_index.core.extractors import KeywordExtractor
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.schema import TextNode, TransformComponent

from llamaindex_specfuse import SpecFuseLLM
from llamaindex_specfuse.errors import NotPicklableError
from specfuse_core import FusionEngine
from specfuse_core.bundled import bundled_models
from specfuse_core.testing import ScriptedBackend

READER = next(path for path in bundled_models() if path.name == "reader")

#: What LlamaIndex uses if an extractor has no model: it sends every prompt to OPENAI_BASE_URL.
HOSTED = """
import os, urllib.request
from llama_index.core.llms import MockLLM

class OpenAI(MockLLM):
    api_key: str = ""

    def _extend(self, prompt, *args, **kwargs):
        send(prompt)

    def complete(self, prompt, *args, **kwargs):
        send(prompt)
        return super().complete(prompt, *args, **kwargs)

    async def acomplete(self, prompt, *args, **kwargs):
        return self.complete(prompt, *args, **kwargs)

def send(prompt):
    urllib.request.urlopen(os.environ["OPENAI_BASE_URL"], prompt.encode()).read()
"""

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])


@pytest.fixture
def sent(own_loop: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The texts that a hosted model received. It is LlamaIndex's default in all processes."""
    received: list[str] = []

    class Hosted(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    package = tmp_path / "llama_index" / "llms" / "openai"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(HOSTED, encoding="utf-8")
    (package / "utils.py").write_text("def validate_openai_api_key(key): pass", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(multiprocessing, "cpu_count", lambda: 2)
    with HTTPServer(("127.0.0.1", 0), Hosted) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
        serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield received
        server.shutdown()
        serving.join()


def nodes() -> list[TextNode]:
    return [TextNode(text=f"The hall has {number} lamps.") for number in (12, 7)]


def test_workers_have_the_model_of_the_pipeline(sent: list[str]) -> None:
    step = Signed(llm=SpecFuseLLM(models=[READER], max_tokens=2))
    found = IngestionPipeline(transformations=[step]).run(nodes=nodes(), num_workers=2)
    assert [node.metadata["model"] for node in found] == ["reader", "reader"]
    assert os.getpid() not in {node.metadata["process"] for node in found}
    # Weights are loaded when a worker needs an answer.
    assert [node.metadata["loaded"] for node in found] == [False, False]
    assert sent == []


def test_a_model_of_an_engine_is_an_error_and_not_replaced(sent: list[str]) -> None:
    llm = SpecFuseLLM(engine=FusionEngine([ScriptedBackend("a", "lamps, hall")]))
    extractor = KeywordExtractor(llm=llm, num_workers=1)
    pipeline = IngestionPipeline(transformations=[extractor])
    with pytest.raises(
        NotPicklableError, match=r"^a SpecFuseLLM with engine= cannot be pickled.*with models="
    ):
        pipeline.run(nodes=nodes(), num_workers=2)
    assert extractor.llm is llm
    # In this process it works as before.
    (first, _) = pipeline.run(nodes=nodes())
    assert first.metadata["excerpt_keywords"] == "lamps, hall"
    assert sent == []


@pytest.mark.parametrize("depth", range(3))
def test_components_in_components_are_refused_as_a_whole(depth: int) -> None:
    inner = Signed(llm=SpecFuseLLM(engine=FusionEngine([ScriptedBackend("a", "x")])))
    component: TransformComponent = inner
    for _ in range(depth):
        component = Around(inner=component)
    with pytest.raises(NotPicklableError):
        pickle.dumps(component)
    assert isinstance(inner.llm, SpecFuseLLM)


def test_other_fields_that_cannot_be_pickled_are_errors_too() -> None:
    llm = SpecFuseLLM(completion_to_prompt=lambda text: text)
    extractor = KeywordExtractor(llm=llm)
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(extractor)
    assert extractor.llm is llm
