"""What Google says, as bytes: <https://ai.google.dev/api/generate-content> and the fixtures of the core."""

import itertools
import json
from collections.abc import Iterable

from .envoy import REPOSITORY
from .replies import TEXT, document, event, stream
from .upstream import Fault, Gate, Reply, Seen

FIXTURES = REPOSITORY / "tests/fixtures/gemini"
MODEL = "gemini-3-flash-preview"
VERTEX = "/v1/projects/project-1/locations/europe-west4"


def answer(seen: Seen) -> Reply:
    """What the healthy Gemini API says; it insists on what the vendor insists on."""
    return _answer(seen, f"/v1beta/models/{MODEL}")


def vertex(seen: Seen) -> Reply:
    return _answer(seen, f"{VERTEX}/publishers/google/models/{MODEL}")


def _answer(seen: Seen, model: str) -> Reply:
    path, _, query = seen.path.partition("?")
    fields = {name: seen.header(name) for name in ("content-type", "anthropic-version", "openai-organization")}
    expected = {"content-type": "application/json", "anthropic-version": None, "openai-organization": None}
    if seen.method != "POST" or fields != expected:
        return error(400, "INVALID_ARGUMENT", f"{seen.method} {fields}")
    request = seen.json
    if path in (f"{model}:batchEmbedContents", f"{model}:embedContent"):
        # The Gemini API wants the model in each, and no other.
        asked = request.get("requests", [request])
        if any(f"/v1beta/{one['model']}" != model for one in asked if "model" in one):
            return error(400, "INVALID_ARGUMENT", f"{seen.json}")
        vectors = [{"values": [0.25, -0.5, 1e-7]} for _ in asked]
        found = {"embeddings": vectors} if "requests" in request else {"embedding": vectors[0]}
        return document(found | {"usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9}})
    if path == f"{model}:countTokens":
        return document({"totalTokens": 9})
    roles = [content["role"] for content in request["contents"]]
    if {*roles} - {"user", "model"} or any(a == b for a, b in itertools.pairwise(roles)) or "model" in request:
        return error(400, "INVALID_ARGUMENT", f"roles: {roles}")
    if (path, query) == (f"{model}:streamGenerateContent", "alt=sse"):
        return events()
    if (path, query) == (f"{model}:generateContent", ""):
        return message()
    return error(404, "NOT_FOUND", f"{seen.path}")


def usage(answered: int = 7) -> dict:
    counts = {"promptTokenCount": 9, "cachedContentTokenCount": 4, "candidatesTokenCount": answered, "thoughtsTokenCount": 5}
    return counts | {"totalTokenCount": 14 + answered}


def value(parts: list[dict], finish: str | None = None, answered: int = 7) -> dict:
    candidate = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "usageMetadata": usage(answered), "modelVersion": MODEL, "responseId": "resp_1"}


def message(text: str = TEXT) -> Reply:
    return document(value([{"text": text}], "STOP"))


def pieces(words: Iterable[str] = ("Grüße", ", 世界", " 👋")) -> list[bytes]:
    """The events of a streamed answer."""
    *first, last = [event(value([{"text": word}], answered=number + 1)) for number, word in enumerate(words)] + [
        event(value([{"text": ""}], "STOP"))
    ]
    return [*first, last]


def events(parts: Iterable[bytes | Gate | Fault] | None = None) -> Reply:
    return stream(pieces=pieces() if parts is None else parts)


def fixture(name: str) -> Reply:
    body = (FIXTURES / name).read_bytes()
    return document(json.loads(body)) if name.endswith(".json") else stream(pieces=[body])


def error(status: int, word: str, text: str = "of the provider", details: Iterable[dict] = ()) -> Reply:
    inner = {"code": status, "message": text, "status": word}
    return document({"error": inner | ({"details": list(details)} if details else {})}, status)


def quota(quota_id: str, seconds: int | None = None) -> Reply:
    """429, by the quota that is used up: `…PerMinute…` or `…PerDay…`."""
    prefix = "type.googleapis.com/google.rpc."
    violation = {"quotaId": quota_id, "quotaDimensions": {"location": "global", "model": MODEL}, "quotaValue": "10"}
    details = [{"@type": f"{prefix}QuotaFailure", "violations": [violation]}]
    if seconds is not None:
        details.append({"@type": f"{prefix}RetryInfo", "retryDelay": f"{seconds}s"})
    return error(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan.", details)


def key_invalid() -> Reply:
    detail = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}
    return error(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", [detail])


def overloaded() -> Reply:
    return error(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")
