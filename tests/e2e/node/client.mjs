// What a program with the official `openai` package for Node.js does; prints what it got as one JSON document.
import OpenAI from "openai";

const [baseURL, job] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "of-the-client" });
const ask = { model: "fast", messages: [{ role: "user", content: "hello" }] };

const jobs = {
  async surface() {
    const models = [];
    for await (const model of client.models.list()) models.push(model.id);
    const chat = await client.chat.completions.create(ask);
    let stream = "";
    for await (const chunk of await client.chat.completions.create({ ...ask, stream: true })) {
      stream += chunk.choices[0]?.delta?.content ?? "";
    }
    const embedding = await client.embeddings.create({ model: "fast", input: "hello", encoding_format: "float" });
    const response = await client.responses.create({ model: "fast", input: "hello" });
    return {
      models,
      chat: chat.choices[0].message.content,
      stream,
      embedding: embedding.data[0].embedding,
      response: response.output_text,
    };
  },
  async chat() {
    const started = performance.now();
    const chat = await client.chat.completions.create(ask);
    return { chat: chat.choices[0].message.content, milliseconds: performance.now() - started };
  },
  async refusal() {
    try {
      await client.chat.completions.create(ask, { maxRetries: 0 });
    } catch (error) {
      return { name: error.constructor.name, status: error.status, code: error.code, type: error.type };
    }
    return null;
  },
};

console.log(JSON.stringify(await jobs[job]()));
