"""Redis and a rate limit service on it, as processes; `make` builds the service and finds or fetches Redis."""

import json
import os
import socket
import subprocess
import time
from pathlib import Path

from .envoy import REPOSITORY, ended

SERVICE = Path(os.environ.get("KEYWARD_RATELIMIT", REPOSITORY / "tests/ratelimit/target/debug/keyward-ratelimit"))
REDIS = REPOSITORY / "tests/ratelimit/redis-server"
DOMAIN = "keyward"


def limit(key: str, value: str, maximum: int, by: tuple[str, ...] = ("consumer",), seconds: int = 86_400) -> dict:
    """A limit on descriptors with that entry, one count for each value of `by`."""
    return {
        "namespace": DOMAIN,
        "max_value": maximum,
        "seconds": seconds,
        "conditions": [f"{key} == '{value}'"],
        "variables": list(by),
    }


class Process:
    """Ends with `stop`; its output is in a file."""

    def __init__(self, command: list[str], folder: Path, name: str):
        assert Path(command[0]).exists(), f"{command[0]} is missing: run `make test-e2e`, which makes it"
        folder.mkdir(parents=True, exist_ok=True)
        self.log_path = folder / f"{name}.log"
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)

    def await_output(self, text: str):
        deadline = time.monotonic() + 20
        while text not in self.log_path.read_text():
            assert self.process.poll() is None, self.log_path.read_text()
            assert time.monotonic() < deadline, self.log_path.read_text()
            time.sleep(0.02)

    def stop(self):
        ended(self.process)


class Redis(Process):
    def __init__(self, folder: Path):
        self.port = free_port()
        options = {"port": self.port, "bind": "127.0.0.1", "save": "", "appendonly": "no", "dir": str(folder)}
        command = [str(REDIS), *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
        super().__init__(command, folder, "redis")
        self.await_output("Ready to accept connections")

    def command(self, *words: str):
        """One command and its answer, in Redis' own protocol."""
        parts = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in (word.encode() for word in words))
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection, connection.makefile("rb") as answer:
            connection.sendall(b"*%d\r\n" % len(words) + parts)
            return _answer(answer)


def _answer(lines):
    kind, *rest = lines.readline().decode().strip()
    length = int("".join(rest))
    if kind == "*":
        return [_answer(lines) for _ in range(length)]
    assert kind == "$", (kind, rest)
    return lines.read(length + 2)[:-2].decode() if length >= 0 else None


class RateLimitService(Process):
    def __init__(self, redis: Redis, limits: list[dict], folder: Path, port: int = 0):
        self.port = port or free_port()
        self.redis = redis
        command = [str(SERVICE), str(self.port), f"redis://127.0.0.1:{redis.port}", json.dumps(limits)]
        super().__init__(command, folder, "ratelimit")
        self.await_output("listening")

    def counts(self) -> dict[tuple[str, str], int]:
        """What has been charged, by budget and consumer."""
        counts = {}
        for key in self.redis.command("KEYS", "*,counter:*"):
            counter = json.loads(key.split(",counter:", 1)[1])
            (condition,) = counter["limit"]["conditions"]
            budget = condition.split('"')[1]
            value = int(self.redis.command("GET", key) or 0)
            if value:
                counts[budget, counter["set_variables"]["consumer"]] = value
        return counts


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]
