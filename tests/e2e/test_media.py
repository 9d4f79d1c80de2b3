"""Audio and images: uploads that move on, answers that are no text, streams of their own kinds."""

import openai
import pytest
from harness import replies
from harness.client import Client
from harness.replies import AUDIO, TEXT, rate_limited

# The vendor announced the end of its own models for some of these.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")

BOUNDARY = "0b3e7a"
UPLOAD = b"RIFF\x00\xff\r\n--0b3e7\r\n\r\nmodel\r\n"
"""What could be taken for a delimiter, but is none."""


def form(*parts: tuple[str, bytes], model: str = "fast") -> bytes:
    parts = (('name="file"; filename="a.wav"', UPLOAD), ('name="model"', model.encode()), *parts)
    heads = [f"--{BOUNDARY}\r\nContent-Disposition: form-data; {name}\r\n\r\n".encode() for name, _ in parts]
    body = b"".join(head + content + b"\r\n" for head, (_, content) in zip(heads, parts, strict=True))
    return body + f"--{BOUNDARY}--\r\n".encode()


def upload(client, body: bytes, path: str = "/v1/audio/transcriptions", boundary: str = f"; boundary={BOUNDARY}"):
    return client.post(path, body, {"content-type": f"multipart/form-data{boundary}"})


@pytest.fixture
def gateway(start):
    return start({"openai": ["a", "b"]})


@pytest.fixture
def sdk(gateway):
    with openai.OpenAI(base_url=f"http://127.0.0.1:{gateway.port}/v1", api_key="of-the-client") as client:
        yield client


def test_an_upload_moves_on_with_the_model_of_each_provider(start):
    gateway = start({"openai": ["a"], "together": ["b"]}, provider_fields={"together": {"kind": "together"}})
    gateway.on("openai/a", rate_limited(60))
    answer = upload(gateway.client, form())
    assert (answer.status, answer.json["text"]) == (200, TEXT)
    assert gateway.attempts == ["openai/a", "together/b"]
    for seen, name in zip(gateway.requests, ("openai", "together"), strict=True):
        assert seen.body == form(model=f"{name}-model")
        assert seen.header("content-type") == f"multipart/form-data; boundary={BOUNDARY}"
        assert seen.header("content-length") == str(len(seen.body))
    assert gateway.key("together/b")["tokens"]["completion"] == 12


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_a_large_upload_moves_on(start, http2):
    gateway = start({"openai": [{"id": "a", "limits": [{"tokens": 5000, "per": "minute"}]}, "b"]}, http2=http2)
    gateway.on("openai/a", rate_limited(60))
    body = form(('name="big"; filename="b"', bytes(range(256)) * 80_000))
    client = Client(gateway.port, http2=http2)
    answer = upload(client, body)
    client.close()
    assert answer.status == 200, answer
    assert gateway.attempts == ["openai/a", "openai/b"], "an upload is no prompt: it does not use up a limit of tokens"
    assert all(seen.body == body.replace(b"\r\nfast\r\n", b"\r\nopenai-model\r\n") for seen in gateway.requests)


def test_a_form_that_cannot_be_read_goes_nowhere(gateway):
    for body, boundary, message in [
        (form()[:-30], f"; boundary={BOUNDARY}", "the request body is not valid multipart/form-data: it is cut off"),
        (form(), "", "the request body is not valid multipart/form-data: the content-type has no boundary"),
        (form(), "; boundary=other", "the request body is not valid multipart/form-data: it has no part"),
        (form(('name="model"', b"slow")), f"; boundary={BOUNDARY}", "'model' is given more than once"),
    ]:
        answer = upload(gateway.client, body, boundary=boundary)
        assert (answer.status, answer.code, answer.json["error"]["message"]) == (400, "invalid_body", message)
    assert upload(gateway.client, form(model="slow")).code == "model_not_found"
    assert gateway.requests == []


def test_a_provider_without_the_endpoint_is_not_asked(start):
    fields = {"cerebras": {"kind": "cerebras"}, "openai": {"kind": "openai"}}
    gateway = start({"cerebras": ["a"], "openai": ["b"]}, provider_fields=fields)
    assert upload(gateway.client, form()).status == 200
    assert gateway.client.chat().status == 200
    assert gateway.attempts == ["openai/b", "cerebras/a"]
    answer = upload(gateway.client, form(), "/v1/images/variations")
    assert (answer.status, answer.code) == (400, "unsupported_endpoint")


@pytest.mark.parametrize("stage", ["two", "standalone"])
def test_audio_is_passed_on_as_it_comes(start, stage):
    gateway = start({"openai": ["a"]}, stage=stage, document_fields={"mode": "body"} if stage == "standalone" else {})
    answer = gateway.client.post("/v1/audio/speech", {"model": "fast", "input": "hello", "voice": "alloy"})
    assert (answer.status, answer.headers["content-type"]) == (200, "audio/mpeg")
    assert answer.body == AUDIO
    assert gateway.requests[0].path == "/v1/audio/speech"


def test_uploads_in_one_filter_that_decides_on_the_headers(start):
    gateway = start({"openai": ["a"]}, stage="standalone", document_fields={"mode": "headers"})
    headers = {"content-type": f"multipart/form-data; boundary={BOUNDARY}", "x-provider": "openai"}
    answer = gateway.client.post("/v1/audio/transcriptions", form(), headers)
    assert (answer.status, answer.json["text"]) == (200, TEXT)
    assert gateway.requests[0].body == form(model="openai-model")


def test_the_sdk_transcribes_and_translates(sdk, gateway):
    assert sdk.audio.transcriptions.create(file=("a.wav", UPLOAD), model="fast").text == TEXT
    assert sdk.audio.translations.create(file=("a.wav", UPLOAD), model="fast").text == TEXT
    events = list(sdk.audio.transcriptions.create(file=("a.wav", UPLOAD), model="fast", stream=True))
    assert [event.type for event in events] == ["transcript.text.delta"] * 3 + ["transcript.text.done"]
    assert events[-1].usage.output_tokens == 12
    assert gateway.key("openai/a")["tokens"]["completion"] == 36
    assert all(UPLOAD in seen.body and b"openai-model" in seen.body for seen in gateway.requests)


def test_the_sdk_speaks(sdk, gateway):
    assert sdk.audio.speech.create(model="fast", voice="alloy", input="hello").content == AUDIO
    gateway.on("openai/a", rate_limited(60))
    with sdk.audio.speech.with_streaming_response.create(
        model="fast", voice="alloy", input="hello", stream_format="sse"
    ) as answer:
        body = b"".join(answer.iter_bytes())
    assert body == replies.speech_stream().body
    assert gateway.attempts == ["openai/a", "openai/a", "openai/b"]
    assert gateway.key("openai/b")["tokens"]["completion"] == 12


def test_the_sdk_draws(sdk, gateway):
    image = ("a.png", b"\x89PNG\r\n\x1a\n")
    for answer in (
        sdk.images.generate(model="fast", prompt="a key"),
        sdk.images.edit(model="fast", prompt="a key", image=[image, image]),
    ):
        assert (answer.data[0].b64_json, answer.usage.total_tokens) == ("iVBORw0KGgo=", 21)
    for events, kind in (
        (sdk.images.generate(model="fast", prompt="a key", stream=True), "image_generation"),
        (sdk.images.edit(model="fast", prompt="a key", image=image, stream=True), "image_edit"),
    ):
        assert [event.type for event in events] == [f"{kind}.partial_image", f"{kind}.completed"]
    assert gateway.key("openai/a")["tokens"]["completion"] == 48


def test_a_stream_whose_end_nobody_knows_is_not_called_cut_off(gateway):
    gateway.on("openai/a", replies.transcription_stream(end=False))
    answer = upload(gateway.client, form(('name="stream"', b"true")))
    assert answer.body == replies.transcription_stream(end=False).body
    gateway.on("openai/a", replies.stream(pieces=[b""]))
    assert upload(gateway.client, form(('name="stream"', b"true"))).status == 200
    assert gateway.attempts == ["openai/a", "openai/a", "openai/b"], "no event at all is no answer"
