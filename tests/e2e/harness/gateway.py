"""One Envoy with Keyward, the scripted providers behind it, and a client in front."""

import copy
import hashlib
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from . import config, replies
from .client import Answer, Client
from .config import ADMIN_KEY, Endpoint
from .envoy import CURRENT, DRAIN, Envoy
from .upstream import Seen, Upstream


def secret(provider: str, key: str) -> str:
    """What the provider knows the key by: unlike its id, so that it is found wherever it leaks."""
    return "sk-" + hashlib.sha256(f"{provider}/{key}".encode()).hexdigest()[:40]


def variable(provider: str, key: str) -> str:
    return f"{provider}_{key}".upper().replace("-", "_")


@dataclass
class Setup:
    """What a test varies. Keys are ids or dicts of key fields; they are tried in the order given (tier 0, 1, …)."""

    providers: dict[str, list]
    models: list[dict] | None = None
    stage: str = "two"  # two | standalone
    build: Callable[..., dict] | None = None
    """Envoy's configuration where it is not the shipped one of the stage."""
    provider_fields: dict[str, dict] = field(default_factory=dict)
    document_fields: dict = field(default_factory=dict)
    http2: bool = False
    refused: tuple[str, ...] = ()
    """Providers whose port refuses connections."""
    elsewhere: dict[str, Endpoint] = field(default_factory=dict)
    """Providers that are not scripted, and where they are."""
    variables: dict[str, str] = field(default_factory=dict)
    """More of Envoy's environment."""
    as_json: bool = False
    concurrency: int = 1
    version: str = CURRENT
    arguments: tuple[str, ...] = DRAIN
    """More of Envoy's command line."""
    change: Callable[[dict], None] | None = None
    """A last change of Envoy's configuration."""
    change_document: Callable[[dict], None] | None = None
    """A last change of Keyward's."""

    def document(self) -> dict:
        providers = []
        for name, keys in self.providers.items():
            keys = [{"id": key} if isinstance(key, str) else dict(key) for key in keys]
            for tier, key in enumerate(keys):
                key.setdefault("secret", {"env": variable(name, key["id"])})
                key.setdefault("tier", tier)
            providers.append({"name": name, "kind": "openai", "keys": keys, **self.provider_fields.get(name, {})})
        targets = [{"provider": name, "model": f"{name}-model"} for name in self.providers]
        document = {
            "providers": providers,
            "models": self.models or [{"name": "fast", "targets": targets}],
            "consumers": [{"name": "everybody"}],
            "anonymous": {"consumer": "everybody"},
            "admin": {"keys": [{"inline": ADMIN_KEY}]},
            "response_headers": True,
            **self.document_fields,
        }
        document = copy.deepcopy(document)
        if self.change_document:
            self.change_document(document)
        return document

    def secrets(self) -> dict[str, str]:
        """Every secret by the name of its key, `provider/id`."""
        ids = [
            (provider, key if isinstance(key, str) else key["id"])
            for provider in self.providers
            for key in self.providers[provider]
        ]
        return {f"{provider}/{key}": secret(provider, key) for provider, key in ids}

    def environment(self) -> dict[str, str]:
        return {variable(*name.split("/")): value for name, value in self.secrets().items()}


class Gateway:
    def __init__(self, setup: Setup, folder: Path):
        self.setup = setup
        self.secrets = setup.secrets()
        self.upstreams = {
            provider: Upstream(provider, self._secrets_of(provider), replies.answer, setup.http2) for provider in setup.providers
        }
        self._refusing = {name: _refusing_port() for name in setup.refused}
        environment = setup.environment()
        variables = environment | setup.variables
        build = setup.build or (config.two_stages if setup.stage == "two" else config.standalone)
        self.bootstrap = build(
            setup.document(), self.endpoints(), list(environment), as_json=setup.as_json, version=setup.version
        )
        if setup.change:
            setup.change(self.bootstrap)
        try:
            self.envoy = Envoy(self.bootstrap, folder, variables, setup.concurrency, setup.version, setup.arguments)
        except BaseException:
            self._close_upstreams()
            raise
        self.port = self.envoy.port()
        self.client = Client(self.port)

    def endpoints(self) -> dict[str, Endpoint]:
        ports = {name: upstream.port for name, upstream in self.upstreams.items()}
        ports |= {name: reserved.getsockname()[1] for name, reserved in self._refusing.items()}
        return {name: Endpoint(port, self.setup.http2) for name, port in ports.items()} | self.setup.elsewhere

    def stop(self, trap_expected: bool = False):
        try:
            self.client.close()
            self.envoy.stop()
            if not trap_expected:
                self.envoy.assert_no_trap()
        finally:
            self._close_upstreams()

    def _close_upstreams(self):
        for upstream in self.upstreams.values():
            upstream.stop()
        for reserved in self._refusing.values():
            reserved.close()

    def __getitem__(self, provider: str) -> Upstream:
        return self.upstreams[provider]

    def on(self, key: str, *answers):
        """Scripts a key, named `provider/id`."""
        self.upstreams[key.split("/")[0]].on(self.secrets[key], *answers)

    def always(self, key: str, answer):
        self.upstreams[key.split("/")[0]].always(self.secrets[key], answer)

    def _secrets_of(self, provider: str) -> list[str]:
        return [value for name, value in self.secrets.items() if name.startswith(f"{provider}/")]

    @property
    def requests(self) -> list[Seen]:
        """What all providers saw, in order."""
        seen = [request for upstream in self.upstreams.values() for request in upstream.requests]
        return sorted(seen, key=lambda request: request.order)

    @property
    def attempts(self) -> list[str]:
        """The keys used, in order, as `provider/id`."""
        names = {value: name for name, value in self.secrets.items()}
        return [names.get(request.key, f"unknown: {request.key}") for request in self.requests]

    def chat(self, headers=None, **fields) -> Answer:
        return self.client.chat(headers, **fields)

    def status(self) -> dict:
        answer = self.client.get("/keyward/status", authorization=f"Bearer {ADMIN_KEY}")
        assert answer.status == 200, answer
        return answer.json

    def key(self, name: str) -> dict:
        return next(key for key in self.status()["keys"] if key["key"] == name)

    def provider(self, name: str) -> dict:
        return next(provider for provider in self.status()["providers"] if provider["name"] == name)

    def model(self, name: str) -> dict:
        return next(model for model in self.status()["models"] if model["name"] == name)


def seconds_until(moment: str) -> float:
    """From now to an RFC 3339 time."""
    return (datetime.fromisoformat(moment) - datetime.now(UTC)).total_seconds()


def _refusing_port() -> socket.socket:
    """Bound but not listening: the port is ours, and connections to it are refused."""
    reserved = socket.socket()
    reserved.bind(("127.0.0.1", 0))
    return reserved
