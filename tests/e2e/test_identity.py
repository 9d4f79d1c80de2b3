"""Identities that Envoy's own filters find out, in front of Keyward."""

import base64
import datetime
import hashlib
import hmac
import json
import ssl
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from harness import config
from harness.client import chat_body
from harness.envoy import CURRENT, OLDER
from harness.replies import rate_limited

TWO = {"openai": ["a", "b"], "groq": ["c"]}
VERSIONS = [CURRENT, *OLDER]
JWT_SECRET = b"secret-of-the-issuer-of-the-tests"


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(subject: str, secret: bytes = JWT_SECRET) -> str:
    """RFC 7519, signed with HS256."""
    parts = [{"alg": "HS256", "typ": "JWT", "kid": "1"}, {"iss": "corp", "sub": subject, "exp": 4_000_000_000}]
    signed = ".".join(encoded(json.dumps(part).encode()) for part in parts)
    return f"{signed}.{encoded(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"


def before_keyward(bootstrap: dict, name: str, filter_config: dict):
    filters = config.connection_manager(bootstrap)["http_filters"]
    filters.insert(0, {"name": name, "typed_config": filter_config})


def jwt_authn(bootstrap: dict):
    keys = {"keys": [{"kty": "oct", "alg": "HS256", "kid": "1", "k": encoded(JWT_SECRET)}]}
    provider = {
        "issuer": "corp",
        "local_jwks": {"inline_string": json.dumps(keys)},
        "claim_to_headers": [{"header_name": "x-jwt-sub", "claim_name": "sub"}],
    }
    # Keyward takes the token off, so a request that moves on to the next provider comes without it.
    rules = [
        {"match": {"path": "/keyward/status"}},
        {"match": {"prefix": "/", "headers": [{"name": "x-keyward-state", "present_match": True}]}},
        {"match": {"prefix": "/"}, "requires": {"provider_name": "corp"}},
    ]
    type_url = "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
    before_keyward(
        bootstrap, "envoy.filters.http.jwt_authn", {"@type": type_url, "providers": {"corp": provider}, "rules": rules}
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_the_claim_of_a_token_names_the_consumer(start, version):
    document = {
        "consumers": [{"name": "acme"}, {"name": "guest"}],
        "identify": [{"header": "x-jwt-sub"}],
        "anonymous": {"consumer": "guest"},
    }
    gateway = start(TWO, document_fields=document, change=jwt_authn, version=version)
    assert gateway.chat({"authorization": f"Bearer {token('acme')}"}).status == 200
    assert gateway.chat({"authorization": f"Bearer {token('acme')}", "x-jwt-sub": "guest"}).status == 200
    (first, second) = gateway.requests
    assert (first.header("x-jwt-sub"), second.header("x-jwt-sub")) == (None, None), "it goes no further"
    assert gateway.chat({"authorization": f"Bearer {token('nobody')}"}).code == "invalid_api_key"
    for forged in ({}, {"x-jwt-sub": "acme"}, {"x-jwt-sub": "acme", "x-keyward-state": "AAAA"}):
        assert gateway.chat({"authorization": f"Bearer {token('acme', b'forged')}", **forged}).status == 401, forged
        assert gateway.chat(forged).status == 401, forged
    assert gateway.status()["consumers"] == [{"name": "acme", "requests": 2}]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_request_with_a_token_moves_on_to_the_next_provider(start, version):
    document = {"consumers": [{"name": "acme"}], "identify": [{"header": "x-jwt-sub"}], "anonymous": "refuse"}
    gateway = start(TWO, document_fields=document, change=jwt_authn, version=version)
    gateway.on("openai/a", rate_limited(30))
    gateway.on("openai/b", rate_limited(30))
    answer = gateway.chat({"authorization": f"Bearer {token('acme')}"})
    assert (answer.status, gateway.attempts) == (200, ["openai/a", "openai/b", "groq/c"])
    assert gateway.status()["consumers"] == [{"name": "acme", "requests": 1}]


def api_key_auth(bootstrap: dict):
    """Skipped for a request that Keyward sends through the filters once more."""
    base = "type.googleapis.com/envoy"
    credentials = [{"key": "key-of-acme", "client": "acme"}, {"key": "key-of-nobody", "client": "nobody"}]
    wrapped = {
        "@type": f"{base}.extensions.filters.http.api_key_auth.v3.ApiKeyAuth",
        "credentials": credentials,
        "key_sources": [{"header": "Authorization"}],
        "forwarding": {"header": "x-client-id", "hide_credentials": True},
    }
    header = {"@type": f"{base}.type.matcher.v3.HttpRequestHeaderMatchInput", "header_name": "x-keyward-state"}
    again = {
        "predicate": {
            "single_predicate": {
                "input": {"name": "again", "typed_config": header},
                "value_match": {"safe_regex": {"google_re2": {}, "regex": ".+"}},
            }
        },
        "on_match": {
            "action": {
                "name": "skip",
                "typed_config": {"@type": f"{base}.extensions.filters.common.matcher.action.v3.SkipFilter"},
            }
        },
    }
    wrapper = {
        "@type": f"{base}.extensions.common.matching.v3.ExtensionWithMatcher",
        "extension_config": {"name": "envoy.filters.http.api_key_auth", "typed_config": wrapped},
        "xds_matcher": {"matcher_list": {"matchers": [again]}},
    }
    before_keyward(bootstrap, "envoy.filters.http.match_delegate", wrapper)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_client_of_api_key_auth_is_the_consumer(start, version):
    document = {"consumers": [{"name": "acme"}], "identify": [{"header": "x-client-id"}], "anonymous": "refuse"}
    gateway = start(TWO, document_fields=document, change=api_key_auth, version=version)
    gateway.on("openai/a", rate_limited(30))
    gateway.on("openai/b", rate_limited(30))
    acme, nobody = ({"authorization": f"Bearer key-of-{name}"} for name in ("acme", "nobody"))
    assert gateway.chat(acme).status == 200
    assert gateway.attempts == ["openai/a", "openai/b", "groq/c"]
    assert gateway.chat(nobody).code == "invalid_api_key"
    for forged in ({"x-client-id": "acme"}, {"x-client-id": "acme", "x-keyward-state": "AAAA"}):
        assert gateway.chat(forged).status == 401
        assert gateway.chat(nobody | forged).status == 401
    assert len(gateway.attempts) == 3


def certificate(folder, common_name: str, uri: str | None) -> tuple[str, str]:
    """Signs itself; whoever trusts it as an authority trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
    names = [x509.DNSName("localhost")] + ([x509.UniformResourceIdentifier(uri)] if uri else [])
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signed = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(key, hashes.SHA256())
    paths = (folder / f"{common_name}.pem", folder / f"{common_name}.key")
    paths[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    encoding = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    paths[1].write_bytes(key.private_bytes(*encoding))
    return str(paths[0]), str(paths[1])


def test_a_client_certificate_names_the_consumer(start, tmp_path):
    server = certificate(tmp_path, "server", None)
    clients = {
        "acme": certificate(tmp_path, "acme", "spiffe://mesh/ns/acme"),
        "beta": certificate(tmp_path, "beta", None),
        "nobody": certificate(tmp_path, "nobody", "spiffe://mesh/ns/nobody"),
    }
    trusted = tmp_path / "trusted.pem"
    trusted.write_text("".join(Path(path).read_text() for path, _ in clients.values()))

    def mutual_tls(bootstrap):
        validation = {"trusted_ca": {"filename": str(trusted)}}
        certificates = [{"certificate_chain": {"filename": server[0]}, "private_key": {"filename": server[1]}}]
        config.listener(bootstrap)["filter_chains"][0]["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "common_tls_context": {"tls_certificates": certificates, "validation_context": validation},
            },
        }

    document = {
        "consumers": [
            {"name": "acme", "identities": ["spiffe://mesh/ns/acme"]},
            {"name": "beta", "identities": ["CN=beta"], "keys": [{"inline": "key-of-beta"}]},
        ],
        "identify": [
            {"property": "connection.uri_san_peer_certificate"},
            {"property": ["connection", "subject_peer_certificate"]},
            "key",
        ],
        "anonymous": "refuse",
    }
    gateway = start(TWO, document_fields=document, change=mutual_tls)

    def chat(client: str | None, **headers):
        context = ssl.create_default_context(cafile=server[0])
        if client:
            context.load_cert_chain(*clients[client])
        address = f"https://localhost:{gateway.port}/v1/chat/completions"
        return httpx.post(address, json=chat_body(), headers=headers, verify=context).status_code

    assert [chat(who) for who in ("acme", "beta", "nobody", None)] == [200, 200, 401, 401]
    key = {"authorization": "Bearer key-of-beta"}
    assert [chat(who, **key) for who in ("nobody", None)] == [401, 200], "the first source that is there decides"


def test_an_attribute_of_another_filter_names_the_consumer(start):
    def set_filter_state(bootstrap):
        text = {"text_format_source": {"inline_string": "%REQ(x-tenant)%"}}
        state = {"object_key": "tenant", "factory_key": "envoy.string", "format_string": text}
        type_url = "type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config"
        filter_config = {"@type": type_url, "on_request_headers": [state]}
        before_keyward(bootstrap, "envoy.filters.http.set_filter_state", filter_config)

    document = {"consumers": [{"name": "acme"}], "identify": [{"property": ["filter_state", "tenant"]}]}
    gateway = start(TWO, document_fields=document | {"anonymous": "refuse"}, change=set_filter_state)
    assert [gateway.chat({"x-tenant": tenant}).status for tenant in ("acme", "beta")] == [200, 401]
