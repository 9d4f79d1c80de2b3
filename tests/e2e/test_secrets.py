"""Secrets: rotated by a file, and found nowhere but in the provider's request."""

import time
from urllib.parse import quote

import pytest
from harness import config, replies
from harness.client import Client
from harness.config import Endpoint
from harness.envoy import Envoy, EnvoyRefused, write_atomically
from harness.gateway import Gateway, Setup
from harness.upstream import Upstream

OLD, NEW, OTHER = "sk-file-old-4f1c2b", "sk-file-new-9d0e7a", "sk-file-other-77aa01"


def secret_file(folder, name: str, value: str):
    resource = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": name,
        "generic_secret": {"secret": {"inline_string": value}},
    }
    write_atomically(folder / f"{name}.yaml", {"resources": [resource]})


def test_a_key_is_rotated_by_its_file(tmp_path):
    folder = tmp_path / "secrets"
    folder.mkdir()
    for name, value in (("openai-main-1", OLD), ("openai-main-2", OTHER)):
        secret_file(folder, name, value)
    for name in ("groq-main-1", "mistral-main-1"):
        secret_file(folder, name, f"sk-file-{name}")
    upstream = Upstream("openai", [OLD, OTHER], replies.answer)
    keys = [{"id": str(tier + 1), "tier": tier, "secret": {"header": f"x-keyward-secret-{tier + 1}"}} for tier in range(2)]
    document = Setup({"openai": keys}).document()
    bootstrap = config.secrets_by_sds(document, {"openai": Endpoint(upstream.port)}, str(folder))
    envoy = Envoy(bootstrap, tmp_path / "envoy")
    client = Client(envoy.port())
    try:
        assert client.chat().status == 200
        upstream.on(OLD, replies.key_rejected())
        assert client.chat().status == 200
        assert [seen.key for seen in upstream.requests] == [OLD, OLD, OTHER]
        assert not [name for seen in upstream.requests for name, _ in seen.headers if "secret" in name]

        upstream.keys.append(NEW)
        secret_file(folder, "openai-main-1", NEW)
        deadline = time.monotonic() + 10
        while upstream.requests[-1].key != NEW:
            assert time.monotonic() < deadline, envoy.log()
            assert client.chat().status == 200, "never without a usable key"
        assert {seen.key for seen in upstream.requests} == {OLD, OTHER, NEW}
        dump = envoy.admin.get("/config_dump", params={"include_eds": ""}).text
        assert not [value for value in (OLD, NEW, OTHER) if value in dump + envoy.log()]
        envoy.assert_no_trap()
    finally:
        client.close()
        envoy.stop()
        upstream.stop()


def everything_said(gateway: Gateway, answers: list) -> str:
    """All that the run left behind or can be asked for."""
    pages = ["config_dump", "stats", "stats/prometheus", "clusters", "listeners", "server_info", "runtime", "certs"]
    said = [gateway.envoy.admin.get(f"/{page}").text for page in pages]
    said += [f"{answer.headers!r} {answer.body!r}" for answer in answers]
    return gateway.envoy.log() + "".join(said)


def test_a_whole_run_tells_no_secret(start):
    admin = {"admin": {"keys": [{"env": "OPENAI_ADMIN"}]}}
    # `admin` is no key of a provider: its variable carries the admin key.
    keys = ["a", "b", "c", {"id": "admin", "valid_until": "2020-01-01T00:00:00Z"}]
    gateway = start(
        {"openai": keys, "groq": ["d"]},
        document_fields=admin,
        arguments=("--component-log-level", "wasm:debug"),
        concurrency=2,
    )
    admin_key = gateway.secrets["openai/admin"]
    client_key = "client-key-5577aa"
    asked = {"authorization": f"Bearer {client_key}"}
    echo = f"Incorrect API key provided: {gateway.secrets['openai/a']}. You can find your API key at …"
    gateway.on("openai/a", replies.error(401, "invalid_request_error", "invalid_api_key", echo))
    gateway.on("openai/b", replies.rate_limited(20), replies.error_in_stream(), replies.cut_after_content())
    gateway.on("openai/c", replies.out_of_quota(), replies.reset_before_headers())
    gateway.on("groq/d", replies.rate_limited(10), replies.error(500), replies.error(503))
    answers = [gateway.chat(asked, stream=bool(number % 2)) for number in range(8)]
    answers.append(gateway.client.post("/v1/files", {"model": "fast"}, asked))
    answers.append(gateway.client.post("/v1/chat/completions", b"{", asked))
    answers.append(gateway.client.get("/keyward/status", authorization=f"Bearer {admin_key}"))
    assert answers[-1].status == 200
    answers.append(gateway.client.get("/keyward/status", **asked))
    assert answers[-1].status == 401
    used = {seen.key for seen in gateway.requests}
    assert {gateway.secrets[name] for name in ("openai/a", "openai/b", "openai/c", "groq/d")} <= used
    said = everything_said(gateway, answers)
    for value in (*gateway.secrets.values(), client_key):
        for spelling in (value, quote(value), value.removeprefix("sk-")[:16]):
            assert spelling not in said, next(line for line in said.splitlines() if spelling in line)[:300]


def test_a_rejected_document_is_not_repeated_with_its_secrets(tmp_path):
    setup = Setup({"openai": [{"id": "a", "secret": {"inline": "sk-inline-31c0ffee"}, "wieght": 1}]})
    bootstrap = config.two_stages(setup.document(), {"openai": Endpoint(1)}, [])
    with pytest.raises(EnvoyRefused, match="wieght") as refusal:
        Envoy(bootstrap, tmp_path / "envoy")
    assert "sk-inline" not in str(refusal.value)
