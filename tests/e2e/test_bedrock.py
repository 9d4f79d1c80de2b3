"""Clients of chat completions in front of AWS Bedrock: an API key, or requests that Envoy signs."""

import json
import os
import urllib.parse

import anthropic
import botocore.auth
import botocore.awsrequest
import botocore.credentials
import openai
import pytest
from harness import bedrock, chat, config, replies
from harness.chat import STREAM, text_of
from harness.envoy import EnvoyRefused
from harness.upstream import Fault, Gate, Reply

BEDROCK = {"bedrock": {"kind": "bedrock", "host": "bedrock-runtime.us-east-1.amazonaws.com"}}
TARGET = {"provider": "bedrock", "model": bedrock.MODEL}
MODELS = [
    {"name": "claude", "targets": [TARGET]},
    {"name": "llama", "targets": [{"provider": "bedrock", "model": "meta.llama3-3-70b-instruct-v1:0"}]},
    {"name": "fast", "targets": [{"provider": "openai", "model": "gpt-4o-mini"}, TARGET]},
]
ASK = chat.ask("claude")
TOOLS = chat.tools("get_weather", "get_time")


@pytest.fixture
def gateway(start):
    gateway = start({"openai": ["a"], "bedrock": ["b", "c"]}, models=MODELS, provider_fields=BEDROCK)
    for key in ("bedrock/b", "bedrock/c"):
        gateway.always(key, bedrock.answer)
    return gateway


@pytest.fixture
def sdk(gateway):
    with chat.strict(gateway) as client:
        yield client


@pytest.mark.parametrize("source", bedrock.sources(), ids=lambda path: path.stem)
def test_the_fixtures_are_event_streams(source):
    """Of the core's tests, too: botocore reads the same frames and, where it knows them, the same events."""
    stream = b"".join(bedrock.messages(source.read_text()))
    binary = source.with_suffix(".eventstream")
    if os.environ.get("KEYWARD_BLESS"):
        binary.write_bytes(stream)
    assert binary.read_bytes() == stream
    names = [line.split(" ", 1)[0].lstrip("!?") for line in source.read_text().splitlines()]
    if source.stem == "unknown":
        return
    events = bedrock.parsed(stream)
    assert [event.get("exception") or next(iter(event)) for event in events] == names


def test_chat(sdk, gateway):
    answer = sdk.chat.completions.create(**ASK, temperature=0, extra_headers={"openai-organization": "org-of-the-client"})
    assert answer.id.startswith("chatcmpl-")
    assert (answer.model, answer.object) == (bedrock.MODEL, "chat.completion")
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (replies.TEXT, "stop")
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (9, 12, 21)
    assert usage.prompt_tokens_details.cached_tokens == 4
    (seen,) = gateway.requests
    assert seen.path == "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse"
    assert seen.header("host") == "bedrock-runtime.us-east-1.amazonaws.com"
    assert seen.header("authorization") == f"Bearer {gateway.secrets['bedrock/b']}"
    assert seen.header("openai-organization") is None
    assert seen.json["inferenceConfig"] == {"temperature": 0}
    assert int(seen.header("content-length")) == len(seen.body)
    counted = gateway.key("bedrock/b")["tokens"]
    assert (counted["prompt"], counted["completion"], counted["cached"]) == (9, 12, 4)


@pytest.mark.parametrize("usage", [False, True])
def test_stream(sdk, gateway, usage):
    options = {"stream_options": {"include_usage": True}} if usage else {}
    chunks = list(sdk.chat.completions.create(**ASK, stream=True, **options))
    assert text_of(chunks) == replies.TEXT
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == ([21] if usage else [])
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert len({chunk.id for chunk in chunks}) == 1
    assert gateway.requests[0].path.endswith("/converse-stream")
    assert gateway.key("bedrock/b")["tokens"]["completion"] == 12, "counted, asked for or not"


def test_a_stream_is_one_for_its_client(gateway):
    with gateway.client.streaming("POST", "/v1/chat/completions", json.dumps({**ASK, "stream": True}).encode()) as (
        answer,
        pieces,
    ):
        body = b"".join(pieces)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    assert body.count(b"[DONE]") == 1


def test_the_first_token_does_not_wait(gateway):
    gate = Gate()
    head, first, *rest = bedrock.events()
    # The frame arrives in two parts, and the rest of the stream later.
    gateway.on("bedrock/b", bedrock.stream([head + first[:20], first[20:], gate, *rest]))
    with gateway.client.streaming("POST", "/v1/chat/completions", json.dumps({**ASK, "stream": True}).encode()) as (
        answer,
        pieces,
    ):
        seen = b""
        while b"Gr\xc3\xbc\xc3\x9fe" not in seen:
            seen += next(pieces)
        gate.open()
        seen += b"".join(pieces)
    assert answer.status == 200
    assert seen.count(b"[DONE]") == 1


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_and_back(sdk, gateway, streamed):
    gateway.on("bedrock/b", bedrock.fixture("tools" if streamed else "tools.json"))
    if streamed:
        with sdk.chat.completions.stream(**ASK, tools=TOOLS) as events:
            message = events.get_final_completion().choices[0].message
    else:
        message = sdk.chat.completions.create(**ASK, tools=TOOLS).choices[0].message
    assert [call.function.name for call in message.tool_calls] == ["get_weather", "get_time"]
    assert [json.loads(call.function.arguments) for call in message.tool_calls] == [{"city": "Köln", "n": 100.0}, {}]
    results = [{"role": "tool", "tool_call_id": call.id, "content": "fine"} for call in message.tool_calls]
    told = [*ASK["messages"], message.model_dump(exclude_none=True), *results]
    assert sdk.chat.completions.create(model="claude", messages=told, tools=TOOLS).choices[0].message.content == replies.TEXT
    _, turn, given = gateway.requests[1].json["messages"]
    kinds = [next(iter(block)) for block in turn["content"]]
    assert kinds == ([] if streamed else ["reasoningContent"] * 2) + ["text", "toolUse", "toolUse"]
    if not streamed:
        assert turn["content"][0]["reasoningContent"]["reasoningText"]["signature"] == "EqQBCgIYAhIM1gbc=="
    assert [block["toolResult"]["toolUseId"] for block in given["content"]] == [call.id for call in message.tool_calls]


def test_one_call_at_a_time_is_one(sdk, gateway):
    """The model was told, and called twice."""
    gateway.on("bedrock/b", bedrock.fixture("tools.json"))
    message = sdk.chat.completions.create(**ASK, tools=TOOLS, parallel_tool_calls=False).choices[0].message
    assert gateway.requests[0].json["additionalModelRequestFields"]["tool_choice"]["disable_parallel_tool_use"] is True
    assert [call.function.name for call in message.tool_calls] == ["get_weather"]


def test_streamed_thinking_survives_the_sdk(sdk, gateway):
    gateway.on("bedrock/b", bedrock.fixture("thinking"))
    with sdk.chat.completions.stream(**ASK) as events:
        message = events.get_final_completion().choices[0].message
    assert message.reasoning_content == "27 * 453 = 12231"
    told = [*ASK["messages"], message.model_dump(exclude_none=True), {"role": "user", "content": "sure?"}]
    assert gateway.chat(model="claude", messages=told).status == 200
    thinking, redacted, text = gateway.requests[1].json["messages"][1]["content"]
    assert thinking == {"reasoningContent": {"reasoningText": {"text": "27 * 453 = 12231", "signature": "EqQBCgIYAhIM1gbc=="}}}
    assert redacted == {"reasoningContent": {"redactedContent": "EmwKAhgBEgy3va3p"}}
    assert text["text"] == "12,231"


CONVERSATIONS = [
    {"temperature": 2, "top_p": 0.5, "max_tokens": 7, "stop": ["END", ""]},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object", "properties": {}}}}},
    {"response_format": {"type": "json_object"}},
    {"tools": TOOLS, "tool_choice": "required"},
    {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "get_time"}}},
    {"tools": TOOLS, "tool_choice": "none"},
    {"reasoning_effort": "high", "user": "u-1", "service_tier": "flex", "top_k": 5},
    {"messages": [{"role": "system", "content": "be"}, {"role": "user", "content": "a"}, {"role": "user", "content": "b"}]},
    {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "see", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
                    {"type": "file", "file": {"filename": "a_b.pdf", "file_data": "data:application/pdf;base64,QUJD"}},
                    {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}},
                ],
            }
        ]
    },
    {
        "messages": [
            {"role": "user", "content": "hi"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "functions.get_time:0 ü" * 9, "type": "function", "function": {"name": "get_time", "arguments": ""}}
                ],
            },
            {"role": "tool", "tool_call_id": "functions.get_time:0 ü" * 9, "content": ""},
        ]
    },
]


@pytest.mark.parametrize("model", ["claude", "llama"])
@pytest.mark.parametrize("fields", CONVERSATIONS)
def test_botocore_has_nothing_against_it(gateway, fields, model):
    """The scripted region validates each request with the service's model (`bedrock.answer`)."""
    answer = gateway.chat(**{**ASK, **fields, "model": model})
    assert answer.status == 200, answer.body


def test_botocore_would_have_something_against_another(gateway):
    wrong = {
        "messages": [{"role": "user", "content": [{"text": 7}, {"toolUse": {"name": "f"}}]}],
        "inferenceConfig": {"maxTokens": "x"},
    }
    report = bedrock.validate(wrong)
    assert "Invalid type for parameter messages[0].content[0].text" in report
    assert 'Missing required parameter in messages[0].content[1].toolUse: "toolUseId"' in report


def test_an_image_by_url_is_refused_by_name(sdk, gateway):
    part = {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.chat.completions.create(model="claude", messages=[{"role": "user", "content": [part]}])
    assert refused.value.param == "messages[0].content[0]"
    assert gateway.requests == []


@pytest.mark.parametrize(
    ("reply", "state"),
    [
        (bedrock.error(429, "ThrottlingException", "Too many requests, please wait before trying again."), "rate_limited"),
        (bedrock.error(429, "ThrottlingException", "Too many tokens per day, please wait before trying again."), "out_of_quota"),
        (bedrock.error(400, "ServiceQuotaExceededException"), "out_of_quota"),
        (bedrock.error(403, "UnrecognizedClientException", "The security token is invalid."), "key_rejected"),
        (bedrock.error(403, "AccessDeniedException", "You don't have access to the model with the ID."), "key_rejected"),
        (bedrock.error(503, "ServiceUnavailableException"), None),
        (bedrock.error(424, "ModelErrorException"), None),
        (bedrock.error(500, "InternalServerException"), None),
        (bedrock.fixture("error-first"), "rate_limited"),
        (bedrock.fixture("error-after-start"), None),
        (bedrock.stream([b"not frames at all, but words"]), None),
        (bedrock.stream([*bedrock.events()[:1], Fault.RESET]), None),
    ],
)  # fmt: skip
def test_every_failure_before_the_first_token_moves_on(start, reply, state):
    models = [{"name": "fast", "targets": [TARGET, {"provider": "openai", "model": "gpt-4o-mini"}]}]
    gateway = start({"bedrock": ["b"], "openai": ["a"]}, models=models, provider_fields=BEDROCK)
    gateway.on("bedrock/b", reply, reply)
    answer = gateway.chat(stream=True)
    assert (answer.status, answer.body) == (200, replies.HIDDEN_USAGE)
    assert gateway.requests[-1].path == "/v1/chat/completions"
    if state:
        assert state in json.dumps(gateway.status()), gateway.status()


def test_the_clients_faults_are_told_in_its_words(sdk, gateway):
    gateway.on("bedrock/b", bedrock.error(400, "ValidationException", "messages: too many"))
    with pytest.raises(openai.BadRequestError) as error:
        sdk.chat.completions.create(**ASK)
    assert "messages: too many" in error.value.message
    assert set(error.value.body) == {"message", "type", "param", "code"}
    assert gateway.attempts == ["bedrock/b"]


@pytest.mark.parametrize(
    ("name", "code"),
    [("error-midstream", "provider_error"), ("error-unmodeled", "provider_error"), ("truncated", "stream_truncated")],
)
def test_a_stream_that_fails_ends_with_one_error(sdk, gateway, name, code):
    gateway.on("bedrock/b", bedrock.fixture(name), bedrock.fixture(name))
    answer = gateway.chat(**ASK, stream=True)
    assert [event["error"]["code"] for event in answer.events if "error" in event] == [code]
    assert "[DONE]" not in answer.events
    assert b"contentBlock" not in answer.body
    with pytest.raises(openai.APIError):
        list(sdk.chat.completions.create(**ASK, stream=True))


def test_a_stream_that_begins_on_openais_429_ends_on_bedrock(sdk, gateway):
    gateway.on("openai/a", replies.rate_limited(30))
    gateway.on("bedrock/b", bedrock.error(429, "ThrottlingException"))
    chunks = list(sdk.chat.completions.create(**ASK | {"model": "fast"}, **STREAM))
    assert text_of(chunks) == replies.TEXT
    assert [chunk.choices[0].delta.role for chunk in chunks if chunk.choices].count("assistant") == 1
    assert gateway.attempts == ["openai/a", "bedrock/b", "bedrock/c"]


AWS = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "of-the-role",
    "AWS_SESSION_TOKEN": "of-the-session",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class Verifier(botocore.auth.SigV4Auth):
    def headers_to_sign(self, request):
        """As AWS takes them: those that the signature names, where botocore itself leaves some out."""
        return request.headers


def verified(seen) -> Reply:
    """The region's answer to a request whose signature botocore arrives at as well."""
    scope = dict(part.strip().split("=", 1) for part in seen.header("authorization").removeprefix("AWS4-HMAC-SHA256 ").split(","))
    signed = scope["SignedHeaders"].split(";")
    credentials = botocore.credentials.Credentials(
        AWS["AWS_ACCESS_KEY_ID"], AWS["AWS_SECRET_ACCESS_KEY"], AWS["AWS_SESSION_TOKEN"]
    )
    request = botocore.awsrequest.AWSRequest(
        "POST", f"https://{seen.header('host')}{seen.path}", {name: seen.header(name) for name in signed}, seen.body
    )
    request.context["timestamp"] = seen.header("x-amz-date")
    auth = Verifier(credentials, "bedrock", "us-east-1")
    text = auth.string_to_sign(request, auth.canonical_request(request))
    if auth.signature(text, request) != scope["Signature"]:
        return bedrock.error(403, "InvalidSignatureException", "The request signature we calculated does not match.")
    return bedrock.answer(seen)


def test_requests_are_signed_by_envoy(start):
    models = [{"name": "fast", "targets": [TARGET, {"provider": "openai", "model": "gpt-4o-mini"}]}]
    gateway = start(
        {"bedrock": [{"id": "role", "secret": "none"}], "openai": ["a"]},
        models=models,
        provider_fields=BEDROCK,
        variables=AWS,
        change=lambda bootstrap: config.sign(bootstrap, "bedrock"),
    )
    gateway["bedrock"].anyone = verified
    answer = gateway.chat()
    assert answer.json["choices"][0]["message"]["content"] == replies.TEXT, answer.body
    assert gateway.chat(stream=True).events[-1] == "[DONE]"
    for seen in gateway.requests:
        assert "Credential=AKIDEXAMPLE/" in seen.header("authorization")
        assert urllib.parse.unquote(seen.path).startswith(f"/model/{bedrock.MODEL}/converse")
    # What signed it stays there.
    gateway["bedrock"].anyone = lambda _: bedrock.error(429, "ThrottlingException")
    assert gateway.chat().status == 200
    last = gateway.requests[-1]
    assert last.header("authorization") == f"Bearer {gateway.secrets['openai/a']}"
    assert [name for name, _ in last.headers if name.startswith("x-amz-")] == []
    assert "rate_limited" in json.dumps(gateway.key("bedrock/role"))


def test_a_credential_that_was_refused_is_tried_again_soon(start):
    """Who signs may have another by then; a key of the configuration would rest for a day."""
    gateway = start(
        {"bedrock": [{"id": "role", "secret": "none"}]},
        models=MODELS[:1],
        provider_fields=BEDROCK,
        variables=AWS,
        change=lambda bootstrap: config.sign(bootstrap, "bedrock"),
    )
    gateway["bedrock"].anyone = lambda _: bedrock.error(403, "ExpiredTokenException", "The security token is expired")
    answer = gateway.chat(model="claude")
    assert (answer.status, answer.code) == (503, "no_usable_key")
    assert int(answer.headers["retry-after"]) <= 60


@pytest.mark.parametrize("form", ["float", "base64"])
def test_embeddings(start, form):
    models = [
        {"name": "titan", "targets": [{"provider": "bedrock", "model": "amazon.titan-embed-text-v2:0"}]},
        {"name": "embed", "targets": [{"provider": "bedrock", "model": "cohere.embed-v4:0"}]},
    ]
    gateway = start({"bedrock": ["b"]}, models=models, provider_fields=BEDROCK)
    gateway.on("bedrock/b", replies.document({"embedding": [0.5, -1], "inputTextTokenCount": 3}))
    counted = [("x-amzn-bedrock-input-token-count", "7")]
    gateway.on("bedrock/b", replies.document({"embeddings": {"float": [[0.5], [-1]]}, "id": "1"}, headers=counted))
    with openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="x", max_retries=0) as sdk:
        answer = sdk.embeddings.create(model="titan", input="hello", encoding_format=form)
        assert answer.usage.prompt_tokens == 3
        if form == "float":
            assert answer.data[0].embedding == [0.5, -1]
        answer = sdk.embeddings.create(model="embed", input=["a", "b"])
        assert [item.embedding for item in answer.data] == [[0.5], [-1]]
        assert (answer.usage.prompt_tokens, gateway.key("bedrock/b")["tokens"]["prompt"]) == (7, 10)
        with pytest.raises(openai.BadRequestError) as refused:
            sdk.embeddings.create(model="titan", input=["a", "b"])
        assert refused.value.param == "input"
    assert [seen.path for seen in gateway.requests] == [
        "/model/amazon.titan-embed-text-v2%3A0/invoke",
        "/model/cohere.embed-v4%3A0/invoke",
    ]


def test_other_clients_of_claude(gateway):
    """Messages and responses: the same conversation in other words."""
    gateway.on("bedrock/b", bedrock.fixture("thinking"))
    with anthropic.Anthropic(base_url=f"http://127.0.0.1:{gateway.port}", api_key="of-the-client") as sdk:
        ask = {"model": "claude", "max_tokens": 4000}
        with sdk.messages.stream(**ask, messages=ASK["messages"]) as events:
            message = events.get_final_message()
        assert [block.type for block in message.content] == ["thinking", "redacted_thinking", "text"]
        assert (message.content[0].signature, message.usage.output_tokens) == ("EqQBCgIYAhIM1gbc==", 60)
        told = [*ASK["messages"], {"role": "assistant", "content": message.content}, {"role": "user", "content": "sure?"}]
        assert sdk.messages.create(**ask, messages=told).content[0].text == replies.TEXT
    thinking = gateway.requests[1].json["messages"][1]["content"][0]
    assert thinking["reasoningContent"]["reasoningText"]["signature"] == "EqQBCgIYAhIM1gbc=="
    with openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="of-the-client") as sdk:
        assert sdk.responses.create(model="claude", input="hello").output_text == replies.TEXT


def standalone(start, mode: str):
    models = [{"name": "fast", "targets": [TARGET]}]
    fields = {"provider_fields": BEDROCK, "document_fields": {"mode": mode}}
    return start({"bedrock": ["b"]}, stage="standalone", models=models, **fields)


def test_headers_alone_do_not_tell_the_model_of_the_path(start):
    with pytest.raises(EnvoyRefused, match=r"providers\[0\]: its paths name the model, which mode headers does not know"):
        standalone(start, "headers")


def test_standalone(start):
    gateway = standalone(start, "body")
    gateway.always("bedrock/b", bedrock.answer)
    answer = gateway.chat()
    assert answer.json["choices"][0]["message"]["content"] == replies.TEXT
    streamed = gateway.chat(**STREAM)
    assert streamed.headers["content-type"] == "text/event-stream"
    assert streamed.events[-1] == "[DONE]"


@pytest.mark.parametrize("version", ["1.36.3", "1.38.2"])
def test_older_envoys(start, version):
    gateway = start(
        {"openai": ["a"], "bedrock": [{"id": "role", "secret": "none"}]},
        models=MODELS,
        provider_fields=BEDROCK,
        variables=AWS,
        change=lambda bootstrap: config.sign(bootstrap, "bedrock"),
        version=version,
    )
    gateway["bedrock"].anyone = verified
    gateway.on("openai/a", replies.rate_limited(30))
    assert gateway.chat().json["model"] == bedrock.MODEL
    assert gateway.chat(stream=True).events[-1] == "[DONE]"
