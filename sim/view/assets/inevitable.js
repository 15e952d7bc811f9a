// When did it become inevitable? The run is kept up to a moment, all later chances are drawn anew,
// again and again: the share of failures over that moment.

import { briefMoment, count, plural } from "view/format.js";
import { html } from "view/html.js";
import { colors } from "view/palette.js";
import { app, film, notice } from "view/store.js";
import { askFuture, stopFuture } from "view/server.js";
import { toTime } from "view/time.js";

const FUTURES = 20;

const points = () => (app.future?.points ?? []).filter((each) => each.of > 0).toSorted((a, b) => a.t - b.t);

/** Draw the share of failures over the slider: x(ns) gives the place, between `top` and `bottom`. */
export function curve(context, x, top, bottom, spots) {
  const shown = points();
  if (!shown.length || app.active !== "main") return;
  const y = (each) => bottom - (each.failed / each.of) * (bottom - top);
  level(context, x(film().endNs), top);
  context.strokeStyle = colors.finding;
  context.lineWidth = 2;
  context.beginPath();
  shown.forEach((each, i) => (i ? context.lineTo(x(each.t), y(each)) : context.moveTo(x(each.t), y(each))));
  context.stroke();
  for (const each of shown) {
    context.fillStyle = colors.panel;
    context.beginPath();
    context.arc(x(each.t), y(each), 3, 0, 7);
    context.fill();
    context.lineWidth = 1.5;
    context.stroke();
    spots.unshift({ timed: true, x: x(each.t) - 5, w: 10, y: y(each) - 5, h: 10, text: pointWords(each) });
  }
  const safe = app.future.last_safe_ns;
  if (safe === null || safe === undefined) return;
  context.setLineDash([3, 3]);
  context.strokeStyle = colors.ok;
  context.beginPath();
  context.moveTo(x(safe), top);
  context.lineTo(x(safe), bottom);
  context.stroke();
  context.setLineDash([]);
  spots.unshift({ flag: true, timed: true, ns: safe, x: x(safe) - 4, w: 8, y: top, h: 14, text: `The last moment from which most futures still pass: ${briefMoment(safe)}.` });
}

/** Where all futures fail: what the curve's height is measured by. */
function level(context, right, y) {
  context.strokeStyle = colors.strong;
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(0, y);
  context.lineTo(right, y);
  context.stroke();
  const words = "100 % of futures fail";
  const wide = context.measureText(words).width;
  context.fillStyle = colors.panel;
  context.fillRect(right - wide - 16, y + 1, wide + 4, 11);
  context.fillStyle = colors.finding;
  context.fillText(words, right - wide - 14, y + 10);
}

const percent = (share) => `${Math.round(share * 100)} %`;

const pointWords = (each) =>
  `With chances drawn anew from ${briefMoment(each.t)}, ${count(each.failed)} of ${plural(each.of, "future")} fail${each.low === undefined ? "" : `; 95 % interval of all futures: ${percent(each.low)} to ${percent(each.high)}`}.`;

export function Inevitable() {
  const shown = points();
  const state = app.future?.state;
  const ask = () => askFuture(FUTURES).catch((error) => {
    app.future = null;
    notice(error.message);
  });
  const stop = () => stopFuture().catch((error) => notice(error.message));
  const safe = app.future?.last_safe_ns;
  return html`<h3>When did it become inevitable?</h3>
    <p class="dim">Keep the run up to a moment, draw all later chances anew, ${FUTURES} times: how many fail?</p>
    ${app.server
      ? html`<p><button class="primary" disabled=${state === "running"} onClick=${ask}>${state === "running" ? "Running futures…" : shown.length ? "Ask again" : "Find out"}</button>
        ${state === "running" && html` <button onClick=${stop}>Stop</button> <span class="dim">${progress(shown)}</span>`}</p>`
      : html`<p><button disabled>Find out</button> <span class="dim">needs a server; type:</span></p><pre class="command">${command()}</pre>`}
    ${state === "stopped" && html`<p class="dim">Stopped: ${progress(shown)}.</p>`}
    ${app.future?.error && html`<p class="bad">${app.future.error}</p>`}
    ${safe !== null && safe !== undefined && html`<p>Most futures still pass from
      ${" "}<button class="link" onClick=${() => toTime(safe)}>${briefMoment(safe)}</button>; it is the last such moment.</p>`}
    ${shown.length > 0 && html`<${Plot} shown=${shown} />`}
    ${app.future?.words?.map((each) => html`<p key=${each}>${each.split("`").map((part, i) => (i % 2 ? html`<code key=${i}>${part}</code>` : part))}</p>`)}
    ${app.server && app.future?.command && html`<pre class="command">${app.future.command}</pre>`}`;
}

/** How far a search is: what is left is told only where it is known. */
function progress(shown) {
  const { runs, most_runs: most } = app.future;
  const done = plural(shown.length, "moment");
  return runs === undefined ? done : `${count(runs)} of at most ${plural(most, "run")}, ${done}`;
}

function command() {
  const { run } = film();
  return run.inevitable_command ?? run.command.replace(/ (run|view) /, " inevitable ");
}

function Plot({ shown }) {
  const end = film().endNs;
  const y = (share) => 8 + (1 - share) * 70;
  const at = (each) => [40 + (each.t / end) * 400, y(each.failed / each.of)];
  const sure = (each) => each.low !== undefined && each.high !== undefined;
  const line = shown.map((each) => at(each).map((v) => v.toFixed(1)).join(",")).join(" ");
  return html`<svg class="plot" viewBox="0 0 460 104" role="img" aria-label="Share of failing futures over the moment">
    ${[0, 0.5, 1].map((share) => html`<g key=${share}><line x1="40" x2="440" y1=${78 - share * 70} y2=${78 - share * 70} />
      <text x="34" y=${81 - share * 70} text-anchor="end">${share * 100} %</text></g>`)}
    ${shown.filter(sure).map((each) => html`<line key=${`b${each.t}`} class="sure" x1=${at(each)[0]} x2=${at(each)[0]} y1=${y(each.low)} y2=${y(each.high)} />`)}
    <polyline points=${line} />
    ${shown.map((each) => html`<circle key=${each.t} cx=${at(each)[0]} cy=${at(each)[1]} r="4" tabindex="0" role="button"
      aria-label=${pointWords(each)} data-tip=${pointWords(each)} onClick=${() => toTime(each.t)}
      onKeyDown=${(e) => ["Enter", " "].includes(e.key) && toTime(each.t)} />`)}
    <text x="40" y="98">0 s</text><text x="440" y="98" text-anchor="end">${briefMoment(end)}</text>
  </svg>`;
}
