// The procedure beside the conversation: its steps, the form as it fills, what was handed in.

import { call, Failure, save } from "./api.js";
import { $, make, name, open } from "./dom.js";
import { framed, tell } from "./embed.js";

const KINDS = { mobile: "tel", email: "email" };
const DONE = "办理结果";
const SAID = { done: "已完成", current: "进行中", ahead: "未开始" };

// changed(turn): a turn that came of the form. session(): the conversation's number.
export function create(session, changed) {
  let state = null;
  let seen = {};
  const refused = {}; // field -> what was written there and is wrong: it stays in sight to be mended
  const sending = {}; // field -> what is on its way: it stays in sight, too
  let writing = Promise.resolve();
  let drawing = false; // a control that is taken out says that it was changed and left, half written as it is

  function steps() {
    $("steps").replaceChildren(
      ...state.steps.map((step) =>
        make("li", { class: step.state, "aria-current": step.state === "current" ? "step" : null },
          step.title, make("span", { class: "hidden" }, `（${SAID[step.state]}）`))));
  }

  function control(field) {
    const given = {
      id: `field-${field.name}`, value: shown(field), "aria-required": field.required ? "true" : null,
      "aria-invalid": field.problem ? "true" : null, "aria-describedby": field.problem ? `problem-${field.name}` : null,
      "data-given": shown(field), onchange: left,
      onblur: (event) => document.activeElement !== event.target && left(event), // not where the whole window is left for a while
    };
    function left({ target }) {
      const value = target.value.trim();
      if (!drawing && value !== target.dataset.given) write(field, value);
    }
    if (!field.options.length) return make("input", { type: KINDS[field.kind] ?? "text", autocomplete: "off", ...given });
    const options = ["", ...field.options].map((option) => make("option", { value: option }, option || "请选择"));
    const found = make("select", given, ...options);
    found.value = shown(field);
    return found;
  }

  function shown(field) {
    return sending[field.name] ?? ((field.problem && refused[field.name]) || field.value);
  }

  function row(field) {
    const fresh = field.value && seen[field.name] !== field.value;
    const label = make("label", { for: `field-${field.name}` }, field.label, field.required ? make("span", { class: "must", title: "必填" }, "＊") : null);
    const problem = field.problem ? make("p", { class: "problem", id: `problem-${field.name}` }, field.problem) : null;
    return make("div", { class: `field${field.asked ? " asked" : ""}${fresh ? " fresh" : ""}` }, label, control(field), problem);
  }

  function fields() {
    const focused = document.activeElement?.id.startsWith("field-") ? document.activeElement : null;
    const typed = focused && focused.value !== focused.dataset.given ? focused.value : null; // not yet sent
    const filled = state.fields.filter((field) => field.value).length;
    for (const field of state.fields) if (!field.problem) delete refused[field.name];
    const rows = state.fields.map(row);
    const all = state.steps.length && state.asking === "confirm";
    drawing = true;
    $("form").replaceChildren(
      ...(rows.length ? [make("p", { class: "count" }, `已填 ${filled} 项，共 ${state.fields.length} 项`), ...rows] : []),
      ...(all ? [make("button", { type: "submit", class: "primary" }, "核对并提交")] : []));
    drawing = false;
    seen = Object.fromEntries(state.fields.map((field) => [field.name, field.value]));
    const asked = $("form").querySelector(".asked");
    if (focused && $(focused.id)) {
      if (typed !== null) $(focused.id).value = typed;
      $(focused.id).focus();
    } else if (asked) $("side").scrollTo({ top: asked.offsetTop - $("side").clientHeight / 3 });
    $("fold").textContent = rows.length ? `表格 ${filled}/${state.fields.length}` : state.item ? "办理进度" : DONE;
  }

  function link(path, text) {
    const fetched = (event) => {
      event.preventDefault();
      save(path);
    };
    return make("a", { href: path, download: true, onclick: framed ? fetched : null }, text);
  }

  function receipts() {
    $("receipts").replaceChildren(...state.receipts.map(([item, number]) => {
      const base = `/v1/sessions/${session()}/submissions/${encodeURIComponent(number)}`;
      return make("section", { class: "receipt" }, make("h3", {}, "已提交"), make("p", {}, item.name),
        make("p", { class: "number" }, `回执号 ${number}`),
        make("p", {}, link(`${base}.docx`, "下载 Word"), " ", link(`${base}.json`, "下载 JSON")));
    }));
  }

  function show(next) {
    state = next;
    const busy = state.item || state.receipts.length;
    $("side").hidden = !busy;
    document.body.classList.toggle("beside", Boolean(busy));
    tell(busy ? "wide" : "narrow");
    $("procedure").textContent = state.item?.name ?? DONE;
    steps();
    fields();
    receipts();
  }

  // One after the other: each answer shows the whole form.
  function write(field, value) {
    $(`field-${field.name}`).dataset.given = sending[field.name] = value;
    writing = writing.then(() => put(field, value));
  }

  async function put(field, value) {
    try {
      const turn = await call("PATCH", `/v1/sessions/${session()}/form`, { values: { [field.name]: value } });
      if (sending[field.name] === value) delete sending[field.name];
      refused[field.name] = value;
      changed(turn);
    } catch (error) {
      if (sending[field.name] === value) delete sending[field.name];
      if (!(error instanceof Failure)) throw error;
      const input = $(`field-${field.name}`);
      input.setAttribute("aria-invalid", "true");
      input.setAttribute("aria-describedby", `problem-${field.name}`);
      input.closest(".field").querySelector(".problem")?.remove();
      input.closest(".field").append(make("p", { class: "problem", id: `problem-${field.name}`, role: "alert" }, error.message));
    }
  }

  function confirm() {
    const key = name();
    open("请核对后提交", (close) => {
      const list = make("dl", { class: "check" });
      for (const field of state.fields.filter((field) => field.value)) list.append(make("dt", {}, field.label), make("dd", {}, field.value));
      const told = make("p", { class: "problem", role: "alert" });
      const hand = make("button", { type: "button", class: "primary", onclick: async () => {
        hand.disabled = true;
        try {
          const turn = await call("POST", `/v1/sessions/${session()}/submit`, { confirm: true, key });
          close();
          changed(turn);
        } catch (error) {
          told.textContent = error.message;
          hand.disabled = false;
        }
      } }, "确认无误，提交");
      return [list, told, make("div", { class: "row" }, hand, make("button", { type: "button", onclick: close }, "再改改"))];
    });
  }

  $("form").addEventListener("submit", (event) => {
    event.preventDefault();
    document.activeElement?.dispatchEvent(new Event("change")); // Enter, where what is written was put back by us
    writing.then(() => {
      if (state.asking === "confirm") confirm();
    });
  });
  function unfold(open) {
    $("fold").setAttribute("aria-expanded", String(open));
    $("sheet").hidden = !open;
  }

  // On a phone the talk comes first, and the form lies behind its button.
  const narrow = matchMedia("(max-width: 60rem)");
  const fit = () => unfold(!narrow.matches);
  narrow.addEventListener("change", fit);
  fit();
  $("fold").addEventListener("click", () => unfold($("fold").getAttribute("aria-expanded") !== "true"));
  return { show };
}
