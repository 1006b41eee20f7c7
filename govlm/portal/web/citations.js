// Numbers behind a sentence become buttons that show where it stands, word for word.

import { call } from "./api.js";
import { make, open } from "./dom.js";
import { gist } from "./gist.js";

const FIELDS = {
  name: "事项名称", authority: "办理单位", conditions: "办理条件", materials: "申请材料", steps: "办理流程", notes: "注意事项", fee: "收费",
  statutory_limit: "法定时限", promised_limit: "承诺时限", places: "办理地点", consult_phones: "咨询电话", complaint_phones: "投诉电话", basis: "设定依据",
  audiences: "服务对象", result: "办理结果", url: "网上办理", booking: "预约", visits: "到场次数", mail: "邮寄", title: "标题", text: "正文",
};

// [1-3][5] of numbers.
function runs(numbers) {
  const found = [];
  for (const number of [...new Set(numbers)].sort((a, b) => a - b)) {
    const last = found.at(-1);
    if (last && last[1] === number - 1) last[1] = number;
    else found.push([number, number]);
  }
  return found;
}

// Buttons for the citations of these numbers.
export function marks(numbers, citations) {
  return runs(numbers).map(([first, last]) => {
    const text = first === last ? `[${first}]` : `[${first}-${last}]`;
    const chosen = citations.filter((entry) => entry.number >= first && entry.number <= last);
    return make("button", { type: "button", class: "cite", "aria-label": `出处 ${text.slice(1, -1)}`, onclick: () => show(chosen) }, text);
  });
}

// A line of text whose [n] and [n-m] are buttons.
export function marked(text, citations) {
  const pieces = [];
  let place = 0;
  for (const match of text.matchAll(/\[(\d+)(?:-(\d+))?\]/g)) {
    const first = Number(match[1]);
    const last = Number(match[2] ?? match[1]);
    if (!citations.some((entry) => entry.number === first)) continue;
    pieces.push(text.slice(place, match.index).trimEnd());
    pieces.push(...marks(Array.from({ length: last - first + 1 }, (_, i) => first + i), citations));
    place = match.index + match[0].length;
  }
  return [...pieces, text.slice(place)];
}

function place(entry) {
  return entry.kind === "document" ? entry.passage || "正文" : FIELDS[entry.field.split(".")[0]] ?? entry.field;
}

function show(citations) {
  const first = citations[0];
  const same = citations.filter((entry) => entry.code === first.code && entry.kind === first.kind);
  open(`《${first.title}》${first.kind === "item" ? "办事指南" : ""}`, () => {
    const list = make("dl", { class: "sources" });
    for (const entry of same) {
      const whole = make("dd", {}, make("mark", {}, entry.text));
      list.append(make("dt", {}, `[${entry.number}] ${place(entry)}`), whole);
      if (entry.kind === "document" && entry.passage) article(entry, whole);
    }
    const note = make("p", { class: "small" }, `以上文字与原文逐字一致。版本 ${first.version.slice(0, 12)}`);
    return first.kind === "document" ? [list, note, gist(first.code, first.version, marks)] : [list, note];
  });
}

// Puts the article around what is cited from it, as soon as it is there.
async function article(entry, whole) {
  try {
    const passage = await call("GET", `/v1/policies/${encodeURIComponent(entry.code)}/passages/${encodeURIComponent(entry.passage)}`);
    const at = passage.text.indexOf(entry.text);
    if (at >= 0) whole.replaceChildren(passage.text.slice(0, at), make("mark", {}, entry.text), passage.text.slice(at + entry.text.length));
  } catch {
    // the words that are cited stand there already
  }
}
