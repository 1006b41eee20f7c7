// The parts of an answer as a card: what it is about, then who, how, with what; materials as a checklist whose ticks are remembered.

import { marks } from "./citations.js";
import { make } from "./dom.js";
import { drop, keep, kept } from "./keep.js";

const TICKS = "govlm-ticks";

function ticks() {
  try {
    return JSON.parse(kept(TICKS) || "{}");
  } catch {
    return {};
  }
}

function tick(key, on) {
  const all = ticks();
  if (on) all[key] = 1;
  else delete all[key];
  keep(TICKS, JSON.stringify(all));
}

export function forget() {
  drop(TICKS);
}

function line(part, entry, about, citations) {
  const cited = marks(entry.citations, citations);
  if (part.kind !== "materials") return make("li", {}, entry.text, ...cited);
  const key = `${about}|${entry.text}`;
  const box = make("input", { type: "checkbox", checked: key in ticks(), onchange: (event) => tick(key, event.target.checked) });
  return make("li", {}, make("label", {}, box, make("span", {}, entry.text)), ...cited);
}

export function card(parts, citations) {
  const item = parts.find((part) => part.kind === "item");
  const about = item?.lines[0]?.text ?? "";
  const found = make("article", { class: "card" });
  for (const part of parts) {
    if (part === item) {
      const cited = marks(item.lines.flatMap((entry) => entry.citations), citations);
      found.prepend(make("h3", { class: "about" }, item.lines.map((entry) => entry.text).join(""), ...cited));
      continue;
    }
    const lines = part.lines.map((entry) => line(part, entry, about, citations));
    found.append(make("section", { class: `part ${part.kind}` }, make("h4", {}, part.title), make("ul", {}, ...lines)));
  }
  return found;
}

// What of an answer's text stands in no card: [before the card, behind it], each a list of paragraphs.
export function around(text, parts) {
  const before = [];
  const behind = [];
  const titles = new Set(parts.map((part) => `【${part.title}】`));
  const about = parts.find((part) => part.kind === "item")?.lines[0]?.text;
  let inside = false;
  for (const block of text.split("\n\n")) {
    const first = block.split("\n")[0];
    if (titles.has(first) || first === "【出处】" || (about && first.startsWith(about))) inside = true;
    else (inside ? behind : before).push(block);
  }
  return [before, behind];
}
