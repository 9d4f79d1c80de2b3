"""Clients of OpenAI's Responses, the official SDK among them, in front of a provider that has only Messages."""

import json

import openai
import pytest
from harness import anthropic as claude
from harness import replies

PROVIDERS = {"openai": ["a"], "anthropic": ["b"], "deepseek": ["d"]}
FIELDS = {"anthropic": {"kind": "anthropic"}, "deepseek": {"kind": "deepseek"}}
CLAUDE = {"provider": "anthropic", "model": claude.MODEL}
MODELS = [
    {"name": "claude", "targets": [CLAUDE]},
    {"name": "deep", "targets": [{"provider": "deepseek", "model": "deepseek-chat"}]},
    {"name": "fast", "targets": [{"provider": "openai", "model": "gpt-4o-mini"}, CLAUDE]},
    {"name": "tsaf", "targets": [CLAUDE, {"provider": "openai", "model": "gpt-4o-mini"}]},
]
FUNCTIONS = [
    {"type": "function", "name": name, "description": "d", "strict": False,
     "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
    for name in ("get_weather", "get_time")
]  # fmt: skip


@pytest.fixture
def gateway(start):
    gateway = start(PROVIDERS, models=MODELS, provider_fields=FIELDS)
    gateway.always("anthropic/b", claude.answer)
    return gateway


@pytest.fixture
def sdk(gateway):
    # Strict: an answer that is not of the published types is an error.
    address = f"http://127.0.0.1:{gateway.port}/v1"
    with openai.OpenAI(base_url=address, api_key="of-the-client", max_retries=0, _strict_response_validation=True) as sdk:
        yield sdk


@pytest.mark.parametrize("model", ["claude", "deep"])
def test_response(sdk, gateway, model):
    answer = sdk.responses.create(model=model, instructions="Be brief.", input="hello", temperature=0, metadata={"k": "v"})
    assert (answer.output_text, answer.status, answer.metadata, answer.tools) == (replies.TEXT, "completed", {"k": "v"}, [])
    usage = answer.usage
    assert (usage.input_tokens, usage.input_tokens_details.cached_tokens, usage.output_tokens) == (9, 4, 12)
    (seen,) = gateway.requests
    assert seen.path.endswith({"claude": "/v1/messages", "deep": "/chat/completions"}[model])
    assert gateway.model(model)["tokens"]["completion"] == 12


@pytest.mark.parametrize("model", ["claude", "deep"])
def test_stream(sdk, gateway, model):
    with sdk.responses.stream(model=model, input="hello") as stream:
        events = list(stream)
        answer = stream.get_final_response()
    assert answer.output_text == replies.TEXT
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-1] == "response.completed"
    assert [event.delta for event in events if event.type == "response.output_text.delta"] == ["Grüße", ", 世界", " 👋"]


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_and_thinking_and_back(sdk, gateway, streamed):
    gateway.on("anthropic/b", claude.fixture("tools.sse" if streamed else "tools.json"))
    asked = {"model": "claude", "input": [{"role": "user", "content": "hello"}], "tools": FUNCTIONS, "store": False}
    if streamed:
        with sdk.responses.stream(**asked) as stream:
            answer = stream.until_done().get_final_response()
    else:
        answer = sdk.responses.create(**asked)
    calls = [item for item in answer.output if item.type == "function_call"]
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        ("get_weather", {"city": "Köln", "n": 100.0}),
        ("get_time", {}),
    ]
    told = [*asked["input"], *(item.model_dump(exclude_none=True, exclude={"parsed_arguments"}) for item in answer.output)]
    for item in told:
        item.pop("parsed_arguments", None)
    told += [{"type": "function_call_output", "call_id": call.call_id, "output": "fine"} for call in calls]
    assert sdk.responses.create(model="claude", input=told, tools=FUNCTIONS).output_text == replies.TEXT
    _, turn, given = gateway.requests[1].json["messages"]
    kinds = [block["type"] for block in turn["content"]]
    assert kinds[-2:] == ["tool_use", "tool_use"]
    assert kinds[0] == ("text" if streamed else "thinking")
    if not streamed:
        assert turn["content"][0] == {"type": "thinking", "thinking": "Both cities.", "signature": "EqQBCgIYAhIM1gbc=="}
    assert [block["tool_use_id"] for block in given["content"]] == [call.call_id for call in calls]


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["v"]}]}, "tools[0].type"),
    ],
)
def test_what_nobody_keeps_is_refused_by_name(sdk, gateway, more, param):
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.responses.create(model="claude", input="hello", **more)
    assert (refused.value.param, refused.value.code) == (param, "unsupported_parameter")
    assert gateway.requests == []
    # A provider that has the API is the one to ask.
    body = json.dumps({"model": "fast", "input": "hello", **more}).encode()
    assert gateway.client.post("/v1/responses", body).status == 200
    assert gateway.attempts == ["openai/a"]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("model", "key", "reply", "then"),
    [
        ("fast", "openai/a", replies.rate_limited(60), "anthropic/b"),
        ("tsaf", "anthropic/b", claude.rate_limited(), "openai/a"),
    ],
)
def test_from_one_format_to_the_other(gateway, model, key, reply, then, streamed):
    gateway.on(key, reply)
    # Not by the SDK, which is strict and whose newest usage the scripted OpenAI lacks.
    answer = gateway.client.post("/v1/responses", {"model": model, "input": "hello", "stream": streamed})
    if streamed:
        assert [event["sequence_number"] for event in answer.events] == list(range(len(answer.events)))
        assert [event["type"] for event in answer.events].count("response.completed") == 1
    response = answer.events[-1]["response"] if streamed else answer.json
    assert response["output"][0]["content"][0]["text"] == replies.TEXT
    assert gateway.attempts == [key, then]
    paths = {"openai": "/v1/responses", "anthropic": "/v1/messages"}
    assert [seen.path for seen in gateway.requests] == [paths[name.split("/")[0]] for name in (key, then)]
    assert gateway.requests[-1].json["model"] == {"anthropic/b": claude.MODEL, "openai/a": "gpt-4o-mini"}[then]


@pytest.mark.parametrize("streamed", [False, True])
def test_the_429_when_no_key_is_left(sdk, gateway, streamed):
    gateway.on("anthropic/b", claude.rate_limited())
    with pytest.raises(openai.RateLimitError) as refused:
        sdk.responses.create(model="claude", input="hello", stream=streamed)
    assert refused.value.code == "keys_temporarily_exhausted"


@pytest.mark.parametrize(
    "reply",
    [claude.fixture("error-midstream.sse"), claude.fixture("truncated.sse")],
)
def test_a_stream_that_fails_is_failed(gateway, reply):
    gateway.on("anthropic/b", reply)
    body = json.dumps({"model": "claude", "input": "hello", "stream": True}).encode()
    answer = gateway.client.post("/v1/responses", body).body
    assert b"response.completed" not in answer
    assert answer.count(b"event: response.failed") == 1


def test_errors_are_openais(sdk, gateway):
    gateway.on("anthropic/b", claude.error(400, "invalid_request_error", "max_tokens: too much"))
    with pytest.raises(openai.BadRequestError) as error:
        sdk.responses.create(model="claude", input="hello")
    assert "max_tokens: too much" in error.value.message
    assert error.value.type == "invalid_request_error"
