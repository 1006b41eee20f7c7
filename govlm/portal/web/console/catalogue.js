// 目录与政策: files are read and compared with the catalogue; what is seen to be right is published.
import { action, badge, busy, call, card, check, confirmed, field, make, put, select, table, tell, when } from "./page.js";

const CHANGES = { new: ["新增", "good"], changed: ["修改", "blue"], removed: ["移除", "bad"] };
const KINDS = { items: "办事事项", policies: "政策文件" };

export async function catalogue(title) {
  const shown = make("div", { id: "preview" });
  const listed = make("div");
  put(title, importing(shown, () => refresh(listed, shown)), shown, card("导入记录", listed), exporting());
  await refresh(listed, shown);
}

function importing(shown, done) {
  const kind = select(Object.entries(KINDS), { name: "kind" });
  const files = make("input", { type: "file", name: "files", required: true });
  const mapping = make("input", { type: "file", name: "mapping", accept: ".json,.toml" });
  const region = make("input", { name: "region", inputmode: "numeric", pattern: "[0-9]{0,12}", maxlength: 12, autocomplete: "off" });
  const whole = check("这是完整的目录：文件里没有的，从目录里移除", { name: "whole", value: "true" });
  const button = make("button", { class: "primary", type: "submit" }, "读取并预览");
  const hint = make("p", { class: "soft small", id: "files-hint" });
  files.setAttribute("aria-describedby", hint.id);
  const picked = field("文件", files);
  picked.append(hint);
  const asked = { mapping: field("列的映射（可不填）", mapping, "列名与本系统不同时，用一个 JSON 或 TOML 文件说明哪一列是哪个字段。") };
  asked.region = field("适用地区（可不填）", region, "行政区划代码，如 440106；全国的文件不用填。");
  const choose = () => {
    const items = kind.value === "items";
    hint.textContent = items ? "Excel（.xlsx）、CSV 或 JSONL，一次一个。" : "PDF、Word（.docx）、网页、Markdown 或纯文本，可以一次选多个。";
    files.multiple = !items;
    files.value = "";
    files.accept = items ? ".xlsx,.csv,.tsv,.jsonl" : ".pdf,.docx,.html,.htm,.md,.txt,.jsonl";
    asked.mapping.hidden = !items;
    asked.region.hidden = items;
  };
  kind.addEventListener("change", choose);
  choose();
  const form = make(
    "form", { class: "grid" }, field("导入什么", kind), picked, asked.mapping, asked.region, make("div", { class: "wide" }, whole),
    make("p", { class: "wide" }, button, make("span", { class: "soft small beside" }, "预览不会改动现在的目录。")),
  );
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const data = new FormData(form);
    if (!mapping.files.length) data.delete("mapping");
    busy(button, async () => {
      button.textContent = "正在读取……";
      try {
        const found = await call("POST", "/v1/admin/imports", data);
        form.reset();
        choose();
        await preview(found, shown, done);
        await done();
      } finally {
        button.textContent = "读取并预览";
      }
    });
  });
  return card("导入", form);
}

async function refresh(listed, shown) {
  const { imports } = await call("GET", "/v1/admin/imports");
  const rows = imports.map((entry) => [
    when(entry.at), entry.name, KINDS[entry.kind], counted(entry.counts),
    entry.status === "published" ? badge("已发布", "good") : badge("待发布", "warn"),
    action("查看", async () => preview(await call("GET", `/v1/admin/imports/${entry.id}`), shown, () => refresh(listed, shown)), {
      "aria-label": `查看 ${entry.name}`,
    }),
  ]);
  listed.replaceChildren(table("导入记录", ["时间", "文件", "类别", "变化", "状态", "操作"], rows, "还没有导入过文件。"));
}

function counted(counts) {
  const parts = Object.entries(CHANGES).filter(([name]) => counts[name]).map(([name, [text]]) => `${text} ${counts[name]}`);
  return parts.join("，") || "没有变化";
}

async function preview(found, shown, done) {
  const { report, counts } = found;
  const leave = () => shown.replaceChildren();
  const buttons = found.status === "published" ? [] : [
    action("发布", async () => {
      const text = `新增 ${counts.new}，修改 ${counts.changed}，移除 ${counts.removed}。发布后，市民马上看到新的内容。`;
      if (!(await confirmed(`发布“${found.name}”？`, text, "发布"))) return;
      try {
        await preview(await call("POST", `/v1/admin/imports/${found.id}/publish`), shown, done);
        tell("已发布，新的内容已经生效。");
      } catch (error) {
        if (error.code === "conflict") await preview(await call("GET", `/v1/admin/imports/${found.id}`), shown, done);
        throw error;
      } finally {
        await done();
      }
    }, { class: "primary", id: "publish" }),
    action("放弃", async () => {
      await call("DELETE", `/v1/admin/imports/${found.id}`);
      leave();
      await done();
      tell("这次导入已放弃，目录没有改动。");
    }),
  ];
  const tiles = [["new", "新增"], ["changed", "修改"], ["removed", "移除"], ["same", "没有变化"]].map(([name, text]) =>
    make("li", { class: `tile ${CHANGES[name]?.[1] ?? ""}` }, make("strong", {}, String(counts[name])), make("span", {}, text)));
  const told = `读取 ${report.rows} ${report.unit}，可用 ${report.imported}，跳过 ${report.skipped}` +
    (report.mapping ? `（列的映射：${report.mapping}）` : "");
  const box = card(
    `${found.status === "published" ? "已发布" : "预览"}：${found.name}`, make("p", { class: "soft" }, told), make("ul", { class: "tiles" }, tiles),
    make("p", { class: "row" }, buttons, action("收起", leave)), problems(report), changes(found),
  );
  shown.replaceChildren(box);
  box.querySelector("h2").tabIndex = -1;
  box.querySelector("h2").focus();
}

function problems(report) {
  if (!report.problem_count) return make("p", { class: "fine" }, "没有发现问题。");
  const rows = report.problems.map((p) => [p.row || "整个文件", p.kind, p.column, p.text]);
  const more = report.problem_count > rows.length ? make("p", { class: "soft small" }, `共 ${report.problem_count} 处，这里列出前 ${rows.length} 处。`) : null;
  return make(
    "details", { open: rows.length <= 12 }, make("summary", {}, `发现问题 ${report.problem_count} 处`),
    table("每一行的问题", [report.unit === "份" ? "文件" : "行", "类别", "列", "问题"], rows), more,
  );
}

function changes(found) {
  const whole = Object.values(found.counts).reduce((a, b) => a + b, 0) - found.counts.same;
  if (!whole) return make("p", { class: "soft" }, "和现在的目录相比没有变化。");
  const entries = found.changes.map((entry) => {
    const [text, kind] = CHANGES[entry.change];
    const rows = entry.fields.map((d) => [d.label, make("del", {}, d.before || "（空）"), make("ins", {}, d.after || "（空）")]);
    const head = make("summary", {}, badge(text, kind), ` ${entry.name} `, make("span", { class: "soft small" }, entry.code));
    if (entry.change === "new") {
      const only = entry.fields.map((d) => [d.label, d.after]);
      return make("details", {}, head, table(entry.name, ["字段", "内容"], only, "", "diff"));
    }
    if (entry.change === "removed") return make("details", {}, head, make("p", {}, "发布后从目录里移除。"));
    return make("details", { open: whole <= 5 }, head, table(entry.name, ["字段", "现在", "发布后"], rows, "", "diff"));
  });
  const more = whole > entries.length ? make("p", { class: "soft small" }, `共 ${whole} 项，这里列出前 ${entries.length} 项。`) : null;
  return make("div", { class: "changes" }, make("h3", {}, "变化"), entries, more);
}

function exporting() {
  const link = (text, query) => make("a", { class: "button", href: `/v1/admin/export?${query}`, download: true }, text);
  return card(
    "导出", make("p", { class: "soft" }, "导出的文件可以修改后再导入。"),
    make("p", { class: "row" }, link("事项（Excel）", "kind=items&format=xlsx"), link("事项（JSONL）", "kind=items"), link("政策（JSONL）", "kind=policies")),
  );
}
