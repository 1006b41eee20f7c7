// The conversation: what was said, the answer as it comes, and what can be done about it.

import { call, say } from "./api.js";
import { marked } from "./citations.js";
import { $, icon, make, name, open } from "./dom.js";
import { around, card } from "./guide.js";

function paragraphs(blocks, citations) {
  return blocks.flatMap((block) => block.split("\n")).filter(Boolean).map((line) => make("p", {}, ...marked(line, citations)));
}

// The newest words in sight, but no less than where they begin: in the log, or in the whole page where it is not the log that scrolls (phones).
function end(entry) {
  const log = $("log");
  const from = entry.previousElementSibling ?? entry;
  if (log.scrollHeight > log.clientHeight + 1) log.scrollTo({ top: Math.min(log.scrollHeight, from.offsetTop - 16) });
  else scrollTo({ top: Math.min(document.documentElement.scrollHeight, from.getBoundingClientRect().top + scrollY - $("side").offsetHeight - 16) });
}

// A sentence for who listens. It comes behind those before it: one that took their place would keep them from being read out.
function speak(text) {
  if (text.trim()) $("spoken").append(make("span", {}, text.trim()));
}

// session(): the conversation's number, made when there is none. changed(turn): an answer is there.
export function create(session, changed) {
  function add(who, ...children) {
    $("start").hidden = true;
    const entry = make("li", { class: who }, make("span", { class: "hidden" }, who === "mine" ? "我说：" : "助手说："), ...children);
    $("turns").append(entry);
    return entry;
  }

  function tools(entry, turn) {
    const rate = (rating, label) =>
      make("button", { type: "button", class: "rate", "aria-label": label, "aria-pressed": "false", onclick: (event) => feedback(turn, rating, event.currentTarget) }, icon(rating));
    entry.append(make("div", { class: "foot" }, make("span", { class: "label" }, turn.label ?? "AI 生成"), rate("up", "有帮助"), rate("down", "没有帮助")));
  }

  function answer(entry, turn) {
    const [before, behind] = turn.parts.length ? around(turn.text, turn.parts) : [turn.text.split("\n\n"), []];
    entry.querySelector(".body").replaceChildren(
      ...paragraphs(before, turn.citations),
      ...(turn.parts.length ? [card(turn.parts, turn.citations)] : []),
      ...paragraphs(behind, turn.citations));
    entry.dataset.turn = turn.number;
    tools(entry, turn);
    end(entry);
  }

  async function feedback(turn, rating, button) {
    for (const other of button.parentElement.querySelectorAll(".rate")) other.setAttribute("aria-pressed", String(other === button));
    const path = `/v1/sessions/${await session()}/turns/${turn.number}/feedback`;
    await call("POST", path, { rating, comment: "" }).catch(() => {});
    speak("谢谢您的评价。");
    if (rating === "up") return;
    open("哪里不满意？", (close) => {
      const text = make("textarea", { rows: 4, maxlength: 2000, "aria-labelledby": "dialog-title" });
      const send = async () => {
        if (text.value.trim()) await call("POST", path, { rating, comment: text.value.trim() }).catch(() => {});
        close();
      };
      return [text, make("div", { class: "row" }, make("button", { type: "button", class: "primary", onclick: send }, "提交意见"), make("button", { type: "button", onclick: close }, "不说了"))];
    });
  }

  // Sends a message, after those before it; one that failed can be sent again under its key, and is taken once.
  let before = Promise.resolve();

  async function send(text, key = name(), entry = null) {
    if (!entry) add("mine", make("p", {}, text));
    entry ??= add("hall", make("div", { class: "body" }));
    const body = entry.querySelector(".body");
    body.replaceChildren(make("p", { class: "wait" }, "正在查找…"));
    entry.setAttribute("aria-busy", "true");
    end(entry);
    const turn = before;
    let through;
    before = new Promise((done) => (through = done));
    await turn;
    let whole = "";
    $("spoken").replaceChildren();
    try {
      const said = await say(await session(), { text, key }, ({ event, data }) => {
        if (event !== "delta") return;
        whole += data.text;
        body.replaceChildren(...paragraphs([whole], []));
        speak(data.text.replace(/\[[\d-]+\]/g, ""));
        end(entry);
      });
      answer(entry, said);
      changed(said);
    } catch (error) {
      const again = make("button", { type: "button", onclick: () => send(text, key, entry) }, "重试");
      body.replaceChildren(make("p", { class: "problem", role: "alert" }, error.message), again);
    } finally {
      entry.removeAttribute("aria-busy");
      through();
    }
  }

  // An answer that came of the form, not of a message: what was done there stands before it, as after a reload.
  function tell(turn) {
    if (turn.message) add("mine", make("p", {}, turn.message));
    $("spoken").replaceChildren();
    for (const sentence of turn.text.split(/(?<=[。！？\n])/)) speak(sentence.replace(/\[[\d-]+\]/g, ""));
    answer(add("hall", make("div", { class: "body" })), turn);
  }

  function replay(turns) {
    for (const turn of turns) {
      if (turn.message) add("mine", make("p", {}, turn.message));
      answer(add("hall", make("div", { class: "body" })), turn);
    }
  }

  return { send, tell, replay };
}
