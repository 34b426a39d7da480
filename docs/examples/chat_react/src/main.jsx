import React, { useEffect, useRef, useState } from "react";
import { createRoot } from "react-dom/client";
import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport, safeValidateUIMessages } from "ai";
import "./chat.css";

const SAVED = "cfai-chat-react"; // the key in localStorage
const MAX_MESSAGES = 40, MAX_CHARACTERS = 250_000; // of a request; the app accepts 1 MiB
const MAX_TEXT = 10_000;

// Errors that the same question meets again.
const FINAL = [
  "AuthenticationError", "BadRequest", "BudgetExceeded", "ConfigError", "InputError",
  "ModelRetired", "NotFound", "PermissionDenied", "QuotaExceeded", "RequestTooLarge",
];

// A browser may refuse its storage, and other apps of this host may have written there.
async function load() {
  try {
    const saved = JSON.parse(localStorage.getItem(SAVED));
    const results = await Promise.all(saved.map((message) => safeValidateUIMessages({ messages: [message] })));
    return results.flatMap((result) => (result.success ? result.data : []));
  } catch {
    return [];
  }
}

function save(messages) {
  try {
    localStorage.setItem(SAVED, JSON.stringify(messages));
  } catch {
    // Full or refused: the conversation ends with the page.
  }
}

// Questions that were refused would be refused again, and with them the new one. A question may be refused before its
// answer begins, or after a tool was called.
function select(messages) {
  const isAnswer = (message) => message?.role === "assistant" && !FINAL.includes(message.metadata?.error)
    && message.parts.some(({ type }) => type === "text" || type.startsWith("tool-"));
  let selected = messages.filter((message, index) => (
    message.role === "user" ? index === messages.length - 1 || isAnswer(messages[index + 1]) : isAnswer(message)
  )).slice(-MAX_MESSAGES);
  while (selected.length > 1 && JSON.stringify(selected).length > MAX_CHARACTERS) {
    selected = selected.slice(1);
  }
  return selected;
}

const transport = new DefaultChatTransport({
  prepareSendMessagesRequest: ({ messages }) => ({ body: { messages: select(messages) } }),
});

function Chat({ saved }) {
  const chat = useChat({ transport, messages: saved, experimental_throttle: 50 });
  const { messages, setMessages, sendMessage, regenerate, stop, status, error } = chat;
  const [text, setText] = useState("");
  const end = useRef(null);
  const isBusy = status === "submitted" || status === "streaming";

  // The conversation survives a reload, with the part of the last answer that had arrived.
  useEffect(() => {
    save(messages);
    end.current?.scrollIntoView({ block: "end" });
  }, [messages]);

  function submit(event) {
    event.preventDefault();
    if (isBusy || !text.trim()) return;
    sendMessage({ text });
    setText("");
  }

  function startAgain() {
    stop();
    setMessages([]);
  }

  return (
    <>
      <header>
        <h1>Chat</h1>
        <button type="button" onClick={startAgain}>New chat</button>
      </header>
      <main role="log" aria-label="Conversation" aria-busy={isBusy}>
        {messages.map((message) => <Message key={message.id} message={message} />)}
        {status === "submitted" && <p className="note">The model is thinking …</p>}
        {error && (
          <div className="error" role="alert">
            <span>{describe(error)}</span>
            {mayHelp(error, messages.at(-1)) && <button type="button" onClick={() => regenerate()}>Try again</button>}
          </div>
        )}
        <div ref={end} />
      </main>
      <form onSubmit={submit}>
        <input
          aria-label="Message" placeholder="Ask something" autoFocus maxLength={MAX_TEXT}
          value={text} onChange={(event) => setText(event.target.value)}
        />
        {isBusy ? <button type="button" onClick={stop}>Stop</button> : <button>Send</button>}
      </form>
    </>
  );
}

function Message({ message }) {
  const name = message.role === "user" ? "You" : "Model";
  return (
    <article className={message.role} aria-label={name}>
      {message.parts.map((part, index) => <Part key={index} part={part} />)}
    </article>
  );
}

function Part({ part }) {
  if (part.type === "text") return <div className="text">{part.text}</div>;
  if (part.type === "reasoning") {
    return <details><summary>Reasoning</summary><div className="text">{part.text}</div></details>;
  }
  if (part.type.startsWith("tool-")) return <ToolCall part={part} />;
  return null; // for example, the start of a step
}

function ToolCall({ part }) {
  const failed = part.state === "output-error", running = part.state === "input-available";
  const result = part.errorText ?? part.output;
  return (
    <details className={failed ? "tool failed" : "tool"}>
      <summary>{part.type.slice("tool-".length)}{running && " …"}{failed && " failed"}</summary>
      <pre>{format(part.input ?? part.rawInput)}</pre>
      {result !== undefined && <pre>{format(result)}</pre>}
    </details>
  );
}

function format(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

// A refusal is the JSON of the app, {"error": …, "message": …}; other errors are plain text.
function readRefusal(error) {
  try {
    return JSON.parse(error.message);
  } catch {
    return null;
  }
}

function describe(error) {
  if (error instanceof TypeError) return "The connection was lost, or the app can't be reached.";
  return readRefusal(error)?.message ?? error.message;
}

// The class of an error that ended an answer is in the metadata of the answer.
function mayHelp(error, last) {
  return !FINAL.includes(readRefusal(error)?.error ?? last?.metadata?.error);
}

createRoot(document.getElementById("root")).render(<Chat saved={await load()} />);
