"""Temporary keys, access requests and the audit trail on a real Envoy with four workers."""

import base64
import hashlib
import hmac
import json
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import anthropic
import openai
import pytest
from harness import replies
from harness.client import Client
from harness.config import ADMIN_KEY
from harness.gateway import Gateway

SECRET = "signing-secret-of-the-tests-0123456789"
TOTP = base64.b32encode(b"12345678901234567890").decode()
MODELS = [{"name": name, "targets": [{"provider": "openai"}]} for name in ("fast", "slow")]
WORKERS = 4
CLIENTS = 64


def document(**fields) -> dict:
    return {
        "roles": [{"name": "basic", "allow": {"models": ["fast"]}}],
        "consumers": [
            {"name": "acme", "keys": [{"inline": "key-of-acme"}], "roles": ["basic"]},
            {"name": "ops", "keys": [{"inline": "key-of-ops"}], "mfa": "totp", "totp": {"inline": TOTP}},
        ],
        "anonymous": "refuse",
        "temporary_keys": {"secrets": [{"id": "s1", "inline": SECRET}], "max_ttl": "1h"},
        "access": {"max_ttl": "8h"},
        **fields,
    }


def gateway_of(start, **fields) -> Gateway:
    return start({"openai": ["a"]}, models=MODELS, document_fields=document(**fields), concurrency=WORKERS)


@pytest.fixture
def gateway(start) -> Gateway:
    return gateway_of(start)


def bearer(key: str) -> dict:
    return {"authorization": f"Bearer {key}"}


def issue(gateway, by="key-of-acme", **scope) -> dict:
    answer = gateway.client.post("/keyward/keys", scope, bearer(by))
    assert answer.status == 201, answer
    assert answer.headers["cache-control"] == "no-store"
    return answer.json


def revoke(gateway, key_id: str, by="key-of-acme"):
    return gateway.client.request("DELETE", f"/keyward/keys/{key_id}", headers=bearer(by))


def refusal(answer) -> tuple[int, str]:
    return answer.status, answer.code


def at_once(gateway, count: int, key: str, model="fast") -> list[int]:
    """Statuses of requests from as many clients as there are, each with connections of its own."""

    def ask(requests: int) -> list[int]:
        client = Client(gateway.port)
        try:
            return [client.chat(bearer(key), model=model).status for _ in range(requests)]
        finally:
            client.close()

    with ThreadPoolExecutor(CLIENTS) as pool:
        return [status for statuses in pool.map(ask, [count // CLIENTS] * CLIENTS) for status in statuses]


def trail(gateway) -> list[dict]:
    """The audit trail in Envoy's log."""
    lines = [line[line.index("{") :] for line in gateway.envoy.log().splitlines() if '{"audit":' in line]
    return [json.loads(line) for line in lines]


def code(at: float) -> str:
    digest = hmac.digest(base64.b32decode(TOTP), struct.pack(">Q", int(at) // 30), "sha1")
    offset = digest[-1] & 15
    return f"{(struct.unpack_from('>I', digest, offset)[0] & 0x7FFFFFFF) % 1_000_000:06}"


def encoded(part: dict) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def decoded(part: str) -> dict:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def signed(header: dict, claims: dict, secret: bytes, algorithm="sha256") -> str:
    text = f"{encoded(header)}.{encoded(claims)}"
    signature = hmac.digest(secret, text.encode(), algorithm)
    return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def test_an_sdk_uses_a_temporary_key_like_any_key(gateway):
    issued = issue(gateway, models=["fast"], ttl="5m")
    with openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key=issued["key"], max_retries=0) as sdk:
        ask = {"messages": [{"role": "user", "content": "hello"}]}
        assert sdk.chat.completions.create(model="fast", **ask).choices[0].message.content == replies.TEXT
        assert [chunk for chunk in sdk.chat.completions.create(model="fast", stream=True, **ask)]
        assert [model.id for model in sdk.models.list()] == ["fast"]
        with pytest.raises(openai.NotFoundError):
            sdk.chat.completions.create(model="slow", **ask)
        assert revoke(gateway, issued["id"]).status == 200
        with pytest.raises(openai.AuthenticationError, match="was revoked"):
            sdk.chat.completions.create(model="fast", **ask)
    assert issued["key"] not in str([seen.headers for seen in gateway.requests])
    assert gateway.status()["consumers"] == [{"name": "acme", "requests": 2}]


def test_the_sdk_of_anthropic_takes_one_too(gateway):
    """Any dialect, any header: `x-api-key`, refusals in Anthropic's words."""
    issued = issue(gateway, endpoints=["messages"], uses=1)
    address = f"http://127.0.0.1:{gateway.port}"
    with anthropic.Anthropic(base_url=address, api_key=issued["key"], max_retries=0) as sdk:
        ask = {"model": "fast", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
        assert [block.text for block in sdk.messages.create(**ask).content] == [replies.TEXT]
        with pytest.raises(anthropic.AuthenticationError) as refused:
            sdk.messages.create(**ask)
    assert refused.value.body["error"]["type"] == "authentication_error"
    assert refused.value.body["error"]["message"] == "The temporary key has no uses left."
    assert refusal(gateway.chat(bearer(issue(gateway, endpoints=["messages"])["key"]))) == (403, "permission_denied")


def test_what_was_used_and_what_is_left(gateway):
    issued = issue(gateway, uses=3)
    assert gateway.chat(bearer(issued["key"])).status == 200
    me = gateway.client.get("/keyward/me", **bearer(issued["key"])).json
    assert (me["consumer"], me["models"], me["key"]["uses_left"]) == ("acme", ["fast"], 2)
    deadline = time.monotonic() + 10
    tokens = 0
    # Tokens are counted when the answer is over, which its client sees first.
    while not tokens and time.monotonic() < deadline:
        usage = gateway.client.get("/keyward/usage", **bearer(ADMIN_KEY)).json
        tokens = usage["keys"][0]["day"]["current"]["prompt_tokens"]
    assert [entry["name"] for entry in usage["keys"]] == ["openai/a"]
    assert [entry["name"] for entry in usage["consumers"]] == ["acme"]
    assert usage["consumers"][0]["hour"]["current"]["requests"] == 1
    own = gateway.client.get("/keyward/usage", **bearer("key-of-acme")).json
    assert list(own) == ["time", "consumers"]


def test_a_key_works_on_every_envoy_and_is_revoked_on_one(start):
    one, other = gateway_of(start), gateway_of(start)
    issued = issue(one)
    assert [envoy.chat(bearer(issued["key"])).status for envoy in (one, other)] == [200, 200]
    assert revoke(one, issued["id"]).status == 200
    assert [envoy.chat(bearer(issued["key"])).status for envoy in (one, other)] == [401, 200]
    assert revoke(other, issued["id"], ADMIN_KEY).status == 200
    assert refusal(other.chat(bearer(issued["key"]))) == (401, "invalid_api_key")


@pytest.mark.timeout(120)
def test_uses_are_exact_over_all_workers(gateway):
    issued = issue(gateway, uses=100)
    statuses = at_once(gateway, 4 * CLIENTS, issued["key"])
    assert (statuses.count(200), statuses.count(401)) == (100, 4 * CLIENTS - 100)
    assert len(gateway.requests) == 100
    assert refusal(gateway.client.get("/keyward/me", **bearer(issued["key"]))) == (401, "invalid_api_key")


@pytest.mark.timeout(120)
def test_its_own_limit_is_exact_over_all_workers(gateway):
    issued = issue(gateway, limits=[{"requests": 70, "per": "day"}])
    statuses = at_once(gateway, 2 * CLIENTS, issued["key"])
    assert (statuses.count(200), statuses.count(429)) == (70, 2 * CLIENTS - 70)
    (limit,) = gateway.client.get("/keyward/me", **bearer(issued["key"])).json["limits"]
    assert (limit["of"], limit["max"], limit["left"]) == ("key", 70, 0)
    assert gateway.chat(bearer("key-of-acme")).status == 200


def test_revoked_is_revoked_for_all_workers(gateway):
    issued = issue(gateway)
    assert set(at_once(gateway, CLIENTS, issued["key"])) == {200}
    assert revoke(gateway, issued["id"]).status == 200
    assert set(at_once(gateway, CLIENTS, issued["key"])) == {401}


def test_forged_keys_are_refused(gateway):
    issued = issue(gateway, models=["fast"])
    header, claims, _ = issued["key"].split(".")
    header, claims = decoded(header), decoded(claims)
    assert gateway.chat(bearer(signed(header, claims, SECRET.encode()))).status == 200, "the control"
    wide = {**claims, "keyward": {}}
    past, forever = {**claims, "exp": int(time.time()) - 1}, {**claims, "exp": 4_000_000_000}
    forged = {
        "claims changed": f"{encoded(header)}.{encoded(wide)}.{issued['key'].split('.')[2]}",
        "re-signed": signed(header, wide, b"another-secret-0123456789012345678"),
        "re-signed without a secret": signed(header, wide, b""),
        "alg none": f"{encoded({**header, 'alg': 'none'})}.{encoded(wide)}.",
        "alg none, signed": signed({**header, "alg": "none"}, wide, SECRET.encode()),
        "another hash": signed({**header, "alg": "HS512"}, wide, SECRET.encode(), "sha512"),
        "another kid": signed({**header, "kid": "s2"}, wide, SECRET.encode()),
        "another issuer": signed(header, {**claims, "iss": "other"}, SECRET.encode()),
        "another consumer": f"{encoded(header)}.{encoded({**claims, 'sub': 'ops'})}.{issued['key'].split('.')[2]}",
        "expired": signed(header, past, SECRET.encode()),
        "not yet": signed(header, {**claims, "iat": int(time.time()) + 600}, SECRET.encode()),
        "oversize": signed(header, {**claims, "keyward": {"models": ["m" * 250] * 60}}, SECRET.encode()),
        "huge": "ey" + "a" * 20_000 + ".e.s",
        "cut": issued["key"][:-1],
        "dots": "ey..",
        "twice": issued["key"] + "." + issued["key"],
    }
    for name, key in forged.items():
        for headers in (bearer(key), {"x-api-key": key}):
            answer = gateway.chat(headers)
            assert refusal(answer) == (401, "invalid_api_key"), name
            assert answer.headers["www-authenticate"].startswith("Bearer ")
    # Longer than allowed is cut to what is allowed, not believed.
    assert gateway.chat(bearer(signed(header, forever, SECRET.encode()))).status == 200
    me = gateway.client.get("/keyward/me", **bearer(signed(header, forever, SECRET.encode()))).json
    assert me["key"]["expires_at"] == issued["expires_at"]
    # What only Keyward says is not believed from outside.
    spoofed = {"x-keyward-consumer": "ops", "x-keyward-state": "00.00", "x-keyward-secret-1": "x"}
    assert refusal(gateway.chat({**spoofed, **bearer(forged["re-signed"])})) == (401, "invalid_api_key")
    assert [seen.key for seen in gateway.requests] == [gateway.secrets["openai/a"]] * 2


def test_a_key_expires_and_is_for_its_addresses(gateway):
    brief = issue(gateway, ttl="2s")
    away = issue(gateway, cidrs=["192.0.2.0/24"])
    here = issue(gateway, cidrs=["127.0.0.0/8"])
    assert gateway.chat(bearer(brief["key"])).status == 200
    assert gateway.chat(bearer(here["key"])).status == 200
    spoofed = {**bearer(away["key"]), "x-forwarded-for": "192.0.2.1", "x-real-ip": "192.0.2.1"}
    assert refusal(gateway.chat(spoofed)) == (403, "permission_denied")
    deadline = time.monotonic() + 10
    while (answer := gateway.chat(bearer(brief["key"]))).status == 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert refusal(answer) == (401, "invalid_api_key")
    assert answer.json["error"]["message"] == "The temporary key has expired."


def test_a_second_factor_is_needed_once_and_not_guessed(gateway):
    def ask(totp=None):
        body = {} if totp is None else {"totp": totp}
        return gateway.client.post("/keyward/keys", body, bearer("key-of-ops"))

    assert refusal(ask()) == (401, "invalid_api_key")
    # A step that is still accepted when the answer comes, whenever in a step this starts.
    first = code(time.time())
    with ThreadPoolExecutor(16) as pool:
        statuses = sorted(answer.status for answer in pool.map(ask, [first] * 4))
    assert statuses == [201, 401, 401, 401], "taken once, by whatever worker"
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, [f"{guess:06}" for guess in range(40)]))
    assert {answer.status for answer in answers} <= {401, 429}
    assert sum(answer.status == 401 for answer in answers) <= 5
    blocked = ask(code(time.time() + 30))
    assert refusal(blocked) == (429, "too_many_codes")
    assert 0 < int(blocked.headers["retry-after"]) <= 300
    assert TOTP not in gateway.envoy.log()


def test_access_is_asked_for_approved_and_used(gateway):
    assert gateway.chat(bearer("key-of-acme"), model="slow").status == 404
    wish = {"model": "slow", "reason": "to compare", "ttl": "1h"}
    asked = gateway.client.post("/keyward/access", wish, bearer("key-of-acme"))
    assert asked.status == 201
    path = f"/keyward/access/{asked.json['id']}"
    own = gateway.client.post(path, {"decision": "approve"}, bearer("key-of-acme"))
    assert refusal(own) == (403, "permission_denied")
    assert gateway.client.post(path, {"decision": "approve"}, bearer(ADMIN_KEY)).status == 200
    assert set(at_once(gateway, CLIENTS, "key-of-acme", "slow")) == {200}, "at once, on every worker"
    (listed,) = gateway.client.get("/keyward/access", **bearer(ADMIN_KEY)).json["data"]
    assert (listed["state"], listed["model"], listed["consumer"]) == ("granted", "slow", "acme")
    assert gateway.client.post(path, {"decision": "refuse"}, bearer(ADMIN_KEY)).status == 200
    assert gateway.chat(bearer("key-of-acme"), model="slow").status == 404


def test_the_audit_trail_is_in_the_log(gateway):
    issued = issue(gateway, uses=1)
    revoke(gateway, issued["id"], ADMIN_KEY)
    gateway.client.get("/keyward/status", **bearer("key-of-acme"))
    gateway.envoy.await_log("GET /keyward/status")
    issued_line, revoked_line, refused_line = trail(gateway)
    admin = "admin:" + hashlib.sha256(ADMIN_KEY.encode()).hexdigest()[:8]
    assert (issued_line["audit"], issued_line["who"], issued_line["what"]) == ("issue", "acme", issued["id"])
    assert (revoked_line["audit"], revoked_line["who"]) == ("revoke", admin)
    assert (refused_line["audit"], refused_line["status"]) == ("refusal", 401)
    assert {line["from"] for line in trail(gateway)} == {"127.0.0.1"}
    log = gateway.envoy.log()
    assert not any(secret in log for secret in (issued["key"], SECRET, ADMIN_KEY, "key-of-acme"))


@pytest.mark.parametrize("mode", ["headers", "body"])
def test_standalone_takes_the_keys_and_says_what_it_cannot(start, mode):
    fields = {"models": MODELS, "stage": "standalone", "concurrency": WORKERS}
    gateway = start({"openai": ["a"]}, document_fields=document(mode=mode), **fields)
    elsewhere = gateway_of(start)
    issued = issue(elsewhere, uses=2)
    statuses = [gateway.chat(bearer(issued["key"])).status for _ in range(3)]
    assert statuses == [200, 200, 401]
    asked = gateway.client.post("/keyward/keys", {}, bearer("key-of-acme"))
    if mode == "body":
        assert asked.status == 201
        issued = asked.json
    else:
        assert refusal(asked) == (501, "not_implemented")
    assert revoke(gateway, issued["id"]).status == 200
    assert gateway.chat(bearer(issued["key"])).status == 401


def test_signing_secrets_rotate_with_overlap(start):
    kept = issue(gateway_of(start))
    old, new = {"id": "s1", "inline": SECRET}, {"id": "s2", "inline": SECRET[::-1]}
    both = gateway_of(start, temporary_keys={"secrets": [new, old]})
    assert decoded(issue(both)["key"].split(".")[0])["kid"] == "s2"
    assert both.chat(bearer(kept["key"])).status == 200, "the old secret still verifies"
    retired = gateway_of(start, temporary_keys={"secrets": [new]})
    assert refusal(retired.chat(bearer(kept["key"]))) == (401, "invalid_api_key")
