"""The official `google-genai` package, whose requests pass as they are, and what it is told where they do not."""

import base64
import json

import pytest
from google import genai
from google.genai import errors, types
from harness import gemini, replies

GEMINI = {"gemini": {"kind": "gemini"}, "vertex": {"kind": "vertex", "project": "project-1", "location": "europe-west4"}}
MODELS = [
    {"name": gemini.MODEL, "targets": [{"provider": "gemini"}]},
    {"name": "gem", "targets": [{"provider": "gemini", "model": gemini.MODEL}, {"provider": "vertex", "model": gemini.MODEL}]},
    {"name": "gpt", "targets": [{"provider": "openai"}]},
]
CONFIG = types.GenerateContentConfig(
    temperature=0,
    top_k=3,
    system_instruction="Be brief.",
    safety_settings=[types.SafetySetting(category="HARM_CATEGORY_HARASSMENT", threshold="BLOCK_NONE")],
)


@pytest.fixture
def gateway(start):
    keys = {"gemini": ["b", "c"], "vertex": ["t"], "openai": ["a"]}
    gateway = start(keys, models=MODELS, provider_fields=GEMINI)
    for key in ("gemini/b", "gemini/c"):
        gateway.always(key, gemini.answer)
    gateway.always("vertex/t", gemini.vertex)
    return gateway


@pytest.fixture
def sdk(gateway):
    with genai.Client(api_key="of-the-client", http_options={"base_url": f"http://127.0.0.1:{gateway.port}"}) as client:
        yield client


@pytest.mark.parametrize("model", [gemini.MODEL, "gem"])
def test_generate_content(sdk, gateway, model):
    answer = sdk.models.generate_content(model=model, contents="hello", config=CONFIG)
    assert (answer.text, answer.response_id, answer.model_version) == (replies.TEXT, "resp_1", gemini.MODEL)
    (seen,) = gateway.requests
    assert seen.path == f"/v1beta/models/{gemini.MODEL}:generateContent"
    assert (seen.key, seen.header("x-goog-user-project")) == (gateway.secrets["gemini/b"], None)
    assert seen.json["safetySettings"] == [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]
    counted = gateway.key("gemini/b")["tokens"]
    assert (counted["prompt"], counted["completion"], counted["cached"]) == (9, 12, 4)


def test_bytes_pass_both_ways(gateway):
    body = b'{ "contents" : [{"role":"user","parts":[{"text":"\\u0068i"}]}], "x":1e2, "generationConfig":{"topK":3.0} }'
    path = "/v1beta/models/gem:generateContent?key=of-the-client"
    answer = gateway.client.post(path, body, {"x-goog-user-project": "of-the-client"})
    assert answer.body == gemini.message().body
    (seen,) = gateway.requests
    assert seen.body == body
    assert (seen.path, seen.header("x-goog-user-project")) == (f"/v1beta/models/{gemini.MODEL}:generateContent", None)


def test_stream(sdk, gateway):
    chunks = list(sdk.models.generate_content_stream(model="gem", contents="hello"))
    assert "".join(chunk.text or "" for chunk in chunks) == replies.TEXT
    assert chunks[-1].usage_metadata.thoughts_token_count == 5
    counted = gateway.key("gemini/b")["tokens"]
    assert (counted["prompt"], counted["completion"]) == (9, 12)
    answer = gateway.client.post("/v1/models/gem:streamGenerateContent?alt=sse", {"contents": [{"role": "user", "parts": []}]})
    assert answer.body == b"".join(gemini.pieces())


def test_count_tokens(sdk):
    assert sdk.models.count_tokens(model="gem", contents="hello").total_tokens == 9


def test_embeddings(sdk, gateway):
    """Their requests name the model in path and body."""
    for model in (gemini.MODEL, "gem"):
        found = sdk.models.embed_content(model=model, contents="hello")
        assert [one.values for one in found.embeddings] == [[0.25, -0.5, 1e-7]]
    assert [seen.path for seen in gateway.requests] == [f"/v1beta/models/{gemini.MODEL}:batchEmbedContents"] * 2
    one = {"content": {"parts": [{"text": "hello"}]}, "model": "models/gem", "taskType": "RETRIEVAL_QUERY"}
    answer = gateway.client.post("/v1beta/models/gem:embedContent", one)
    assert answer.json["embedding"]["values"] == [0.25, -0.5, 1e-7]
    assert gateway.requests[-1].json == one | {"model": f"models/{gemini.MODEL}"}
    assert gateway.key("gemini/b")["tokens"]["prompt"] == 27


def test_a_consumers_key_in_the_query(start):
    """As Google's documentation has it for curl; it goes no further than Keyward, not into access logs either."""

    def log(bootstrap):
        listener = next(one for one in bootstrap["static_resources"]["listeners"] if one["name"] == "gateway")
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        stdout = {"@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StderrAccessLog"}
        stdout["log_format"] = {"text_format_source": {"inline_string": "LOGGED %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%\n"}}
        manager["access_log"] = [{"name": "log", "typed_config": stdout}]

    document = {"consumers": [{"name": "acme", "keys": [{"inline": "kw-of/acme"}]}], "anonymous": "refuse"}
    gateway = start(
        {"gemini": ["b"], "vertex": ["t"]}, models=MODELS[1:2], provider_fields=GEMINI, document_fields=document, change=log
    )
    gateway.always("gemini/b", gemini.answer)
    gateway.always("vertex/t", gemini.vertex)
    gateway.on("gemini/b", gemini.quota("GenerateRequestsPerMinutePerProjectPerModel", 30))
    body = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
    path = "/v1beta/models/gem:generateContent"
    answer = gateway.client.post(f"{path}?key=kw-of%2Facme&x=1", body)
    assert answer.status == 200, "also in the second round, behind an internal redirect"
    assert gateway.attempts == ["gemini/b", "vertex/t"]
    assert not any("kw-of" in f"{seen.path} {seen.headers}" for seen in gateway.requests)
    refused = gateway.client.post(f"{path}?key=wrong", body)
    assert (refused.status, refused.json["error"]["status"]) == (401, "UNAUTHENTICATED")
    assert gateway.client.get("/v1beta/models?key=kw-of%2Facme").json["models"][0]["name"] == "models/gem"
    assert gateway.client.post("/v1/chat/completions?key=kw-of%2Facme", {"model": "gem"}).status == 401, "not OpenAI's way"
    gateway.envoy.await_log(f"LOGGED {path}?x=1")
    assert "kw-of" not in gateway.envoy.log()
    assert "key=wrong" not in gateway.envoy.log()


def test_models(sdk):
    assert [model.name for model in sdk.models.list()] == [f"models/{name}" for name in (gemini.MODEL, "gem", "gpt")]
    assert sdk.models.get(model="gem").name == "models/gem"
    with pytest.raises(errors.ClientError) as refused:
        sdk.models.get(model="none")
    assert (refused.value.code, refused.value.status) == (404, "NOT_FOUND")


def test_tools_with_signatures(sdk, gateway):
    gateway.on("gemini/b", gemini.fixture("tools.json"))
    tool = types.Tool(
        function_declarations=[types.FunctionDeclaration(name="weather", parameters_json_schema={"type": "object"})]
    )
    answer = sdk.models.generate_content(model="gem", contents="weather?", config=types.GenerateContentConfig(tools=[tool]))
    assert [call.args for call in answer.function_calls] == [{"city": "Köln", "days": 2}, {"city": "Graz"}]
    given = types.Part.from_function_response(name="weather", response={"output": "rain"})
    told = [types.UserContent("weather?"), answer.candidates[0].content, types.UserContent(given)]
    assert sdk.models.generate_content(model="gem", contents=told).text == replies.TEXT
    parts = gateway.requests[1].json["contents"][1]["parts"]
    # The SDK writes base64 with the alphabet for URLs (RFC 4648, section 5), which Google takes as well.
    signature = base64.urlsafe_b64encode(base64.b64decode("CpQEAdHtim/Keywatw==")).decode()
    assert [part.get("thoughtSignature") for part in parts if "functionCall" in part] == [signature, None]


@pytest.mark.parametrize("stream", [False, True])
def test_exhausted_keys_are_not_seen(sdk, gateway, stream):
    """On to the next key, and to Vertex AI."""
    for key in ("gemini/b", "gemini/c"):
        gateway.on(key, gemini.quota("GenerateRequestsPerMinutePerProjectPerModel", 30))
    if stream:
        text = "".join(chunk.text or "" for chunk in sdk.models.generate_content_stream(model="gem", contents="hello"))
    else:
        text = sdk.models.generate_content(model="gem", contents="hello").text
    assert text == replies.TEXT
    assert gateway.attempts == ["gemini/b", "gemini/c", "vertex/t"]
    last = gateway.requests[-1]
    assert last.header("x-goog-api-key") is None


def test_when_nothing_is_left_the_sdk_is_told_when_to_come_back(sdk, gateway):
    for key in ("gemini/b", "gemini/c"):
        gateway.on(key, gemini.quota("GenerateRequestsPerMinutePerProjectPerModel", 30))
    with pytest.raises(errors.ClientError) as refused:
        sdk.models.generate_content(model=gemini.MODEL, contents="hello")
    assert (refused.value.code, refused.value.status) == (429, "RESOURCE_EXHAUSTED")
    info, retry = refused.value.details["error"]["details"]
    assert info["reason"] == "KEYS_TEMPORARILY_EXHAUSTED"
    assert 20 < int(retry["retryDelay"].removesuffix("s")) < 60


@pytest.mark.parametrize(
    ("model", "code", "status", "reason"),
    [
        ("none", 404, "NOT_FOUND", "MODEL_NOT_FOUND"),
        ("gpt", 400, "INVALID_ARGUMENT", "UNSUPPORTED_ENDPOINT"),
    ],
)
def test_refusals_are_googles_errors(sdk, gateway, model, code, status, reason):
    with pytest.raises(errors.ClientError) as refused:
        sdk.models.generate_content(model=model, contents="hello")
    assert (refused.value.code, refused.value.status) == (code, status)
    assert refused.value.details["error"]["details"][0]["reason"] == reason
    assert gateway.requests == []


def test_refusals_without_the_sdk(gateway):
    body = {"contents": []}
    array = gateway.client.post("/v1beta/models/gem:streamGenerateContent", body)
    assert (array.status, array.json["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert "alt=sse" in array.json["error"]["message"]
    unknown = gateway.client.post("/v1beta/models/gem:predict", body)
    assert (unknown.status, unknown.json["error"]["status"]) == (404, "NOT_FOUND")
    upwards = gateway.client.post("/v1beta/models/..%2Ffiles:generateContent", body)
    assert (upwards.status, upwards.json["error"]["status"]) == (404, "NOT_FOUND")
    broken = gateway.client.post("/v1beta/models/gem:generateContent", b"{")
    assert (broken.status, broken.json["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert gateway.requests == []


def test_the_providers_own_errors_pass(sdk, gateway):
    gateway.on("gemini/b", gemini.error(400, "INVALID_ARGUMENT", "contents: too much"))
    with pytest.raises(errors.ClientError, match="contents: too much"):
        sdk.models.generate_content(model="gem", contents="hello")
    assert gateway.attempts == ["gemini/b"]


def test_a_stream_that_is_cut_off_ends_with_an_error(sdk, gateway):
    gateway.on("gemini/b", gemini.fixture("truncated.sse"))
    answer = gateway.client.post("/v1beta/models/gem:streamGenerateContent?alt=sse", {"contents": []})
    assert answer.events[-1]["error"]["status"] == "INTERNAL"
    gateway.on("gemini/b", gemini.fixture("truncated.sse"))
    with pytest.raises(errors.APIError, match="ended the stream"):
        list(sdk.models.generate_content_stream(model="gem", contents="hello"))


def test_consumers_bring_their_key_in_googles_header(start):
    consumers = [
        {"name": "acme", "keys": [{"inline": "key-of-acme"}], "allow": {"endpoints": ["generate_content"]}},
        {"name": "other", "keys": [{"inline": "key-of-other"}], "allow": {"endpoints": ["chat"]}},
    ]
    fields = {"consumers": consumers, "anonymous": "refuse"}
    gateway = start({"gemini": ["b"]}, models=MODELS[:1], provider_fields={"gemini": {"kind": "gemini"}}, document_fields=fields)
    gateway.always("gemini/b", gemini.answer)
    address = {"base_url": f"http://127.0.0.1:{gateway.port}"}
    with genai.Client(api_key="key-of-acme", http_options=address) as acme:
        assert acme.models.generate_content(model=gemini.MODEL, contents="hello").text == replies.TEXT
    for key, code in (("key-of-other", 403), ("nobody's", 401)):
        with genai.Client(api_key=key, http_options=address) as other, pytest.raises(errors.ClientError) as refused:
            other.models.generate_content(model=gemini.MODEL, contents="hello")
        assert refused.value.code == code
    assert "key-of" not in json.dumps([list(seen.headers) for seen in gateway.requests])
