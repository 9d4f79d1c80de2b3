import itertools

import pytest
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
