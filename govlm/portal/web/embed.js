// The page within another portal's page (widget.js): it takes little room there, asks for more when a form stands beside the talk, and closes by Esc.

import { $ } from "./dom.js";

export const framed = location.pathname === "/widget";
let host = ""; // the origin of the page around, as its first message says; which pages these can be is for frame-ancestors to say

export function tell(message) {
  if (framed && host) parent.postMessage({ govlm: message }, host);
}

export function begin() {
  if (!framed) return;
  document.documentElement.classList.add("embed");
  addEventListener("message", (event) => {
    if (event.source !== parent || event.data?.govlm !== "open") return;
    host = event.origin;
    tell(document.body.classList.contains("beside") ? "wide" : "narrow");
    $("message").focus();
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !$("dialog").open) tell("close");
  });
}
