"""Independent mocks of the providers, as processes."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import httpx

from .envoy import REPOSITORY, ended
from .upstream import Reply, Seen


class Mock:
    def __init__(self, log: Path, command: list[str], environment: dict[str, str] | None = None):
        """`command` lacks the port."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port), "--host", "127.0.0.1"],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
            )
        deadline = time.monotonic() + 20
        while True:  # a listening socket is the only sign of readiness that all of them have
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    self.process.kill()
                    self.process.wait()
                    raise TimeoutError(log.read_text()) from None
                time.sleep(0.02)

    def stop(self):
        ended(self.process)


class Llmock(Mock):
    """It limits each key by itself, as a provider does."""

    def __init__(self, log: Path, requests_per_minute: int, *arguments: str):
        command = [str(REPOSITORY / ".venv/bin/llmock"), "serve", "--rpm", str(requests_per_minute)]
        super().__init__(log, [*command, "--response-style", "echo", *arguments])

    async def answer(self, seen: Seen) -> Reply:
        """Passes a request on, so that the scripted upstream in front keeps the journal of credentials."""
        headers = [(name, value) for name, value in seen.headers if name not in ("host", "content-length")]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=30) as client:
            answer = await client.request(seen.method, seen.path, content=seen.body, headers=headers)
        skipped = ("content-length", "transfer-encoding", "connection", "content-encoding")
        fields = [(name, value) for name, value in answer.headers.items() if name not in skipped]
        return Reply(answer.status_code, tuple(fields), (answer.content,))


class Aimock(Mock):
    """It has the APIs of most vendors, and refuses a request with a key that is not one of its own."""

    PROGRAM = REPOSITORY / "tests/e2e/node/node_modules/@copilotkit/aimock/dist/cli.js"

    def __init__(self, log: Path, fixtures: Path, keys: Iterable[str]):
        self.keys = list(keys)
        assert self.PROGRAM.exists(), f"{self.PROGRAM} is missing: run `make test-e2e`, which installs it"
        command = [
            shutil.which("node") or "node",
            str(self.PROGRAM),
            "--fixtures",
            str(fixtures),
            "--strict",
            "--log-level",
            "warn",
        ]
        super().__init__(log, command, {"AIMOCK_API_KEYS": ",".join(self.keys)})

    def journal(self) -> list[dict]:
        """Every request that it let in, in order, read into one shape; credentials redacted."""
        headers = {"authorization": f"Bearer {self.keys[0]}"}
        return httpx.get(f"http://127.0.0.1:{self.port}/__aimock/journal", headers=headers).raise_for_status().json()
