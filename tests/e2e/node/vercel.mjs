// What a program with Vercel's `ai` package does; prints what it got as one JSON document.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embed, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";

const [baseURL, job] = process.argv.slice(2);
const provider = createOpenAICompatible({ name: "keyward", baseURL, apiKey: "of-the-client", includeUsage: true });
const model = provider("fast");
const weather = tool({
  description: "The weather in a city.",
  inputSchema: jsonSchema({ type: "object", properties: { city: { type: "string" } }, required: ["city"] }),
  execute: async ({ city }) => `rain in ${city}`,
});

const jobs = {
  async text() {
    const { text, usage, finishReason } = await generateText({ model, prompt: "hello" });
    return { text, finishReason, input: usage.inputTokens, output: usage.outputTokens };
  },
  async stream() {
    const result = streamText({ model, prompt: "hello" });
    let text = "";
    for await (const part of result.textStream) text += part;
    const usage = await result.usage;
    return { text, finishReason: await result.finishReason, input: usage.inputTokens, output: usage.outputTokens };
  },
  async tools() {
    const { text, steps } = await generateText({
      model,
      prompt: "What is the weather in Paris?",
      tools: { weather },
      stopWhen: stepCountIs(2),
    });
    return { text, called: steps[0].toolCalls.map(({ toolName, input }) => ({ toolName, input })) };
  },
  async streamedTools() {
    const result = streamText({
      model,
      prompt: "What is the weather in Paris?",
      tools: { weather },
      stopWhen: stepCountIs(2),
    });
    let text = "";
    for await (const part of result.textStream) text += part;
    const steps = await result.steps;
    return { text, called: steps[0].toolCalls.map(({ toolName, input }) => ({ toolName, input })) };
  },
  async embedding() {
    const { embedding } = await embed({ model: provider.embeddingModel("fast"), value: "hello" });
    return { embedding };
  },
  async refusal() {
    try {
      await generateText({ model, prompt: "hello", maxRetries: 0 });
    } catch (error) {
      return { name: error.name, status: error.statusCode, retryable: error.isRetryable, message: error.message };
    }
    return null;
  },
};

console.log(JSON.stringify(await jobs[job]()));
