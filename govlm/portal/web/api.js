// Requests to /v1. An error is a Failure with the code and the message that the portal gave.

import { make } from "./dom.js";
import { framed } from "./embed.js";
import { keep, kept } from "./keep.js";

export class Failure extends Error {
  constructor(code, message, fields = []) {
    super(message);
    this.code = code;
    this.fields = fields;
  }
}

const FRAMED = "X-Govlm-Visitor";
let me = null;

// Who asks: {kind, csrf, oidc, …}. Asked once. A page within another site's gets no cookie, and shows the number that it got here instead.
export async function whoami() {
  if (me) return me;
  let found;
  try {
    found = await call("GET", "/v1/me");
  } catch {
    return { kind: "unknown", csrf: "" }; // asked again at the next request
  }
  if (found.visitor && framed) keep("govlm-visitor", found.visitor);
  return (me = found);
}

function known() {
  const number = framed && kept("govlm-visitor");
  return number ? { [FRAMED]: number } : {};
}

async function send(method, path, body, more = {}) {
  const headers = { ...known(), ...more.headers };
  if (method !== "GET") headers["X-CSRF-Token"] = (await whoami()).csrf;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal: more.signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("offline", "网络连接中断，请检查后重试。");
  }
  if (response.ok) return response;
  let told = {};
  try {
    told = (await response.json()).error;
  } catch {
    // not ours: a proxy's page
  }
  throw new Failure(told.code ?? `status_${response.status}`, told.message ?? "系统出错了，请稍后再试，或拨打12345。", told.fields);
}

export async function call(method, path, body) {
  const response = await send(method, path, body);
  return response.status === 204 ? null : response.json();
}

// Saves a file. A plain link does that too, but takes no header along.
export async function save(path) {
  const response = await send("GET", path);
  const address = URL.createObjectURL(await response.blob());
  make("a", { href: address, download: path.split("/").at(-1) }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

// Events {id, event, data} of a response, as they come.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = {};
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines.map((line) => line.replace(/\r$/, ""))) {
      const place = line.indexOf(":");
      if (line === "" && event.event) {
        yield { ...event, data: JSON.parse(event.data) };
        event = {};
      } else if (place > 0) {
        const key = line.slice(0, place);
        const text = line.slice(place + 1).replace(/^ /, "");
        event[key] = key === "data" && event.data ? `${event.data}\n${text}` : text;
      }
    }
  }
}

const TRIES = 4;

// Says something; told(event) hears `citation`, `delta` and `end`. A stream that breaks is taken up again; gives the whole turn.
export async function say(session, message, told) {
  const base = `/v1/sessions/${session}/turns`;
  let last = "";
  for (let attempt = 1; ; attempt += 1) {
    try {
      const number = last.split(":")[0];
      const response = last
        ? await send("GET", `${base}/${number}/stream`, undefined, { headers: { "Last-Event-ID": last } })
        : await send("POST", `${base}/stream`, message);
      for await (const event of events(response)) {
        last = event.id;
        told(event);
        if (event.event === "end") return event.data;
      }
      throw new Failure("offline", "网络连接中断，请检查后重试。");
    } catch (error) {
      const broken = !(error instanceof Failure) || error.code === "offline";
      if (!broken || attempt === TRIES) throw error instanceof Failure ? error : new Failure("offline", "网络连接中断，请检查后重试。");
      await new Promise((wake) => setTimeout(wake, 400 * attempt));
    }
  }
}
