"""What the core's tests expect clients to be told, held to the types of their official SDKs, strictly: every stream and
document of every format, in the words of each client. No Envoy is needed for that."""

import json

import pytest
from anthropic.types import RawMessageStreamEvent
from harness.envoy import REPOSITORY
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

FIXTURES = REPOSITORY / "tests/fixtures"
STREAMS = sorted(path for words in ("openai", "anthropic", "responses") for path in FIXTURES.glob(f"*/*.{words}.sse"))
DOCUMENTS = sorted(FIXTURES.glob("*/*.openai.json"))
TYPES = {
    "openai": TypeAdapter(ChatCompletionChunk),
    "anthropic": TypeAdapter(RawMessageStreamEvent),
    "responses": TypeAdapter(ResponseStreamEvent),
}


def name(path):
    return f"{path.parent.name}/{path.name}"


@pytest.mark.parametrize("path", STREAMS, ids=name)
def test_streams(path):
    words = path.name.split(".")[-2]
    lines = path.read_text().splitlines()
    data = [line.removeprefix("data: ") for line in lines if line.startswith("data: ") and line != "data: [DONE]"]
    events = [json.loads(event) for event in data]
    # Of errors and pings the SDKs have no types: the last is an exception, or nothing.
    known = [event for event in events if "error" not in event and event.get("type") not in ("error", "ping")]
    assert events
    for event in known:
        TYPES[words].validate_json(json.dumps(event), strict=True)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_documents(path):
    ChatCompletion.model_validate_json(path.read_text(), strict=True)


def test_every_format_is_there():
    assert {path.parent.name for path in STREAMS} >= {"anthropic", "bedrock", "cohere", "front", "gemini"}
    assert len(STREAMS) > 90
    assert len(DOCUMENTS) >= 4
