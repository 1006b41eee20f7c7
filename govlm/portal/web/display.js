// 适老 mode: large type and high contrast, remembered.

import { $ } from "./dom.js";
import { keep, kept } from "./keep.js";

const KEY = "govlm-elder";

function set(on) {
  document.documentElement.classList.toggle("elder", on);
  $("elder").setAttribute("aria-pressed", String(on));
}

export function begin() {
  set(kept(KEY) === "1");
  $("elder").addEventListener("click", () => {
    const on = !document.documentElement.classList.contains("elder");
    keep(KEY, on ? "1" : "0");
    set(on);
  });
}
