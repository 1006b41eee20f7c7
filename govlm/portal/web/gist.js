// What a policy document says in short: in plain words where the hall has a generator, else in its own sentences. It stands below what is
// cited from a document, and behind the newest documents on the first page.

import { call } from "./api.js";
import { make, open } from "./dom.js";

const asked = new Map(); // code and version -> the summary that was asked for

function summary(code, version) {
  const key = `${code} ${version}`;
  if (!asked.has(key)) {
    const coming = call("POST", `/v1/policies/${encodeURIComponent(code)}/summary`, {});
    coming.catch(() => asked.delete(key)); // asked again the next time
    asked.set(key, coming);
  }
  return asked.get(key);
}

function lines(told) {
  if (told.plain.length) return told.plain;
  return told.sentences.map((text, place) => ({ text, citations: told.citations[place] ? [place + 1] : [] }));
}

function shown(told, marks) {
  if (!lines(told).length) return [make("p", {}, "这份文件没有可以摘录的内容。")];
  const list = make("ul", {}, ...lines(told).map((line) => make("li", {}, line.text, ...marks(line.citations, told.citations))));
  const note = told.plain.length ? "用平常的话写成，点编号看原文，以原文为准。" : "摘自原文，逐字一致，点编号看出处。";
  return [list, make("p", { class: "small" }, make("span", { class: "label" }, told.label), ` ${note}`)];
}

// Buttons for documents; each opens a dialog with what is known of one, and its summary. marks: as of gist.
export function policies(entries, marks) {
  return entries.map((entry) => make("li", {}, make("button", { type: "button", onclick: () => show(entry, marks) },
    make("b", {}, entry.title), make("span", {}, [entry.number, entry.issuer].filter(Boolean).join(" · ")))));
}

const FACTS = [["number", "文号"], ["issuer", "发文机关"], ["issued", "发布日期"], ["valid_from", "施行日期"], ["valid_to", "有效期至"]];

function show(entry, marks) {
  open(`《${entry.title}》`, () => {
    const facts = FACTS.filter(([name]) => entry[name]).flatMap(([name, label]) => [make("dt", {}, label), make("dd", {}, entry[name])]);
    const state = entry.in_force ? [] : [make("p", { class: "problem" }, "这份文件现在没有施行：还没到施行日期，或者已经失效。")];
    const found = gist(entry.code, "", marks);
    found.querySelector("button").click();
    return [...state, make("dl", { class: "check" }, ...facts), found];
  });
}

// marks(numbers, citations): the buttons behind a sentence.
export function gist(code, version, marks) {
  const place = make("div", { id: "gist", "aria-live": "polite", hidden: true });
  const button = make("button", { type: "button", "aria-expanded": "false", "aria-controls": "gist", onclick: toggle }, "这份文件讲了什么？");

  async function toggle() {
    place.hidden = !place.hidden;
    button.setAttribute("aria-expanded", String(!place.hidden));
    if (place.hidden || place.querySelector("ul")) return;
    place.replaceChildren(make("p", { class: "wait" }, "正在整理…"));
    place.setAttribute("aria-busy", "true");
    try {
      place.replaceChildren(...shown(await summary(code, version), marks));
    } catch (error) {
      place.replaceChildren(make("p", { class: "problem", role: "alert" }, error.message));
    } finally {
      place.removeAttribute("aria-busy");
    }
  }
  return make("section", { class: "gist", "aria-label": "文件摘要" }, button, place);
}
