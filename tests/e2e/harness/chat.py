"""Chat completions as OpenAI's SDK for Python asks for them and reads them."""

import openai

STREAM = {"stream": True, "stream_options": {"include_usage": True}}


def ask(model: str) -> dict:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}]}


def tools(*names: str) -> list[dict]:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    return [{"type": "function", "function": {"name": name, "parameters": parameters}} for name in names]


def strict(gateway) -> openai.OpenAI:
    """For answers that have to be of the published types."""
    address = f"http://127.0.0.1:{gateway.port}/v1"
    return openai.OpenAI(base_url=address, api_key="of-the-client", _strict_response_validation=True)


def text_of(chunks) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
