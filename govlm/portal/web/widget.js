// The hall's assistant on another portal's page, by one tag there:
//   <script src="https://hall.example.gov.cn/widget.js" defer></script>
// The page must stand in the hall's list of origins. Under a content security policy it needs the hall's address in script-src and frame-src, no more:
// styles are constructed (CSSOM), nothing is written inline, and nothing is asked of anybody but the hall. The page's own styles do not reach in here.
(() => {
  const hall = new URL(document.currentScript.src).origin;
  const TITLE = "智能助手";
  const WAIT = 8000; // milliseconds that the assistant has to answer in a frame that has loaded
  const STYLE = `
    :host { all: initial; }
    * { box-sizing: border-box; font: 1rem/1.5 "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "Source Han Sans SC", sans-serif; }
    button { cursor: pointer; border: 0; color: #fff; background: #1b56a6; }
    button:focus-visible { outline: 0.1875rem solid #e08a00; outline-offset: 0.125rem; }
    .open { position: fixed; z-index: 2147483000; right: 1.5rem; bottom: 1.5rem; display: flex; gap: 0.5rem; align-items: center; min-height: 3.25rem;
      padding: 0.5rem 1.25rem; border-radius: 1.75rem; font-weight: 700; box-shadow: 0 0.25rem 1rem #0f274659; }
    .open:hover, .shut:hover { background: #123f7d; }
    svg { width: 1.5rem; height: 1.5rem; fill: none; stroke: currentColor; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
    .panel { position: fixed; z-index: 2147483000; right: 1.5rem; bottom: 1.5rem; display: flex; flex-direction: column; overflow: hidden;
      width: min(26rem, calc(100vw - 3rem)); height: min(44rem, calc(100vh - 3rem)); border-radius: 0.75rem; background: #f3f6fa; box-shadow: 0 0.5rem 2.5rem #0f274673; }
    .panel.wide { width: min(68rem, calc(100vw - 3rem)); height: min(52rem, calc(100vh - 3rem)); }
    .head { display: flex; align-items: center; justify-content: space-between; padding-left: 1rem; color: #fff; background: #1b56a6; font-weight: 700; }
    .shut { display: flex; align-items: center; justify-content: center; width: 3rem; height: 3rem; outline-offset: -0.25rem !important; }
    iframe { flex: 1; width: 100%; min-height: 0; border: 0; }
    .told { display: flex; flex-direction: column; gap: 1rem; margin: auto; padding: 2rem; color: #1c2733; text-align: center; }
    p { margin: 0; }
    a { color: #1b56a6; }
    a:focus-visible { outline: 0.1875rem solid #e08a00; outline-offset: 0.125rem; }
    [hidden] { display: none !important; }
    @media (max-width: 40rem) {
      .panel, .panel.wide { inset: 0; width: 100%; height: 100%; border-radius: 0; }
      .open { right: 1rem; bottom: 1rem; }
    }
    @media print { .open, .panel { display: none; } }`;

  function make(tag, given, ...children) {
    const found = document.createElement(tag);
    for (const [name, value] of Object.entries(given)) found.setAttribute(name, value);
    found.append(...children);
    return found;
  }

  function icon(way) {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    svg.setAttribute("viewBox", "0 0 24 24");
    svg.setAttribute("aria-hidden", "true");
    const path = document.createElementNS(space, "path");
    path.setAttribute("d", way);
    svg.append(path);
    return svg;
  }

  const host = make("govlm-assistant", {});
  const root = host.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(STYLE);
  root.adoptedStyleSheets = [sheet];

  const button = make("button", { type: "button", class: "open", "aria-haspopup": "dialog", "aria-expanded": "false" }, icon("M4 5h16v11H10l-4 4v-4H4z"), TITLE);
  const shut = make("button", { type: "button", class: "shut", "aria-label": `关闭${TITLE}` }, icon("M6 6l12 12M18 6 6 18"));
  const panel = make("div", { class: "panel", role: "dialog", "aria-label": TITLE }, make("div", { class: "head" }, make("span", {}, TITLE), shut));
  panel.hidden = true;
  root.append(button, panel);
  const link = make("a", { href: `${hall}/`, target: "_blank", rel: "noopener" }, "在新窗口打开");
  const told = make("div", { class: "told", role: "alert" });
  told.hidden = true;
  panel.append(told);
  let frame = null;
  let timer = 0;

  // An assistant that says nothing was refused by the browser, for this page is not on the hall's list, or cannot be reached.
  function miss() {
    told.replaceChildren(make("p", {}, `${TITLE}暂时不能在本页显示。`), link);
    told.hidden = false;
    frame.hidden = true;
    if (!panel.hidden) link.focus();
  }

  function greet() {
    clearTimeout(timer);
    timer = setTimeout(miss, WAIT);
    frame.contentWindow.postMessage({ govlm: "open" }, hall);
  }

  function show() {
    panel.hidden = false;
    button.hidden = true;
    button.setAttribute("aria-expanded", "true");
    if (frame) {
      (frame.hidden ? link : frame).focus();
      greet();
      return;
    }
    frame = make("iframe", { src: `${hall}/widget`, title: TITLE });
    frame.addEventListener("load", () => {
      if (panel.hidden) return;
      frame.focus();
      greet();
    });
    timer = setTimeout(miss, 4 * WAIT);
    panel.append(frame);
    shut.focus(); // until the assistant is there
  }

  function hide() {
    panel.hidden = true;
    button.hidden = false;
    button.setAttribute("aria-expanded", "false");
    button.focus();
  }

  button.addEventListener("click", show);
  shut.addEventListener("click", hide);
  panel.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
  });
  addEventListener("message", (event) => {
    if (!frame || event.origin !== hall || event.source !== frame.contentWindow) return;
    clearTimeout(timer);
    told.hidden = true;
    frame.hidden = false;
    const said = event.data?.govlm;
    if (said === "close") hide();
    else if (said === "wide" || said === "narrow") panel.classList.toggle("wide", said === "wide");
  });
  if (document.body) document.body.append(host);
  else addEventListener("DOMContentLoaded", () => document.body.append(host), { once: true });
})();
