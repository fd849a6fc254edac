"""A step of ingestion that worker processes can import."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from llama_index.core.llms import LLM
from llama_index.core.schema import BaseNode, TransformComponent
from pydantic import SerializeAsAny


class Signed(TransformComponent):
    """Writes which model and which process a node got, and whether torch was loaded for it."""

    llm: SerializeAsAny[LLM]

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        for node in nodes:
            node.metadata["model"] = self.llm.metadata.model_name
            node.metadata["process"] = os.getpid()
            node.metadata["loaded"] = "torch" in sys.modules
        return nodes


class Around(TransformComponent):
    """A step that holds another one."""

    inner: SerializeAsAny[TransformComponent]

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        return self.inner(nodes, **kwargs)
