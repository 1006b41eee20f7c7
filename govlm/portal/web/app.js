// The citizen's page: puts its parts together, and remembers which conversation it is in.

import { call, whoami } from "./api.js";
import { marks } from "./citations.js";
import * as display from "./display.js";
import { $, make, open } from "./dom.js";
import * as embed from "./embed.js";
import * as form from "./form.js";
import { policies } from "./gist.js";
import { forget as forgetTicks } from "./guide.js";
import { drop, keep, kept } from "./keep.js";
import * as talk from "./talk.js";

const KEY = "govlm-session";
const EXAMPLES = ["低保要交500元吧？", "我妈今年五十了，退休手续咋办", "在外地看病怎么报销", "失业金能领几个月"];
const GUIDE = "谁能办？什么条件？怎么办？要什么材料？注意什么？"; // the five parts of a guide
const SHOWN = 9; // items on the first page
const NEWEST = 6; // policy documents on the first page
const POLL = 15000; // milliseconds between looks for a clerk's reply

let number = kept(KEY);
let begun = null;

async function session() {
  begun ??= number ? Promise.resolve({ id: number }) : call("POST", "/v1/sessions");
  try {
    number = (await begun).id;
  } catch (error) {
    begun = null;
    throw error;
  }
  keep(KEY, number);
  return number;
}

const side = form.create(() => number, (turn) => {
  conversation.tell(turn);
  side.show(turn.state);
});
const conversation = talk.create(session, (turn) => {
  side.show(turn.state);
  if (turn.handed_off) person();
});

function leave() {
  drop(KEY);
  forgetTicks();
  location.reload();
}

async function resume() {
  if (!number) return;
  try {
    const found = await call("GET", `/v1/sessions/${number}`);
    if (found.turns.length) {
      conversation.replay(found.turns);
      side.show(found.state);
    }
  } catch (error) {
    if (error.code !== "not_found") return notice(error.message);
    drop(KEY);
    number = "";
  }
}

function notice(text) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
}

async function first() {
  const ask = (text) => make("li", {}, make("button", { type: "button", onclick: () => conversation.send(text) }, text));
  $("examples").replaceChildren(...EXAMPLES.map(ask));
  try {
    const { items } = await call("GET", `/v1/items?limit=${SHOWN}`);
    $("services").replaceChildren(...items.map((item) =>
      make("li", {}, make("button", { type: "button", onclick: () => conversation.send(item.name + GUIDE) },
        make("b", {}, item.name), make("span", {}, item.authority)))));
    const newest = (await call("GET", `/v1/policies?limit=${NEWEST}`)).policies;
    $("policies").replaceChildren(...policies(newest, marks));
    $("newest").hidden = !newest.length;
  } catch (error) {
    notice(error.message);
  }
}

// Asks for a clerk, and shows how far that is.
function person() {
  open("转人工服务", (close) => {
    const reason = make("textarea", { rows: 3, maxlength: 2000, id: "reason" });
    const contact = make("input", { type: "text", maxlength: 200, id: "contact", autocomplete: "tel" });
    const told = make("p", { class: "problem", role: "alert" });
    const send = async () => {
      try {
        await call("POST", `/v1/sessions/${await session()}/handoff`, { reason: reason.value.trim(), contact: contact.value.trim() });
        close();
        watch();
      } catch (error) {
        told.textContent = error.message;
      }
    };
    return [
      make("p", {}, "工作人员会看到本次对话，并在这里回复您。着急的话，请拨打12345。"),
      make("label", { for: "reason" }, "想请工作人员帮什么忙"), reason,
      make("label", { for: "contact" }, "联系方式（可以不填）"), contact, told,
      make("div", { class: "row" }, make("button", { type: "button", class: "primary", onclick: send }, "提交"), make("button", { type: "button", onclick: close }, "取消")),
    ];
  });
}

const WAITING = { waiting: "已转人工，正在等待工作人员接入。", taken: "工作人员正在处理您的问题。", closed: "人工服务已结束。" };
let timer = 0;

async function watch() {
  clearTimeout(timer);
  if (!number) return;
  try {
    const found = await call("GET", `/v1/sessions/${number}/handoff`);
    if (found.status === "none") return;
    notice([WAITING[found.status], ...found.replies.map((reply) => `工作人员：${reply.text}`)].join("\n"));
    if (found.status !== "closed") timer = setTimeout(watch, POLL);
  } catch {
    timer = setTimeout(watch, POLL);
  }
}

// Who must log in does so on the hall's own page, not within another's.
function outside() {
  $("start").replaceChildren(
    make("h1", {}, "请先登录"), make("p", {}, "登录后才能使用智能助手。"),
    make("p", {}, make("a", { class: "primary", href: "/", target: "_blank", rel: "noopener" }, "在新窗口打开")));
  for (const id of ["say", "person", "anew", "forget"]) $(id).hidden = true;
  document.documentElement.dataset.ready = "1";
}

function wire() {
  const box = $("message");
  const grow = () => {
    box.style.height = "auto";
    box.style.height = `${Math.min(box.scrollHeight + 2, 160)}px`;
    box.style.overflowY = box.scrollHeight > 160 ? "auto" : "hidden";
  };
  $("say").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = box.value.trim();
    if (!text) return;
    box.value = "";
    grow();
    conversation.send(text);
  });
  box.addEventListener("input", grow);
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      $("say").requestSubmit();
    }
  });
  $("person").addEventListener("click", person);
  $("anew").addEventListener("click", leave);
  $("forget").addEventListener("click", () =>
    open("删除本次对话？", (close) => [
      make("p", {}, "对话和已填的内容会从系统中删除，不能恢复。已经提交的申请不受影响。"),
      make("div", { class: "row" },
        make("button", { type: "button", class: "primary", onclick: async () => {
          if (number) await call("DELETE", `/v1/sessions/${number}`).catch(() => {});
          leave();
        } }, "删除"),
        make("button", { type: "button", onclick: close }, "不删除")),
    ]));
}

embed.begin();
display.begin();
wire();
const me = await whoami();
if (me.kind === "anonymous" && embed.framed) outside();
else if (me.kind === "anonymous") location.replace(`/login?then=${encodeURIComponent(location.pathname)}`);
else {
  await Promise.all([first(), resume()]);
  watch();
  document.documentElement.dataset.ready = "1";
}
