// Small charts as SVG, each with the same numbers as a table: bars of names, and lines or columns over days.
import { make, table } from "./page.js";

const SPACE = "http://www.w3.org/2000/svg";

function svg(tag, given = {}, ...children) {
  const found = document.createElementNS(SPACE, tag);
  for (const [name, value] of Object.entries(given)) found.setAttribute(name, value);
  found.append(...children);
  return found;
}

function figure(title, summary, drawing, heads, rows) {
  drawing.setAttribute("role", "img");
  drawing.setAttribute("aria-label", `${title}。${summary}`);
  const details = make("details", {}, make("summary", {}, "看数据表"), table(title, heads, rows));
  return make("figure", {}, make("figcaption", {}, make("strong", {}, title), make("span", { class: "soft small" }, summary)), drawing, details);
}

// A whole number at or above the largest, and what lies between: readable ticks.
function ticks(largest) {
  const step = [1, 2, 5].flatMap((n) => [0, 1, 2, 3, 4, 5, 6].map((power) => n * 10 ** power)).sort((a, b) => a - b).find((n) => n * 4 >= largest) ?? largest;
  const count = Math.max(1, Math.ceil(largest / step));
  return Array.from({ length: count + 1 }, (_, i) => i * step);
}

// entries: [[name, count], …], the largest first.
export function bars(title, summary, heads, entries, shownAtMost = 10) {
  const shown = entries.slice(0, shownAtMost);
  const width = wide();
  const [row, left] = [30, width < 500 ? 110 : 150];
  const largest = Math.max(1, ...shown.map(([, count]) => count));
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${Math.max(1, shown.length) * row + 8}`, class: "chart" });
  shown.forEach(([name, count], i) => {
    const length = Math.max(2, ((width - left - 60) * count) / largest);
    const short = name.length > 7 && width < 500 ? `${name.slice(0, 6)}…` : name.length > 10 ? `${name.slice(0, 9)}…` : name;
    drawing.append(
      svg("text", { x: left - 8, y: i * row + 22, "text-anchor": "end" }, short),
      svg("rect", { x: left, y: i * row + 8, width: length, height: row - 10, rx: 3, class: "s0" }),
      svg("text", { x: left + length + 6, y: i * row + 22 }, String(count)),
    );
  });
  return figure(title, summary, drawing, heads, entries.map(([name, count]) => [name, String(count)]));
}

const [HIGH, LEFT, TOP, RIGHT, BOTTOM] = [230, 52, 30, 12, 28];
export const NARROW = matchMedia("(max-width: 40rem)");

// Of a drawing, about as many units as pixels: letters keep their size on a phone. Draw anew when NARROW changes.
function wide() {
  return NARROW.matches ? 300 : 560;
}

// series: [{name, values: [number | null, …]}]; days: of the values. unit: after the numbers. most: of the axis, where it is known.
export function over(title, summary, days, series, { unit = "", columns = false, most = null } = {}) {
  const WIDE = wide();
  const largest = most ?? Math.max(1, ...series.flatMap((entry) => entry.values.filter((v) => v !== null)));
  const marks = ticks(largest);
  const top = marks[marks.length - 1];
  const x = (i) => LEFT + ((WIDE - LEFT - RIGHT) * (i + 0.5)) / days.length;
  const y = (value) => TOP + (HIGH - TOP - BOTTOM) * (1 - value / top);
  const drawing = svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, class: "chart" });
  for (const mark of marks) {
    drawing.append(svg("line", { x1: LEFT, x2: WIDE - RIGHT, y1: y(mark), y2: y(mark), class: "grid" }), svg("text", { x: LEFT - 6, y: y(mark) + 4, "text-anchor": "end" }, `${mark}${unit}`));
  }
  const every = Math.max(1, Math.ceil(days.length / (WIDE < 500 ? 4 : 6)));
  days.forEach((day, i) => {
    if (i % every === 0) drawing.append(svg("text", { x: x(i), y: HIGH - 8, "text-anchor": "middle" }, day.slice(5).replace("-", "/")));
  });
  const apart = WIDE < 500 ? 80 : 120;
  const slot = (WIDE - LEFT - RIGHT) / days.length;
  series.forEach((entry, s) => {
    drawing.append(svg("rect", { x: LEFT + s * apart, y: 6, width: 12, height: 12, rx: 2, class: `s${s}` }), svg("text", { x: LEFT + s * apart + 18, y: 17 }, entry.name));
    if (columns) {
      const width = Math.max(1, Math.min(18, (slot * 0.8) / series.length));
      entry.values.forEach((value, i) => {
        if (value) drawing.append(svg("rect", { x: x(i) + (s - series.length / 2) * width, y: y(value), width, height: y(0) - y(value), class: `s${s}` }));
      });
      return;
    }
    let path = "";
    entry.values.forEach((value, i) => {
      if (value === null) return;
      path += `${path && entry.values[i - 1] !== null ? "L" : "M"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
      drawing.append(svg("circle", { cx: x(i), cy: y(value), r: days.length > 40 ? 1.5 : 3, class: `s${s}` }));
    });
    drawing.append(svg("path", { d: path || "M0 0", class: `line s${s}` }));
  });
  const rows = days.map((day, i) => [day, ...series.map((entry) => (entry.values[i] === null ? "—" : `${entry.values[i]}${unit}`))]);
  return figure(title, summary, drawing, ["日期", ...series.map((entry) => entry.name)], rows.reverse());
}
