"""What a provider sees of a request, and what Keyward answers by itself."""

import json

import pytest
from harness import replies
from harness.client import chat_body
from harness.config import ADMIN_KEY

TWO = {"openai": ["a", "b"], "groq": ["c"]}


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/moderations"]
)
def test_the_known_paths_reach_the_provider(start, path):
    gateway = start(TWO)
    answer = gateway.client.post(f"{path}?api-version=1", {"model": "fast", "input": "hello"})
    assert answer.status == 200, answer
    (seen,) = gateway.requests
    assert seen.path.split("?")[0] == path
    assert seen.header("host") == "api.openai.com"
    assert seen.json == {"model": "openai-model", "input": "hello"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("POST", "/v1/files"),
        ("GET", "/v1/organization/api_keys"),
        ("POST", "/v1/chat/completions/../files"),
        ("POST", "/v1//chat/completions"),
        ("POST", "/v1/chat/completions/x"),
        ("POST", "/V1/CHAT/COMPLETIONS"),
        ("GET", "/keyward/unknown"),
    ],
)
def test_an_unknown_path_is_a_local_404(start, method, path):
    gateway = start(TWO)
    answer = gateway.client.request(method, path, chat_body() if method == "POST" else None)
    assert answer.status == 404, answer
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert gateway.requests == []


def test_models_are_answered_from_the_configuration(start):
    models = [{"name": "fast", "targets": [{"provider": "openai"}]}, {"name": "a/b", "targets": [{"provider": "groq"}]}]
    gateway = start(TWO, models=models)
    listed = gateway.client.get("/v1/models").json
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["fast", "a/b"]
    assert all(model["object"] == "model" for model in listed["data"])
    assert gateway.client.get("/v1/models/fast").json["id"] == "fast"
    assert gateway.client.get("/v1/models/a/b").json["id"] == "a/b"
    missing = gateway.client.get("/v1/models/slow")
    assert (missing.status, missing.code) == (404, "model_not_found")
    assert gateway.requests == []


def test_an_unknown_model_is_refused_in_openais_words(start):
    gateway = start(TWO)
    answer = gateway.chat(model="slow")
    assert (answer.status, answer.code) == (404, "model_not_found")
    assert gateway.requests == []


def test_the_longest_prefix_wins(start):
    models = [
        {"name": "gpt-*", "targets": [{"provider": "openai"}]},
        {"name": "gpt-4*", "targets": [{"provider": "groq"}]},
        {"name": "gpt-4o", "targets": [{"provider": "openai", "model": "other"}]},
    ]
    gateway = start(TWO, models=models)
    for model in ("gpt-3", "gpt-4", "gpt-4o"):
        assert gateway.chat(model=model).status == 200
    sent = [(seen.provider, seen.json["model"]) for seen in gateway.requests]
    assert sent == [("openai", "gpt-3"), ("groq", "gpt-4"), ("openai", "other")]


def test_a_body_is_patched_not_rewritten(start):
    gateway = start(TWO)
    odd = (
        b'{ "seed":12345678901234567890, "temperature" : 1e2,\n'
        b' "messages":[{"role":"user","content":"\\u00e9\xc3\xa9"}],'
        b'"model" : "fast" , "x_unknown": {"b":1,"a":[0.10,-0.0]} }'
    )
    assert gateway.client.post("/v1/chat/completions", odd).status == 200
    assert gateway.requests[0].body == odd.replace(b'"fast"', b'"openai-model"')


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"fast"',
        b"{}",
        b'{"model": 1}',
        b'{"model": "fast", "model": "other"}',
        b'{"model": "fast", "mod\\u0065l": "other"}',
        b'{"model": "\xff"}',
    ],
)
def test_a_body_without_one_model_is_a_400(start, body):
    gateway = start(TWO)
    answer = gateway.client.post("/v1/chat/completions", body)
    assert answer.status == 400, answer
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert gateway.requests == []


def test_a_clients_credentials_and_forged_headers_stay_outside(start):
    gateway = start(TWO)
    forged = {
        "authorization": "Bearer client-secret",
        "x-api-key": "client-secret",
        "api-key": "client-secret",
        "x-goog-api-key": "client-secret",
        "x-keyward-cluster": "groq",
        "x-keyward-state": "AAAA",
        "x-keyward-secret-1": "client-secret",
        "x-keyward-replan": "1",
        "x-keyward-consumer": "root",
        "x-envoy-retry-on": "5xx",
        "x-envoy-max-retries": "9",
        "x-envoy-upstream-rq-timeout-ms": "1",
        "x-envoy-upstream-rq-per-try-timeout-ms": "1",
        "x-envoy-upstream-alt-stat-name": "forged",
        "x-envoy-original-path": "/v1/files",
        "accept-encoding": "gzip, br",
        "x-session-id": "kept",
        "openai-organization": "org-of-the-client",
    }
    answer = gateway.chat(forged)
    assert answer.status == 200
    (seen,) = gateway.requests
    assert gateway.attempts == ["openai/a"]
    assert "client-secret" not in str(seen.headers)
    assert not [name for name, _ in seen.headers if name.startswith("x-keyward-")]
    assert seen.header("accept-encoding") in (None, "identity")
    assert seen.header("x-session-id") == "kept"
    assert seen.header("x-envoy-max-retries") is None


@pytest.mark.parametrize("path", ["/v1/models", "/keyward/status"])
def test_forged_state_opens_nothing(start, path):
    gateway = start(TWO)
    answer = gateway.client.get(path, **{"x-keyward-state": "AAAA", "x-keyward-cluster": "openai"})
    assert answer.status == (401 if "status" in path else 200)


def test_no_header_of_an_attempt_reaches_the_next(start):
    gateway = start(TWO)
    for key in ("openai/a", "openai/b"):
        gateway.on(key, replies.rate_limited(30))
    assert gateway.chat().status == 200
    assert gateway.attempts == ["openai/a", "openai/b", "groq/c"]
    hosts = [seen.header("host") for seen in gateway.requests]
    assert hosts == ["api.openai.com", "api.openai.com", "api.openai.com"], "kind `openai` throughout"
    for seen in gateway.requests:
        keys = [value for value in dict(seen.headers).values() if "sk-" in value]
        assert len(keys) == 1
        assert not [name for name, _ in seen.headers if name.startswith("x-keyward-")]
    assert [seen.json["model"] for seen in gateway.requests] == ["openai-model", "openai-model", "groq-model"]


def test_a_provider_has_its_own_host_and_base_path(start):
    fields = {"groq": {"kind": "groq"}, "openai": {"host": "proxy.example", "base_path": "/openai/v1beta"}}
    gateway = start(TWO, provider_fields=fields)
    for key in ("openai/a", "openai/b"):
        gateway.on(key, replies.rate_limited(30))
    assert gateway.client.post("/v1/chat/completions?x=1", chat_body()).status == 200
    sent = [(seen.header("host"), seen.path.split("?")[0]) for seen in gateway.requests]
    ours = ("proxy.example", "/openai/v1beta/chat/completions")
    assert sent == [ours, ours, ("api.groq.com", "/openai/v1/chat/completions")]


def test_header_bytes_beyond_ascii_do_no_harm(start):
    gateway = start(TWO)
    assert gateway.chat([(b"x-odd", b"\xff\xfe\x80"), (b"authorization", b"Bearer \xff")]).status == 200
    odd = replies.Reply(200, (*replies.JSON, ("x-odd", "\xff\xfe"), ("retry-after", "\xff")), (b"{}",))
    gateway.on("openai/a", odd)
    assert gateway.chat().status == 200
    assert gateway.chat().status == 200


def test_the_status_needs_an_admin_key_and_tells_no_secret(start):
    gateway = start(TWO)
    gateway.on("openai/a", replies.rate_limited(40))
    assert gateway.chat().status == 200
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {ADMIN_KEY}"}):
        assert gateway.client.get("/keyward/status", **headers).status == 401
    status = gateway.status()
    assert [key["key"] for key in status["keys"]] == ["openai/a", "openai/b", "groq/c"]
    by_name = {key["key"]: key for key in status["keys"]}
    assert (by_name["openai/a"]["state"], by_name["openai/b"]["state"]) == ("resting", "ready")
    assert (by_name["openai/a"]["requests"], by_name["openai/b"]["requests"]) == (1, 1)
    assert by_name["openai/b"]["tokens"] == {"prompt": 9, "completion": 12, "cached": 4, "reasoning": 5}
    assert [provider["name"] for provider in status["providers"]] == ["openai", "groq"]
    assert status["models"][0]["name"] == "fast"
    assert not any(secret in json.dumps(status) for secret in gateway.secrets.values())


def test_curious_headers_can_be_left_out(start):
    gateway = start(TWO, document_fields={"response_headers": False})
    answer = gateway.chat()
    assert answer.status == 200
    assert not [name for name in answer.headers if name.startswith("x-keyward-")]


def test_metrics_carry_labels(start):
    gateway = start(TWO, change=lambda bootstrap: bootstrap.update(stats_flush_interval="0.1s"))
    gateway.on("openai/a", replies.rate_limited(40))
    assert gateway.chat().status == 200
    assert gateway.chat(stream=True).status == 200
    gateway.envoy.await_sample('keyward_time_to_first_token_milliseconds_count{provider="openai",model="fast"} 1')
    samples = gateway.envoy.prometheus().splitlines()
    for sample in (
        'keyward_requests{model="fast"} 2',
        'keyward_attempts{provider="openai",key="openai/a"} 1',
        'keyward_attempts{provider="openai",key="openai/b"} 2',
        'keyward_rests{provider="openai",key="openai/a",reason="rate_limited"} 1',
    ):
        assert sample in samples, [line for line in samples if line.startswith("keyward")]
    names = {line.split("{")[0] for line in samples if line.startswith("keyward_")}
    assert not [name for name in names if "openai" in name or "fast" in name], "every label is extracted"


def test_no_key_leaves_to_an_endpoint_of_another_provider(start):
    """The operator's cluster for OpenAI holds an endpoint of Groq's, which the model has no target for."""

    def misplace(bootstrap: dict):
        (cluster,) = (c for c in bootstrap["static_resources"]["clusters"] if c["name"] == "openai-endpoints")
        for group in cluster["load_assignment"]["endpoints"]:
            for endpoint in group["lb_endpoints"]:
                endpoint["metadata"] = {"filter_metadata": {"keyward": {"provider": "groq"}}}

    models = [{"name": "fast", "targets": [{"provider": "openai"}]}]
    gateway = start({"openai": ["a"], "groq": ["c"]}, models=models, change=misplace)
    answer = gateway.chat()
    assert (answer.status, answer.code) == (500, "internal_error")
    assert gateway.requests == []
