// 账号与密钥: who may log in, and which other systems may call.
import { action, badge, busy, call, card, check, confirmed, field, make, put, select, table, tell, when } from "./page.js";

const ROLES = { administrator: "管理员", clerk: "人工客服", auditor: "审计员", citizen: "市民" };
const SCOPES = { chat: "对话", catalogue: "查目录", models: "模型", push: "推送", admin: "管理" };

export async function accounts(title) {
  const again = () => accounts(title);
  const [people, systems] = await Promise.all([call("GET", "/v1/admin/accounts"), call("GET", "/v1/admin/keys")]);
  put(title, card("账号", listed(people.accounts, again), adding(again)), card("接口密钥", keys(systems.keys, people.accounts, again), issuing(again)));
}

function secret(title, text, note) {
  const shown = make("output", { class: "secret" }, text);
  const box = card(title, make("p", {}, note), shown);
  box.classList.add("warn");
  document.querySelector("#section h1").after(box);
  box.querySelector("h2").tabIndex = -1;
  box.querySelector("h2").focus();
}

function listed(found, again) {
  const rows = found.map((account) => [
    account.name, account.roles.filter((role) => role !== "citizen" || account.roles.length === 1).map((role) => ROLES[role]).join("、"),
    account.disabled ? badge("已停用", "bad") : account.must_change ? badge("未改一次性密码", "warn") : badge("正常", "good"), when(account.created),
    make(
      "span", { class: "row" },
      action(account.disabled ? "启用" : "停用", async () => {
        const off = !account.disabled;
        if (off && !(await confirmed(`停用账号 ${account.name}？`, "这个账号马上不能登录，它的密钥也不能用。", "停用"))) return;
        await call("PATCH", `/v1/admin/accounts/${account.id}`, { disabled: off });
        await again();
      }, { "aria-label": `${account.disabled ? "启用" : "停用"} ${account.name}` }),
      account.oidc ? null : action("重置密码", async () => {
        if (!(await confirmed(`重置 ${account.name} 的密码？`, "现在的密码马上失效，已登录的地方都会退出。", "重置"))) return;
        const told = await call("POST", `/v1/admin/accounts/${account.id}/password`);
        await again();
        secret(`${account.name} 的一次性密码`, told.password, "只显示这一次，请当面交给本人。");
      }, { "aria-label": `重置 ${account.name} 的密码` }),
    ),
  ]);
  return table("账号", ["账号", "角色", "状态", "建立时间", "操作"], rows);
}

function chosen(legend, options, name) {
  const boxes = Object.entries(options).map(([value, text]) => check(text, { name, value }));
  return make("fieldset", { class: "wide" }, make("legend", {}, legend), make("div", { class: "row" }, boxes));
}

function values(form, name) {
  return [...form.querySelectorAll(`input[name=${name}]:checked`)].map((box) => box.value);
}

function submitted(form, button, work) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    busy(button, work);
  });
  return form;
}

function adding(again) {
  const name = make("input", { required: true, minlength: 2, maxlength: 64, autocomplete: "off", id: "new-account" });
  const { citizen, ...staff } = ROLES;
  const button = make("button", { class: "primary", type: "submit" }, "新建账号");
  const form = make("form", { class: "grid" }, field("账号名", name, "字母、数字、汉字、. _ @ -"), chosen("角色", staff, "roles"), make("p", { class: "wide" }, button));
  return make("details", {}, make("summary", {}, "新建账号"), submitted(form, button, async () => {
    const told = await call("POST", "/v1/admin/accounts", { name: name.value, roles: values(form, "roles") });
    await again();
    secret(`${told.account.name} 的一次性密码`, told.password, "只显示这一次，请当面交给本人；第一次登录时要换掉。");
  }));
}

function keys(found, people, again) {
  const names = Object.fromEntries(people.map((account) => [account.id, account.name]));
  const now = new Date().toISOString();
  const rows = found.map((key) => {
    const ended = key.revoked || (key.expires && key.expires < now);
    return [
      key.name, key.scopes.map((scope) => SCOPES[scope]).join("、"), names[key.account] ?? "", key.expires ? when(key.expires) : "长期",
      key.revoked ? badge("已吊销", "bad") : ended ? badge("已过期", "bad") : badge("有效", "good"),
      ended ? "" : action("吊销", async () => {
        if (!(await confirmed(`吊销密钥 ${key.name}？`, "用它的系统马上不能再调用接口，不能恢复。", "吊销"))) return;
        await call("DELETE", `/v1/admin/keys/${key.id}`);
        await again();
        tell("密钥已吊销。");
      }, { "aria-label": `吊销 ${key.name}` }),
    ];
  });
  return table("接口密钥", ["名称", "范围", "所属账号", "到期", "状态", "操作"], rows, "还没有接口密钥。");
}

function issuing(again) {
  const name = make("input", { required: true, maxlength: 64, autocomplete: "off", id: "new-key" });
  const days = select([["90", "90天"], ["365", "1年"], ["30", "30天"], ["", "长期"]]);
  const button = make("button", { class: "primary", type: "submit" }, "签发密钥");
  const form = make("form", { class: "grid" }, field("名称", name, "用它的系统叫什么"), field("有效期", days), chosen("范围", SCOPES, "scopes"), make("p", { class: "wide" }, button));
  return make("details", {}, make("summary", {}, "签发密钥"), submitted(form, button, async () => {
    const scopes = values(form, "scopes");
    if (!scopes.length) throw new Error("请至少选择一个范围。");
    const told = await call("POST", "/v1/admin/keys", { name: name.value, scopes, days: days.value ? Number(days.value) : null });
    await again();
    secret(`密钥 ${told.key.name}`, told.text, "只显示这一次，请马上保存到调用方的系统里。");
  }));
}
