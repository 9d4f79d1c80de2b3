"""The official `mistralai` package, which speaks chat completions with a few words of its own."""

import json
import time

import pytest
from harness import replies
from harness.mock import Llmock
from harness.replies import chunk, event, rate_limited
from harness.upstream import Reply
from mistralai.client import Mistral
from mistralai.client.errors import SDKError
from mistralai.client.utils import BackoffStrategy, RetryConfig

ROW = {"mistral": {"kind": "mistral"}}
ASK = {"model": "fast", "messages": [{"role": "user", "content": "hello"}]}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


def whole_tool_call() -> Reply:
    """Mistral streams a call in one piece."""
    call = {"id": "call_1_aB3", "index": 0, "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
    last = chunk({"content": "", "tool_calls": [call]}, "tool_calls", usage=replies.USAGE)
    return replies.stream(pieces=[event(chunk({"role": "assistant", "content": ""})), event(last), event("[DONE]")])


@pytest.fixture
def gateway(start):
    return start({"mistral": ["a", "b"]}, provider_fields=ROW)


@pytest.fixture
def sdk(gateway):
    with Mistral(api_key="of-the-client", server_url=f"http://127.0.0.1:{gateway.port}") as client:
        yield client


def test_chat_that_moves_on(sdk, gateway):
    gateway.on("mistral/a", rate_limited(60))
    answer = sdk.chat.complete(**ASK, max_tokens=5)
    assert answer.choices[0].message.content == replies.TEXT
    assert answer.usage.completion_tokens == 12
    assert gateway.attempts == ["mistral/a", "mistral/b"]
    assert gateway.requests[-1].json["max_tokens"] == 5


def test_stream_that_moves_on(sdk, gateway):
    gateway.on("mistral/a", replies.error_in_stream())
    with sdk.chat.stream(**ASK) as events:
        text = "".join(event.data.choices[0].delta.content or "" for event in events if event.data.choices)
    assert text == replies.TEXT
    assert gateway.attempts == ["mistral/a", "mistral/b"]
    assert "stream_options" not in gateway.requests[-1].json, "it is refused there"


@pytest.mark.parametrize("stream", [False, True])
def test_tools(sdk, gateway, stream):
    gateway.on("mistral/a", whole_tool_call() if stream else replies.tool_call())
    if stream:
        with sdk.chat.stream(**ASK, tools=[TOOL]) as events:
            deltas = [event.data.choices[0].delta for event in events if event.data.choices]
        calls = [call for delta in deltas for call in delta.tool_calls or []]
        found = calls[0].function.name, "".join(call.function.arguments for call in calls)
    else:
        call = sdk.chat.complete(**ASK, tools=[TOOL], tool_choice="any").choices[0].message.tool_calls[0]
        found = call.function.name, call.function.arguments
        assert gateway.requests[-1].json["tool_choice"] == "any", "a word of Mistral's own passes"
    assert found == ("weather", '{"city":"Paris"}')


def test_models(sdk):
    assert [model.id for model in sdk.models.list().data] == ["fast"]
    assert sdk.models.retrieve(model_id="fast").id == "fast"


def test_embeddings(sdk, gateway):
    value = json.loads(replies.embeddings().body)
    gateway.on("mistral/a", replies.document({"id": "1", **value}))
    assert sdk.embeddings.create(model="fast", inputs=["hello"]).data[0].embedding == [0.25, -0.5, 1e-7]


def test_a_limit_under_its_other_name(gateway):
    assert gateway.chat(max_completion_tokens=7).status == 200
    assert (gateway.requests[-1].json["max_tokens"], "max_completion_tokens" in gateway.requests[-1].json) == (7, False)


def test_back_off_on_our_429(gateway):
    for key in ("mistral/a", "mistral/b"):
        gateway.on(key, rate_limited(1))
    strategy = BackoffStrategy(initial_interval=100, max_interval=2_000, exponent=1.5, max_elapsed_time=20_000)
    with Mistral(
        api_key="of-the-client",
        server_url=f"http://127.0.0.1:{gateway.port}",
        retry_config=RetryConfig("backoff", strategy, retry_connection_errors=False),
    ) as sdk:
        started = time.monotonic()
        assert sdk.chat.complete(**ASK).choices[0].message.content == replies.TEXT
    assert 0.8 < time.monotonic() - started < 15
    assert len(gateway.attempts) == 3


def test_the_429_is_of_the_sdks_own_type(sdk, gateway):
    for key in ("mistral/a", "mistral/b"):
        gateway.on(key, rate_limited(60))
    with pytest.raises(SDKError) as raised:
        sdk.chat.complete(**ASK)
    assert raised.value.status_code == 429
    assert 55 < int(raised.value.headers["retry-after"]) <= 75


def test_against_an_independent_mock(start, tmp_path):
    """llmock limits each key by itself, and speaks Mistral's way below `/mistral/v1`."""
    mock = Llmock(tmp_path / "llmock.log", 1)
    try:
        fields = {"mistral": {"kind": "mistral", "base_path": "/mistral/v1"}}
        gateway = start({"mistral": ["a", "b"]}, provider_fields=fields)
        for key in ("mistral/a", "mistral/b"):
            gateway.always(key, mock.answer)
        with Mistral(api_key="of-the-client", server_url=f"http://127.0.0.1:{gateway.port}") as sdk:
            texts = [sdk.chat.complete(**ASK).choices[0].message.content for _ in range(2)]
        assert all("hello" in text for text in texts)
        assert gateway.attempts == ["mistral/a", "mistral/b"], "its headers told that the first key is used up"
    finally:
        mock.stop()
