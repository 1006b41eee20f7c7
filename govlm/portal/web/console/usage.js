// 用量: what is asked about, how well it is answered, how often a person is wanted, how long it takes.
import { bars, NARROW, over } from "./charts.js";
import { busy, call, field, make, put, select } from "./page.js";

export async function usage(title) {
  const days = select([["7", "最近7天"], ["30", "最近30天"], ["90", "最近90天"]], { id: "days" });
  days.value = "30";
  const shown = make("div", { class: "charts" });
  let found = null;
  const draw = async () => {
    found = await call("GET", `/v1/admin/usage?days=${days.value}`);
    shown.replaceChildren(...charts(found));
  };
  const again = () => {
    if (!shown.isConnected) NARROW.removeEventListener("change", again);
    else if (found) shown.replaceChildren(...charts(found));
  };
  NARROW.addEventListener("change", again);
  days.addEventListener("change", () => busy(null, draw));
  put(title, make("div", { class: "card narrow" }, field("时间", days)), shown);
  await draw();
}

const sum = (days, name) => days.reduce((all, day) => all + day[name], 0);
const share = (part, whole) => (whole ? Math.round((1000 * part) / whole) / 10 : null);
const told = (part, whole) => (whole ? `${share(part, whole)}%` : "还没有数据");

function charts({ days, business }) {
  const dates = days.map((day) => day.day);
  const [turns, up, down, handoffs, refused] = ["turns", "up", "down", "handoffs", "refused"].map((name) => sum(days, name));
  const late = days.filter((day) => day.p95 !== null);
  const card = (chart) => make("section", { class: "card" }, chart);
  return [
    bars("业务类型", business.length ? `问得最多的是${business[0].name}` : "还没有数据", ["类型", "次数"], business.map((entry) => [entry.name, entry.count])),
    over("提问", `共 ${turns} 次，没有答上来的占 ${told(refused, turns)}`, dates, [
      { name: "提问", values: days.map((day) => day.turns) }, { name: "没有答上来", values: days.map((day) => day.refused) },
    ], { columns: true }),
    over("满意度", `评价 ${up + down} 次，满意的占 ${told(up, up + down)}`, dates, [{ name: "满意", values: days.map((day) => share(day.up, day.up + day.down)) }], { unit: "%", most: 100 }),
    over("转人工", `共 ${handoffs} 次，占提问的 ${told(handoffs, turns)}`, dates, [{ name: "转人工", values: days.map((day) => share(day.handoffs, day.turns)) }], { unit: "%" }),
    over("响应时间", late.length ? `最近一天，95% 的请求在 ${late[late.length - 1].p95} 毫秒以内` : "还没有数据", dates, [
      { name: "一半", values: days.map((day) => day.p50) }, { name: "95%", values: days.map((day) => day.p95) }, { name: "99%", values: days.map((day) => day.p99) },
    ], { unit: "ms" }),
  ].map(card);
}
