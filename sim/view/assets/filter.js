// What lanes and lists leave out: by node, kind, page and LSN.

import { html } from "view/html.js";
import { app, set } from "view/store.js";

const CLASSES = [
  ["", "every kind"], ["write", "writes"], ["read", "reads"], ["disk", "disks"], ["gossip", "gossip"],
  ["recovery", "recovery"], ["layer", "layers"], ["fault", "faults"], ["call", "calls"], ["net", "network"],
];

/** What is left, in words; empty if everything is. */
function filterWords({ nodes }) {
  const { node, klass, page, lsn } = app.filter;
  const words = [
    node >= 0 && nodes[node].id, klass && CLASSES.find(([value]) => value === klass)[1],
    page !== null && `page ${page}`, lsn !== null && `LSN ${lsn}`,
  ];
  return words.filter(Boolean).join(", ");
}

/** What the filter leaves, and the way out of it. */
export function ClearFilter({ film }) {
  const words = filterWords(film);
  return words && html`<button class="bad" onClick=${() => change({ node: -1, klass: "", page: null, lsn: null })}
    data-tip="Show every node, kind, page and LSN">only ${words} ✕</button>`;
}

const holds = (range, lsn) => range && range[0] <= lsn && lsn <= range[1];

export function eventPasses(film, n) {
  const { node, klass, page, lsn } = app.filter;
  if (node >= 0 && film.node[n] !== node) {
    const m = film.messages[film.message[n]];
    if (!m || (m.from !== node && m.to !== node)) return false;
  }
  if (klass !== "" && film.classOf(n) !== klass) return false;
  if (page !== null && !film.pages(n).includes(page)) return false;
  return lsn === null || Boolean(holds(film.raw.events.lsns[n], lsn));
}

export function messagePasses(film, index) {
  const { node, klass, page, lsn } = app.filter;
  const m = film.messages[index];
  if (node >= 0 && m.from !== node && m.to !== node) return false;
  if (klass !== "" && klass !== "net" && film.families[index] !== klass) return false;
  if (page !== null && !(m.pages && m.pages.includes(page))) return false;
  return lsn === null || Boolean(holds(m.lsns, lsn));
}

function change(values) {
  set({ filter: { ...app.filter, ...values } });
}

const numberOf = (event) => {
  const { value } = event.target;
  return /^\d+$/.test(value) ? Number(value) : null;
};

export function FilterBar({ run }) {
  const { film } = run;
  const { node, klass, page, lsn } = app.filter;
  const nodes = [...film.writers, ...film.segments, ...film.clients];
  return html`<div class="filters" role="group" aria-label="Filter">
    <select aria-label="Node" value=${String(node)} onChange=${(e) => change({ node: Number(e.target.value) })}>
      <option value="-1">every node</option>
      ${nodes.map((i) => html`<option key=${i} value=${String(i)}>${film.nodes[i].id}</option>`)}
    </select>
    <select aria-label="Kind" value=${klass} onChange=${(e) => change({ klass: e.target.value })}>
      ${CLASSES.map(([value, words]) => html`<option key=${value} value=${value}>${words}</option>`)}
    </select>
    <label>page <input type="number" min="0" value=${page ?? ""} onInput=${(e) => change({ page: numberOf(e) })} /></label>
    <label>LSN <input type="number" min="1" value=${lsn ?? ""} onInput=${(e) => change({ lsn: numberOf(e) })} /></label>
    <${ClearFilter} film=${film} />
  </div>`;
}
