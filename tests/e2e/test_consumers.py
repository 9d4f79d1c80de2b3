"""Who calls, by a key of Keyward's own, and what they may."""

import hashlib
import time

import openai
import pytest
from harness import config, replies
from harness.client import Client
from harness.replies import rate_limited

HEADERS = ["authorization", "x-api-key", "api-key", "x-goog-api-key"]
MODELS = [
    {"name": "fast", "targets": [{"provider": "openai"}, {"provider": "groq"}]},
    {"name": "gpt-4o", "targets": [{"provider": "openai"}]},
    {"name": "llama", "targets": [{"provider": "groq"}]},
]
TWO = {"openai": ["a"], "groq": ["c"]}
STAGES = ["two", "headers", "body"]


def consumer(name: str, **fields) -> dict:
    return {"name": name, "keys": [{"inline": f"key-of-{name}"}], **fields}


def gateway_of(start, consumers, stage="two", providers=None, **fields):
    document = {"consumers": consumers, "anonymous": "refuse", **fields.pop("document", {})}
    if stage != "two":
        document["mode"] = stage
    stage = "two" if stage == "two" else "standalone"
    return start(providers or TWO, models=MODELS, stage=stage, document_fields=document, **fields)


def bearer(name: str) -> dict:
    return {"authorization": f"Bearer key-of-{name}"}


def refusal(answer) -> tuple[int, str]:
    return answer.status, answer.code


@pytest.mark.parametrize("stage", STAGES)
def test_a_key_is_taken_from_any_of_the_usual_headers_and_goes_no_further(start, stage):
    keys = [{"sha256": hashlib.sha256(b"key-of-acme").hexdigest()}]
    gateway = gateway_of(start, [{"name": "acme", "keys": keys}], stage)
    for header in HEADERS:
        value = "Bearer key-of-acme" if header == "authorization" else "key-of-acme"
        assert gateway.chat({header: value}).status == 200, header
    assert len(gateway.requests) == len(HEADERS)
    assert "key-of-acme" not in str([seen.headers for seen in gateway.requests])
    assert gateway.status()["consumers"] == [{"name": "acme", "requests": 4}]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("anonymous", ["refuse", {"consumer": "guest"}])
def test_a_wrong_key_is_refused_and_never_anonymous(start, stage, anonymous):
    document = {"anonymous": anonymous}
    gateway = gateway_of(start, [consumer("acme"), {"name": "guest"}], stage, document=document)
    credentials = [{header: "key-of-nobody"} for header in HEADERS[1:]]
    credentials += [{"authorization": value} for value in ("Bearer key-of-nobody", "Basic YTpi", "Bearer", "key-of-acme")]
    credentials += [{"x-api-key": "k" * 20_000}]
    for headers in credentials:
        answer = gateway.chat(headers)
        assert refusal(answer) == (401, "invalid_api_key"), headers
        assert answer.headers["www-authenticate"] == 'Bearer realm="keyward", error="invalid_token"'
        assert answer.json["error"]["type"] == "invalid_request_error"
    answers = [gateway.chat(), gateway.client.get("/v1/models")]
    if anonymous == "refuse":
        assert [refusal(answer) for answer in answers] == [(401, "invalid_api_key")] * 2
        assert answers[0].headers["www-authenticate"] == 'Bearer realm="keyward"'
        assert gateway.requests == []
    else:
        assert [answer.status for answer in answers] == [200, 200]
        assert gateway.status()["consumers"] == [{"name": "guest", "requests": 1}]


def test_two_keys_are_valid_at_once_and_each_in_its_time(start):
    keys = [
        {"inline": "old"},
        {"inline": "new"},
        {"inline": "expired", "valid_until": "2020-01-01T00:00:00Z"},
        {"inline": "early", "valid_from": "2099-01-01T00:00:00Z"},
        {"inline": "off", "enabled": False},
    ]
    gateway = gateway_of(start, [{"name": "acme", "keys": keys}, consumer("beta", enabled=False)])
    said = {}
    for key in ["old", "new", "expired", "early", "off"]:
        answer = gateway.chat({"x-api-key": key})
        said[key] = 200 if answer.status == 200 else answer.json["error"]["message"]
        assert answer.status in (200, 401)
    assert said == {
        "old": 200,
        "new": 200,
        "expired": "The API key has expired.",
        "early": "The API key is not valid yet.",
        "off": "The API key is disabled.",
    }
    assert refusal(gateway.chat(bearer("beta"))) == (403, "permission_denied")


@pytest.mark.parametrize("stage", ["two", "body"])
def test_a_model_that_is_not_allowed_does_not_exist(start, stage):
    roles = [{"name": "frugal", "allow": {"models": ["fast", "ll*"]}}]
    consumers = [consumer("acme", roles=["frugal"], deny={"models": ["llama"]}), consumer("root")]
    gateway = gateway_of(start, consumers, stage, document={"roles": roles})
    assert gateway.chat(bearer("acme")).status == 200
    existing, missing = (gateway.chat(bearer("acme"), model=model) for model in ("gpt-4o", "gpt-4x"))
    assert refusal(existing) == (404, "model_not_found")
    assert existing.body.replace(b"gpt-4o", b"gpt-4x") == missing.body
    same = ("content-type", "content-length")
    assert [existing.headers[name] for name in same] == [missing.headers[name] for name in same]
    for who, listed in (("acme", ["fast"]), ("root", ["fast", "gpt-4o", "llama"])):
        answer = gateway.client.get("/v1/models", **bearer(who))
        assert [model["id"] for model in answer.json["data"]] == listed
        for model in ("fast", "gpt-4o", "llama"):
            one = gateway.client.get(f"/v1/models/{model}", **bearer(who))
            assert one.status == (200 if model in listed else 404), (who, model)
    one = gateway.client.get("/v1/models/gpt-4o", **bearer("acme"))
    assert one.body.replace(b"gpt-4o", b"gpt-4x") == gateway.client.get("/v1/models/gpt-4x", **bearer("acme")).body
    assert len(gateway.requests) == 1


def test_what_else_is_refused_is_named(start):
    consumers = [
        consumer("chats", allow={"endpoints": ["chat"]}),
        consumer("early", allow={"hours": [_hours_that_are_not_now()]}),
        consumer("dev", deny={"header": {"name": "x-env", "prefix": "prod"}}),
    ]
    gateway = gateway_of(start, consumers)
    assert gateway.chat(bearer("chats")).status == 200
    for answer in (
        gateway.client.get("/v1/models", **bearer("chats")),
        gateway.client.post("/v1/embeddings", {"model": "fast", "input": "x"}, bearer("chats")),
        gateway.chat(bearer("early")),
        gateway.chat({**bearer("dev"), "x-env": "prod-eu"}),
    ):
        assert refusal(answer) == (403, "permission_denied")
        assert answer.json["error"]["type"] == "permission_error"
        assert answer.json["error"]["message"].startswith("Consumer ")
    assert gateway.chat({**bearer("dev"), "x-env": "test"}).status == 200


def _hours_that_are_not_now() -> str:
    """From six hours on, for an hour."""
    hour = (time.gmtime().tm_hour + 6) % 24
    return f"{hour:02}:00-{hour + 1:02}:00"


def test_the_callers_address_is_what_envoy_determined(start):
    def behind_one_proxy(bootstrap):
        config.connection_manager(bootstrap)["xff_num_trusted_hops"] = 1

    consumers = [consumer("acme", allow={"cidrs": ["10.0.0.0/8"]}, deny={"cidrs": ["10.9.0.0/16"]}), consumer("local")]
    gateway = gateway_of(start, consumers, change=behind_one_proxy)
    for forwarded, status in (("10.1.2.3", 200), ("11.1.2.3", 403), ("10.9.2.3", 403), ("10.1.2.3, 11.1.2.3", 403)):
        assert gateway.chat({**bearer("acme"), "x-forwarded-for": forwarded}).status == status, forwarded
    gateway = gateway_of(start, consumers)
    answer = gateway.chat({**bearer("acme"), "x-forwarded-for": "10.1.2.3"})
    assert (answer.status, "127.0.0.1" in answer.json["error"]["message"]) == (403, True), "nobody is trusted"


def test_providers_that_a_caller_may_not_use_are_left_out(start):
    gateway = gateway_of(start, [consumer("acme", allow={"providers": ["groq"]}), consumer("root")])
    gateway.chat(bearer("acme"))
    gateway.on("groq/c", rate_limited(30))
    answers = [gateway.chat(bearer("acme")) for _ in range(2)]
    assert [refusal(answer) for answer in answers] == [(429, "keys_temporarily_exhausted")] * 2
    assert int(answers[1].headers["retry-after"]) > 20, "openai, ready as it is, does not shorten the hint"
    assert gateway.chat(bearer("root")).status == 200
    assert gateway.attempts == ["groq/c", "groq/c", "openai/a"]


def test_a_consumers_own_keys_come_before_the_shared_ones(start):
    own = {"id": "own", "secret": {"env": "OPENAI_OWN"}}
    shy = {"id": "only", "secret": {"env": "OPENAI_ONLY"}}
    consumers = [
        consumer("acme", provider_keys=[{"provider": "openai", "keys": [own]}]),
        consumer("beta", provider_keys=[{"provider": "openai", "keys": [shy], "shared": False}], allow={"providers": ["openai"]}),
        consumer("root"),
    ]

    # The keys of consumers are keys of the provider to the script; in the document they are the consumers'.
    def bring(document):
        (openai_keys,) = [row["keys"] for row in document["providers"] if row["name"] == "openai"]
        openai_keys[:] = [key for key in openai_keys if key["id"] == "a"]

    gateway = gateway_of(start, consumers, providers={"openai": ["a", "own", "only"], "groq": ["c"]}, change_document=bring)
    for who in ("root", "acme", "beta"):
        assert gateway.chat(bearer(who)).status == 200
    gateway.on("openai/own", rate_limited(30))
    gateway.on("openai/only", rate_limited(30))
    assert gateway.chat(bearer("acme")).status == 200
    assert refusal(gateway.chat(bearer("beta"))) == (429, "keys_temporarily_exhausted")
    assert gateway.attempts == [
        *("openai/a", "openai/own", "openai/only"),
        *("openai/own", "openai/a"),
        "openai/only",
    ]
    assert gateway.key("acme/openai/own")["state"] == "resting"


def test_a_route_narrows_what_its_callers_may(start):
    def routes(bootstrap):
        template = config.routes(bootstrap)[0]
        narrowed = {
            "acme": {"consumer": "acme"},
            "research": {"team": ["research"], "models": ["fast", "gpt-*"], "providers": "openai"},
            "chat": {"endpoints": ["chat"]},
            "broken": {"modls": ["fast"]},
        }
        made = []
        for name, keyward in narrowed.items():
            match = {"prefix": "/", "headers": [{"name": "x-route", "string_match": {"exact": name}}]}
            metadata = {"filter_metadata": {"keyward": keyward, "other": {"models": 1}}}
            made.append({**config.copy_of(template), "name": name, "match": match, "metadata": metadata})
        config.connection_manager(bootstrap)["route_config"]["virtual_hosts"][0]["routes"] = [*made, template]

    consumers = [
        consumer("acme", team="research"),
        consumer("beta", deny={"route": "chat"}),
        consumer("gamma", team="research", allow={"models": ["llama"]}),
    ]
    gateway = gateway_of(start, consumers, document={"teams": [{"name": "research"}]}, change=routes)

    def chat(who, route, model="fast"):
        return gateway.chat({**bearer(who), "x-route": route}, model=model)

    assert [chat(who, "acme").status for who in ("acme", "beta")] == [200, 403]
    assert [chat(who, "research").status for who in ("acme", "beta", "gamma")] == [200, 403, 404]
    assert [chat("acme", "research", model).status for model in ("gpt-4o", "llama")] == [200, 404]
    assert refusal(chat("gamma", "research", "llama")) == (404, "model_not_found"), "a route gives nothing"
    listed = gateway.client.get("/v1/models", **bearer("acme"), **{"x-route": "research"}).json["data"]
    assert [model["id"] for model in listed] == ["fast", "gpt-4o"]
    assert [chat(who, "chat").status for who in ("acme", "beta")] == [200, 403]
    assert gateway.client.get("/v1/models", **bearer("acme"), **{"x-route": "chat"}).status == 403
    answer = chat("acme", "broken")
    assert (answer.status, "keyward.modls" in answer.json["error"]["message"]) == (500, True)
    gateway.on("openai/a", rate_limited(30))
    assert refusal(chat("acme", "research")) == (429, "keys_temporarily_exhausted"), "groq is not for this route"
    assert "groq/c" not in gateway.attempts


@pytest.mark.parametrize("version", ["1.36.3", "1.38.2"])
def test_older_envoys_tell_the_same(start, version):
    def narrow(bootstrap):
        config.routes(bootstrap)[0]["metadata"] = {"filter_metadata": {"keyward": {"models": ["fast"]}}}

    consumers = [consumer("acme", allow={"cidrs": ["127.0.0.0/8"]}), consumer("far", allow={"cidrs": ["10.0.0.0/8"]})]
    gateway = gateway_of(start, consumers, change=narrow, version=version)
    assert [gateway.chat(bearer("acme"), model=model).status for model in ("fast", "llama")] == [200, 404]
    assert gateway.chat(bearer("far")).status == 403


def test_consumers_and_teams_are_counted(start):
    consumers = [consumer("acme", team="research"), consumer("beta", team="research"), consumer("gamma"), consumer("idle")]
    gateway = gateway_of(start, consumers, document={"teams": [{"name": "research"}]})
    gateway.on("openai/a", rate_limited(1))
    for who in ("acme", "acme", "beta", "gamma"):
        assert gateway.chat(bearer(who)).status == 200
    assert gateway.chat(bearer("acme"), model="none").status == 404
    status = gateway.status()
    assert status["consumers"] == [
        {"name": "acme", "requests": 2},
        {"name": "beta", "requests": 1},
        {"name": "gamma", "requests": 1},
    ]
    assert status["teams"] == [{"name": "research", "requests": 3}]
    metrics = gateway.envoy.prometheus()
    assert 'keyward_consumer_requests{consumer="acme",team="research"} 2' in metrics
    assert 'keyward_consumer_requests{consumer="gamma",team=""} 1' in metrics


@pytest.mark.parametrize("as_json", [False, True], ids=["struct", "json"])
def test_ten_thousand_consumers_cost_what_ten_cost(start, as_json):
    def many(count):
        key = lambda n: hashlib.sha256(f"key-of-c{n}".encode()).hexdigest()  # noqa: E731
        consumers = [{"name": f"c{n}", "keys": [{"sha256": key(n)}], "roles": ["user"]} for n in range(count)]
        roles = [{"name": "user", "allow": {"models": ["fast"]}}]
        return gateway_of(start, consumers, document={"roles": roles}, as_json=as_json)

    few, full = many(10), many(10_000)

    def fastest(gateway, who):
        client, times = Client(gateway.port), []
        for _ in range(60):
            began = time.perf_counter()
            assert client.get("/v1/models/fast", **bearer(who)).status == 200
            times.append(time.perf_counter() - began)
        client.close()
        return min(times)

    assert full.chat(bearer("c9999")).status == 200
    assert full.chat(bearer("c10000")).status == 401
    # A look at each of 10,000 keys would take milliseconds; an answer without a provider takes a fraction of one.
    assert fastest(full, "c9999") < fastest(few, "c9") + 0.001


def test_the_openai_sdk_is_a_consumer(start):
    gateway = gateway_of(start, [consumer("acme", allow={"models": ["fast"]})])
    address = f"http://127.0.0.1:{gateway.port}/v1"
    ask = {"model": "fast", "messages": [{"role": "user", "content": "hello"}]}
    with openai.OpenAI(base_url=address, api_key="key-of-acme") as sdk:
        assert sdk.chat.completions.create(**ask).choices[0].message.content == replies.TEXT
        assert [model.id for model in sdk.models.list()] == ["fast"]
        with pytest.raises(openai.NotFoundError):
            sdk.chat.completions.create(**{**ask, "model": "llama"})
    with openai.OpenAI(base_url=address, api_key="wrong") as sdk, pytest.raises(openai.AuthenticationError) as refused:
        sdk.chat.completions.create(**ask)
    assert refused.value.code == "invalid_api_key"
    assert len(gateway.requests) == 1
