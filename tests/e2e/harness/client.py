"""An HTTP client that hides nothing: pieces as they arrived, and whether the answer was complete."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx


@dataclass
class Answer:
    status: int
    headers: httpx.Headers
    pieces: list[bytes] = field(default_factory=list)
    broken: str | None = None
    """How the message ended, where not properly."""
    protocol: str = "HTTP/1.1"

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """`error.code` of an answer in OpenAI's shape."""
        return self.json["error"]["code"]

    @property
    def events(self) -> list:
        """The `data` of every event: parsed, but for `[DONE]`."""
        blocks = [block for block in re.split(rb"\r?\n\r?\n", self.body) if block.strip()]
        lines = [line for block in blocks for line in block.splitlines() if line.startswith(b"data:")]
        texts = [line.removeprefix(b"data:").strip().decode() for line in lines]
        return [text if text == "[DONE]" else json.loads(text) for text in texts]

    def __repr__(self):
        return f"<{self.status} {dict(self.headers)} {self.body[:300]!r} broken={self.broken}>"


def chat_body(model: str = "fast", **fields) -> dict:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], **fields}


class Client:
    def __init__(self, port: int, http2: bool = False, headers: dict[str, str] | None = None):
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            http1=not http2,
            http2=http2,
            timeout=30,
            limits=limits,
            headers={"user-agent": "tests", **(headers or {})},
        )

    def close(self):
        self._http.close()

    def request(self, method: str, path: str, body=None, headers=None) -> Answer:
        with self.streaming(method, path, body, headers) as (answer, pieces):
            answer.pieces.extend(pieces)
        return answer

    @contextmanager
    def streaming(self, method: str, path: str, body=None, headers=None):
        """The head of the answer, and its pieces while they arrive. Leaving early disconnects."""
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        fields = list((headers or {}).items()) if not isinstance(headers, list) else headers
        if content is not None and not any(name in ("content-type", b"content-type") for name, _ in fields):
            fields.append(("content-type", "application/json"))
        with self._http.stream(method, path, content=content, headers=fields) as response:
            answer = Answer(response.status_code, response.headers, protocol=response.http_version)
            yield answer, _pieces(response, answer)

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers=headers)

    def post(self, path: str, body, headers=None) -> Answer:
        return self.request("POST", path, body, headers)

    def chat(self, headers=None, **fields) -> Answer:
        return self.post("/v1/chat/completions", chat_body(**fields), headers)


def _pieces(response: httpx.Response, answer: Answer) -> Iterator[bytes]:
    try:
        yield from response.iter_raw()
    except httpx.TransportError as problem:
        answer.broken = repr(problem)
