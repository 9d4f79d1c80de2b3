import itertools

import pytest
from harness.config import SHIPPED
from harness.envoy import WASM
from harness.gateway import Gateway, Setup


def pytest_sessionstart(session):
    if not WASM.exists() and not session.config.option.collectonly:
        pytest.exit(f"{WASM} is missing: run `make build`", returncode=1)


@pytest.fixture
def start(tmp_path):
    """Starts gateways that end with the test: `start({"openai": ["a", "b"]}, …)` with the fields of `Setup`."""
    running = []
    numbers = itertools.count()

    def start(providers, **fields) -> Gateway:
        gateway = Gateway(Setup(providers, **fields), tmp_path / f"envoy-{next(numbers)}")
        running.append(gateway)
        return gateway

    yield start
    for gateway in running:
        gateway.stop(trap_expected=getattr(gateway, "trap_expected", False))


@pytest.fixture
def shipped(tmp_path):
    """Where a configuration of `envoy/` lies with this machine's paths, and the environment that it asks for."""

    def at(name: str):
        text = (SHIPPED / name).read_text().replace("/etc/envoy/keyward.wasm", str(WASM))
        path = tmp_path / name.replace("/", "-")
        path.write_text(text.replace("/etc/envoy/secrets", str(SHIPPED / "secrets")))
        return path

    names = ["OPENAI_KEY_1", "OPENAI_KEY_2", "GROQ_KEY_1", "MISTRAL_KEY_1", "KEYWARD_ADMIN_KEY", "ACME_KEY"]
    at.environment = {name: f"sk-shipped-{name.lower()}" for name in names}
    return at
