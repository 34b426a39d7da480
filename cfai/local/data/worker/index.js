// Written by `cfai serve --worker`. A Worker that stands in for `env.AI` under `wrangler dev`: a service
// binding named AI has the same methods, which a local Workers AI server answers.
import { RpcTarget, WorkerEntrypoint } from "cloudflare:workers";

const isObject = (value) => value !== null && typeof value === "object";

// Media can be bytes, which JSON has not.
const encode = (inputs) =>
  JSON.stringify(inputs, (_, value) => {
    if (value instanceof ArrayBuffer) return [...new Uint8Array(value)];
    return ArrayBuffer.isView(value) ? [...new Uint8Array(value.buffer, value.byteOffset, value.byteLength)] : value;
  });

async function failure(response) {
  const { errors } = await response.json().catch(() => ({}));
  const { code, message } = errors?.[0] ?? { code: response.status, message: response.statusText };
  const error = new Error(`${code}: ${message}`);
  error.name = "InferenceUpstreamError";
  return error;
}

async function result(response) {
  if (!response.ok) throw await failure(response);
  if (!response.headers.get("content-type")?.startsWith("application/json")) return response.body;
  const document = await response.json();
  return isObject(document) && "result" in document && "success" in document ? document.result : document;
}

class Api {
  constructor(origin) {
    this.origin = origin;
  }
  send(path, { headers, ...init } = {}) {
    return fetch(this.origin + path, { ...init, headers: { authorization: "Bearer local", ...headers } });
  }
  ai(path, init) {
    return this.send("/client/v4/accounts/local/ai" + path, init);
  }
  async convert(files) {
    const form = new FormData();
    for (const { name, blob } of [files].flat()) form.append("files", blob, name);
    const converted = await result(await this.ai("/tomarkdown", { method: "POST", body: form }));
    return Array.isArray(files) ? converted : converted[0];
  }
}

class Markdown extends RpcTarget {
  #api;
  constructor(api) {
    super();
    this.#api = api;
  }
  transform(files) {
    return this.#api.convert(files);
  }
  async supported() {
    return result(await this.#api.ai("/tomarkdown/supported"));
  }
}

class Gateway extends RpcTarget {
  #api;
  #id;
  constructor(api, id) {
    super();
    this.#api = api;
    this.#id = id;
  }
  async run(data) {
    let response;
    for (const { provider, endpoint, query } of [data].flat()) {
      if (provider !== "workers-ai") throw new Error(`no local model of the provider ${provider}`);
      const path = `/v1/local/${this.#id}/workers-ai/${endpoint}`;
      const headers = { "content-type": "application/json" };
      response = await this.#api.send(path, { method: "POST", headers, body: encode(query) });
      if (response.ok) break;
    }
    return response;
  }
}

export default class extends WorkerEntrypoint {
  get #api() {
    return new Api(this.env.CFAI_ORIGIN);
  }
  async run(model, inputs, { returnRawResponse, queueRequest, gateway, extraHeaders } = {}) {
    const search = queueRequest ? "?queueRequest=true" : "";
    const named = gateway?.id ? { "cf-aig-gateway-id": gateway.id } : {};
    // Media with a type are sent as they are.
    const media = Object.values(isObject(inputs) ? inputs : {}).find((value) => isObject(value) && value.contentType);
    const response = await this.#api.ai(`/run/${model}${search}`, {
      method: "POST",
      headers: { "content-type": media?.contentType ?? "application/json", ...named, ...extraHeaders },
      body: media ? media.body : encode(inputs),
    });
    return returnRawResponse ? response : result(response);
  }
  async models(filters = {}) {
    return result(await this.#api.ai("/models/search?" + new URLSearchParams(filters)));
  }
  toMarkdown(files) {
    return files === undefined ? new Markdown(this.#api) : this.#api.convert(files);
  }
  gateway(id) {
    return new Gateway(this.#api, id);
  }
}
