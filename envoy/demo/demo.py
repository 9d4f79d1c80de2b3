"""The main job, shown: Envoy with Keyward, a mock of two providers that limits every key, and the official OpenAI SDK.

Each step says what has to happen; the exit status is 0 only if all of it did. `--keep` leaves everything running.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
from harness import config
from harness.envoy import REPOSITORY, Envoy
from harness.mock import Llmock

FOLDER = REPOSITORY / ".run/demo"
REQUESTS_PER_MINUTE = 3
ADMIN_KEY = "demo-admin"
ENVIRONMENT = {
    "OPENAI_KEY_1": "demo-key-1",
    "OPENAI_KEY_2": "demo-key-2",
    "GROQ_KEY_1": "demo-key-3",
    "KEYWARD_ADMIN_KEY": ADMIN_KEY,
}
SECRETS = {
    "openai/main": ENVIRONMENT["OPENAI_KEY_1"],
    "openai/spare": ENVIRONMENT["OPENAI_KEY_2"],
    "groq/main": ENVIRONMENT["GROQ_KEY_1"],
}
BASE_PATHS = {"openai/main": "/v1", "openai/spare": "/v1", "groq/main": "/groq/openai/v1"}
COLUMNS = "{:>3}  {:<8}  {:<7}  {:<13}  {:>8}  {}"


@dataclass
class Outcome:
    """One request as its client saw it."""

    status: int
    key: str = "–"
    """Which key answered, as `provider/id`."""
    attempts: int = 0
    upstream: int = 0
    """Requests that reached the providers meanwhile."""
    text: str = ""
    code: str | None = None
    hint: int | None = None


class Demo:
    def __init__(self, mock: Llmock, envoy: Envoy):
        self.mock = mock
        self.envoy = envoy
        self.address = f"http://127.0.0.1:{envoy.port()}"
        # The SDK's own retries would hide the 429s that are shown here.
        self.sdk = openai.OpenAI(base_url=f"{self.address}/v1", api_key="of-the-client", max_retries=0)
        self.number = 0
        self.failures = 0

    def run(self):
        print(COLUMNS.format("", "request", "result", "key", "attempts", ""))
        self.served_by("openai/main")
        self.served_by("openai/main")
        self.use_up("openai/main")
        self.served_by("openai/spare", "openai/main is exhausted: moved on in flight, in a stream", moved=True, stream=True)
        self.served_by("openai/spare")
        self.use_up("openai/spare")
        self.served_by("groq/main", "so is openai/spare: another provider took over in flight", moved=True)
        self.served_by("groq/main", "no key that is known to be exhausted was asked", stream=True)
        self.use_up("groq/main")
        exhausted = self.step(
            explain="found out while trying: all keys are exhausted", expect=lambda got: is_hint(got) and got.upstream == 1
        )
        self.step(explain="known beforehand: no provider was asked", expect=lambda got: is_hint(got) and got.upstream == 0)
        if exhausted.hint:
            print(f"     … {exhausted.hint} s, as `Retry-After` says")
            time.sleep(exhausted.hint)
        self.step(explain="a key has come back", expect=lambda got: got.status == 200 and got.key.startswith("openai/"))
        self.limits()
        self.show_status()

    def limits(self):
        """One consumer is stopped by its own limit, another goes on."""
        print("     … two consumers with keys of their own; frugal may ask once a day")
        for who in ("frugal", "generous"):
            self.step(explain=f"{who} asks", expect=lambda got: got.status == 200, who=who)
        stopped = self.step(explain="frugal is stopped by its own limit", expect=is_over_quota, who="frugal")
        self.failures += stopped.upstream != 0
        self.step(explain="generous goes on", expect=lambda got: got.status == 200, who="generous")

    def served_by(self, key: str, explain: str = "", moved: bool = False, stream: bool = False):
        self.step(
            stream=stream,
            explain=explain,
            expect=lambda got: got.status == 200 and got.key == key and got.text and (got.attempts > 1) == moved,
        )

    def use_up(self, key: str):
        """Somebody else has the same provider key and spends what is left of it; Keyward cannot know."""
        print(f"     … somebody else uses up {key}")
        headers = {"authorization": f"Bearer {SECRETS[key]}"}
        body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "mine"}]}
        with httpx.Client(base_url=f"http://127.0.0.1:{self.mock.port}", headers=headers, timeout=30) as somebody:
            for _ in range(REQUESTS_PER_MINUTE + 1):
                if somebody.post(f"{BASE_PATHS[key]}/chat/completions", json=body).status_code == 429:
                    return
        raise RuntimeError(f"the mock does not limit {key}")

    def step(
        self, expect: Callable[[Outcome], object], explain: str = "", stream: bool = False, who: str | None = None
    ) -> Outcome:
        self.number += 1
        before = self.upstream_requests()
        got = self.ask(stream, who)
        got.upstream = self.upstream_requests() - before
        as_expected = bool(expect(got))
        self.failures += not as_expected
        notes = [explain, f"Retry-After: {got.hint}, {got.code}" if got.status != 200 else ""]
        notes.append("" if as_expected else f"*** NOT AS EXPECTED: {got}")
        kind = "stream" if stream else "chat"
        note = "; ".join(note for note in notes if note)
        print(COLUMNS.format(self.number, kind, got.status, got.key, got.attempts or "–", note).rstrip(), flush=True)
        return got

    def ask(self, stream: bool, who: str | None) -> Outcome:
        # Where it is not about the provider's limits, those are waited for.
        sdk = self.sdk.with_options(api_key=f"key-of-{who}", max_retries=5) if who else self.sdk
        completions = sdk.chat.completions.with_raw_response
        message = {"role": "user", "content": f"question {self.number}"}
        try:
            raw = completions.create(model="fast", messages=[message], stream=stream)
        except openai.APIStatusError as refused:
            hint = refused.response.headers.get("retry-after")
            return Outcome(refused.status_code, code=refused.code, hint=int(hint) if hint else None)
        except openai.APIConnectionError as broken:
            return Outcome(0, text=repr(broken))
        answer = raw.parse()
        if stream:
            text = "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)
        else:
            text = answer.choices[0].message.content
        key = f"{raw.headers.get('x-keyward-provider')}/{raw.headers.get('x-keyward-key')}"
        return Outcome(raw.status_code, key, int(raw.headers.get("x-keyward-attempts", 0)), text=text)

    def upstream_requests(self) -> int:
        clusters = [f"cluster.{provider}-endpoints.upstream_rq_total" for provider in ("openai", "groq")]
        return sum(self.envoy.stats(rf"^{cluster}$").get(cluster, 0) for cluster in clusters)

    def show_status(self):
        headers = {"authorization": f"Bearer {ADMIN_KEY}"}
        status = httpx.get(f"{self.address}/keyward/status", headers=headers).raise_for_status().json()
        print("\nGET /keyward/status")
        line = "     {:<13}  {:<10}  {:<13}  {:>8}  {:>8}  {:>13}"
        print(line.format("key", "state", "reason", "requests", "failures", "tokens in/out"))
        for key in status["keys"]:
            tokens = f"{key['tokens']['prompt']}/{key['tokens']['completion']}"
            fields = (key["key"], key["state"], key["reason"] or "–", key["requests"], key["failures"], tokens)
            print(line.format(*fields))
        self.failures += {key["key"] for key in status["keys"]} != set(SECRETS)

    def how_to_call(self) -> str:
        return f"""
Left running, as KEEP=1 asked for:
  curl -i {self.address}/v1/chat/completions -H 'content-type: application/json' \\
    -d '{{"model": "fast", "messages": [{{"role": "user", "content": "hello"}}]}}'
  curl -H 'Authorization: Bearer {ADMIN_KEY}' {self.address}/keyward/status
  curl {self.envoy.admin.base_url}/stats/prometheus
To stop it: kill {self.envoy.process.pid} {self.mock.process.pid}"""


def is_hint(got: Outcome) -> bool:
    return got.status == 429 and got.code == "keys_temporarily_exhausted" and got.hint is not None and 1 <= got.hint <= 60


def is_over_quota(got: Outcome) -> bool:
    return got.status == 429 and got.code == "quota_exceeded" and got.hint is not None


def bootstrap(mock: Llmock) -> dict:
    """envoy.yaml of this folder, with the mock where it is and ports that are free."""
    configuration = config.load(Path(__file__).with_name("envoy.yaml"))
    for cluster in configuration["static_resources"]["clusters"]:
        for group in cluster.get("load_assignment", {}).get("endpoints", []):
            for endpoint in group["lb_endpoints"]:
                if "socket_address" in endpoint["endpoint"]["address"]:
                    endpoint["endpoint"]["address"] = config.loopback(mock.port)
    return configuration


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave Envoy and the mock running")
    keep = parser.parse_args().keep
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    print(f"3 keys of {REQUESTS_PER_MINUTE} requests a minute each; logs are in {os.path.relpath(FOLDER)}\n")
    mock = Llmock(FOLDER / "llmock.log", REQUESTS_PER_MINUTE, "--stream-chunk-delay-ms", "20")
    envoy = None
    demo = None
    try:
        envoy = Envoy(bootstrap(mock), FOLDER, ENVIRONMENT, concurrency=2)
        demo = Demo(mock, envoy)
        demo.run()
        print("\nAll as it should be." if not demo.failures else f"\n{demo.failures} steps were not as they should be.")
        if keep:
            print(demo.how_to_call())
            return 1 if demo.failures else 0
    finally:
        if not (keep and demo):
            if envoy:
                envoy.stop()
            mock.stop()
    return 1 if demo.failures else 0


if __name__ == "__main__":
    sys.exit(main())
