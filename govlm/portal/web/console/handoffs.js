// 人工服务: citizens who asked for a person; a clerk takes the request, answers and closes it.
import { action, badge, busy, call, card, field, make, put, select, table, tell, when } from "./page.js";

const STATUS = { waiting: ["等待接听", "warn"], taken: ["处理中", "blue"], closed: ["已结束", ""] };

export async function handoffs(title) {
  const shown = make("div", { id: "case" });
  const listed = make("div");
  const status = select([["waiting", "等待接听"], ["taken", "处理中"], ["closed", "已结束"], ["", "全部"]], { id: "handoff-status" });
  const refresh = async () => {
    const found = await call("GET", `/v1/handoffs?${new URLSearchParams({ status: status.value })}`);
    const rows = found.handoffs.map((entry) => [
      when(entry.created), entry.reason || "（没有说明）", badge(...STATUS[entry.status]), entry.mine ? "我" : "",
      action("打开", () => open(entry.id, shown, refresh), { "aria-label": `打开 ${when(entry.created)} 的请求` }),
    ]);
    listed.replaceChildren(table("人工服务请求", ["时间", "原因", "状态", "经办", "操作"], rows, "现在没有这样的请求。"));
  };
  status.addEventListener("change", () => busy(null, refresh));
  put(title, shown, card("请求", field("状态", status), listed, make("p", { class: "row" }, action("刷新", refresh))));
  await refresh();
}

async function open(id, shown, refresh) {
  const found = await call("GET", `/v1/handoffs/${encodeURIComponent(id)}`);
  const change = async (what, body) => {
    await call("POST", `/v1/handoffs/${encodeURIComponent(id)}/${what}`, body);
    await open(id, shown, refresh);
    await refresh();
  };
  const text = make("textarea", { rows: 3, maxlength: 5000, required: true, id: "reply" });
  const turns = found.turns.flatMap((turn) => [
    make("li", { class: "asked" }, make("p", { class: "soft small" }, `市民 ${when(turn.at)}`), make("p", {}, turn.message)),
    make("li", { class: "given" }, make("p", { class: "soft small" }, "助手（AI 生成）"), make("p", {}, turn.text)),
  ]);
  const replies = found.replies.map((reply) => make("li", { class: "reply" }, make("p", { class: "soft small" }, `人工 ${when(reply.at)}`), make("p", {}, reply.text)));
  const closed = found.status === "closed";
  const box = card(
    "请求详情", make("p", {}, badge(...STATUS[found.status]), ` ${when(found.created)}`), make("p", {}, `原因：${found.reason || "（没有说明）"}`),
    found.contact ? make("p", {}, `联系方式：${found.contact}`) : null, make("ul", { class: "turns", tabindex: "0", "aria-label": "对话" }, turns, replies),
    closed ? null : field("回复", text),
    make(
      "p", { class: "row" },
      found.status === "waiting" ? action("接听", () => change("take"), { class: "primary", id: "take" }) : null,
      closed ? null : action("发送回复", async () => {
        if (!text.reportValidity()) return;
        await change("reply", { text: text.value });
        tell("已回复，市民在页面上马上能看到。");
      }, { id: "send", class: found.status === "taken" ? "primary" : null }),
      closed ? null : action("结束", () => change("close"), { id: "close" }), action("收起", () => shown.replaceChildren()),
    ),
  );
  box.querySelector("h2").tabIndex = -1;
  shown.replaceChildren(box);
  const talk = box.querySelector(".turns");
  talk.scrollTop = talk.scrollHeight;
  box.querySelector("h2").focus();
}
