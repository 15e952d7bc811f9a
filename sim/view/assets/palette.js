// All colours, once, for styles and canvases alike. Hues after Okabe and Ito, which colour-blind
// eyes tell apart; each has a shape or a place as well, so colour is never the only sign.

const LIGHT = {
  page: "#eef0f3", panel: "#ffffff", raised: "#f6f7f9", line: "#d3d8df", strong: "#9aa4b0",
  ink: "#171b21", dim: "#55606c", select: "#7b3fc4", halo: "#efe6fb",
  write: "#0063ad", read: "#007a58", disk: "#6a7480", recovery: "#a35f00", gossip: "#a13f82",
  layer: "#4d6b8a", fault: "#bf4400", call: "#3f4954", net: "#7d8792", finding: "#c2112b",
  ok: "#00805e", track: "#e3e7ec", have: "#8dbce3",
};

const DARK = {
  page: "#0e1116", panel: "#171b22", raised: "#1f242d", line: "#323a46", strong: "#5c6775",
  ink: "#e9edf2", dim: "#a3adb9", select: "#c9a2ff", halo: "#332650",
  write: "#64b5f6", read: "#3ccfa4", disk: "#98a3b0", recovery: "#f2b13c", gossip: "#e58ac3",
  layer: "#8fb1d6", fault: "#ff8f52", call: "#c0c8d2", net: "#8b96a3", finding: "#ff6f7d",
  ok: "#35c79b", track: "#282e38", have: "#2f6799",
};

export const colors = { ...LIGHT };

const preferred = window.matchMedia("(prefers-color-scheme: dark)");
const calm = window.matchMedia("(prefers-reduced-motion: reduce)");

export function reducedMotion() {
  return calm.matches;
}

export function stored(key) {
  try {
    return window.localStorage.getItem(`aurora-sim ${key}`);
  } catch {
    return null; // a browser that keeps nothing for a page from a file
  }
}

export function store(key, value) {
  try {
    window.localStorage.setItem(`aurora-sim ${key}`, value);
  } catch {
    // it is asked for again the next time
  }
}

/** What this tab keeps while it is open. */
export function kept(key) {
  try {
    return window.sessionStorage.getItem(`aurora-sim ${key}`);
  } catch {
    return null;
  }
}

export function keep(key, value) {
  try {
    window.sessionStorage.setItem(`aurora-sim ${key}`, value);
  } catch {
    // the page then begins anew
  }
}

export function theme() {
  return document.documentElement.dataset.theme;
}

export function setTheme(name) {
  const root = document.documentElement;
  root.dataset.theme = name;
  root.style.colorScheme = name;
  Object.assign(colors, name === "dark" ? DARK : LIGHT);
  for (const [key, value] of Object.entries(colors)) root.style.setProperty(`--${key}`, value);
}

/** Follow the system until the visitor has chosen; `changed` is called when it switches. */
export function startTheme(changed) {
  const chosen = stored("theme");
  setTheme(chosen ?? (preferred.matches ? "dark" : "light"));
  preferred.addEventListener("change", () => {
    if (stored("theme")) return;
    setTheme(preferred.matches ? "dark" : "light");
    changed();
  });
}

export function toggleTheme() {
  const next = theme() === "dark" ? "light" : "dark";
  store("theme", next);
  setTheme(next);
}
