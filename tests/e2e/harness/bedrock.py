"""What AWS Bedrock says, as bytes: <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html>.

A stream is written with the frames of <https://smithy.io/2.0/aws/amazon-eventstream.html>.
"""

import json
import re
import struct
import urllib.parse
import zlib
from collections.abc import Iterable

import botocore.eventstream
import botocore.parsers
import botocore.session
import botocore.validate

from .envoy import REPOSITORY
from .replies import TEXT, document
from .upstream import Fault, Gate, Reply, Seen

FIXTURES = REPOSITORY / "tests/fixtures/bedrock"
MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
SERVICE = botocore.session.get_session().get_service_model("bedrock-runtime")
BLOBS = {"bytes", "redactedContent"}


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """All headers are strings (type 7)."""
    encoded = b"".join(
        struct.pack(f">B{len(name)}sBH", len(name), name.encode(), 7, len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(encoded) + len(payload), len(encoded))
    prelude += struct.pack(">I", zlib.crc32(prelude))
    body = prelude + encoded + payload
    return body + struct.pack(">I", zlib.crc32(body))


def message(kind: str, payload) -> bytes:
    """`!` marks an exception, `?` an error that the service does not model."""
    if kind.startswith("?"):
        return frame({":error-code": kind[1:], ":error-message": payload, ":message-type": "error"}, b"")
    data = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)
    name = (":exception-type", "exception") if kind.startswith("!") else (":event-type", "event")
    headers = {name[0]: kind.removeprefix("!"), ":content-type": "application/json", ":message-type": name[1]}
    return frame(headers, data.encode())


def messages(text: str) -> list[bytes]:
    return [message(*line.split(" ", 1)) for line in text.splitlines()]


def sources():
    return sorted(FIXTURES.glob("*.events"))


def pieces(name: str = "chat") -> list[bytes]:
    """The messages of a fixture."""
    return messages((FIXTURES / f"{name}.events").read_text())


def stream(parts: Iterable[bytes | Gate | Fault]) -> Reply:
    return Reply(200, (("content-type", "application/vnd.amazon.eventstream"), ("x-amzn-requestid", "r-1")), tuple(parts), "chunked")


def fixture(name: str) -> Reply:
    if name.endswith(".json"):
        return document(json.loads((FIXTURES / name).read_text()))
    return stream([b"".join(pieces(name))])


def chat(text: str = TEXT) -> Reply:
    usage = {"inputTokens": 3, "outputTokens": 12, "totalTokens": 21, "cacheReadInputTokens": 4, "cacheWriteInputTokens": 2}
    output = {"message": {"role": "assistant", "content": [{"text": text}]}}
    return document({"output": output, "stopReason": "end_turn", "usage": usage, "metrics": {"latencyMs": 551}})


def events(words: Iterable[str] = ("Grüße", ", 世界", " 👋")) -> list[bytes]:
    deltas = [message("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": word}}) for word in words]
    usage = {"inputTokens": 3, "outputTokens": 12, "totalTokens": 21, "cacheReadInputTokens": 4, "cacheWriteInputTokens": 2}
    return [
        message("messageStart", {"role": "assistant"}),
        *deltas,
        message("contentBlockStop", {"contentBlockIndex": 0}),
        message("messageStop", {"stopReason": "end_turn"}),
        message("metadata", {"usage": usage, "metrics": {"latencyMs": 551}}),
    ]


def error(status: int, kind: str, text: str = "of the provider") -> Reply:
    return document({"message": text}, status, [("x-amzn-errortype", f"{kind}:http://internal.amazon.com/coral/com.amazon.bedrock/")])


def validate(request: dict, model: str = MODEL) -> str:
    """What botocore has against a request to Converse; blobs are base64 in JSON, and bytes to botocore."""
    shape = SERVICE.operation_model("Converse").input_shape
    return botocore.validate.ParamValidator().validate(_with_bytes(request) | {"modelId": model}, shape).generate_report()


def _with_bytes(value):
    if isinstance(value, list):
        return [_with_bytes(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: item.encode() if name in BLOBS and isinstance(item, str) else _with_bytes(item) for name, item in value.items()}


def answer(seen: Seen) -> Reply:
    """What a healthy region says; it insists on what botocore insists on, and on the model's name in the path."""
    path = re.fullmatch(r"/model/([^/:]+)/(converse|converse-stream)", seen.path)
    if seen.method != "POST" or not path or seen.header("content-type") != "application/json":
        return error(404, "UnknownOperationException", f"{seen.method} {seen.path}")
    report = validate(seen.json, urllib.parse.unquote(path[1]))
    unknown = set(seen.json) - set(SERVICE.operation_model("Converse").input_shape.members)
    if report or unknown:
        return error(400, "ValidationException", f"{report} {unknown}")
    return stream(events()) if path[2] == "converse-stream" else chat()


def parsed(stream: bytes) -> list[dict]:
    """The events that botocore reads from a stream; an exception ends it, as `{"exception": CODE}`."""
    shape = SERVICE.operation_model("ConverseStream").get_event_stream_output()
    raw = botocore.eventstream.EventStreamBuffer()
    raw.add_data(stream)
    parser = botocore.parsers.EventStreamJSONParser()
    result = []
    for event in raw:
        answer = event.to_response_dict()
        if answer["status_code"] != 200:
            result.append({"exception": parser.parse(answer, shape)["Error"]["Code"]})
        else:
            result.append(parser.parse(answer, shape))
    return result
