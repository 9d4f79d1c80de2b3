// What a program with the official `@anthropic-ai/sdk` package for Node.js does; prints what it got as one JSON document.
import Anthropic from "@anthropic-ai/sdk";

const [baseURL, model, job] = process.argv.slice(2);
const client = new Anthropic({ baseURL, apiKey: "of-the-client", maxRetries: 0 });
const ask = { model, max_tokens: 100, messages: [{ role: "user", content: "hello" }] };
const weather = {
  name: "weather",
  description: "The weather in a city.",
  input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};

const textOf = ({ content }) => content.map((block) => block.text).join("");
const summary = ({ content, stop_reason, usage }) => ({
  text: textOf({ content }),
  stop: stop_reason,
  input: usage.input_tokens,
  output: usage.output_tokens,
});

// One turn with a tool, and another with its result.
async function withTool(turn) {
  const first = await turn({ ...ask, tools: [weather] });
  const calls = first.content.filter((block) => block.type === "tool_use");
  const results = calls.map(({ id, input }) => ({ type: "tool_result", tool_use_id: id, content: `rain in ${input.city}` }));
  const messages = [...ask.messages, { role: "assistant", content: first.content }, { role: "user", content: results }];
  const last = await turn({ ...ask, tools: [weather], messages });
  return { stop: first.stop_reason, called: calls.map(({ name, input }) => ({ name, input })), text: textOf(last) };
}

const jobs = {
  async chat() {
    return summary(await client.messages.create(ask));
  },
  async stream() {
    const words = [];
    const kinds = [];
    const stream = client.messages.stream(ask);
    stream.on("text", (word) => words.push(word));
    stream.on("streamEvent", ({ type }) => kinds.push(type));
    return { ...summary(await stream.finalMessage()), words, kinds };
  },
  async tools() {
    return withTool((body) => client.messages.create(body));
  },
  async streamedTools() {
    return withTool((body) => client.messages.stream(body).finalMessage());
  },
  async count() {
    const { input_tokens } = await client.messages.countTokens({ model, messages: ask.messages });
    return { input_tokens };
  },
  async models() {
    const models = [];
    for await (const { type, id } of client.models.list()) models.push({ type, id });
    return models;
  },
  async refusal() {
    try {
      await client.messages.create(ask);
    } catch (error) {
      const { status, error: body, headers } = error;
      return { name: error.constructor.name, status, body, retryAfter: headers.get("retry-after") };
    }
    return null;
  },
  async brokenStream() {
    const kinds = [];
    const stream = client.messages.stream(ask);
    stream.on("streamEvent", ({ type }) => kinds.push(type));
    try {
      await stream.finalMessage();
    } catch (error) {
      return { name: error.constructor.name, type: error.error?.error?.type, kinds };
    }
    return null;
  },
};

console.log(JSON.stringify(await jobs[job]()));
