"""A RAG service on LangChain. It knows nothing of groundwatch: `opentelemetry-instrument` starts it.

Asks every question three times over: a chain, one after another; the chain, all at once on an event loop; and an agent,
whose tool looks things up.

    opentelemetry-instrument python langchain_service.py ANSWERS.jsonl
"""

import asyncio
import sys
from operator import itemgetter
from pathlib import Path
from typing import Any

from knowledge import PASSAGES, QUESTIONS, answer_to, embedded
from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel, SimpleChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnablePassthrough
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore, VectorStoreRetriever
from witness import Said, Witness


class HashedWords(Embeddings):
    """Embeddings without a model."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [embedded(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return embedded(text)


class Quoting(SimpleChatModel):
    """A chat model that quotes its prompt."""

    @property
    def _llm_type(self) -> str:
        return "quoting"

    def _call(self, messages: list[BaseMessage], *_: Any, **__: Any) -> str:
        return answer_to(str(messages[-1].content))


class Deciding(BaseChatModel):
    """A chat model that looks everything up first, then quotes what it was given."""

    @property
    def _llm_type(self) -> str:
        return "deciding"

    def bind_tools(self, *_: Any, **__: Any) -> "Deciding":
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        question, last = str(messages[0].content), messages[-1]
        if isinstance(last, ToolMessage):
            said = AIMessage(answer_to(f"Context: {last.content}\nQuestion: {question}"))
        else:
            said = AIMessage("", tool_calls=[{"name": "search", "args": {"words": question}, "id": "call-1"}])
        return ChatResult(generations=[ChatGeneration(message=said)])


def joined(documents: list[Document]) -> str:
    return "\n".join(document.page_content for document in documents)


def looks_up() -> VectorStoreRetriever:
    store = InMemoryVectorStore(HashedWords())
    store.add_documents([Document(id=key, page_content=text) for key, text in PASSAGES.items()])
    return store.as_retriever(search_kwargs={"k": 2})


def rag_chain(retriever: VectorStoreRetriever) -> Runnable[Any, Any]:
    prompt = ChatPromptTemplate.from_template("Answer by the context.\nContext: {context}\nQuestion: {question}")
    answering = (
        {"context": itemgetter("documents") | RunnableLambda(joined), "question": itemgetter("question")}
        | prompt
        | Quoting()
        | StrOutputParser()
    )
    return RunnablePassthrough.assign(documents=itemgetter("question") | retriever).assign(answer=answering)


def rag_agent(retriever: VectorStoreRetriever) -> Any:
    @tool
    def search(words: str) -> str:
        """Look words up."""
        return joined(retriever.invoke(words))

    return create_agent(Deciding(), tools=[search])


def asked_of_agent(agent: Any, question: str) -> Said:
    result = agent.invoke({"messages": [{"role": "user", "content": question}]})
    (given,) = (message for message in result["messages"] if isinstance(message, ToolMessage))
    return Said(question=question, documents=str(given.content).split("\n"), answer=str(result["messages"][-1].content))


def said(question: str, result: dict[str, Any]) -> Said:
    found = [document.page_content for document in result["documents"]]
    return Said(question=question, documents=found, answer=result["answer"])


async def all_at_once(chain: Runnable[Any, Any], questions: list[str]) -> list[Said]:
    results = await asyncio.gather(*(chain.ainvoke({"question": question}) for question in questions))
    return [said(question, result) for question, result in zip(questions, results, strict=True)]


def main() -> None:
    witness, retriever = Witness(), looks_up()
    chain, agent = rag_chain(retriever), rag_agent(retriever)
    told = [said(question, chain.invoke({"question": question})) for question in QUESTIONS]
    told += asyncio.run(all_at_once(chain, [f"Please: {question.lower()}" for question in QUESTIONS]))
    told += [asked_of_agent(agent, f"Look it up: {question.lower()}") for question in QUESTIONS]
    witness.write(Path(sys.argv[1]), told)


main()
