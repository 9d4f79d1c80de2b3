"""What lies in `envoy/` is valid, complete, and does TLS as it says."""

import re
import ssl
import subprocess
import sys
from typing import ClassVar

import pytest
import trustme
import yaml
from harness import config, replies
from harness.client import Client
from harness.config import SHIPPED
from harness.envoy import CURRENT, REPOSITORY, Envoy, validate
from harness.upstream import Upstream


def test_every_envoy_configuration_is_valid(shipped):
    names = sorted(str(path.relative_to(SHIPPED)) for path in SHIPPED.glob("**/*.yaml"))
    names = [name for name in names if not name.startswith(("secrets/", "docker-compose"))]
    assert names == [
        "bedrock.yaml",
        "demo/envoy.yaml",
        "envoy.yaml",
        "ratelimit.yaml",
        "secrets-sds.yaml",
        "standalone.yaml",
    ]
    for name in names:
        result = validate(shipped(name), shipped.environment)
        assert result.returncode == 0, f"{name}: {result.stderr}"


def test_both_stages_have_the_same_machine_and_document():
    for name in ("bedrock.yaml", "envoy.yaml", "ratelimit.yaml", "secrets-sds.yaml", "demo/envoy.yaml"):
        gateway, *attempts = config.plugins(yaml.safe_load((SHIPPED / name).read_text()))
        assert [gateway["root_id"], *{attempt["root_id"] for attempt in attempts}] == ["gateway", "attempt"]
        for attempt in attempts:
            assert gateway["vm_config"] == attempt["vm_config"]
            assert gateway["configuration"] == attempt["configuration"]


def test_a_panic_never_opens_the_gate():
    for path in SHIPPED.glob("**/*.yaml"):
        for plugin in config.plugins(yaml.safe_load(path.read_text())):
            assert plugin["failure_policy"] == "FAIL_RELOAD"
            assert plugin.get("allow_on_headers_stop_iteration", False) == (plugin["root_id"] != "standalone")


def test_every_secret_file_is_used_and_every_used_one_exists():
    used = {line.split("path: ")[1].split(",")[0] for line in (SHIPPED / "secrets-sds.yaml").open() if "sds_config" in line}
    files = {f"/etc/envoy/secrets/{path.name}" for path in (SHIPPED / "secrets").iterdir()}
    assert used == files


def test_the_compose_file_is_complete():
    compose = yaml.safe_load((SHIPPED / "docker-compose.yaml").read_text())
    services = compose["services"]
    assert services["envoy"]["image"] == f"envoyproxy/envoy:v{CURRENT}"
    mounts = dict(volume.split(":")[:2] for volume in services["envoy"]["volumes"])
    inside = {(SHIPPED / source).resolve().relative_to(REPOSITORY).as_posix(): target for source, target in mounts.items()}
    assert inside == {
        "envoy/demo/envoy.yaml": "/etc/envoy/envoy.yaml",
        "target/wasm32-wasip1/release/keyward.wasm": "/etc/envoy/keyward.wasm",
    }
    bootstrap = yaml.safe_load((SHIPPED / "demo/envoy.yaml").read_text())
    (wanted,) = {tuple(plugin["vm_config"]["environment_variables"]["host_env_keys"]) for plugin in config.plugins(bootstrap)}
    assert set(wanted) == set(services["envoy"]["environment"])
    targets = {
        (address["address"], address["port_value"])
        for cluster in bootstrap["static_resources"]["clusters"]
        for group in cluster.get("load_assignment", {}).get("endpoints", [])
        for endpoint in group["lb_endpoints"]
        if (address := endpoint["endpoint"]["address"].get("socket_address"))
    }
    assert targets == {("mock", 8000)}
    requirements = (REPOSITORY / "tests/requirements.txt").read_text()
    llmock = next(line for line in requirements.splitlines() if line.startswith("llmock=="))
    command = services["mock"]["command"][-1]
    assert llmock in command
    assert "--port 8000" in command


@pytest.mark.parametrize("program", ["envoy/demo/demo.py", "benches/bench.py"])
def test_programs_find_what_they_share_with_the_tests(program):
    """They use the harness, and take minutes: here they only load."""
    environment = {"PYTHONPATH": str(REPOSITORY / "tests/e2e")}
    command = [sys.executable, str(REPOSITORY / program), "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


class WithoutTimestamps(yaml.SafeLoader):
    """As Envoy reads YAML: a timestamp is a string."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def test_the_configuration_of_the_readme_is_accepted(tmp_path):
    """The whole one, that with the sections of the further examples, and a route before the others; then those with
    other providers, keys left out as in the text."""
    texts = re.findall(r"```yaml\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    keys = "[{id: k, secret: {inline: sk-k}}]"
    document, *more = (yaml.load(text.replace("[…]", keys), WithoutTimestamps) for text in texts)
    (routes,) = (section for section in more if isinstance(section, list))
    sections = [section for section in more if isinstance(section, dict)]
    others = [with_providers_of(document, section) for section in sections if "providers" in section]
    consumers = document | {name: value for section in sections if "providers" not in section for name, value in section.items()}
    names = set(re.findall(r"env: (\w+)", "".join(texts)))
    assert len(others) >= 4, "Azure, known models, Google, AWS"
    for number, whole in enumerate((document, consumers, *others)):
        endpoints = {provider["name"]: config.Endpoint(1) for provider in whole["providers"]}
        bootstrap = config.two_stages(whole, endpoints, sorted(names))
        config.routes(bootstrap)[:0] = routes
        # As long as a signing secret has to be.
        secrets = {name: f"sk-{name.lower()}".ljust(32, "-") for name in names}
        Envoy(bootstrap, tmp_path / f"envoy-{number}", secrets).stop()


def with_providers_of(document: dict, section: dict) -> dict:
    """What a section says instead, and its providers beside those that it does not mention."""
    named = {provider["name"] for provider in section["providers"]}
    rest = [provider for provider in document["providers"] if provider["name"] not in named]
    pools = [*document.get("key_pools", []), *section.get("key_pools", [])]
    return document | section | {"providers": [*section["providers"], *rest], "key_pools": pools}


class TlsProvider:
    """A scripted HTTP/2 provider with a certificate; remembers the server names that it was asked for."""

    def __init__(self, authority: trustme.CA, name: str, certified: str, keys: list[str]):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(certified).configure_cert(context)
        context.set_alpn_protocols(["h2"])
        context.sni_callback = lambda _socket, asked, _context: self.asked.append(asked)
        self.asked: list[str] = []
        self.upstream = Upstream(name, keys, replies.answer, http2=True, tls=context)


def test_providers_are_verified_by_name(tmp_path, shipped):
    """OpenAI's certificate is of another host here, so its keys never leave; Groq's is right."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    environment = shipped.environment
    providers = {
        "openai": TlsProvider(authority, "openai", "api.example.com", [environment["OPENAI_KEY_1"]]),
        "groq": TlsProvider(authority, "groq", "api.groq.com", [environment["GROQ_KEY_1"]]),
    }
    bootstrap = config.load(SHIPPED / "envoy.yaml")
    for cluster in bootstrap["static_resources"]["clusters"]:
        provider = providers.get(cluster["name"].removesuffix("-endpoints"))
        if provider is None or "load_assignment" not in cluster:
            continue
        target = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        target["address"] = config.loopback(provider.upstream.port)
        tls = cluster["transport_socket"]["typed_config"]["common_tls_context"]
        tls["validation_context"]["trusted_ca"]["filename"] = str(tmp_path / "ca.pem")
    envoy = Envoy(bootstrap, tmp_path / "envoy", environment)
    client = Client(envoy.port())
    try:
        answer = client.chat()
        assert answer.status == 200, answer
        assert providers["openai"].upstream.requests == []
        assert set(providers["openai"].asked) == {"api.openai.com"}
        (seen,) = providers["groq"].upstream.requests
        assert (seen.protocol, seen.header("host"), seen.path) == ("2", "api.groq.com", "/openai/v1/chat/completions")
        assert seen.json["model"] == "llama-3.1-8b-instant"
        assert providers["groq"].asked == ["api.groq.com"]
    finally:
        client.close()
        envoy.stop()
        for provider in providers.values():
            provider.upstream.stop()


@pytest.mark.parametrize("target", ["help", "build", "test", "test-unit", "test-e2e", "lint", "demo", "clean"])
def test_the_makefile_knows_its_targets(target):
    listed = subprocess.run(["make", "help"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert any(line.split()[:1] == [target] for line in listed.splitlines())
