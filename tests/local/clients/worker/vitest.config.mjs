import { cloudflareTest } from "@cloudflare/vitest-plugin";
import { defineConfig } from "vitest/config";

const remoteProxyConnectionString = new URL(process.env.BINDING);
const ai = { binding: "AI", remoteProxyConnectionString };
export default defineConfig({
  plugins: [cloudflareTest({ main: "index.js", miniflare: { compatibilityDate: "2026-04-01", ai } })],
});
