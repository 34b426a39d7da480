// Prints the result of each call of the Worker, run by Miniflare.
import { readFileSync } from "node:fs";
import { Miniflare } from "miniflare";

const remoteProxyConnectionString = new URL(process.env.BINDING);
const miniflare = new Miniflare({
  modules: true,
  script: readFileSync("index.js", "utf8"),
  compatibilityDate: "2026-04-01",
  ai: { binding: "AI", remoteProxyConnectionString },
});
const get = async (name) => (await miniflare.dispatchFetch(`http://worker/${name}`)).json();
for (const name of await get("")) console.log(JSON.stringify([name, await get(name)]));
await miniflare.dispose();
