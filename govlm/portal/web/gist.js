// What a policy document says, in short and to the questions that citizens have: in plain words where the hall has a generator, else in its
// own sentences. It stands below what is cited from a document, and behind the newest documents on the first page.

import { call } from "./api.js";
import { make, open } from "./dom.js";

const asked = new Map(); // what and of which version -> what the server says, asked for once

function told(kind, code, version) {
  const key = `${kind} ${code} ${version}`;
  if (!asked.has(key)) {
    const coming = call("POST", `/v1/policies/${encodeURIComponent(code)}/${kind}`, {});
    coming.catch(() => asked.delete(key)); // asked again the next time
    asked.set(key, coming);
  }
  return asked.get(key);
}

function list(lines, citations, marks) {
  return make("ul", {}, ...lines.map((line) => make("li", {}, line.text, ...marks(line.citations, citations))));
}

function note(label, plain) {
  const text = plain ? "用平常的话写成，点编号看原文，以原文为准。" : "摘自原文，逐字一致，点编号看出处。";
  return make("p", { class: "small" }, make("span", { class: "label" }, label), ` ${text}`);
}

function summary(found, marks) {
  const own = found.sentences.map((text, place) => ({ text, citations: found.citations[place] ? [place + 1] : [] }));
  const lines = found.plain.length ? found.plain : own;
  if (!lines.length) return [make("p", {}, "这份文件没有可以摘录的内容。")];
  return [list(lines, found.citations, marks), note(found.label, found.plain.length)];
}

// What the document says to each question a citizen has, and the terms that it uses.
function meaning(found, marks) {
  const aspects = found.aspects.flatMap((aspect) => {
    const own = aspect.points.map((point) => ({ text: point.text, citations: point.citation ? [point.citation] : [] }));
    const lines = aspect.plain.length ? aspect.plain : own;
    return [make("h3", {}, aspect.label), aspect.missing ? make("p", {}, "原文未提及。") : list(lines, found.citations, marks)];
  });
  const terms = found.terms.flatMap((term) => [make("dt", {}, term.term), make("dd", {}, `${term.explanation}（${term.source}）`)]);
  const words = terms.length ? [make("h3", {}, "词语解释"), make("dl", { class: "check" }, ...terms)] : [];
  return [...aspects, ...words, note(found.label, found.aspects.some((aspect) => aspect.plain.length))];
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

// A question that opens its answer below it; come: asks for what draw makes elements of.
function disclosure(id, question, come, draw) {
  const place = make("div", { id, "aria-live": "polite", hidden: true });
  const button = make("button", { type: "button", "aria-expanded": "false", "aria-controls": id, onclick: toggle }, question);
  let there = false;

  async function toggle() {
    place.hidden = !place.hidden;
    button.setAttribute("aria-expanded", String(!place.hidden));
    if (place.hidden || there) return;
    place.replaceChildren(make("p", { class: "wait" }, "正在整理…"));
    place.setAttribute("aria-busy", "true");
    try {
      place.replaceChildren(...draw(await come()));
      there = true;
    } catch (error) {
      place.replaceChildren(make("p", { class: "problem", role: "alert" }, error.message));
    } finally {
      place.removeAttribute("aria-busy");
    }
  }
  return [button, place];
}

// marks(numbers, citations): the buttons behind a sentence.
export function gist(code, version, marks) {
  return make("section", { class: "gist", "aria-label": "文件解读" },
    ...disclosure("gist", "这份文件讲了什么？", () => told("summary", code, version), (found) => summary(found, marks)),
    ...disclosure("meaning", "谁能享受、怎么办、多少钱？", () => told("interpretation", code, version), (found) => meaning(found, marks)));
}
