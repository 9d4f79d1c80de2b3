"""Clients of Anthropic's Messages, the official SDK among them, in front of providers of both formats."""

import json

import anthropic
import pytest
from anthropic.types import ToolUseBlock
from harness import anthropic as claude
from harness import replies
from harness.replies import chunk, event
from harness.upstream import Fault, Gate

PROVIDERS = {"openai": ["a"], "anthropic": ["b", "c"]}
FIELDS = {"anthropic": {"kind": "anthropic"}}
OPENAI = {"provider": "openai", "model": "gpt-4o-mini"}
CLAUDE = {"provider": "anthropic", "model": claude.MODEL}
MODELS = [
    {"name": "gpt", "targets": [OPENAI]},
    {"name": "claude", "targets": [CLAUDE]},
    {"name": "fast", "targets": [CLAUDE, OPENAI]},
    {"name": "tsaf", "targets": [OPENAI, CLAUDE]},
]
ASK = {"max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
TOOLS = [
    {"name": name, "description": "d", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
    for name in ("get_weather", "get_time")
]
OVERLOADED = event({"error": {"message": "m", "code": "server_is_overloaded"}})
CALLS = [
    {"id": "call_a", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Köln"}'}},
    {"id": "call_b", "type": "function", "function": {"name": "get_time", "arguments": "{}"}},
]


@pytest.fixture
def gateway(start):
    gateway = start(PROVIDERS, models=MODELS, provider_fields=FIELDS)
    for key in ("anthropic/b", "anthropic/c"):
        gateway.always(key, native)
    return gateway


@pytest.fixture
def sdk(gateway):
    # Strict: an answer that is not of the published types is an error.
    address = f"http://127.0.0.1:{gateway.port}"
    with anthropic.Anthropic(base_url=address, api_key="of-the-client", max_retries=0, _strict_response_validation=True) as sdk:
        yield sdk


def native(seen):
    """Anthropic, whatever its client says of versions."""
    return claude.events() if seen.json.get("stream") else claude.message()


def chat_with_calls(stream: bool):
    if not stream:
        answer = json.loads(replies.chat().body)
        answer["choices"][0] |= {"finish_reason": "tool_calls"}
        answer["choices"][0]["message"] |= {"content": "I look.", "tool_calls": CALLS}
        return replies.document(answer)
    pieces = [chunk({"role": "assistant", "content": "I look."})]
    for index, call in enumerate(CALLS):
        head = {"index": index, **call, "function": {**call["function"], "arguments": ""}}
        pieces.append(chunk({"tool_calls": [head]}))
        text = call["function"]["arguments"]
        pieces += [chunk({"tool_calls": [{"index": index, "function": {"arguments": part}}]}) for part in (text[:1], text[1:])]
    pieces.append(chunk({}, "tool_calls"))
    usage = chunk({}) | {"choices": [], "usage": replies.USAGE}
    return replies.stream(pieces=[event(piece) for piece in [*pieces, usage, "[DONE]"]])


@pytest.mark.parametrize("model", ["gpt", "claude"])
def test_chat(sdk, gateway, model):
    answer = sdk.messages.create(
        model=model, **ASK, system="Be brief.", extra_body={"temperature": 0}, extra_headers={"cookie": "a=b"}
    )
    assert [block.text for block in answer.content] == [replies.TEXT]
    assert answer.stop_reason == "end_turn"
    usage = answer.usage
    cached = {"gpt": (5, 4, 0), "claude": (3, 4, 2)}[model]
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == cached
    assert usage.output_tokens == 12
    (seen,) = gateway.requests
    assert (seen.header("anthropic-version") is None) == (model == "gpt")
    assert seen.header("cookie") is None
    assert seen.json["temperature"] == 0
    key = gateway.key("openai/a" if model == "gpt" else "anthropic/b")
    assert (key["tokens"]["prompt"], key["tokens"]["completion"], key["tokens"]["cached"]) == (9, 12, 4)


def test_to_anthropic_bytes_go_as_they_are(gateway):
    body = (
        b'{"max_tokens" : 1e2, "model":"claude","surprise":[1.0,{"b":1,"a":2}],"messages":[{"role":"user","content":"h\\u00e4"}]}'
    )
    answers = []
    gateway.always("anthropic/b", lambda seen: claude.message())
    for path in ("/v1/messages?beta=true", "/v1/messages", "/v1/messages?beta=false&x=1"):
        headers = {"anthropic-version": "2023-01-01", "anthropic-beta": "one,two", "x-api-key": "of-the-client"}
        answers.append(gateway.client.post(path, body, headers))
    seen = gateway.requests
    assert [request.path for request in seen] == ["/v1/messages?beta=true", "/v1/messages", "/v1/messages"]
    assert {request.body for request in seen} == {body.replace(b'"claude"', f'"{claude.MODEL}"'.encode())}
    assert {(r.header("anthropic-version"), r.header("anthropic-beta")) for r in seen} == {("2023-01-01", "one,two")}
    assert {request.header("x-api-key") for request in seen} == {gateway.secrets["anthropic/b"]}
    assert {answer.body for answer in answers} == {claude.message().body}
    assert "anthropic-organization-id" not in answers[0].headers
    assert answers[0].headers["request-id"] == "req_1"


def test_a_stream_to_anthropic_is_untouched_and_counted(gateway):
    answer = gateway.client.post("/v1/messages", json.dumps({**ASK, "model": "claude", "stream": True}).encode())
    assert answer.body == b"".join(claude.pieces())
    tokens = gateway.key("anthropic/b")["tokens"]
    assert (tokens["prompt"], tokens["completion"], tokens["cached"]) == (9, 12, 4)


@pytest.mark.parametrize("model", ["gpt", "claude"])
def test_stream(sdk, gateway, model):
    with sdk.messages.stream(model=model, **ASK) as stream:
        words = list(stream.text_stream)
        answer = stream.get_final_message()
    assert words == ["Grüße", ", 世界", " 👋"]
    assert [block.text for block in answer.content] == [replies.TEXT]
    assert (answer.stop_reason, answer.usage.output_tokens) == ("end_turn", 12)


def test_the_first_token_does_not_wait(gateway):
    gate = Gate()
    first, second, *rest = replies.stream_events()
    gateway.on("openai/a", replies.stream(pieces=[first, second, gate, *rest]))
    body = json.dumps({**ASK, "model": "gpt", "stream": True}).encode()
    with gateway.client.streaming("POST", "/v1/messages", body) as (answer, pieces):
        seen = b""
        while b"Gr\xc3\xbc\xc3\x9fe" not in seen:
            seen += next(pieces)
        gate.open()
        seen += b"".join(pieces)
    assert answer.headers["content-type"] == "text/event-stream"
    assert seen.count(b"event: message_stop") == 1
    assert b"[DONE]" not in seen


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_and_back(sdk, gateway, streamed):
    gateway.on("openai/a", chat_with_calls(streamed))
    asked = {**ASK, "model": "gpt", "tools": TOOLS, "tool_choice": {"type": "auto", "disable_parallel_tool_use": False}}
    if streamed:
        with sdk.messages.stream(**asked) as stream:
            answer = stream.get_final_message()
    else:
        answer = sdk.messages.create(**asked)
    assert answer.stop_reason == "tool_use"
    text, *calls = answer.content
    assert text.text == "I look."
    assert [(call.id, call.name, call.input) for call in calls] == [
        ("call_a", "get_weather", {"city": "Köln"}),
        ("call_b", "get_time", {}),
    ]
    assert all(isinstance(call, ToolUseBlock) for call in calls)
    results = [
        {"type": "tool_result", "tool_use_id": "call_a", "content": "rain"},
        {"type": "tool_result", "tool_use_id": "call_b", "content": [{"type": "text", "text": "no"}], "is_error": True},
    ]
    told = [*ASK["messages"], {"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]
    again = sdk.messages.create(model="gpt", max_tokens=100, messages=told, tools=TOOLS)
    assert again.content[0].text == replies.TEXT
    first, turn, *given = gateway.requests[1].json["messages"]
    assert first == {"role": "user", "content": "hello"}
    assert [json.loads(call["function"]["arguments"]) for call in turn["tool_calls"]] == [{"city": "Köln"}, {}]
    assert [(message["role"], message["tool_call_id"], message["content"]) for message in given] == [
        ("tool", "call_a", "rain"),
        ("tool", "call_b", "The tool failed: no"),
    ]
    assert [tool["function"]["name"] for tool in gateway.requests[0].json["tools"]] == ["get_weather", "get_time"]


def test_thinking_of_other_services_is_shown(start):
    gateway = start({"deepseek": ["d"]}, models=[{"name": "deep", "targets": [{"provider": "deepseek"}]}])
    parts = [{"role": "assistant", "content": None, "reasoning_content": "27 * 453"}, {"content": "12,231"}]
    gateway.always(
        "deepseek/d",
        lambda seen: replies.stream(pieces=[*map(event, map(chunk, parts)), event(chunk({}, "stop")), event("[DONE]")]),
    )
    with (
        anthropic.Anthropic(base_url=f"http://127.0.0.1:{gateway.port}", api_key="x", _strict_response_validation=True) as sdk,
        sdk.messages.stream(model="deep", **ASK) as stream,
    ):
        thinking, text = stream.get_final_message().content
    assert (thinking.type, thinking.thinking, text.text) == ("thinking", "27 * 453", "12,231")


def test_count_tokens(sdk, gateway):
    asked = {"messages": [{"role": "user", "content": "x" * 400}], "system": "y" * 40}
    assert sdk.messages.count_tokens(model="gpt", **asked).input_tokens == 4 + 100 + 4 + 10
    assert gateway.requests == []
    gateway.on("anthropic/b", replies.document({"input_tokens": 7}))
    assert sdk.messages.count_tokens(model="tsaf", **asked).input_tokens == 7
    (seen,) = gateway.requests
    assert (seen.path, seen.json["model"]) == ("/v1/messages/count_tokens", claude.MODEL)
    with pytest.raises(anthropic.BadRequestError):
        sdk.messages.count_tokens(model="gpt", messages=[])


def test_models_are_listed_in_the_words_of_who_asks(sdk, gateway):
    listed = list(sdk.models.list())
    assert [model.id for model in listed] == ["gpt", "claude", "fast", "tsaf"]
    assert sdk.models.retrieve("claude").display_name == "claude"
    with pytest.raises(anthropic.NotFoundError):
        sdk.models.retrieve("none")
    answer = gateway.client.get("/v1/models")
    assert answer.json["object"] == "list"


@pytest.mark.parametrize(
    ("reply", "raised", "kind"),
    [
        (replies.error(400, "invalid_request_error", None, "too long"), anthropic.BadRequestError, "invalid_request_error"),
        (replies.error(404, "invalid_request_error", "model_not_found", "gone"), anthropic.NotFoundError, "not_found_error"),
        (replies.error(413, None, None, "large"), anthropic.APIStatusError, "request_too_large"),
        (replies.error(422, "invalid_request_error", None, "no"), anthropic.UnprocessableEntityError, "invalid_request_error"),
        (replies.error(500, "server_error", None, "broken"), anthropic.InternalServerError, "api_error"),
    ],
)  # fmt: skip
def test_errors_of_providers_in_anthropics_words(sdk, gateway, reply, raised, kind):
    gateway.always("openai/a", lambda seen: reply)
    with pytest.raises(raised) as error:
        sdk.messages.create(model="gpt", **ASK)
    expected = json.loads(reply.body)["error"]["message"]
    assert error.value.body == {"type": "error", "error": {"type": kind, "message": expected}}
    if reply.status < 500:
        assert gateway.attempts == ["openai/a"]


@pytest.mark.parametrize(
    ("call", "raised", "kind", "code"),
    [
        (lambda sdk: sdk.messages.create(model="none", **ASK), anthropic.NotFoundError, "not_found_error", "model_not_found"),
        (lambda sdk: sdk.messages.batches.list(), anthropic.NotFoundError, "not_found_error", "unknown_url"),
        (lambda sdk: sdk.messages.create(model="gpt", **ASK, extra_body={"container": "c"}),
         anthropic.BadRequestError, "invalid_request_error", "unsupported_parameter"),
        (lambda sdk: sdk.messages.create(model="gpt", **ASK, extra_headers={"anthropic-beta": "b" * 3000}),
         anthropic.BadRequestError, "invalid_request_error", "invalid_header"),
    ],
)  # fmt: skip
def test_refusals_are_anthropics(sdk, gateway, call, raised, kind, code):
    with pytest.raises(raised) as error:
        call(sdk)
    body = error.value.body
    assert (body["type"], body["error"]["type"], body["error"]["details"]["error_code"]) == ("error", kind, code)
    assert gateway.requests == []


def test_who_is_not_known_is_told_so(start):
    gateway = start({"openai": ["a"]}, document_fields={"anonymous": "refuse"})
    with (
        anthropic.Anthropic(base_url=f"http://127.0.0.1:{gateway.port}", api_key="unknown", max_retries=0) as sdk,
        pytest.raises(anthropic.AuthenticationError) as error,
    ):
        sdk.messages.create(model="fast", **ASK)
    assert error.value.body["error"]["type"] == "authentication_error"


def test_the_429_and_what_the_sdk_makes_of_it(start):
    gateway = start({"openai": ["a", "b"]})
    for key in ("openai/a", "openai/b"):
        gateway.on(key, replies.rate_limited(1))
    with anthropic.Anthropic(base_url=f"http://127.0.0.1:{gateway.port}", api_key="x") as sdk:
        assert sdk.messages.create(model="fast", **ASK).content[0].text == replies.TEXT
        assert len(gateway.attempts) == 3, "two exhausted, and one that succeeded after the hint"
        for key in ("openai/a", "openai/b"):
            gateway.on(key, replies.rate_limited(60))
        with pytest.raises(anthropic.RateLimitError) as error:
            sdk.with_options(max_retries=0).messages.create(model="fast", **ASK)
    assert error.value.body["error"]["type"] == "rate_limit_error"
    assert error.value.body["error"]["details"]["error_code"] == "keys_temporarily_exhausted"
    assert 1 <= int(error.value.response.headers["retry-after"]) <= 60


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "reply",
    [
        claude.rate_limited(),
        claude.error(529, "overloaded_error"),
        claude.fixture("error-first.sse"),
        claude.fixture("error-after-start.sse"),
        replies.stream(pieces=[*claude.pieces()[:1], Fault.RESET]),
    ],
)
def test_from_anthropic_to_openai_before_the_first_token(sdk, gateway, reply, streamed):
    if reply.status == 200 and not streamed:
        reply = claude.error(503, "overloaded_error")
    for key in ("anthropic/b", "anthropic/c"):
        gateway.on(key, reply, reply)
    betas = {"extra_headers": {"anthropic-beta": "one"}}
    if streamed:
        with sdk.messages.stream(model="fast", **ASK, **betas) as stream:
            answer = stream.get_final_message()
    else:
        answer = sdk.messages.create(model="fast", **ASK, **betas)
    assert (answer.id, answer.content[0].text) == ("msg_chatcmpl-1", replies.TEXT)
    assert {request.header("anthropic-beta") for request in gateway["anthropic"].requests} == {"one"}
    last = gateway.requests[-1]
    assert (last.path, last.header("anthropic-beta"), last.header("anthropic-version"), last.header("x-api-key")) == (
        "/v1/chat/completions", None, None, None,
    )  # fmt: skip


def test_from_openai_to_anthropic_and_the_beta_is_there_again(sdk, gateway):
    gateway.on("openai/a", replies.rate_limited(30))
    gateway.always("anthropic/b", lambda seen: claude.events())
    with sdk.messages.stream(model="tsaf", **ASK, extra_headers={"anthropic-beta": "one"}) as stream:
        answer = stream.get_final_message()
    assert (answer.id, answer.content[0].text) == ("msg_1", replies.TEXT)
    first, last = gateway.requests
    assert (first.header("anthropic-beta"), last.header("anthropic-beta")) == (None, "one")
    assert (last.path, last.header("authorization")) == ("/v1/messages", None)
    assert last.json == {"model": claude.MODEL, "stream": True, **ASK}


@pytest.mark.parametrize(
    ("model", "reply", "kind"),
    [
        ("gpt", replies.stream(pieces=[*replies.stream_events()[:3], OVERLOADED]),
         "overloaded_error"),
        ("gpt", replies.stream(pieces=replies.stream_events()[:3]), "api_error"),
        ("gpt", replies.stream(pieces=[*replies.stream_events()[:3], b"data: {\n\n"]), "api_error"),
        ("claude", claude.events(claude.pieces()[:4]), "api_error"),
    ],
)  # fmt: skip
def test_a_stream_that_fails_ends_with_one_error(sdk, gateway, model, reply, kind):
    gateway.on("openai/a" if model == "gpt" else "anthropic/b", reply)
    with pytest.raises(anthropic.APIStatusError) as error, sdk.messages.stream(model=model, **ASK) as stream:
        assert [event.type for event in stream].count("message_stop") == 0
    assert error.value.body["error"]["type"] == kind


@pytest.mark.parametrize("mode", ["headers", "body"])
def test_standalone(start, mode):
    gateway = start({"openai": ["a"]}, stage="standalone", models=MODELS[:1], document_fields={"mode": mode})
    with anthropic.Anthropic(
        base_url=f"http://127.0.0.1:{gateway.port}", api_key="x", max_retries=0, _strict_response_validation=True
    ) as sdk:
        assert sdk.messages.create(model="gpt", **ASK).content[0].text == replies.TEXT
        with sdk.messages.stream(model="gpt", **ASK) as stream:
            assert stream.get_final_text() == replies.TEXT
        if mode == "body":
            assert sdk.messages.count_tokens(model="gpt", messages=ASK["messages"]).input_tokens == 6
        gateway.on("openai/a", replies.error(400, "invalid_request_error", None, "no"))
        with pytest.raises(anthropic.BadRequestError) as error:
            sdk.messages.create(model="gpt", **ASK)
    assert error.value.body == {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}
