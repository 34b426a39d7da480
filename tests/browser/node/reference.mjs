// Prints the messages that the AI SDK's own server code leads to, for the same answers of a model
// as in test_ai_sdk.py.
import { jsonSchema, readUIMessageStream, simulateReadableStream, stepCountIs, streamText, tool } from "ai";
import { MockLanguageModelV3 } from "ai/test";

const usage = { inputTokens: { total: 1 }, outputTokens: { total: 2 } };
const text = (id, ...deltas) => [
  { type: "text-start", id }, ...deltas.map((delta) => ({ type: "text-delta", id, delta })), { type: "text-end", id },
];
const finish = (unified) => ({ type: "finish", finishReason: { unified, raw: unified }, usage });
const call = (toolCallId, input) => (
  { type: "tool-call", toolCallId, toolName: "get_weather", input: JSON.stringify(input) }
);
const begun = [{ type: "text-start", id: "1" }, { type: "text-delta", id: "1", delta: "Hel" }];

const TURNS = {
  text: [[
    { type: "reasoning-start", id: "1" }, { type: "reasoning-delta", id: "1", delta: "Hm" },
    { type: "reasoning-end", id: "1" }, ...text("2", "Hel", "lo"), finish("stop"),
  ]],
  tools: [
    [
      ...text("1", "Let me see. "), call("a", { city: "Lima" }), call("b", { city: "Atlantis" }),
      call("c", { town: "Lima" }), finish("tool-calls"),
    ],
    [...text("2", "Dry", "!"), finish("stop")],
  ],
  error: [[...begun, { type: "error", error: new Error("cut") }]],
  abort: [begun],
};

const get_weather = tool({
  description: "Get the weather of a city.",
  inputSchema: jsonSchema({ type: "object" }, {
    validate: (value) => (value.city ? { success: true, value } : { success: false, error: new Error("no city") }),
  }),
  execute: async ({ city }) => {
    if (city === "Atlantis") throw new Error("no such city");
    return { city, dry: true };
  },
});

const messages = {};
for (const [kind, turns] of Object.entries(TURNS)) {
  const controller = new AbortController();
  const endless = (chunks, signal) => new ReadableStream({
    start(stream) {
      for (const chunk of chunks) stream.enqueue(chunk);
      signal.addEventListener("abort", () => stream.error(new DOMException("stopped", "AbortError")));
    },
  });
  const model = new MockLanguageModelV3({
    doStream: async ({ abortSignal }) => {
      const chunks = [{ type: "stream-start", warnings: [] }, ...turns.shift()];
      return { stream: kind === "abort" ? endless(chunks, abortSignal) : simulateReadableStream({ chunks }) };
    },
  });
  const result = streamText({
    model, prompt: "Hi", tools: { get_weather }, stopWhen: stepCountIs(3), abortSignal: controller.signal, onError() {},
  });
  for await (const state of readUIMessageStream({ stream: result.toUIMessageStream(), onError() {} })) {
    messages[kind] = structuredClone(state);
    if (kind === "abort" && state.parts.at(-1)?.text === "Hel") controller.abort();
  }
}
console.log(JSON.stringify(messages));
