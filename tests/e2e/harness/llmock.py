"""llmock, an independent mock of the providers that limits each key by itself, as a process."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx

from .envoy import REPOSITORY
from .upstream import Reply, Seen


class Llmock:
    def __init__(self, log: Path, requests_per_minute: int, *arguments: str):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        command = [str(REPOSITORY / ".venv/bin/llmock"), "serve", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--rpm", str(requests_per_minute), "--response-style", "echo", *arguments]
        with log.open("wb") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=dict(os.environ))
        deadline = time.monotonic() + 20
        while True:  # a listening socket is its only sign of readiness
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    self.process.kill()
                    self.process.wait()
                    raise TimeoutError(log.read_text()) from None
                time.sleep(0.02)

    async def answer(self, seen: Seen) -> Reply:
        """Passes a request on, so that the scripted upstream in front keeps the journal of credentials."""
        headers = [(name, value) for name, value in seen.headers if name not in ("host", "content-length")]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=30) as client:
            answer = await client.request(seen.method, seen.path, content=seen.body, headers=headers)
        skipped = ("content-length", "transfer-encoding", "connection", "content-encoding")
        fields = [(name, value) for name, value in answer.headers.items() if name not in skipped]
        return Reply(answer.status_code, tuple(fields), (answer.content,))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
