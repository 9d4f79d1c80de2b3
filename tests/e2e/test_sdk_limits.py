"""The official SDKs as consumers, with permanent and temporary keys: each limit is hit, obeyed, and over when it said."""

import time

import anthropic
import httpx
import openai
import pytest
from harness import replies
from harness.gateway import Gateway, Setup
from harness.upstream import Gate
from test_addresses import behind_one_proxy

SDKS = ["openai", "anthropic"]
KEYS = ["permanent", "temporary"]
SHORT = {
    "requests": [{"requests": 1, "per": "second", "algorithm": "token_bucket"}],
    # A request reserves about 60 and takes 21.
    "tokens": [{"tokens": 70, "per": "second", "algorithm": "token_bucket"}],
}
"""Over within a second: the SDK waits, and its caller sees nothing of it."""
BUDGETS = {
    "requests-day": [{"requests": 1, "per": "day"}],
    "tokens-day": [{"tokens": 80, "per": "day"}],
    # Two requests cost 0.042 dollars, and the first reserves more than it takes.
    "cost": [{"cost": 0.07, "per": "month"}],
}
"""Over for long: the caller is told at once."""
OTHERS = ["concurrency", "address", "block", "own"]
LONGEST_RUN = 60


def consumers() -> list[dict]:
    limits = SHORT | BUDGETS | {"concurrency": [{"concurrency": 1}]}
    names = [f"{case}-{sdk}-{key}" for case in [*SHORT, *BUDGETS, *OTHERS] for sdk in SDKS for key in KEYS]
    return [
        {"name": name, "keys": [{"inline": f"key-of-{name}"}], "limits": limits.get(name.rsplit("-", 2)[0], [])} for name in names
    ]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    setup = Setup(
        {"openai": ["a"]},
        models=[{"name": "fast", "targets": [{"provider": "openai"}]}],
        document_fields={
            "consumers": consumers(),
            "anonymous": "refuse",
            "prices": [{"provider": "openai", "model": "*", "input": 1000, "output": 1000}],
            "temporary_keys": {"secrets": [{"id": "s1", "inline": "signing-secret-of-the-tests-0123456789"}]},
            "client_address": {
                "limits": [{"requests": 3, "per": "second", "algorithm": "token_bucket"}],
                "block": {"after": 3, "within": "1m", "for": "2s"},
                "exempt": ["10.0.0.0/8"],
            },
        },
        change=behind_one_proxy,
        concurrency=2,
    )
    gateway = Gateway(setup, tmp_path_factory.mktemp("sdk-limits") / "envoy")
    yield gateway
    gateway.stop()


class Sdk:
    """What both packages have in common; `statuses` are those of all answers, also of those that the SDK tries again."""

    def __init__(self, gateway: Gateway, sdk: str, key: str, address: str):
        self.statuses: list[int] = []
        self.on_refusal = lambda: None
        self.package = openai if sdk == "openai" else anthropic
        client = openai.DefaultHttpxClient if sdk == "openai" else anthropic.DefaultHttpxClient
        http_client = client(event_hooks={"response": [self._seen]})
        url = f"http://127.0.0.1:{gateway.port}"
        common = {"api_key": key, "http_client": http_client, "default_headers": {"x-forwarded-for": address}}
        if sdk == "openai":
            self.client = openai.OpenAI(base_url=f"{url}/v1", **common)
            self._create = self.client.chat.completions.create
        else:
            self.client = anthropic.Anthropic(base_url=url, **common)
            self._create = self.client.messages.create

    def _seen(self, response: httpx.Response):
        self.statuses.append(response.status_code)
        if response.status_code == 429:
            self.on_refusal()

    def ask(self, **fields):
        return self._create(model="fast", max_tokens=40, messages=[{"role": "user", "content": "hello"}], **fields)

    def refused(self) -> "openai.RateLimitError | anthropic.RateLimitError":
        """The refusal of a request that is not tried again."""
        before = len(self.statuses)
        with pytest.raises(self.package.RateLimitError) as refusal:
            self.ask()
        assert self.statuses[before:] == [429], "no retry"
        assert refusal.value.response.headers["x-should-retry"] == "false"
        return refusal.value

    def until_refused(self):
        """Asks until the gateway has refused once; every call succeeds."""
        for _ in range(LONGEST_RUN):
            self.ask()
            if 429 in self.statuses:
                return
        raise AssertionError(f"never refused: {self.statuses}")


@pytest.fixture
def sdk(request, shared):
    """As the test's case, SDK and key say."""
    case, name, key = (request.getfixturevalue(argument) for argument in ("case", "name", "key"))
    secret = f"key-of-{case}-{name}-{key}"
    if key == "temporary":
        limits = {"limits": [{"requests": 1, "per": "day"}]} if case == "own" else {}
        answer = shared.client.post("/keyward/keys", limits, {"authorization": f"Bearer {secret}", "x-forwarded-for": "10.0.0.1"})
        assert answer.status == 201, answer
        secret = answer.json["key"]
    number = 4 * OTHERS.index(case) + 2 * SDKS.index(name) + KEYS.index(key) if case in ("address", "block") else None
    sdk = Sdk(shared, name, secret, "10.0.0.1" if number is None else f"192.0.2.{number}")
    yield sdk
    sdk.client.close()


every_key = pytest.mark.parametrize("key", KEYS)
every_sdk = pytest.mark.parametrize("name", SDKS)


@every_key
@every_sdk
@pytest.mark.parametrize("case", [*SHORT, "address"])
def test_a_short_limit_is_waited_for(sdk, case, name, key):
    sdk.until_refused()
    assert sdk.statuses[-1] == 200
    assert sdk.statuses.count(429) <= 2, "the hint is right: at most the SDK's own tries"


@every_key
@every_sdk
@pytest.mark.parametrize("case", BUDGETS)
def test_a_budget_is_told_at_once(sdk, case, name, key):
    sdk.ask()
    for _ in range(LONGEST_RUN):
        try:
            sdk.ask()
        except sdk.package.RateLimitError:
            break
    refusal = sdk.refused()
    assert sdk.statuses.count(429) == 2
    assert "is used up" in str(refusal)
    assert int(refusal.response.headers["retry-after"]) > 0
    if name == "openai":
        assert (refusal.code, refusal.type) == ("quota_exceeded", "insufficient_quota")
    else:
        assert refusal.body["error"]["type"] == "rate_limit_error"


@every_sdk
@pytest.mark.parametrize("key", ["temporary"])
@pytest.mark.parametrize("case", ["own"])
def test_a_temporary_key_s_own_budget(sdk, case, name, key):
    sdk.ask()
    assert 'The budget of key "own-' in str(sdk.refused())


@every_key
@every_sdk
@pytest.mark.parametrize("case", ["concurrency"])
def test_a_place_that_becomes_free(sdk, shared, case, name, key):
    gate = Gate()
    events = replies.stream_events()
    shared.on("openai/a", replies.stream(pieces=[*events[:2], gate, *events[2:]]))
    with sdk.ask(stream=True) as stream:
        next(iter(stream))
        # The other request ends while the SDK waits.
        sdk.on_refusal = gate.open
        sdk.ask()
        assert sdk.statuses[:2] == [200, 429]
        assert sdk.statuses[-1] == 200


@every_key
@every_sdk
@pytest.mark.parametrize("case", ["block"])
def test_a_block_ends_when_it_said(sdk, shared, case, name, key):
    wrong = sdk.client.copy(api_key="wrong")
    create = wrong.chat.completions.create if name == "openai" else wrong.messages.create
    for _ in range(3):
        with pytest.raises(sdk.package.AuthenticationError):
            create(model="fast", max_tokens=1, messages=[{"role": "user", "content": "hello"}])
    refusal = sdk.refused()
    assert "are blocked because it kept failing to authenticate" in str(refusal)
    time.sleep(int(refusal.response.headers["retry-after"]))
    sdk.ask()
    assert sdk.statuses[-1] == 200
