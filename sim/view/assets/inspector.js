// The inspector: what happens now, the life of the one thing selected, why, and forks.

import { useEffect, useRef } from "preact/hooks";
import { count, moment, plural } from "view/format.js";
import { Fork } from "view/fork.js";
import { html } from "view/html.js";
import { Life } from "view/life.js";
import { ClearFilter, eventPasses } from "view/filter.js";
import { active, app, select, set, useApp } from "view/store.js";
import { toEvent } from "view/time.js";
import { Why } from "view/why.js";

export const TABS = [
  ["now", "Events", "What happens around this moment"],
  ["life", "Life", "The life of the one thing selected"],
  ["why", "Why", "What was found, why, and which invariants hold"],
  ["fork", "Fork", "Take the run from here, with other faults or other chances"],
];

const PANELS = { now: Events, life: Life, why: Why, fork: Fork };

export function Inspector() {
  useApp();
  const body = useRef(null);
  const thing = app.tab === "life" ? `${app.selection?.type} ${app.selection?.id}` : "";
  const key = `${app.tab} ${app.active} ${thing}`;
  useEffect(() => {
    if (app.tab !== "now") body.current.scrollTop = 0;
  }, [key]);
  const turn = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.stopPropagation();
    event.preventDefault();
    const at = TABS.findIndex(([name]) => name === app.tab);
    const next = TABS[(at + by + TABS.length) % TABS.length][0];
    set({ tab: next });
    requestAnimationFrame(() => document.getElementById(`tab-${next}`)?.focus());
  };
  const Panel = PANELS[app.tab];
  return html`<section class="inspector" aria-label="Inspector">
    <div class="tabs" role="tablist" onKeyDown=${turn}>
      ${TABS.map(([name, label, words], i) => html`<button key=${name} role="tab" id="tab-${name}"
        aria-selected=${app.tab === name} aria-controls="panel" tabindex=${app.tab === name ? 0 : -1}
        data-tip="${words} (key: ${i + 1})" onClick=${() => set({ tab: name })}>${label}${badge(name)}</button>`)}
    </div>
    <div class="panel" id="panel" role="tabpanel" tabindex="0" aria-labelledby="tab-${app.tab}" ref=${body}>
      <${Panel} />
    </div>
  </section>`;
}

function badge(name) {
  if (name === "why" && active().film.run.finding) return html` <span class="bad" aria-label="a finding">✕</span>`;
  if (name === "fork" && app.forks.size) return html` <span class="dim">${app.forks.size}</span>`;
  return "";
}

const BEFORE = 40;
const AFTER = 24;

/** Event numbers around the cursor that pass the filter, ascending. */
function around(film, cursor) {
  const found = [];
  for (let n = cursor - 1, left = BEFORE; n >= 0 && left && cursor - n < 50000; n -= 1) {
    if (eventPasses(film, n) && (left -= 1) >= 0) found.unshift(n);
  }
  for (let n = cursor, left = AFTER; n < film.count && left && n - cursor < 50000; n += 1) {
    if (eventPasses(film, n) && (left -= 1) >= 0) found.push(n);
  }
  return found;
}

function Events() {
  const { film, cursor } = active();
  const here = useRef(null);
  useEffect(() => here.current?.scrollIntoView({ block: "center" }), [cursor, app.active, app.filter]);
  const shown = around(film, cursor);
  if (!shown.length) return html`<p class="empty">No event passes the filter. <${ClearFilter} film=${film} /></p>`;
  let at = shown.findLastIndex((n) => n < cursor);
  if (at < 0) at = -1;
  return html`<div class="listhead"><span>after event <b>${count(cursor)}</b> of ${count(film.count)}</span>
      <${ClearFilter} film=${film} /><span class="grow"></span>
      <span class="dim">${plural(film.run.messages, "message")}, ${plural(film.run.commits, "commit")}, ${plural(film.run.calls, "call")}</span></div>
    <ol class="events">${shown.map((n, i) => html`<${Event} key=${n} film=${film} n=${n} current=${i === at} future=${n >= cursor} here=${i === at ? here : null} />`)}</ol>`;
}

function Event({ film, n, current, future, here }) {
  const { class: klass, name, words } = film.kindOf(n);
  const pick = () => {
    toEvent(n);
    select({ type: "event", id: n }, { show: false });
  };
  return html`<li ref=${here} class="${current ? "current" : ""} ${future ? "future" : ""}">
    <button onClick=${pick} aria-current=${current ? "step" : undefined}>
      <span class="when">${moment(film.t[n]).slice(0, -2)}</span>
      <span class="klass ${klass}" data-word=${name} data-tip=${words}></span>
      <span class="who">${film.nodes[film.node[n]]?.id ?? ""}</span>
      <span class="what">${film.line(n)}</span>
    </button></li>`;
}
