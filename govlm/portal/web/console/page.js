// What all sections use: requests, elements, messages, a question before what cannot be undone.

export class Failure extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

let known = null;

// Who is logged in: {kind, name, roles, csrf, oidc, …}. again: asks anew.
export async function me(again = false) {
  if (!known || again) known = await call("GET", "/v1/me");
  return known;
}

// body: a value for JSON, or FormData.
export async function call(method, path, body) {
  const headers = {};
  if (method !== "GET") headers["X-CSRF-Token"] = (await me()).csrf;
  const form = body instanceof FormData;
  if (body !== undefined && !form) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, { method, headers, body: body === undefined || form ? body : JSON.stringify(body) });
  } catch {
    throw new Failure(0, "offline", "网络连接中断，或文件超过了上限，请检查后重试。");
  }
  if (response.ok) return response.status === 204 ? null : response.json();
  const told = (await response.json().catch(() => ({}))).error ?? {};
  throw new Failure(response.status, told.code ?? "", told.message ?? "系统出错了，请稍后再试。");
}

// make("p", {class: "x", onclick: f}, "text", child, …): text enters the page as text only.
export function make(tag, given = {}, ...children) {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) found.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled") found[name] = value;
    else found.setAttribute(name, value === true ? "" : value);
  }
  found.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return found;
}

let numbers = 0;

// A labelled field; control: an input, select or textarea. hint: below it.
export function field(label, control, hint = "") {
  control.id ||= `f${(numbers += 1)}`;
  const below = hint ? make("p", { class: "soft small", id: `${control.id}-hint` }, hint) : null;
  if (below) control.setAttribute("aria-describedby", below.id);
  return make("div", { class: "field" }, make("label", { for: control.id }, label), control, below);
}

export function check(label, given = {}) {
  return make("label", { class: "check" }, make("input", { type: "checkbox", ...given }), make("span", {}, label));
}

export function select(options, given = {}) {
  return make("select", given, options.map(([value, text]) => make("option", { value }, text)));
}

// caption: for those who cannot see it. rows: cells of text or elements. On a narrow screen each row is a block.
export function table(caption, heads, rows, empty = "没有记录。", look = null) {
  if (!rows.length) return make("p", { class: "soft" }, empty);
  const body = rows.map((cells) => make("tr", {}, cells.map((cell, i) => make("td", { "data-label": heads[i] }, cell))));
  return make(
    "table", { class: look }, make("caption", { class: "hidden" }, caption),
    make("thead", {}, make("tr", {}, heads.map((head) => make("th", { scope: "col" }, head)))), make("tbody", {}, body),
  );
}

export function when(iso) {
  return iso ? new Date(iso).toLocaleString("zh-CN", { dateStyle: "short", timeStyle: "short" }) : "";
}

function show(id, text) {
  const found = document.getElementById(id);
  found.textContent = text;
  found.hidden = !text;
  if (text) found.scrollIntoView({ block: "nearest" });
}

export function tell(text) {
  show("alert", "");
  show("told", text);
}

export function fail(text) {
  show("told", "");
  show("alert", text);
}

// Does work at a click: the button is off meanwhile, an error is told. Who is not logged in any more is led to the login.
export async function busy(button, work) {
  if (button) button.disabled = true;
  tell("");
  try {
    return await work();
  } catch (error) {
    if (error.status === 401) location.assign("/login?then=/console");
    else fail(error.message);
    return undefined;
  } finally {
    if (button) button.disabled = false;
  }
}

export function action(text, work, given = {}) {
  const found = make("button", { type: "button", ...given }, text);
  found.addEventListener("click", () => busy(found, work));
  return found;
}

// Asks before something is done; true for yes.
export function confirmed(title, text, yes) {
  const dialog = document.getElementById("ask");
  document.getElementById("ask-title").textContent = title;
  document.getElementById("ask-text").textContent = text;
  document.getElementById("ask-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}

// Puts the section's heading and content in place of what is there.
export function put(title, ...content) {
  document.getElementById("section").replaceChildren(make("h1", {}, title), ...content.flat());
}

export function card(title, ...content) {
  return make("section", { class: "card" }, make("h2", {}, title), ...content);
}

export function badge(text, kind = "") {
  return make("span", { class: `badge ${kind}` }, text);
}
