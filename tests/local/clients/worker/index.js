// A Worker whose paths are calls of `env.AI`. Without one, it lists them.
const LLAMA = "@cf/meta/llama-3.1-8b-instruct-fast";
const BGE = "@cf/baai/bge-small-en-v1.5";
const HI = { prompt: "Say hello.", max_tokens: 8, seed: 1 };
const TOOL = {
  name: "get_weather",
  description: "Get the current weather for a city",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};
const page = () => ({ name: "a.html", blob: new Blob(["<h1>Hi</h1>"], { type: "text/html" }) });
const steps = [{ ...HI, endpoint: "@cf/no/model" }, { ...HI, endpoint: LLAMA }].map(({ endpoint, ...query }) => ({
  provider: "workers-ai",
  endpoint,
  headers: {},
  query,
}));

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return error.message;
  }
}

const calls = {
  text: async (ai) => (await ai.run(LLAMA, HI)).response,
  stream: async (ai) => new Response(await ai.run(LLAMA, { ...HI, stream: true })).text(),
  chat: async (ai) => (await ai.run("@cf/zai-org/glm-4.7-flash", { messages: [{ role: "user", content: "Hi" }] })).choices.length,
  tool: async (ai) =>
    (await ai.run(LLAMA, { messages: [{ role: "user", content: "What is the weather in Paris?" }], tools: [TOOL] })).tool_calls,
  embeddings: async (ai) => (await ai.run(BGE, { text: ["one", "two"] })).shape,
  raw: async (ai) => (await ai.run(LLAMA, HI, { returnRawResponse: true })).headers.get("cfai-backend"),
  gateway: async (ai) => (await ai.run(LLAMA, HI, { gateway: { id: "g" } })).response,
  unknown: (ai) => failure(ai.run("@cf/no/model", HI)),
  invalid: (ai) => failure(ai.run(LLAMA, { ...HI, temperature: 9 })),
  models: async (ai) => (await ai.models({ search: "bge-m3" })).map((model) => model.name),
  formats: async (ai) => (await ai.toMarkdown().supported()).length > 0,
  steps: async (ai) => (await ai.gateway("g").run(steps)).status,
  files: async (ai) => (await ai.toMarkdown([page()])).map((file) => file.data),
  file: async (ai) => (await ai.toMarkdown(page())).data,
};

export default {
  async fetch(request, env) {
    const name = new URL(request.url).pathname.slice(1);
    return Response.json(name ? await calls[name](env.AI) : Object.keys(calls));
  },
};
