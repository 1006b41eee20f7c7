// What the page remembers in the browser; where the browser lets it remember nothing, until it is left. In a frame: for this tab only.

const memory = new Map();

function store() {
  try {
    return location.pathname === "/widget" ? sessionStorage : localStorage;
  } catch {
    return null; // forbidden to frames, for example
  }
}

export function kept(key) {
  return store()?.getItem(key) ?? memory.get(key) ?? "";
}

export function keep(key, value) {
  memory.set(key, value);
  try {
    store()?.setItem(key, value);
  } catch {
    // full
  }
}

export function drop(key) {
  memory.delete(key);
  store()?.removeItem(key);
}
