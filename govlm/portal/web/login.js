// Login, and the change of a one-time password. Where it leads afterwards: `then`, a path of this site, else what the roles are for.
import { call, me } from "/web/console/page.js";

const byId = (id) => document.getElementById(id);

function problem(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = !text;
}

function leave(roles) {
  const then = new URLSearchParams(location.search).get("then") ?? "";
  const own = /^\/[a-z]*$/.test(then) ? then : "";
  const staff = roles.some((role) => role !== "citizen");
  location.assign(own || (staff ? "/console" : "/"));
}

function change(name, old = "") {
  byId("login").hidden = true;
  byId("change").hidden = false;
  byId("lead").textContent = "这是一次性密码，登录后要换掉";
  byId("account").value = name;
  byId("old").value = old;
  byId(old ? "new" : "old").focus();
}

async function submitting(form, work) {
  const button = form.querySelector("button[type=submit]");
  button.disabled = true;
  problem("");
  try {
    await work();
  } catch (error) {
    problem(error.message);
  } finally {
    button.disabled = false;
  }
}

byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  submitting(event.target, async () => {
    const [name, password] = [byId("name").value, byId("password").value];
    const found = await call("POST", "/v1/login", { name, password, attach: attaching() });
    await me(true);
    if (found.must_change) change(name, password);
    else leave(found.roles);
  });
});

byId("change").addEventListener("submit", (event) => {
  event.preventDefault();
  submitting(event.target, async () => {
    if (byId("new").value !== byId("again").value) throw new Error("两次输入的新密码不一样。");
    await call("POST", "/v1/me/password", { old: byId("old").value, new: byId("new").value });
    leave((await me(true)).roles);
  });
});

// Whether what was begun in this browser shall be the account's: asked where something was. What nobody was asked about stays where it is.
function attaching() {
  return !byId("before").hidden && byId("attach").checked;
}

const who = await me();
const then = new URLSearchParams(location.search).get("then") ?? "";
const provider = () => (byId("oidc-link").href = `/v1/auth/oidc/login?then=${encodeURIComponent(then || "/")}&attach=${attaching()}`);
if (then !== "/console" && then) byId("lead").textContent = "登录后继续";
byId("before").hidden = who.kind !== "visitor" || !localStorage.getItem("govlm-session");
byId("attach").addEventListener("change", provider);
byId("oidc").hidden = !who.oidc;
provider();
if (who.must_change) change(who.name);
