// 审计: who did what, by pseudonyms; and whether all of it is still there.
import { action, badge, busy, call, card, field, make, put, table, when } from "./page.js";

const PAGE = 50;
const ROLES = { administrator: "管理员", clerk: "人工客服", auditor: "审计员", citizen: "市民" };

function roles(text) {
  const names = text.split(",").filter((name, _, all) => name && (name !== "citizen" || all.length === 1));
  return names.map((name) => ROLES[name] ?? name).join("、");
}

export async function audit(title) {
  const input = (given) => make("input", { autocomplete: "off", maxlength: 160, ...given });
  const fields = {
    action: input({ placeholder: "如 account" }), actor: input({}), object: input({ placeholder: "如 item:编码" }),
    since: make("input", { type: "date" }), until: make("input", { type: "date" }),
  };
  const listed = make("div");
  const result = make("div", { role: "status" });
  const button = make("button", { class: "primary", type: "submit" }, "查询");
  const form = make(
    "form", { class: "grid" }, field("操作", fields.action), field("操作人", fields.actor), field("对象", fields.object),
    field("从哪天（UTC）", fields.since), field("到哪天之前（UTC）", fields.until), make("p", { class: "wide" }, button),
  );
  const load = (offset) => busy(button, () => entries(fields, listed, offset, load));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    load(0);
  });
  put(
    title, card("核对", make("p", { class: "soft" }, "检查每条记录有没有被改动、删除、调换或截断。"), make("p", { class: "row" }, action("核对全部记录", () => verify(result), { id: "verify" })), result),
    card("记录", form, listed),
  );
  await load(0);
}

async function entries(fields, listed, offset, load) {
  const query = new URLSearchParams({ limit: PAGE, offset });
  for (const [name, control] of Object.entries(fields)) if (control.value) query.set(name, control.value);
  const found = await call("GET", `/v1/audit?${query}`);
  const rows = found.entries.map((entry) => [
    when(entry.at), entry.action, make("code", {}, entry.actor), roles(entry.role), make("code", {}, entry.object),
    make("code", {}, Object.entries(entry.detail).map(([name, value]) => `${name}=${value}`).join(" ")), make("code", {}, `${entry.chain}:${entry.number}`),
  ]);
  const pages = make(
    "p", { class: "row" }, make("span", { class: "soft" }, `共 ${found.total} 条`),
    action("上一页", () => load(Math.max(0, offset - PAGE)), { disabled: offset === 0 }),
    action("下一页", () => load(offset + PAGE), { disabled: offset + PAGE >= found.total }),
  );
  listed.replaceChildren(table("审计记录", ["时间", "操作", "操作人", "角色", "对象", "内容", "编号"], rows), pages);
}

async function verify(result) {
  const found = await call("GET", "/v1/audit/verify");
  const told = found.told.map((text) => make("li", {}, text));
  const wrong = found.findings.map((f) => make("li", {}, `${f.chain}:${f.number} ${f.text}`));
  result.replaceChildren(
    make("p", {}, badge(found.sound ? "完整" : "有问题", found.sound ? "good" : "bad"), ` ${found.chains} 条链，${found.entries} 条记录`),
    wrong.length ? make("ul", { class: "list" }, wrong) : "", told.length ? make("ul", { class: "list soft small" }, told) : "",
  );
}
