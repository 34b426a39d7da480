import React, { useEffect, useRef, useState } from "react";
import { createRoot } from "react-dom/client";
import { useChat } from "@ai-sdk/react";
import "./chat.css";

const SAVED = "messages"; // the key in localStorage

function load() {
  try {
    return JSON.parse(localStorage.getItem(SAVED)) ?? [];
  } catch {
    return [];
  }
}

function Chat() {
  const chat = useChat({ messages: load(), experimental_throttle: 50 });
  const { messages, setMessages, sendMessage, regenerate, stop, status, error } = chat;
  const [text, setText] = useState("");
  const end = useRef(null);
  const isBusy = status === "submitted" || status === "streaming";

  // The conversation survives a reload, with the part of the last answer that had arrived.
  useEffect(() => {
    localStorage.setItem(SAVED, JSON.stringify(messages));
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
            {mayHelp(error) && <button type="button" onClick={() => regenerate()}>Try again</button>}
          </div>
        )}
        <div ref={end} />
      </main>
      <form onSubmit={submit}>
        <input
          aria-label="Message" placeholder="Ask something" autoFocus
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

// Errors that the same question meets again.
const FINAL = [
  "AuthenticationError", "BadRequest", "BudgetExceeded", "ConfigError", "InputError",
  "ModelRetired", "NotFound", "PermissionDenied", "QuotaExceeded", "RequestTooLarge",
];

function mayHelp(error) {
  return !FINAL.includes(readRefusal(error)?.error);
}

createRoot(document.getElementById("root")).render(<Chat />);
