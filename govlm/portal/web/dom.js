// Elements are made here, and text enters the page as text only.

export const $ = (id) => document.getElementById(id);

// make("p", {class: "x", onclick: f}, "text", child, …)
export function make(tag, given = {}, ...children) {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) found.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled") found[name] = value;
    else found.setAttribute(name, value === true ? "" : value);
  }
  found.append(...children.filter((child) => child !== null && child !== undefined));
  return found;
}

const PATHS = {
  up: "M7 11v9H4v-9zM7 11l4-8c1.6 0 2.6 1.2 2.2 2.8L12.5 9H19c1 0 1.8 1 1.5 2l-2 7.5c-.3 1-1 1.5-2 1.5H7",
  down: "M17 13V4h3v9zM17 13l-4 8c-1.6 0-2.6-1.200-2.200-2.800L11.5 15H5c-1 0-1.8-1-1.5-2l2-7.5c.3-1 1-1.5 2-1.5H17",
  close: "M5 5l14 14M19 5 5 19",
};

export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

// One dialog at a time. build(close) gives its content; Esc closes, and focus goes back to where it was.
export function open(title, build) {
  const dialog = $("dialog");
  if (dialog.open) dialog.close();
  const close = () => dialog.close();
  const shut = make("button", { type: "button", class: "shut", "aria-label": "关闭", onclick: close }, icon("close"));
  dialog.replaceChildren(make("div", { class: "head" }, make("h2", { id: "dialog-title" }, title), shut), ...build(close));
  dialog.showModal();
  return dialog;
}

// A random name, of a message for example.
export function name() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
