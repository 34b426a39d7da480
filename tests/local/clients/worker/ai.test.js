import { env } from "cloudflare:test";
import { expect, it } from "vitest";

it("embeds", async () => {
  const { shape } = await env.AI.run("@cf/baai/bge-small-en-v1.5", { text: ["one"] });
  expect(shape).toEqual([1, 384]);
});
