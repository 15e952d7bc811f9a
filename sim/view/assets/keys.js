// Everything by keyboard.

import { useEffect, useRef } from "preact/hooks";
import { closeFork, toDifference } from "view/fork.js";
import { html } from "view/html.js";
import { TABS } from "view/inspector.js";
import { zoom } from "view/lanes.js";
import { toggleTheme } from "view/palette.js";
import { FAMILIES, STATES } from "view/signs.js";
import { activate, app, changed, film, select, selectBack, set, useApp } from "view/store.js";
import { faster, jump, play, step, stepOfNode, toCursor } from "view/time.js";
import { skipTour, startTour, tourStops } from "view/tour.js";

function nextGroup() {
  const { groups } = film();
  set({ group: groups[(groups.indexOf(app.group) + 1) % groups.length] });
}

function escape() {
  if (app.dialog) return set({ dialog: null });
  if (app.tour) return skipTour();
  if (app.selection) return select(null);
  if (app.other) return closeFork();
  return set({ notice: "" });
}

function swap() {
  if (app.other) activate(app.other);
}

/** A tab from its beginning, for the keys to read it by. */
function showTab(name) {
  const panel = document.getElementById("panel");
  if (app.tab === name) panel.scrollTop = 0;
  if (panel.contains(document.activeElement)) panel.focus();
  set({ tab: name });
}

const lanes = () => set({ view: app.view === "map" ? "lanes" : "map" });
const theme = () => { toggleTheme(); changed(); };

/** [keys, what they do in words, what is done; the second for the same key with Shift]. */
const KEYS = [
  ["Time", [
    [" ", "Space", "play, pause", () => play()],
    ["ArrowRight", "→", "one event on; with Shift, of this node", () => step(1), () => stepOfNode(1)],
    ["ArrowLeft", "←", "one event back; with Shift, of this node", () => step(-1), () => stepOfNode(-1)],
    ["+", "+", "faster", () => faster(1), () => faster(1)],
    ["-", "−", "slower", () => faster(-1)],
    ["Home", "Home", "to the beginning", () => toCursor(0)],
    ["End", "End", "to the end", () => toCursor(film().count)],
  ]],
  ["Jumps (with Shift: backwards)", [
    ["f", "f", "next fault", () => jump("fault", 1), () => jump("fault", -1)],
    ["c", "c", "next commit", () => jump("commit", 1), () => jump("commit", -1)],
    ["x", "x", "next finding", () => jump("finding", 1), () => jump("finding", -1)],
    ["r", "r", "next recovery", () => jump("recovery", 1), () => jump("recovery", -1)],
    ["n", "n", "next landmark of any kind", () => jump("landmark", 1), () => jump("landmark", -1)],
    ["d", "d", "first difference of two runs", toDifference],
  ]],
  ["Views", [
    ["l", "l", "lanes or map", lanes],
    ["]", "]", "lanes: closer", () => zoom(0.5)],
    ["[", "[", "lanes: further", () => zoom(2)],
    ["g", "g", "next protection group", nextGroup],
    ["s", "s", "the other of two runs", swap],
    ...TABS.map(([name, label], i) => [String(i + 1), String(i + 1), label.toLowerCase(), () => showTab(name)]),
  ]],
  ["One thing", [
    ["/", "/", "find it by its name", () => document.getElementById("find").focus(), () => document.getElementById("find").focus()],
    ["Backspace", "Backspace", "what was selected before", selectBack],
    ["Escape", "Esc", "select nothing; then one run again", escape],
    ["t", "t", "dark or light; with Shift, the tour", theme, startTour],
    ["?", "?", "these keys", () => set({ dialog: app.dialog ? null : "keys" }), () => set({ dialog: app.dialog ? null : "keys" })],
  ]],
];

const byKey = new Map(KEYS.flatMap(([, rows]) => rows.map((row) => [row[0], row])));

/** What Space presses when the keyboard has gone to it; everywhere else Space plays and pauses. */
const PRESSED = "button, summary, input[type=checkbox], [role=button]";

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { target } = event;
  const writing = target.matches?.("input:not([type=checkbox]), select, textarea");
  if (writing && event.key === "Escape") return target.blur();
  if (writing) return;
  if (event.key === " " && target.matches?.(PRESSED)) return;
  if (event.repeat && tourStops()) return event.preventDefault();
  const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const row = byKey.get(name) ?? (name === "=" ? byKey.get("+") : undefined);
  const act = row?.[event.shiftKey && row[4] ? 4 : 3];
  if (!act || (event.shiftKey && !row[4])) return;
  event.preventDefault();
  if (app.dialog && !["Escape", "?"].includes(event.key)) return;
  act();
}

/** What was pressed by pointer does not keep the keys: Space plays after it, too. */
function letGo(event) {
  if (event.detail > 0) event.target.closest?.(PRESSED)?.blur();
}

export function startKeys() {
  document.addEventListener("keydown", pressed);
  document.addEventListener("click", letGo);
}

export function KeysDialog() {
  useApp();
  const ref = useRef(null);
  const open = app.dialog === "keys";
  useEffect(() => {
    if (open && !ref.current.open) ref.current.showModal();
    if (!open && ref.current.open) ref.current.close();
  }, [open]);
  return html`<dialog ref=${ref} class="keys" aria-label="Keys" onClose=${() => set({ dialog: null })}
      onClick=${(e) => e.target === ref.current && set({ dialog: null })}>
    <div class="keysbody"><header><h2>Keys</h2><button onClick=${() => set({ dialog: null })}>Close</button></header>
    <div class="keygroups">${KEYS.map(([title, rows]) => html`<section key=${title}><h3>${title}</h3>
      <dl>${rows.map(([key, shown, words]) => html`<div key=${key}><dt><kbd>${shown}</kbd></dt><dd>${words}</dd></div>`)}</dl></section>`)}
      <${Legend} /></div></div>
  </dialog>`;
}

function statesBySign() {
  const found = new Map();
  for (const [state, [sign]] of Object.entries(STATES)) found.set(sign, [...(found.get(sign) ?? []), state]);
  return found;
}

function Legend() {
  return html`<section><h3>Signs</h3><dl>
    ${[...statesBySign()].map(([sign, states]) => html`<div key=${sign}><dt>${sign}</dt><dd>${states.join(", ")}</dd></div>`)}
  </dl></section>
  <section><h3>Cells: a commit at a segment</h3><dl>
    ${[["acknowledged", "the writer has heard of it"], ["on-disk", "on disk; the writer has not heard of it"], ["above-a-gap", "on disk above a gap: the SCL stands before it"],
      ["received", "received, not on disk yet"], ["not-there", "not there"], ["lost", "lost or annulled"]].map(
      ([kind, words]) => html`<div key=${kind} class="recent ${kind}"><dt class=${kind}><i></i></dt><dd>${words}</dd></div>`)}
    <div><dt>pale row</dt><dd>all up to the SCL is there</dd></div>
    <div><dt>✓, 3</dt><dd>durable; or how many have acknowledged</dd></div></dl></section>
  <section><h3>The slider</h3><dl>
    ${[["▼ ◇", "a fault; its end, or that all heals"], ["◆ ✕", "a recovery, a finding"], ["⎵", "commits wait from here to there"], ["hatched", "a fault lasts; in violet: in one of two runs"], ["columns", "commits: the taller, the more"],
      ["green line", "all invariants hold"], ["red curve", "how many futures fail, 0 to 100 %"]].map(
      ([sign, words]) => html`<div key=${sign}><dt>${sign}</dt><dd>${words}</dd></div>`)}
  </dl></section>
  <section><h3>Messages</h3><dl>
    ${Object.entries(FAMILIES).map(([kind, [sign, words]]) => html`<div key=${kind}><dt class="ink-${kind}">${sign}</dt><dd>${words}</dd></div>`)}
    <div><dt class="ink-write">small</dt><dd>a heartbeat: the writer is there</dd></div>
    <div><dt>✕</dt><dd>lost on the way</dd></div>
  </dl></section>`;
}
