"""What Anthropic says, as bytes: <https://platform.claude.com/docs/en/api/messages> and the fixtures of the core."""

import json
from collections.abc import Iterable

from .envoy import REPOSITORY
from .replies import TEXT, document, event, stream
from .upstream import Fault, Gate, Reply, Seen

FIXTURES = REPOSITORY / "tests/fixtures/anthropic"
MODEL = "claude-sonnet-4-6"


def answer(seen: Seen) -> Reply:
    """What a healthy provider says; it insists on what the vendor insists on."""
    fields = {name: seen.header(name) for name in ("anthropic-version", "content-type", "authorization", "anthropic-beta")}
    expected = {
        "anthropic-version": "2023-06-01",
        "content-type": "application/json",
        "authorization": None,
        "anthropic-beta": None,
    }
    if (seen.method, seen.path) != ("POST", "/v1/messages") or fields != expected:
        return error(400, "invalid_request_error", f"{seen.method} {seen.path} {fields}")
    request = seen.json
    if not request["max_tokens"] or {message["role"] for message in request["messages"]} - {"user", "assistant"}:
        return error(400, "invalid_request_error", "max_tokens and messages")
    return events() if request.get("stream") else message()


def message(text: str = TEXT) -> Reply:
    return document(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": MODEL,
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 3, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 2, "output_tokens": 12},
        },
        headers=[("request-id", "req_1"), ("anthropic-organization-id", "org-of-the-key")],
    )


def named(kind: str, **fields) -> bytes:
    return f"event: {kind}\n".encode() + event({"type": kind, **fields})


def pieces(words: Iterable[str] = ("Grüße", ", 世界", " 👋")) -> list[bytes]:
    """The events of a streamed message."""
    head = json.loads(message().body) | {"content": [], "stop_reason": None}
    head["usage"] |= {"output_tokens": 1}
    deltas = [named("content_block_delta", index=0, delta={"type": "text_delta", "text": word}) for word in words]
    return [
        named("message_start", message=head),
        named("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        named("ping"),
        *deltas,
        named("content_block_stop", index=0),
        named("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 12}),
        named("message_stop"),
    ]


def tool_call(streamed: bool, name: str = "weather", arguments: str = '{"city": "Paris"}') -> Reply:
    """The model wants to know the weather in Paris, or something else."""
    call = {"type": "tool_use", "id": "toolu_1", "name": name, "input": json.loads(arguments)}
    value = json.loads(message().body) | {"stop_reason": "tool_use"}
    if not streamed:
        return document(value | {"content": [call]})
    deltas = [{"type": "input_json_delta", "partial_json": part} for part in ("", arguments[:7], arguments[7:])]
    return events(
        [
            named("message_start", message=value | {"content": [], "stop_reason": None}),
            named("content_block_start", index=0, content_block=call | {"input": {}}),
            *(named("content_block_delta", index=0, delta=delta) for delta in deltas),
            named("content_block_stop", index=0),
            named("message_delta", delta={"stop_reason": "tool_use", "stop_sequence": None}, usage={"output_tokens": 12}),
            named("message_stop"),
        ]
    )


def events(parts: Iterable[bytes | Gate | Fault] | None = None) -> Reply:
    return stream(pieces=pieces() if parts is None else parts)


def fixture(name: str) -> Reply:
    body = (FIXTURES / name).read_bytes()
    return document(json.loads(body)) if name.endswith(".json") else stream(pieces=[body])


def error(status: int, kind: str, text: str = "of the provider", headers: Iterable[tuple[str, str]] = ()) -> Reply:
    body = {"type": "error", "error": {"type": kind, "message": text}, "request_id": "req_1"}
    return document(body, status, headers)


def rate_limited(seconds: int = 60) -> Reply:
    return error(429, "rate_limit_error", headers=[("retry-after", str(seconds))])
