"""What providers say, as bytes. Shapes from the vendors' API references and recorded traffic."""

import gzip
import json
from collections.abc import Iterable

from .upstream import JSON, Fault, Gate, Reply, Seen

EVENT_STREAM = (("content-type", "text/event-stream"),)
USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 12,
    "total_tokens": 21,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
"""Every count differs, so that no two can be mixed up unseen."""

TEXT = "Grüße, 世界 👋"
"""Characters of two, three and four bytes."""


def answer(seen: Seen) -> Reply:
    """What a healthy provider says to this request."""
    path = seen.path.split("?")[0]
    if seen.method == "POST" and path.endswith(("/chat/completions", "/completions")):
        request = seen.json
        if request.get("stream"):
            return stream(usage=(request.get("stream_options") or {}).get("include_usage") is True)
        return chat()
    if path.endswith("/embeddings"):
        return embeddings()
    if path.endswith("/responses"):
        return responses_stream() if seen.json.get("stream") else responses()
    if path.endswith("/moderations"):
        return document({"id": "modr-1", "model": "omni-moderation-latest", "results": [{"flagged": False}]})
    if path.endswith("/audio/speech"):
        return speech_stream() if seen.json.get("stream_format") == "sse" else speech()
    if path.endswith(("/audio/transcriptions", "/audio/translations")):
        return transcription_stream() if b'name="stream"\r\n\r\ntrue' in seen.body else transcription()
    if path.endswith("/images/generations"):
        return image_stream("image_generation") if seen.json.get("stream") else images()
    if path.endswith("/images/edits"):
        return image_stream("image_edit") if b'name="stream"\r\n\r\ntrue' in seen.body else images()
    return error(404, code="unknown_url", message=f"Unknown request URL: {seen.method} {seen.path}")


def document(value, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> Reply:
    return Reply(status, (*JSON, *headers), (json.dumps(value).encode(),))


def chat(headers: Iterable[tuple[str, str]] = (), text: str = TEXT) -> Reply:
    return document(_chat_value(text), headers=headers)


def _chat_value(text: str | None) -> dict:
    message = {"role": "assistant", "content": text, "refusal": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": USAGE,
        "system_fingerprint": "fp_1",
    }


def tool_call() -> Reply:
    """The model wants to know the weather in Paris."""
    call = {"id": "call_1_aB3", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
    value = _chat_value(None)
    value["choices"][0]["message"]["tool_calls"] = [call]
    value["choices"][0]["finish_reason"] = "tool_calls"
    return document(value)


def tool_call_stream(name: str = "weather", arguments: str = '{"city":"Paris"}') -> Reply:
    """The same, or another call, in pieces."""
    head = {"index": 0, "id": "call_1_aB3", "type": "function", "function": {"name": name, "arguments": ""}}
    deltas = [{"role": "assistant", "content": None, "tool_calls": [head]}]
    deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": part}}]} for part in (arguments[:7], arguments[7:])]
    events = [event(chunk(delta)) for delta in deltas] + [event(chunk({}, "tool_calls"))]
    return stream(pieces=[*events, event({**chunk({}), "choices": [], "usage": USAGE}), event("[DONE]")])


def gzipped(reply: Reply) -> Reply:
    return Reply(reply.status, (*reply.headers, ("content-encoding", "gzip")), (gzip.compress(reply.body),))


def event(value) -> bytes:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"data: {text}\n\n".encode()


def chunk(delta: dict, finish: str | None = None, **more) -> dict:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
        **more,
    }


def stream_events(usage: bool = True, words: Iterable[str] = ("Grüße", ", 世界", " 👋")) -> list[bytes]:
    """The events of a streamed chat completion; with usage as on `include_usage`: null, and a last chunk of its own."""
    more = {"usage": None} if usage else {}
    events = [event(chunk({"role": "assistant", "content": ""}, **more))]
    events += [event(chunk({"content": word}, **more)) for word in words]
    events.append(event(chunk({}, "stop", **more)))
    if usage:
        events.append(event(chunk({}) | {"choices": [], "usage": USAGE}))
    return [*events, event("[DONE]")]


HIDDEN_USAGE = b"".join(stream_events()[:-2] + stream_events()[-1:])
"""What a client that did not ask for usage gets to see of a stream that has it."""


def stream(
    usage: bool = True, pieces: Iterable[bytes | Gate | Fault] | None = None, headers: Iterable[tuple[str, str]] = ()
) -> Reply:
    return Reply(200, (*EVENT_STREAM, *headers), tuple(pieces or stream_events(usage)), framing="chunked")


def embeddings() -> Reply:
    data = [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5, 1e-7]}]
    usage = {"prompt_tokens": 8, "total_tokens": 8}
    return document({"object": "list", "data": data, "model": "text-embedding-3-small", "usage": usage})


AUDIO = b"{\x00ID3\xff\r\n\r\n" + bytes(range(256)) * 100
"""Bytes that are no text, and begin as JSON does."""

MEDIA_USAGE = {"input_tokens": 9, "output_tokens": 12, "total_tokens": 21}


def speech() -> Reply:
    pieces = tuple(AUDIO[start : start + 4096] for start in range(0, len(AUDIO), 4096))
    return Reply(200, (("content-type", "audio/mpeg"),), pieces, framing="chunked")


def speech_stream() -> Reply:
    deltas = [event({"type": "speech.audio.delta", "audio": audio}) for audio in ("SUQz", "AAAA")]
    return stream(pieces=[*deltas, event({"type": "speech.audio.done", "usage": MEDIA_USAGE})])


def transcription() -> Reply:
    return document({"text": TEXT, "usage": {"type": "tokens", **MEDIA_USAGE}})


def transcription_stream(end: bool = True) -> Reply:
    deltas = [event({"type": "transcript.text.delta", "delta": word}) for word in TEXT.split(" ")]
    done = event({"type": "transcript.text.done", "text": TEXT, "usage": {"type": "tokens", **MEDIA_USAGE}})
    return stream(pieces=[*deltas, done] if end else deltas)


def _image() -> dict:
    return {"background": "opaque", "output_format": "png", "quality": "low", "size": "1024x1024"}


def images() -> Reply:
    details = {"text_tokens": 4, "image_tokens": 5}
    usage = MEDIA_USAGE | {"input_tokens_details": details}
    return document({"created": 1_790_000_000, "data": [{"b64_json": "iVBORw0KGgo="}], "usage": usage, **_image()})


def image_stream(kind: str) -> Reply:
    fields = {"created_at": 1_790_000_000, "b64_json": "iVBORw0KGgo=", **_image()}
    usage = MEDIA_USAGE | {"input_tokens_details": {"text_tokens": 4, "image_tokens": 5}}
    return stream(
        pieces=[
            named_event(f"{kind}.partial_image", partial_image_index=0, **fields),
            named_event(f"{kind}.completed", usage=usage, **fields),
        ]
    )


def _response_value(status: str = "completed", usage: bool = True) -> dict:
    text = {"type": "output_text", "text": TEXT, "annotations": []}
    message = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [text]}
    counts = {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 12,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 21,
    }
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_790_000_000,
        "status": status,
        "model": "gpt-4o-mini-2024-07-18",
        "output": [message] if status == "completed" else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": counts if usage else None,
    }


def responses() -> Reply:
    return document(_response_value())


def named_event(kind: str, **fields) -> bytes:
    return f"event: {kind}\n".encode() + event({"type": kind, **fields})


def responses_stream() -> Reply:
    return stream(
        pieces=[
            named_event("response.created", sequence_number=0, response=_response_value("in_progress", usage=False)),
            named_event(
                "response.output_text.delta",
                sequence_number=1,
                item_id="msg_1",
                output_index=0,
                content_index=0,
                delta=TEXT,
                logprobs=[],
            ),
            named_event("response.completed", sequence_number=2, response=_response_value()),
        ]
    )


def error(
    status: int,
    kind: str | None = "requests",
    code: str | None = "rate_limit_exceeded",
    message: str = "Rate limit reached",
    headers: Iterable[tuple[str, str]] = (),
    retry_after: float | str | None = None,
) -> Reply:
    hint = () if retry_after is None else (("retry-after", str(retry_after)),)
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return document(body, status, (*headers, *hint))


def rate_limited(retry_after: float | str | None = 60, **more) -> Reply:
    return error(429, retry_after=retry_after, **more)


def out_of_quota(**more) -> Reply:
    message = "You exceeded your current quota, please check your plan and billing details."
    return error(429, "insufficient_quota", "insufficient_quota", message, **more)


def key_rejected(status: int = 401) -> Reply:
    return error(status, "invalid_request_error", "invalid_api_key", "Incorrect API key provided: sk-***.")


def reset_before_headers() -> Reply:
    return Reply(None, pieces=(Fault.RESET,))


def reset_before_first_event() -> Reply:
    """The status line and headers of a stream arrive, and then nothing but the end of the connection."""
    return stream(pieces=[Fault.RESET])


def error_in_stream(code: str = "rate_limit_exceeded") -> Reply:
    """A 200 whose first event is an error, as OpenRouter and OpenAI's Responses API do."""
    body = {"error": {"message": "Rate limit reached", "type": "requests", "code": code}}
    return stream(pieces=[event(body), event("[DONE]")])


def cut_after_content() -> Reply:
    return stream(pieces=[*stream_events()[:2], Fault.RESET])
