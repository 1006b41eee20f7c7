// 审计: who did what, by pseudonyms; and whether all of it is still there.
import { action, badge, busy, call, card, field, make, put, table, when } from "./page.js";

const PAGE = 50;
const ROLES = { administrator: "管理员", clerk: "人工客服", auditor: "审计员", citizen: "市民" };

const WRONG = {
  changed: "被改动", deleted: "被删除", reordered: "被调换了次序", cut_off: "从这一条起被截断", added: "是在这条链结束以后添加的",
  chain_removed: "整条链被删除", chain_unknown: "锚点文件里没有这条链",
};
const NOTES = {
  torn: (note) => `锚点文件第 ${note.number} 行不完整（如断电所致），没有采用。`,
  elsewhere: (note) => `链 ${note.chain} 由另一台机器锚定，这里只核对了它前后是否衔接。`,
  unanchored: (note) => `链 ${note.chain} 最后 ${note.number} 条还没有锚定：正在写入，或者写入它的进程被强制结束了。`,
};

// What is wrong, in words; as `govlm audit verify` says it, where the pointer rests.
function wrong(finding) {
  const place = finding.number ? `链 ${finding.chain} 第 ${finding.number} 条：` : `链 ${finding.chain}：`;
  const text = finding.kind === "anchor" ? "锚点文件被改动、删行，或者换了密钥。" : `${place}${WRONG[finding.kind] ?? finding.kind}。`;
  return make("li", { title: finding.text }, text);
}

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
    make("span", { class: "whole" }, when(entry.at)), make("span", { class: "whole" }, entry.action), make("code", {}, entry.actor), roles(entry.role), make("code", {}, entry.object),
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
  const told = found.told.map((note) => make("li", { title: note.text }, NOTES[note.kind]?.(note) ?? note.text));
  const findings = found.findings.map(wrong);
  result.replaceChildren(
    make("p", {}, badge(found.sound ? "完整" : "有问题", found.sound ? "good" : "bad"), ` ${found.chains} 条链，${found.entries} 条记录`),
    findings.length ? make("ul", { class: "list" }, findings) : "", told.length ? make("ul", { class: "list soft small" }, told) : "",
  );
}
