"""Clients of chat completions in front of Gemini, and of Gemini and Claude on Vertex AI."""

import base64
import json
import struct

import openai
import pytest
from harness import anthropic, chat, gemini, replies
from harness.chat import STREAM, text_of
from harness.mock import Llmock
from harness.upstream import Gate

GEMINI = {"gemini": {"kind": "gemini"}}
MODELS = [
    {"name": "gem", "targets": [{"provider": "gemini", "model": gemini.MODEL}]},
    {
        "name": "fast",
        "targets": [{"provider": "openai", "model": "gpt-4o-mini"}, {"provider": "gemini", "model": gemini.MODEL}],
    },
]
ASK = chat.ask("gem")
TOOLS = chat.tools("weather", "now")


@pytest.fixture
def gateway(start):
    gateway = start({"openai": ["a"], "gemini": ["b", "c"]}, models=MODELS, provider_fields=GEMINI)
    for key in ("gemini/b", "gemini/c"):
        gateway.always(key, gemini.answer)
    return gateway


@pytest.fixture
def sdk(gateway):
    with chat.strict(gateway) as client:
        yield client


def test_chat(sdk, gateway):
    told = [{"role": "system", "content": "Be brief."}, *ASK["messages"]]
    answer = sdk.chat.completions.create(
        model="gem", messages=told, temperature=0, extra_headers={"openai-organization": "org-of-the-client"}
    )
    assert (answer.id, answer.model, answer.object) == ("resp_1", gemini.MODEL, "chat.completion")
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (replies.TEXT, "stop")
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (9, 12, 21)
    assert usage.prompt_tokens_details.cached_tokens == 4
    assert usage.completion_tokens_details.reasoning_tokens == 5
    (seen,) = gateway.requests
    assert seen.header("host") == "generativelanguage.googleapis.com"
    assert seen.header("authorization") is None
    assert seen.key == gateway.secrets["gemini/b"]
    assert seen.json == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [{"role": "user", "parts": [{"text": "hello"}]}],
        "generationConfig": {"temperature": 0},
    }
    counted = gateway.key("gemini/b")["tokens"]
    assert (counted["prompt"], counted["completion"], counted["cached"]) == (9, 12, 4)


@pytest.mark.parametrize("usage", [False, True])
def test_stream(sdk, gateway, usage):
    options = {"stream_options": {"include_usage": True}} if usage else {}
    chunks = list(sdk.chat.completions.create(**ASK, stream=True, **options))
    assert text_of(chunks) == replies.TEXT
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == ([21] if usage else [])
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert gateway.key("gemini/b")["tokens"]["completion"] == 12, "counted, asked for or not"


def test_the_first_token_does_not_wait(gateway):
    gate = Gate()
    first, *rest = gemini.pieces()
    gateway.on("gemini/b", gemini.events([first, gate, *rest]))
    body = json.dumps({**ASK, "stream": True}).encode()
    with gateway.client.streaming("POST", "/v1/chat/completions", body) as (answer, pieces):
        seen = b""
        while b"Gr\xc3\xbc\xc3\x9fe" not in seen:
            seen += next(pieces)
        gate.open()
        seen += b"".join(pieces)
    assert answer.status == 200
    assert seen.count(b"[DONE]") == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kept", ["all", "calls", "nothing"])
def test_tools_and_back(sdk, gateway, stream, kept):
    """With what a client keeps of an answer: everything, the calls as they were, or no more than it knows."""
    gateway.on("gemini/b", gemini.fixture("tools.sse" if stream else "tools.json"))
    if stream:
        with sdk.chat.completions.stream(**ASK, tools=TOOLS) as events:
            choice = events.get_final_completion().choices[0]
    else:
        choice = sdk.chat.completions.create(**ASK, tools=TOOLS, parallel_tool_calls=True, tool_choice="auto").choices[0]
    assert choice.finish_reason == "tool_calls"
    message = choice.message
    calls = [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls]
    assert calls[:2] == [
        ("weather", {"city": "Köln", "days": 2, **({"note": '"q"'} if stream else {})}),
        ("weather", {"city": "Graz"}),
    ]
    assert message.tool_calls[0].id == "fc-8123"
    assert message.tool_calls[1].id.startswith("call_")
    back = message.model_dump(exclude_none=True)
    if kept != "all":
        back.pop("reasoning_details")
    if kept == "nothing":
        for call in back["tool_calls"]:
            call.pop("extra_content", None)
    results = [{"role": "tool", "tool_call_id": call.id, "content": "fine"} for call in message.tool_calls]
    told = [*ASK["messages"], back, *results]
    assert sdk.chat.completions.create(model="gem", messages=told, tools=TOOLS).choices[0].message.content == replies.TEXT
    _, turn, given = gateway.requests[1].json["contents"]
    signature = "skip_thought_signature_validator" if kept == "nothing" else "CpQEAdHtim/Keywatw=="
    signed = [part for part in turn["parts"] if "thoughtSignature" in part]
    assert [(part["functionCall"]["id"], part["thoughtSignature"]) for part in signed] == [("fc-8123", signature)]
    responses = [part["functionResponse"] for part in given["parts"]]
    assert [(answer["id"], answer["name"]) for answer in responses] == [
        (call.id, call.function.name) for call in message.tool_calls
    ]


def test_structured_output(sdk, gateway):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
    gateway.on("gemini/b", gemini.message('{"n": 7}'))
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    answer = sdk.chat.completions.create(**ASK, response_format=form)
    assert json.loads(answer.choices[0].message.content) == {"n": 7}
    assert gateway.requests[0].json["generationConfig"] == {
        "responseMimeType": "application/json",
        "responseJsonSchema": schema,
    }


def test_what_is_blocked_is_a_refusal(sdk, gateway):
    gateway.on("gemini/b", gemini.fixture("blocked.sse"))
    chunks = list(sdk.chat.completions.create(**ASK, stream=True))
    assert "".join(chunk.choices[0].delta.refusal or "" for chunk in chunks) == "The prompt was blocked: PROHIBITED_CONTENT."
    assert chunks[-1].choices[0].finish_reason == "content_filter"


def test_embeddings(sdk, gateway):
    found = sdk.embeddings.create(model="gem", input=["a", "b"], dimensions=3, encoding_format="float")
    assert [item.index for item in found.data] == [0, 1]
    assert found.data[1].embedding == [0.25, -0.5, 1e-7]
    assert found.model == gemini.MODEL
    (seen,) = gateway.requests
    assert seen.path == f"/v1beta/models/{gemini.MODEL}:batchEmbedContents"
    asked = {"model": f"models/{gemini.MODEL}", "outputDimensionality": 3}
    assert seen.json["requests"] == [{**asked, "content": {"parts": [{"text": text}]}} for text in "ab"]
    body = {"model": "gem", "input": "a", "encoding_format": "base64"}
    encoded = base64.b64encode(struct.pack("<3f", 0.25, -0.5, 1e-7)).decode()
    assert gateway.client.post("/v1/embeddings", body).json["data"][0]["embedding"] == encoded
    with openai.OpenAI(base_url=sdk.base_url, api_key="x") as lenient:
        default = lenient.embeddings.create(model="gem", input="a").data[0].embedding
    assert default == pytest.approx([0.25, -0.5, 1e-7]), "the SDK asks for base64 by itself"
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.embeddings.create(model="gem", input=[[1, 2]])
    assert refused.value.param == "input[0]"


def test_what_cannot_be_said_is_refused_by_name(sdk, gateway):
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.chat.completions.create(**ASK, n=2)
    assert refused.value.param == "n"
    assert gateway.requests == []


@pytest.mark.parametrize(
    ("reply", "raised", "message"),
    [
        (gemini.error(400, "INVALID_ARGUMENT", "contents: too much"), openai.BadRequestError, "contents: too much"),
        (gemini.error(404, "NOT_FOUND", "models/x is not found"), openai.NotFoundError, "models/x is not found"),
    ],
)
def test_the_clients_faults_are_told_in_its_words(sdk, gateway, reply, raised, message):
    gateway.on("gemini/b", reply)
    with pytest.raises(raised) as error:
        sdk.chat.completions.create(**ASK, stream=True)
    assert message in error.value.message
    assert set(error.value.body) == {"message", "type", "param", "code"}
    assert gateway.attempts == ["gemini/b"]


@pytest.mark.parametrize(
    ("reply", "state"),
    [
        (gemini.quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", 34), "rate_limited"),
        (gemini.quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier", 34), "out_of_quota"),
        (gemini.key_invalid(), "key_rejected"),
        (gemini.overloaded(), "overloaded"),
        (gemini.fixture("error-first.sse"), "overloaded"),
        (gemini.fixture("malformed-call.sse"), None),
        (replies.document({"unexpected": True}), None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_every_failure_before_the_first_token_moves_on(start, reply, state, stream):
    targets = [{"provider": "gemini", "model": gemini.MODEL}, {"provider": "openai", "model": "gpt-4o-mini"}]
    gateway = start({"gemini": ["b"], "openai": ["a"]}, models=[{"name": "fast", "targets": targets}], provider_fields=GEMINI)
    gateway.on("gemini/b", reply, reply)
    answer = gateway.chat(stream=stream)
    assert answer.status == 200
    assert answer.body == (replies.HIDDEN_USAGE if stream else replies.chat().body)
    last = gateway.requests[-1]
    assert (last.provider, last.path, last.header("x-goog-api-key")) == ("openai", "/v1/chat/completions", None)
    shown = json.dumps(gateway.status())
    if state:
        assert state in shown


def test_a_stream_that_begins_on_openais_429_ends_on_gemini(sdk, gateway):
    gateway.on("openai/a", replies.rate_limited(30))
    gateway.on("gemini/b", gemini.quota("GenerateRequestsPerMinutePerProjectPerModel", 20))
    chunks = list(sdk.chat.completions.create(**ASK | {"model": "fast"}, **STREAM))
    assert text_of(chunks) == replies.TEXT
    assert {chunk.id for chunk in chunks} == {"resp_1"}
    assert [chunk.choices[0].delta.role for chunk in chunks if chunk.choices].count("assistant") == 1
    assert gateway.attempts == ["openai/a", "gemini/b", "gemini/c"]
    assert gateway.requests[1].header("authorization") is None


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (gemini.fixture("error-midstream.sse"), "provider_overloaded"),
        (gemini.fixture("error-raw.sse"), "provider_overloaded"),
        (gemini.fixture("truncated.sse"), "stream_truncated"),
        (gemini.fixture("corrupt.sse"), "provider_error"),
    ],
)
def test_a_stream_that_fails_ends_with_one_error(sdk, gateway, reply, code):
    gateway.on("gemini/b", reply)
    answer = gateway.chat(**ASK, stream=True)
    assert [event["error"]["code"] for event in answer.events if "error" in event] == [code]
    assert "[DONE]" not in answer.events
    assert b"candidates" not in answer.body


VERTEX = {"kind": "vertex", "project": "project-1", "location": "europe-west4"}


def test_vertex(start):
    models = [{"name": "gem", "targets": [{"provider": "vertex", "model": gemini.MODEL}]}]
    gateway = start({"vertex": ["t"]}, models=models, provider_fields={"vertex": VERTEX})
    gateway.always("vertex/t", gemini.vertex)
    answer = gateway.chat(**ASK)
    assert answer.json["choices"][0]["message"]["content"] == replies.TEXT, answer
    assert gateway.chat(**ASK, stream=True).events[-1] == "[DONE]"
    first = gateway.requests[0]
    assert first.header("host") == "europe-west4-aiplatform.googleapis.com"
    assert first.header("authorization") == f"Bearer {gateway.secrets['vertex/t']}"
    assert first.header("x-goog-api-key") is None


def test_claude_on_vertex(start):
    name = "claude-sonnet-4-6@20260217"
    models = [{"name": "claude", "targets": [{"provider": "claude", "model": name}]}]
    fields = {"claude": VERTEX | {"kind": "vertex-anthropic", "location": "global"}}
    gateway = start({"claude": ["t"]}, models=models, provider_fields=fields)
    gateway.on("claude/t", anthropic.message(), anthropic.events())
    assert gateway.chat(model="claude").json["choices"][0]["message"]["content"] == replies.TEXT
    assert gateway.chat(model="claude", stream=True).events[-1] == "[DONE]"
    base = f"/v1/projects/project-1/locations/global/publishers/anthropic/models/{name}"
    whole, streamed = gateway.requests
    assert (whole.path, streamed.path) == (f"{base}:rawPredict", f"{base}:streamRawPredict")
    assert whole.header("host") == "aiplatform.googleapis.com"
    assert whole.header("anthropic-version") is None
    for seen in (whole, streamed):
        assert seen.json["anthropic_version"] == "vertex-2023-10-16"
        assert "model" not in seen.json
    assert streamed.json["stream"] is True


def test_messages_to_claude_on_vertex_pass_in_its_envelope(start):
    models = [{"name": "claude", "targets": [{"provider": "claude", "model": "claude-x"}]}]
    gateway = start({"claude": ["t"]}, models=models, provider_fields={"claude": VERTEX | {"kind": "vertex-anthropic"}})
    gateway.on("claude/t", anthropic.message(), anthropic.events())
    body = b'{"model":"claude", "max_tokens": 7,"messages":[{"role":"user","content":"hi"}],"x":1e2,"stream":false}'
    headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "context-1m"}
    assert gateway.client.post("/v1/messages?beta=true", body, headers).body == anthropic.message().body
    whole = gateway.requests[0]
    expected = body.replace(b'"model":"claude", "max_tokens": 7', b'"anthropic_version":"vertex-2023-10-16","max_tokens":7')
    assert whole.body == expected
    assert whole.path.endswith("/publishers/anthropic/models/claude-x:rawPredict")
    assert (whole.header("anthropic-version"), whole.header("anthropic-beta")) == (None, "context-1m")
    streamed = gateway.client.post("/v1/messages", body.replace(b"false", b"true"), headers)
    assert streamed.body == b"".join(anthropic.pieces())
    assert gateway.requests[1].path.endswith(":streamRawPredict")
    assert gateway.key("claude/t")["tokens"]["completion"] == 24


@pytest.mark.parametrize("stream", [False, True])
def test_messages_in_front_of_gemini(gateway, stream):
    """A client of Anthropic's, with tools: the signature comes back to where it was."""
    gateway.on("gemini/b", gemini.fixture("tools.sse" if stream else "tools.json"))
    tools = [{"name": "weather", "input_schema": {"type": "object"}}]
    ask = {"model": "gem", "max_tokens": 1000, "tools": tools, "messages": [{"role": "user", "content": "weather?"}]}
    answer = gateway.client.post("/v1/messages", ask | {"stream": stream})
    content = blocks_of(answer.events) if stream else answer.json["content"]
    assert [block["type"] for block in content][:4] == ["thinking", "text", "redacted_thinking", "tool_use"]
    calls = [block for block in content if block["type"] == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": call["id"], "content": "fine"} for call in calls]
    told = [*ask["messages"], {"role": "assistant", "content": content}, {"role": "user", "content": results}]
    assert gateway.client.post("/v1/messages", ask | {"messages": told}).json["content"][0]["text"] == replies.TEXT
    _, turn, given = gateway.requests[1].json["contents"]
    signed = [part for part in turn["parts"] if "thoughtSignature" in part]
    assert [(part["functionCall"]["id"], part["thoughtSignature"]) for part in signed] == [("fc-8123", "CpQEAdHtim/Keywatw==")]
    assert [part["functionResponse"]["name"] for part in given["parts"]] == [call["name"] for call in calls]


def blocks_of(events: list) -> list:
    blocks = []
    for event in events:
        if event["type"] == "content_block_start":
            blocks.append(event["content_block"] | {"json": ""})
        elif event["type"] == "content_block_delta":
            for name, value in event["delta"].items():
                member = {"partial_json": "json"}.get(name, name)
                if member != "type":
                    blocks[-1][member] = blocks[-1].get(member, "") + value
    for block in blocks:
        text = block.pop("json")
        if block["type"] == "tool_use":
            block["input"] = json.loads(text or "{}")
    return blocks


@pytest.fixture
def llmock(tmp_path):
    mock = Llmock(tmp_path / "llmock.log", 100)
    yield mock
    mock.stop()


def test_llmock(start, llmock):
    fields = {"gemini": {"kind": "gemini", "base_path": "/gemini/v1beta"}}
    gateway = start({"gemini": ["b"]}, models=MODELS[:1], provider_fields=fields)
    gateway.always("gemini/b", llmock.answer)
    with openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="x", max_retries=0) as sdk:
        whole = sdk.chat.completions.create(**ASK).choices[0].message.content
        assert "hello" in whole
        assert text_of(list(sdk.chat.completions.create(**ASK, stream=True))) == whole
