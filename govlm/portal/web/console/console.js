// The administrator's console: which sections there are for whom, and the one that is shown. The address says which (#imports).
import { accounts } from "./accounts.js";
import { audit } from "./audit.js";
import { catalogue } from "./catalogue.js";
import { handoffs } from "./handoffs.js";
import { busy, call, make, me, tell } from "./page.js";
import { questions } from "./questions.js";
import { switches } from "./switches.js";
import { usage } from "./usage.js";

const SECTIONS = [
  ["catalogue", "目录与政策", ["administrator"], catalogue],
  ["questions", "待改进问题", ["administrator"], questions],
  ["handoffs", "人工服务", ["clerk"], handoffs],
  ["usage", "用量", ["administrator", "auditor"], usage],
  ["switches", "开关", ["administrator"], switches],
  ["accounts", "账号与密钥", ["administrator"], accounts],
  ["audit", "审计", ["auditor"], audit],
];

const who = await me().catch(() => ({ kind: "anonymous", roles: [] }));
const mine = SECTIONS.filter(([, , roles]) => roles.some((role) => who.roles.includes(role)));

function open() {
  const wanted = location.hash.slice(1);
  const [name, title, , show] = mine.find(([id]) => id === wanted) ?? mine[0];
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${title} - 管理台`;
  tell("");
  busy(null, () => show(title));
}

if (who.kind !== "account" || who.must_change) location.assign("/login?then=/console");
else {
  document.getElementById("who").textContent = who.name;
  const logout = document.getElementById("logout");
  logout.hidden = false;
  logout.addEventListener("click", () => busy(logout, async () => {
    await call("POST", "/v1/logout");
    location.assign("/login");
  }));
  if (mine.length) {
    document.getElementById("nav").replaceChildren(
      make("ul", {}, mine.map(([name, title]) => make("li", {}, make("a", { href: `#${name}` }, title)))),
    );
    window.addEventListener("hashchange", () => {
      open();
      document.getElementById("main").focus({ preventScroll: true });
      scrollTo(0, 0);
    });
    open();
  } else {
    document.getElementById("section").replaceChildren(
      make("h1", {}, "管理台"), make("p", {}, "这个账号没有管理权限。"), make("p", {}, make("a", { href: "/" }, "返回办事大厅")),
    );
  }
}
