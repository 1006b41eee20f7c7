// 待改进问题: what was not answered, or badly; an answer is put together from records, and held by a case of regression.
import { action, badge, busy, call, card, check, confirmed, field, make, put, select, table, tell, when } from "./page.js";

const KINDS = { "": "全部", unanswered: "没有答上来", bad: "评价不好" };

export async function questions(title) {
  const editor = make("div", { id: "editor" });
  const listed = make("div");
  const answers = make("div");
  const kind = select(Object.entries(KINDS));
  const refresh = async () => {
    await Promise.all([open(kind.value, listed, (asked) => edit(asked, editor, refresh), refresh), curated(answers, refresh)]);
  };
  kind.addEventListener("change", () => busy(null, refresh));
  const other = action("回答别的问题", () => edit(null, editor, refresh));
  put(title, editor, card("问题", field("种类", kind), listed, make("p", { class: "row" }, other)), card("标准回答", regression(), answers));
  await refresh();
}

async function open(kind, listed, answer, refresh) {
  const found = await call("GET", `/v1/admin/questions?${new URLSearchParams({ kind })}`);
  const entries = found.questions.map((asked) => make(
    "li", { class: "entry" }, make("p", { class: "said" }, asked.text),
    make("p", { class: "soft small" }, badge(KINDS[asked.kind], asked.kind === "bad" ? "bad" : "warn"), ` 问过 ${asked.asked} 次，最近 ${when(asked.last)}`),
    asked.reason ? make("p", { class: "soft small" }, `原因：${asked.reason}`) : null,
    make(
      "p", { class: "row" }, action("回答", () => answer(asked), { class: "primary", "aria-label": `回答：${asked.text}` }),
      action("不需要回答", async () => {
        await call("POST", `/v1/admin/questions/${asked.id}/dismiss`);
        await refresh();
      }, { "aria-label": `不需要回答：${asked.text}` }),
    ),
  ));
  const rest = found.total - entries.length;
  listed.replaceChildren(
    entries.length ? make("ul", { class: "entries" }, entries) : make("p", { class: "soft" }, "没有等待处理的问题。"),
    rest > 0 ? make("p", { class: "soft small" }, `还有 ${rest} 个。`) : "",
  );
}

// ---- an answer is put together: asked, or null for a question that is on no list

function edit(asked, editor, refresh) {
  const quotes = [];
  const question = make("input", { maxlength: 500, required: true, value: asked?.text ?? "", autocomplete: "off" });
  const wordings = make("textarea", { rows: 3 });
  const learn = check("让事项以后也能从这些问法里认出来", { checked: true });
  const q = make("input", { type: "search", maxlength: 200, value: asked?.text ?? "", id: "find" });
  const found = make("div", { class: "found" });
  const record = make("div", { id: "record" });
  const chosen = make("div", { id: "chosen", "aria-live": "polite" });
  const save = action("保存为标准回答", async () => {
    if (!question.reportValidity()) return;
    if (!quotes.length) throw new Error("请先从事项或政策里选出要引用的内容。");
    const lines = wordings.value.split("\n").map((line) => line.trim()).filter(Boolean);
    const given = { quotes: quotes.map((quote) => quote.given), wordings: lines, learn: learn.firstChild.checked };
    save.textContent = "正在保存……";
    try {
      const path = asked ? `/v1/admin/questions/${asked.id}/answer` : "/v1/admin/curated";
      const told = await call("POST", path, asked ? given : { ...given, question: question.value });
      editor.replaceChildren(result(told, editor));
      editor.querySelector("h2").focus();
      await refresh();
    } finally {
      save.textContent = "保存为标准回答";
    }
  }, { class: "primary", id: "save" });
  const draw = () => chosen.replaceChildren(make("h3", {}, "回答的内容"), quotes.length
    ? make("ul", { class: "entries" }, quotes.map((quote) => make(
      "li", { class: "entry" }, make("p", {}, make("strong", {}, `《${quote.title}》 ${quote.label}`)), make("p", { class: "quoted" }, quote.text),
      action("去掉", () => {
        quotes.splice(quotes.indexOf(quote), 1);
        draw();
        mark(record, quotes);
      }, { "aria-label": `去掉 ${quote.label}` }),
    )))
    : make("p", { class: "soft" }, "还没有选。回答只能引用事项和政策的原文。"));
  const search = () => busy(null, () => records(q.value, found, (entry) => pick(entry, record, quotes, draw)));
  const form = make("form", { class: "find", role: "search" }, field("找事项或政策", q), make("button", { type: "submit" }, "查找"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    search();
  });
  draw();
  const box = card(
    "整理回答", asked ? make("p", { class: "said" }, asked.text) : field("问题", question), form, found, record, chosen,
    field("其他问法（每行一个，可不填）", wordings, "市民换个说法问，也给这个回答。"), learn,
    make("p", { class: "row" }, save, action("取消", () => editor.replaceChildren())),
  );
  box.querySelector("h2").tabIndex = -1;
  editor.replaceChildren(box);
  box.querySelector("h2").focus();
  if (asked) search();
}

async function records(q, found, pick) {
  if (!q.trim()) return;
  const told = await call("GET", `/v1/admin/records?${new URLSearchParams({ q })}`);
  const list = (kind) => told.records.filter((entry) => entry.kind === kind).map((entry) => make("li", {}, action(entry.title, () => pick(entry))));
  found.replaceChildren(
    make("div", {}, make("h3", {}, "事项"), make("ul", { class: "picks" }, list("item"))),
    make("div", {}, make("h3", {}, "政策"), make("ul", { class: "picks" }, list("document"))),
  );
}

async function pick(entry, record, quotes, draw) {
  const told = await call("GET", `/v1/admin/records/${entry.kind}?${new URLSearchParams({ code: entry.code })}`);
  const line = (fact) => {
    const given = entry.kind === "item" ? { item: entry.code, fields: [fact.path] } : { document: entry.code, passage: fact.path };
    const key = JSON.stringify(given);
    const box = make("input", { type: "checkbox", "data-key": key, checked: quotes.some((quote) => quote.key === key) });
    box.addEventListener("change", () => {
      if (box.checked) quotes.push({ key, given, title: told.title, label: fact.label, text: fact.text });
      else quotes.splice(quotes.findIndex((quote) => quote.key === key), 1);
      draw();
    });
    return make("li", {}, make("label", { class: "fact" }, box, make("span", {}, make("strong", {}, fact.label), make("span", { class: "quoted" }, fact.text))));
  };
  const facts = make("ul", { class: "facts" }, told.facts.map(line));
  record.replaceChildren(
    make("h3", {}, `从《${told.title}》里选`), told.parts.length ? make("ul", { class: "facts" }, told.parts.map(line)) : "",
    told.parts.length ? make("details", {}, make("summary", {}, "只引用其中一个字段"), facts) : facts,
  );
  record.scrollIntoView({ block: "nearest" });
}

function mark(record, quotes) {
  for (const box of record.querySelectorAll("input[data-key]")) box.checked = quotes.some((quote) => quote.key === box.dataset.key);
}

function result(told, editor) {
  const { cases, failed } = told.regression;
  const box = card(
    "已保存", make("p", { class: "soft" }, `以后问到“${told.curated.wordings[0]}”，就这样回答：`), make("p", { class: "answer" }, told.curated.text),
    outcome(cases, failed), told.learned ? make("p", { class: "soft small" }, `事项学会了 ${told.learned} 种问法。`) : null,
    make("p", { class: "row" }, action("好", () => editor.replaceChildren(), { class: "primary" })),
  );
  box.querySelector("h2").tabIndex = -1;
  box.id = "saved";
  return box;
}

// ---- regression, and the answers in use

function outcome(cases, failed) {
  if (!cases) return make("p", { class: "soft" }, "还没有回归用例。");
  const text = failed.length ? `回归用例 ${cases} 个，没通过 ${failed.length} 个` : `回归用例 ${cases} 个，全部通过`;
  return make(
    "div", { class: "outcome" }, make("p", {}, badge(failed.length ? "未通过" : "通过", failed.length ? "bad" : "good"), ` ${text}`),
    failed.length ? table("没有通过的用例", ["问题", "应当", "实际"], failed.map((entry) => [entry.text, entry.wanted, entry.found])) : null,
  );
}

function regression() {
  const shown = make("div", { role: "status" });
  const run = action("运行回归", async () => {
    const told = await call("POST", "/v1/admin/regression");
    shown.replaceChildren(outcome(told.cases, told.failed));
  }, { id: "regression" });
  return make("div", { class: "stack" }, make("p", { class: "soft" }, "每条标准回答的每个问法都是一个回归用例：目录更新以后运行一遍，看哪里变了。"), make("p", { class: "row" }, run), shown);
}

async function curated(answers, refresh) {
  const found = await call("GET", "/v1/admin/curated");
  const entries = found.curated.map((row) => make(
    "li", { class: "entry" }, make("p", { class: "said" }, row.wordings.join(" / ")),
    make("p", { class: "soft small" }, row.stands ? badge("在用", "good") : badge("记录已变化，已停用", "bad"), ` ${when(row.at)}`),
    make("details", {}, make("summary", {}, "看回答"), make("p", { class: "answer" }, row.text)),
    make(
      "p", { class: "row" },
      row.stands ? null : action("按新的原文更新", async () => {
        const told = await call("POST", `/v1/admin/curated/${row.id}/renew`);
        await refresh();
        tell(told.regression.failed.length ? "已更新，但回归用例没有通过，请看看回答。" : "已按新的原文更新，回归用例通过。");
      }, { class: "primary", "aria-label": `更新：${row.wordings[0]}` }),
      action("撤下", async () => {
        if (!(await confirmed("撤下这条标准回答？", "以后由助手自己回答，它的回归用例也一并去掉。", "撤下"))) return;
        await call("DELETE", `/v1/admin/curated/${row.id}`);
        await refresh();
      }, { "aria-label": `撤下：${row.wordings[0]}` }),
    ),
  ));
  answers.replaceChildren(entries.length ? make("ul", { class: "entries" }, entries) : make("p", { class: "soft" }, "还没有标准回答。"));
}
