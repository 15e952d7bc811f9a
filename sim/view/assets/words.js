// Words before symbols: whatever has a data-word or a data-tip says what it is, on hover and focus.

import { OWN_WORDS } from "view/signs.js";

let box = null;
let filmWords = {};
let timer = 0;

export function useWords(words) {
  filmWords = words;
}

export function wordsFor(symbol) {
  return filmWords[symbol] ?? OWN_WORDS[symbol] ?? "";
}

/** The word that is explained, as it is written; null if it is not. */
export function wordNamed(text) {
  const wanted = text.trim().toLowerCase();
  const known = [...Object.keys(filmWords), ...Object.keys(OWN_WORDS)];
  return known.find((each) => each.toLowerCase() === wanted) ?? null;
}

/** Explain each of several symbols, one a line. */
export function wordsForAll(symbols) {
  return symbols.map((each) => `${each}: ${wordsFor(each)}`).join("\n");
}

/** Show words at a place of the window; `title` may be empty. */
export function showTip(x, y, text, title = "") {
  if (!text) return hideTip();
  clearTimeout(timer);
  box.replaceChildren();
  if (title) {
    const strong = document.createElement("strong");
    strong.textContent = title;
    box.append(strong, " ");
  }
  box.append(text);
  box.hidden = false;
  const { width, height } = box.getBoundingClientRect();
  const left = Math.max(6, Math.min(x + 12, window.innerWidth - width - 6));
  const below = y + 18 + height < window.innerHeight;
  box.style.left = `${left}px`;
  box.style.top = `${below ? y + 18 : Math.max(4, y - height - 10)}px`;
}

export function hideTip() {
  clearTimeout(timer);
  if (box) box.hidden = true;
}

function tipOf(target) {
  const owner = target.closest?.("[data-word],[data-tip]");
  if (!owner) return null;
  const word = owner.dataset.word;
  return { owner, title: word ?? "", text: owner.dataset.tip ?? wordsFor(word) };
}

export function startTips() {
  box = document.createElement("div");
  box.id = "tip";
  box.setAttribute("role", "tooltip");
  box.hidden = true;
  document.body.append(box);
  document.addEventListener("pointerover", (event) => {
    if (event.target.tagName === "CANVAS") return;
    const tip = tipOf(event.target);
    hideTip();
    if (!tip) return;
    timer = setTimeout(() => {
      if (tip.owner.isConnected) showTip(event.clientX, event.clientY, tip.text, tip.title);
    }, 250);
  });
  document.addEventListener("focusin", (event) => {
    hideTip();
    const tip = tipOf(event.target);
    if (!tip || !event.target.matches(":focus-visible")) return;
    const place = tip.owner.getBoundingClientRect();
    showTip(place.left, place.bottom - 14, tip.text, tip.title);
  });
  document.addEventListener("pointerdown", hideTip);
  document.addEventListener("keydown", hideTip, true);
}
