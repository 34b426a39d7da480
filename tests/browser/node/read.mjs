// Posts a message to an address with the AI SDK's own transport, and prints what its own reader
// makes of the answer: the last state of the message, or the error.
import { DefaultChatTransport, readUIMessageStream } from "ai";

const question = { id: "1", role: "user", parts: [{ type: "text", text: "Hi" }] };
const transport = new DefaultChatTransport({ api: process.argv[2] });
let message, error;
try {
  const stream = await transport.sendMessages({
    trigger: "submit-message", chatId: "c", messages: [question], abortSignal: undefined,
  });
  const onError = (reason) => { error = reason.message; };
  for await (const state of readUIMessageStream({ stream, onError })) message = state;
} catch (reason) {
  error = reason.message;
}
console.log(JSON.stringify({ message, error }));
