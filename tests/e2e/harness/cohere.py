"""What Cohere says, as bytes: <https://docs.cohere.com/v2/reference/chat> and the fixtures of the core."""

import json
from collections.abc import Iterable

from .envoy import REPOSITORY
from .replies import TEXT, document, stream
from .upstream import Reply, Seen

FIXTURES = REPOSITORY / "tests/fixtures/cohere"
MODEL = "command-a-03-2025"
USAGE = {
    "billed_units": {"input_tokens": 2, "output_tokens": 12},
    "tokens": {"input_tokens": 9, "output_tokens": 12},
    "cached_tokens": 4,
}


def event(kind: str, **fields) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields}, ensure_ascii=False)}\n\n".encode()


def pieces(words: Iterable[str] = ("Grüße", ", 世界", " 👋")) -> list[bytes]:
    content = lambda **fields: {"message": {"content": fields}}  # noqa: E731
    return [
        event("message-start", id="c-1", delta={"message": {"role": "assistant", "content": [], "tool_calls": []}}),
        event("content-start", index=0, delta=content(type="text", text="")),
        *(event("content-delta", index=0, delta=content(text=word)) for word in words),
        event("content-end", index=0),
        event("message-end", delta={"finish_reason": "COMPLETE", "usage": USAGE}),
    ]


def answer(seen: Seen) -> Reply:
    """What a healthy service says."""
    request = seen.json
    match seen.path:
        case "/v2/chat" if request["model"] and request["messages"]:
            if request.get("stream"):
                return stream(pieces=pieces())
            message = {"role": "assistant", "content": [{"type": "text", "text": TEXT}]}
            return document({"id": "c-1", "message": message, "finish_reason": "COMPLETE", "usage": USAGE})
        case "/v2/embed" if request["input_type"] and request["embedding_types"] == ["float"]:
            vectors = [[0.5, -1.0] for _ in request["texts"]]
            return document({"id": "e-1", "embeddings": {"float": vectors}, "meta": {"billed_units": {"input_tokens": 3}}})
        case "/v2/rerank" if request["query"]:
            results = [{"index": index, "relevance_score": 0.9 - index / 10} for index in range(len(request["documents"]))]
            return document({"id": "r-1", "results": results, "meta": {"billed_units": {"search_units": 1}}})
    return error(400, f"{seen.method} {seen.path} {request}")


def fixture(name: str) -> Reply:
    body = (FIXTURES / name).read_bytes()
    return document(json.loads(body)) if name.endswith(".json") else stream(pieces=[body])


def error(status: int, text: str = "of the provider") -> Reply:
    return document({"id": "x-1", "message": text}, status)
