"""Clients of chat completions in front of a provider that speaks Anthropic Messages."""

import json

import openai
import pytest
from harness import anthropic, chat, replies
from harness.chat import STREAM, text_of
from harness.mock import Llmock
from harness.upstream import Fault, Gate

ANTHROPIC = {"anthropic": {"kind": "anthropic"}}
MODELS = [
    {"name": "claude", "targets": [{"provider": "anthropic", "model": anthropic.MODEL}]},
    {
        "name": "fast",
        "targets": [{"provider": "openai", "model": "gpt-4o-mini"}, {"provider": "anthropic", "model": anthropic.MODEL}],
    },
]
ASK = chat.ask("claude")
TOOLS = chat.tools("get_weather", "get_time")


@pytest.fixture
def gateway(start):
    gateway = start({"openai": ["a"], "anthropic": ["b", "c"]}, models=MODELS, provider_fields=ANTHROPIC)
    for key in ("anthropic/b", "anthropic/c"):
        gateway.always(key, anthropic.answer)
    return gateway


@pytest.fixture
def sdk(gateway):
    with chat.strict(gateway) as client:
        yield client


def test_chat(sdk, gateway):
    answer = sdk.chat.completions.create(
        **ASK,
        temperature=0,
        extra_headers={"anthropic-beta": "of-the-client", "openai-organization": "org-of-the-client"},
    )
    assert (answer.id, answer.model, answer.object) == ("msg_1", anthropic.MODEL, "chat.completion")
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (replies.TEXT, "stop")
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (9, 12, 21)
    assert usage.prompt_tokens_details.cached_tokens == 4
    (seen,) = gateway.requests
    assert seen.header("host") == "api.anthropic.com"
    assert seen.header("openai-organization") is None
    assert int(seen.header("content-length")) == len(seen.body)
    assert (seen.json["model"], seen.json["temperature"]) == (anthropic.MODEL, 0)
    counted = gateway.key("anthropic/b")["tokens"]
    assert (counted["prompt"], counted["completion"], counted["cached"]) == (9, 12, 4)


def test_what_speaks_of_the_account_stays_here(gateway):
    answer = gateway.chat(model="claude")
    assert answer.status == 200
    assert "anthropic-organization-id" not in answer.headers
    assert int(answer.headers.get("content-length", len(answer.body))) == len(answer.body)


@pytest.mark.parametrize("usage", [False, True])
def test_stream(sdk, gateway, usage):
    options = {"stream_options": {"include_usage": True}} if usage else {}
    chunks = list(sdk.chat.completions.create(**ASK, stream=True, **options))
    assert text_of(chunks) == replies.TEXT
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == ([21] if usage else [])
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert gateway.key("anthropic/b")["tokens"]["completion"] == 12, "counted, asked for or not"


def test_the_first_token_does_not_wait(gateway):
    gate = Gate()
    first, *rest = anthropic.pieces()[3:]
    gateway.on("anthropic/b", anthropic.events([*anthropic.pieces()[:3], first, gate, *rest]))
    body = json.dumps({**ASK, "stream": True}).encode()
    with gateway.client.streaming("POST", "/v1/chat/completions", body) as (answer, pieces):
        seen = b""
        while b"Gr\xc3\xbc\xc3\x9fe" not in seen:
            seen += next(pieces)
        gate.open()
        seen += b"".join(pieces)
    assert answer.status == 200
    assert seen.count(b"[DONE]") == 1


def test_tools_and_back(sdk, gateway):
    gateway.on("anthropic/b", anthropic.fixture("tools.json"))
    asked = sdk.chat.completions.create(**ASK, tools=TOOLS, parallel_tool_calls=True, tool_choice="auto")
    assert asked.choices[0].finish_reason == "tool_calls"
    message = asked.choices[0].message
    assert [call.function.name for call in message.tool_calls] == ["get_weather", "get_time"]
    results = [{"role": "tool", "tool_call_id": call.id, "content": "fine"} for call in message.tool_calls]
    back = message.model_dump(exclude_none=True)
    told = [*ASK["messages"], back, *results]
    assert sdk.chat.completions.create(model="claude", messages=told, tools=TOOLS).choices[0].message.content == replies.TEXT
    _, turn, given = gateway.requests[1].json["messages"]
    assert [block["type"] for block in turn["content"]] == ["thinking", "text", "tool_use", "tool_use"]
    assert turn["content"][0] == {"type": "thinking", "thinking": "Both cities.", "signature": "EqQBCgIYAhIM1gbc=="}
    assert [block["tool_use_id"] for block in given["content"]] == [call.id for call in message.tool_calls]


def test_streamed_tools(sdk, gateway):
    gateway.on("anthropic/b", anthropic.fixture("tools.sse"))
    with sdk.chat.completions.stream(**ASK, tools=TOOLS) as events:
        message = events.get_final_completion().choices[0].message
    calls = [(call.id, call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls]
    assert calls == [("toolu_01A", "get_weather", {"city": "Köln", "n": 100.0}), ("toolu_01B", "get_time", {})]
    assert message.content == "I look."


def test_streamed_thinking_survives_the_sdk(sdk, gateway):
    gateway.on("anthropic/b", anthropic.fixture("thinking.sse"))
    with sdk.chat.completions.stream(**ASK) as events:
        message = events.get_final_completion().choices[0].message
    assert message.reasoning_content == "27 * 453 = 12231"
    told = [*ASK["messages"], message.model_dump(exclude_none=True), {"role": "user", "content": "sure?"}]
    assert gateway.chat(model="claude", messages=told).status == 200
    thinking, redacted, text = gateway.requests[1].json["messages"][1]["content"]
    assert thinking == {"type": "thinking", "thinking": "27 * 453 = 12231", "signature": "EqQBCgIYAhIM1gbc=="}
    assert redacted == {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3p"}
    assert text["text"] == "12,231"


def test_what_cannot_be_said_is_refused_by_name(sdk, gateway):
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.chat.completions.create(**ASK, n=2)
    assert refused.value.param == "n"
    part = {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}}
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.chat.completions.create(model="claude", messages=[{"role": "user", "content": [part]}])
    assert refused.value.param == "messages[0].content[0]"
    with pytest.raises(openai.BadRequestError):
        sdk.embeddings.create(model="claude", input="hello")
    assert gateway.requests == []


def test_what_one_target_cannot_take_another_does(gateway):
    """And while that one rests, the client is told when it is back, not that it asked for too much."""
    gateway.on("openai/a", replies.rate_limited(30))
    answer = gateway.chat(n=2)
    assert (answer.status, answer.code) == (429, "keys_temporarily_exhausted")
    assert int(answer.headers["retry-after"]) > 20
    assert gateway.attempts == ["openai/a"]


@pytest.mark.parametrize(
    ("reply", "raised", "message"),
    [
        (anthropic.error(400, "invalid_request_error", "max_tokens: too much"), openai.BadRequestError, "max_tokens: too much"),
        (anthropic.error(404, "not_found_error", "model: x"), openai.NotFoundError, "model: x"),
        (anthropic.error(413, "request_too_large", "too large"), openai.APIStatusError, "too large"),
        (replies.stream(pieces=[anthropic.named("error", error={"type": "invalid_request_error", "message": "late"})]),
         openai.BadRequestError, "late"),
    ],
)  # fmt: skip
def test_the_clients_faults_are_told_in_its_words(sdk, gateway, reply, raised, message):
    gateway.on("anthropic/b", reply)
    with pytest.raises(raised) as error:
        sdk.chat.completions.create(**ASK, stream=True)
    assert message in error.value.message
    assert set(error.value.body) == {"message", "type", "param", "code"}
    assert gateway.attempts == ["anthropic/b"]


@pytest.mark.parametrize(
    "reply",
    [
        anthropic.rate_limited(),
        anthropic.error(529, "overloaded_error"),
        anthropic.error(400, "invalid_request_error", "You have reached your specified API usage limits. Come back later."),
        anthropic.error(401, "authentication_error", "invalid x-api-key"),
        anthropic.fixture("error-first.sse"),
        anthropic.fixture("error-after-start.sse"),
        replies.stream(pieces=[*anthropic.pieces()[:2], Fault.RESET]),
        replies.document({"unexpected": True}),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_every_failure_before_the_first_token_moves_on(start, reply, stream):
    targets = [{"provider": "anthropic", "model": anthropic.MODEL}, {"provider": "openai", "model": "gpt-4o-mini"}]
    models = [{"name": "fast", "targets": targets}]
    gateway = start({"anthropic": ["b"], "openai": ["a"]}, models=models, provider_fields=ANTHROPIC)
    gateway.on("anthropic/b", reply, reply)
    answer = gateway.chat(stream=stream)
    assert answer.status == 200
    assert answer.body == (replies.HIDDEN_USAGE if stream else replies.chat().body)
    last = gateway.requests[-1]
    assert (last.provider, last.path, last.header("anthropic-version"), last.header("x-api-key")) == (
        "openai", "/v1/chat/completions", None, None,
    )  # fmt: skip
    assert last.json["messages"] == ASK["messages"]


def test_a_stream_that_begins_on_openais_429_ends_on_anthropic(sdk, gateway):
    gateway.on("openai/a", replies.rate_limited(30))
    gateway.on("anthropic/b", anthropic.rate_limited())
    chunks = list(sdk.chat.completions.create(**ASK | {"model": "fast"}, **STREAM))
    assert text_of(chunks) == replies.TEXT
    assert {chunk.id for chunk in chunks} == {"msg_1"}
    assert [chunk.choices[0].delta.role for chunk in chunks if chunk.choices].count("assistant") == 1
    assert gateway.attempts == ["openai/a", "anthropic/b", "anthropic/c"]
    assert gateway.requests[1].header("authorization") is None


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (anthropic.fixture("error-midstream.sse"), "provider_overloaded"),
        (anthropic.fixture("truncated.sse"), "stream_truncated"),
        (anthropic.fixture("corrupt.sse"), "provider_error"),
    ],
)
def test_a_stream_that_fails_ends_with_one_error(sdk, gateway, reply, code):
    gateway.on("anthropic/b", reply)
    answer = gateway.chat(**ASK, stream=True)
    assert [event["error"]["code"] for event in answer.events if "error" in event] == [code]
    assert "[DONE]" not in answer.events
    assert b"content_block" not in answer.body
    gateway.on("anthropic/b", reply)
    with pytest.raises(openai.APIError):
        list(sdk.chat.completions.create(**ASK, stream=True))


def test_an_answer_that_makes_no_sense_is_a_502(start):
    gateway = start({"anthropic": ["b"]}, provider_fields=ANTHROPIC)
    gateway.always("anthropic/b", replies.document({"secret": "foreign"}))
    answer = gateway.chat()
    assert (answer.status, answer.code) == (502, "provider_error")
    assert b"foreign" not in answer.body


def test_a_server_error_is_told_in_the_clients_words(start):
    gateway = start({"anthropic": ["b"]}, provider_fields=ANTHROPIC)
    gateway.always("anthropic/b", anthropic.error(500, "api_error", "Internal server error"))
    answer = gateway.chat()
    assert answer.status == 500
    assert answer.json["error"] == {
        "message": "Internal server error", "type": "server_error", "param": None, "code": "provider_error",
    }  # fmt: skip


@pytest.mark.parametrize("mode", ["headers", "body"])
@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_standalone(start, mode, http2):
    models = [{"name": "fast", "targets": [{"provider": "anthropic", "model": anthropic.MODEL}]}]
    gateway = start(
        {"anthropic": ["b"]},
        stage="standalone",
        models=models,
        provider_fields=ANTHROPIC,
        document_fields={"mode": mode},
        http2=http2,
    )
    gateway.always("anthropic/b", anthropic.answer)
    answer = gateway.chat()
    assert answer.json["choices"][0]["message"]["content"] == replies.TEXT, answer
    streamed = gateway.chat(**STREAM)
    assert streamed.events[-1] == "[DONE]", streamed
    assert "".join(e["choices"][0]["delta"].get("content", "") for e in streamed.events[:-1] if e["choices"]) == replies.TEXT
    gateway.on("anthropic/b", anthropic.error(400, "invalid_request_error", "no"))
    refused = gateway.chat()
    assert (refused.status, refused.json["error"]["message"]) == (400, "no")
    gateway.on("anthropic/b", replies.document({"secret": "foreign"}))
    senseless = gateway.chat()
    assert b"foreign" not in senseless.body
    assert "error" in senseless.json
    assert gateway.chat(n=2).status == 400


@pytest.fixture
def llmock(tmp_path):
    mock = Llmock(tmp_path / "llmock.log", 100)
    yield mock
    mock.stop()


def test_llmock(start, llmock):
    fields = {"anthropic": {"kind": "anthropic", "base_path": "/anthropic/v1"}}
    gateway = start({"anthropic": ["b"]}, models=MODELS[:1], provider_fields=fields)
    gateway.always("anthropic/b", llmock.answer)
    with openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="x", max_retries=0) as sdk:
        whole = sdk.chat.completions.create(**ASK).choices[0].message.content
        assert "hello" in whole
        assert text_of(list(sdk.chat.completions.create(**ASK, stream=True))) == whole
        called = sdk.chat.completions.create(**ASK, tools=TOOLS[:1], tool_choice="required").choices[0]
        assert called.message.tool_calls[0].function.name == "get_weather"
        assert isinstance(json.loads(called.message.tool_calls[0].function.arguments), dict)


@pytest.mark.parametrize("version", ["1.36.3", "1.38.2"])
def test_older_envoys(start, version):
    gateway = start({"openai": ["a"], "anthropic": ["b"]}, models=MODELS, provider_fields=ANTHROPIC, version=version)
    gateway.always("anthropic/b", anthropic.answer)
    gateway.on("openai/a", replies.rate_limited(30))
    assert gateway.chat().json["id"] == "msg_1"
    assert gateway.chat(stream=True).events[-1] == "[DONE]"
    gateway.on("anthropic/b", anthropic.error(400, "invalid_request_error", "no"))
    refused = gateway.chat()
    assert (refused.status, refused.json["error"]["message"]) == (400, "no")


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_nothing_of_a_translated_attempt_is_left_for_the_next(start, http2):
    """Not the length of its body either: the next provider gets the client's own bytes."""
    models = [{"name": "fast", "targets": [{"provider": "anthropic", "model": anthropic.MODEL}, {"provider": "openai"}]}]
    gateway = start({"anthropic": ["b"], "openai": ["a"]}, models=models, provider_fields=ANTHROPIC, http2=http2)
    gateway.on("anthropic/b", anthropic.rate_limited())
    assert gateway.chat().json["id"] == "chatcmpl-1"
    translated, last = gateway.requests
    assert last.json == {"model": "fast", "messages": ASK["messages"]}
    assert len(translated.body) != len(last.body)
    assert int(last.header("content-length") or len(last.body)) == len(last.body)
