"""A RAG service on LlamaIndex. It knows nothing of groundwatch; `opentelemetry-instrument` sets up its exporter.

`opentelemetry-instrument` itself passes this instrumentor by unless a package of OpenAI's is installed, too: so it is
switched on in the code, as its own manual has it.

Asks every question twice over: one after another, and all at once on an event loop.

    opentelemetry-instrument python llamaindex_service.py ANSWERS.jsonl
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

from knowledge import PASSAGES, QUESTIONS, answer_to, embedded
from llama_index.core import PromptTemplate, VectorStoreIndex
from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.response.schema import Response
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.llms import CompletionResponse, CompletionResponseGen, CustomLLM, LLMMetadata
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.schema import TextNode
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
from witness import Said, Witness


class HashedWords(BaseEmbedding):
    """Embeddings without a model."""

    def _get_text_embedding(self, text: str) -> list[float]:
        return embedded(text)

    def _get_query_embedding(self, query: str) -> list[float]:
        return embedded(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return embedded(query)


class Quoting(CustomLLM):
    """A model that quotes its prompt."""

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="quoting")

    @llm_completion_callback()
    def complete(self, prompt: str, *_: Any, **__: Any) -> CompletionResponse:
        return CompletionResponse(text=answer_to(prompt))

    @llm_completion_callback()
    def stream_complete(self, prompt: str, *_: Any, **__: Any) -> CompletionResponseGen:
        yield CompletionResponse(text=answer_to(prompt))


def rag_engine() -> BaseQueryEngine:
    nodes = [TextNode(id_=key, text=text) for key, text in PASSAGES.items()]
    index = VectorStoreIndex(nodes, embed_model=HashedWords())
    template = PromptTemplate("Answer by the context.\nContext: {context_str}\nQuestion: {query_str}\n")
    return index.as_query_engine(llm=Quoting(), similarity_top_k=2, text_qa_template=template)


def said(question: str, response: Any) -> Said:
    assert isinstance(response, Response)
    found = [node.get_content() for node in response.source_nodes]
    return Said(question=question, documents=found, answer=str(response.response))


async def all_at_once(engine: BaseQueryEngine, questions: list[str]) -> list[Said]:
    responses = await asyncio.gather(*(engine.aquery(question) for question in questions))
    return [said(question, response) for question, response in zip(questions, responses, strict=True)]


def main() -> None:
    LlamaIndexInstrumentor().instrument()
    engine, witness = rag_engine(), Witness()
    told = [said(question, engine.query(question)) for question in QUESTIONS]
    told += asyncio.run(all_at_once(engine, [f"Please: {question.lower()}" for question in QUESTIONS]))
    witness.write(Path(sys.argv[1]), told)


main()
