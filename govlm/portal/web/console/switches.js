// 开关: stops the assistant for everybody, with a reason, after a question.
import { action, badge, call, card, confirmed, field, make, put, tell, when } from "./page.js";

const NAMES = { chat: ["智能问答", "关闭后，助手不再回答任何问题，页面提示市民拨打12345或前往窗口。"] };

export async function switches(title) {
  const { switches: found } = await call("GET", "/v1/admin/switches");
  put(title, found.map((entry) => one(entry, () => switches(title))));
}

function one(entry, again) {
  const [name, what] = NAMES[entry.name] ?? [entry.name, ""];
  const reason = make("input", { maxlength: 500, required: true, autocomplete: "off", id: `reason-${entry.name}` });
  const turn = action(entry.on ? "关闭" : "重新开启", async () => {
    if (!reason.reportValidity()) return;
    const text = entry.on ? "一秒之内，所有市民都得不到智能回答。" : "市民马上可以继续提问。";
    if (!(await confirmed(`${entry.on ? "关闭" : "开启"}${name}？`, text, entry.on ? "关闭" : "开启"))) return;
    await call("PUT", `/v1/admin/switches/${entry.name}`, { on: !entry.on, reason: reason.value });
    await again();
    tell(`${name}已${entry.on ? "关闭" : "开启"}。`);
  }, { class: entry.on ? "danger" : "primary", id: `turn-${entry.name}` });
  return card(
    name, make("p", {}, badge(entry.on ? "正在服务" : "已关闭", entry.on ? "good" : "bad")), make("p", { class: "soft" }, what),
    entry.at ? make("p", { class: "soft small" }, `上次操作：${when(entry.at)}，原因：${entry.reason}`) : null,
    field("原因（会记入审计）", reason), make("p", { class: "row" }, turn),
  );
}
