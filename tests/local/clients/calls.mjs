// Calls of JavaScript clients, one per line of the output: its name, and what it returned.
const { API, ACCOUNT, TOKEN, LLAMA, BGE } = process.env;
const messages = [{ role: "user", content: "Say hello." }];

const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const description = "Get the current weather for a city";
const question = "What is the weather in Paris?";

const print = (name, value) => console.log(JSON.stringify([name, value]));

async function openai() {
  const { default: OpenAI } = await import("openai");
  const client = new OpenAI({ baseURL: `${API}/accounts/${ACCOUNT}/ai/v1`, apiKey: TOKEN, maxRetries: 0 });
  const body = { model: LLAMA, messages, max_tokens: 8, seed: 1 };
  const whole = await client.chat.completions.create(body);
  print("openai chat", whole.choices[0].message.content);
  let streamed = "";
  for await (const chunk of await client.chat.completions.create({ ...body, stream: true })) {
    streamed += chunk.choices[0]?.delta?.content ?? "";
  }
  print("openai stream", streamed);
  const tool = { type: "function", function: { name: "get_weather", description, parameters: schema } };
  const called = await client.chat.completions.create({
    model: LLAMA, messages: [{ role: "user", content: question }], tools: [tool], max_tokens: 60,
  });
  const { message } = called.choices[0];
  const { name, arguments: text } = message.tool_calls[0].function;
  print("openai call", [name, JSON.parse(text)]);
  const result = { role: "tool", tool_call_id: message.tool_calls[0].id, content: "sunny" };
  const second = await client.chat.completions.create({
    model: LLAMA, messages: [{ role: "user", content: question }, message, result], tools: [tool], max_tokens: 60,
  });
  print("openai result", second.choices[0].message.content);
  const { data } = await client.embeddings.create({ model: BGE, input: ["one", "two"] });
  print("openai embeddings", data.map((row) => row.embedding.length));
}

async function cloudflare() {
  const { default: Cloudflare } = await import("cloudflare");
  const client = new Cloudflare({ baseURL: API, apiToken: TOKEN, maxRetries: 0 });
  const path = (model) => `/accounts/${ACCOUNT}/ai/run/${model}`;
  const chat = await client.post(path(LLAMA), { body: { messages, max_tokens: 8 } });
  print("cloudflare chat", chat.result.response);
  const vectors = await client.post(path(BGE), { body: { text: ["one", "two"] } });
  print("cloudflare embeddings", vectors.result.shape);
}

async function workersAiProvider() {
  const { createWorkersAI } = await import("workers-ai-provider");
  const { embedMany, generateText, jsonSchema, stepCountIs, streamText, tool } = await import("ai");
  // The package has no setting for the address.
  const send = globalThis.fetch;
  globalThis.fetch = (url, options) =>
    send(String(url).replace("https://api.cloudflare.com/client/v4", API), options);
  const provider = createWorkersAI({ accountId: ACCOUNT, apiKey: TOKEN });
  const options = { model: provider(LLAMA), prompt: "Say hello.", maxOutputTokens: 8, maxRetries: 0 };
  print("provider text", (await generateText(options)).text);
  let streamed = "";
  for await (const piece of streamText(options).textStream) streamed += piece;
  print("provider stream", streamed);
  const tools = { get_weather: tool({ description, inputSchema: jsonSchema(schema) }) };
  const { toolCalls } = await generateText({ ...options, prompt: question, tools, maxOutputTokens: 60 });
  print("provider call", toolCalls.map((call) => [call.toolName, call.input])[0]);
  const run = { get_weather: tool({ description, inputSchema: jsonSchema(schema), execute: () => "sunny" }) };
  const rounds = { ...options, prompt: question, tools: run, maxOutputTokens: 60, stopWhen: stepCountIs(2) };
  print("provider result", (await generateText(rounds)).text);
  const model = provider.textEmbedding(BGE);
  const { embeddings } = await embedMany({ model, values: ["one", "two"], maxRetries: 0 });
  print("provider embeddings", embeddings.map((vector) => vector.length));
}

await { openai, cloudflare, workersAiProvider }[process.argv[2]]();
