// The map: zones with their segments, the writers and the clients; dots are messages under way.

import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { acknowledged, fateOf, stageOf, upperBound } from "view/film.js";
import { count, lsnRange } from "view/format.js";
import { Dots, hitDot } from "view/dots.js";
import { closeFork } from "view/fork.js";
import { html } from "view/html.js";
import { shownStamp } from "view/canvas.js";
import { stateSign, stateWords } from "view/signs.js";
import { activate, app, nameOf, select, useApp } from "view/store.js";
import { hideTip, showTip, wordsFor } from "view/words.js";

const WINDOW = 48; // LSNs in a card's little log
const CLIENTS = 8; // in a line, unless two maps share a narrow window
const WRITERS = 3;

export function ClusterMap({ run }) {
  useApp(() => shownStamp(run));
  const box = useRef(null);
  const places = useRef({ at: new Map(), stamp: "", told: -1 });
  const shown = writersShown(run);
  const stamp = `${shown.join()}|${app.group}|${app.other}`;
  useLayoutEffect(() => measure(box.current, places.current), [stamp]);
  useEffect(() => {
    const watch = new ResizeObserver(() => measure(box.current, places.current));
    watch.observe(box.current);
    return () => watch.disconnect();
  }, []);
  const dotAt = (event) => {
    const frame = box.current.getBoundingClientRect();
    return hitDot(places.current, event.clientX - frame.left, event.clientY - frame.top);
  };
  const hint = (event) => {
    const message = dotAt(event);
    if (message >= 0) showTip(event.clientX, event.clientY, ...run.film.letter(message));
    else if (places.current.told >= 0) hideTip();
    places.current.told = message;
  };
  const pick = (event) => {
    if (run.name !== app.active) activate(run.name);
    const message = dotAt(event);
    if (message >= 0) {
      event.stopPropagation();
      event.preventDefault();
      select({ type: "message", id: message });
    }
  };
  const side = app.other ? (run.name === app.active ? "active" : "beside") : "";
  return html`<section class="map ${side}" ref=${box} onClickCapture=${pick} onPointerMove=${hint} onPointerLeave=${hideTip}
      aria-label="Map of ${nameOf(run.name)}">
    ${app.other && html`<${RunName} run=${run} />`}
    <${Clients} run=${run} />
    <div class="writers">${shown.map((node) => html`<${Writer} key=${node} run=${run} node=${node} />`)}</div>
    <div class="zones">${zonesOf(run.film).map(
      (zone) => html`<${Zone} key=${zone} run=${run} zone=${zone} />`,
    )}</div>
    <${Dots} run=${run} places=${places.current} />
  </section>`;
}

function RunName({ run }) {
  const fork = app.forks.get(run.name);
  const verdict = run.film.run.verdict;
  return html`<div class="runhead"><button class="runname" onClick=${() => activate(run.name)}
      aria-pressed=${run.name === app.active}>
    <strong>${nameOf(run.name)}</strong>
    <span class="dim" data-tip=${fork?.title}>${fork?.title ?? run.film.run.name}</span>
    <span class=${verdict === "passed" ? "good" : "bad"}>${verdict}</span></button>
    ${fork && html`<button class="icon" onClick=${closeFork} aria-label="Close ${run.name}" data-tip="The run alone again (key: Escape)">✕</button>`}
  </div>`;
}

function measure(box, places) {
  if (!box) return;
  const frame = box.getBoundingClientRect();
  places.at.clear();
  places.stamp = `${frame.width} ${frame.height} ${box.querySelectorAll("[data-node]").length}`;
  for (const card of box.querySelectorAll("[data-node]")) {
    const place = card.getBoundingClientRect();
    const zone = card.closest(".cards")?.getBoundingClientRect();
    places.at.set(Number(card.dataset.node), {
      x: place.left - frame.left + place.width / 2,
      y: place.top - frame.top + place.height / 2,
      w: place.width / 2,
      h: place.height / 2,
      zone: zone && zone.left - frame.left + zone.width / 2,
      row: zone && place.top - zone.top > 4 ? 1 : 0, // 1 is below another card
    });
  }
}

function zonesOf(film) {
  return [...new Set(film.segments.map((i) => film.nodes[i].az))].sort((a, b) => a - b);
}

/** Of many incarnations of the writer: those that do something, and the last before them. */
function writersShown(run) {
  const { writers } = run.film;
  const seen = writers.filter((i) => run.moment.of(i, "state"));
  if (!seen.length) return writers.slice(0, 1);
  const live = seen.filter((i) => run.moment.of(i, "state") !== "down");
  const wanted = new Set(live.slice(-WRITERS));
  for (const each of seen.toReversed()) if (wanted.size < Math.min(WRITERS, 2)) wanted.add(each);
  const selected = app.selection?.type === "node" ? app.selection.id : -1;
  if (seen.includes(selected)) wanted.add(selected);
  return writers.filter((i) => wanted.has(i));
}

const marked = (node) =>
  `${app.marks?.nodes.has(node) ? " marked" : ""}${
    app.selection?.type === "node" && app.selection.id === node ? " selected" : ""
  }`;

const pickNode = (node) => () => select({ type: "node", id: node });

const clientsInLine = () => (app.other ? Math.max(4, Math.min(CLIENTS, Math.floor((window.innerWidth - 300) / 150))) : CLIENTS);

function Clients({ run }) {
  const most = clientsInLine();
  const { film } = run;
  const here = run.cursor > 0 ? film.node[run.cursor - 1] : -1;
  const { clients } = film;
  const chosen = app.selection?.type === "node" ? clients.indexOf(app.selection.id) : -1;
  const first = Math.max(0, Math.floor(chosen / most) * most);
  const shown = clients.slice(first, first + most);
  const next = clients[first + most] ?? clients[0];
  return html`<div class="clients">
    ${shown.map((node) => html`<button key=${node} data-node=${node}
        class="client${marked(node)}${here === node ? " here" : ""}"
        data-tip=${film.nodes[node].words} onClick=${pickNode(node)}>${film.nodes[node].id}</button>`)}
    ${clients.length > most && html`<button class="client" data-tip="Show other clients, from ${film.nodes[next].id} on"
        onClick=${pickNode(next)}>+ ${clients.length - shown.length}</button>`}
  </div>`;
}

function Value({ word, label = word, children }) {
  return html`<span class="value" data-word=${word}><span class="dim">${label}</span> ${children}</span>`;
}

function Writer({ run, node }) {
  const { film, moment } = run;
  const state = moment.of(node, "state") || "not yet";
  const number = (field) => count(moment.of(node, field));
  const waiting = moment.of(node, "waiting") || 0;
  return html`<div class="writer ${state}${marked(node)}" data-node=${node}>
    <button class="head" onClick=${pickNode(node)} aria-label="${film.nodes[node].id}, ${state}, VDL ${number("vdl")}">
      <span class="sign" data-tip=${stateWords(state)}>${stateSign(state)}</span>
      <strong>${film.nodes[node].id}</strong>
      <span class="state">${state}</span>
    </button>
    <div class="facts">
      <${Value} word="VDL"><b>${number("vdl")}</b><//>
      <${Value} word="VCL">${number("vcl")}<//>
      <${Value} word="next LSN" label="next">${number("next_lsn")}<//>
      <${Value} word="waiting">${waiting}<//>
      <${Value} word="epoch">${brief(moment.of(node, "epoch"))}<//>
    </div>
    <${Ring} run=${run} node=${node} />
  </div>`;
}

/** An epoch without its writer's name, which stands beside it anyway. */
const brief = (epoch) => String(epoch || "–").split(" ")[0];

const PARTS = 6;

function part(index, inner, outer) {
  const gap = 0.09;
  const from = (index / PARTS) * 2 * Math.PI - Math.PI / 2 + gap;
  const to = ((index + 1) / PARTS) * 2 * Math.PI - Math.PI / 2 - gap;
  const at = (angle, r) => `${(r * Math.cos(angle)).toFixed(2)} ${(r * Math.sin(angle)).toFixed(2)}`;
  return `M${at(from, outer)}A${outer} ${outer} 0 0 1 ${at(to, outer)}L${at(to, inner)}A${inner} ${inner} 0 0 0 ${at(from, inner)}Z`;
}

const ARCS = Array.from({ length: PARTS }, (_, i) => part(i, 11, 19));

/** The commit that is being acknowledged: a ring of six parts, one for each copy. */
function Ring({ run, node }) {
  const commit = run.film.commitAt(run.cursor);
  if (!commit || commit.writer !== node) return null;
  const acks = acknowledged(commit, run.cursor);
  const fate = fateOf(commit, run.cursor);
  const durable = fate === "durable";
  const id = run.film.commits.indexOf(commit);
  const words = `${lsnRange(commit.first_lsn, commit.lsn)}: ${acks.length} of 6 acknowledged${fate && `, ${fate}`}`;
  return html`<button class="ring ${durable ? "durable" : ""}" data-word="ring" aria-label=${words}
      onClick=${() => select({ type: "commit", id })}>
    <svg viewBox="-20 -20 40 40" width="40" height="40" aria-hidden="true">
      ${ARCS.map((d, i) => html`<path key=${i} d=${d} class=${i < acks.length ? "on" : "off"} />`)}
      <text y="4.5" text-anchor="middle">${{ durable: "✓", annulled: "✕" }[fate] ?? acks.length}</text>
    </svg>
    <span class="ringwords"><span class="dim">${lsnRange(commit.first_lsn, commit.lsn)}</span>
      <span>${acks.length} of 6 ${fate && `· ${fate}`}</span></span>
  </button>`;
}

function Zone({ run, zone }) {
  const { film, moment } = run;
  const nodes = film.segments.filter((i) => film.nodes[i].az === zone);
  const gone = nodes.every((i) => ["down", "lost"].includes(moment.of(i, "state")));
  const size = nodes.length > 4 ? "tight" : nodes.length > 2 ? "snug" : "roomy";
  return html`<div class="zone ${size}${gone ? " gone" : ""}">
    <div class="zonename" data-word="AZ">AZ${zone}${gone ? html` <span class="bad">○ down</span>` : ""}</div>
    <div class="cards">${nodes.map((node) => html`<${Segment} key=${node} run=${run} node=${node} size=${size} />`)}</div>
  </div>`;
}

function Segment({ run, node, size }) {
  const { film, moment } = run;
  const state = moment.of(node, "state") || "not yet";
  const scl = moment.of(node, "scl") || 0;
  const gap = moment.of(node, "gap");
  const received = Math.max(moment.of(node, "received") || 0, scl);
  const words = `${film.nodes[node].id}, ${state}, SCL ${scl}${gap ? `, gap ${gap}` : ""}`;
  return html`<div class="segment ${state}${marked(node)}" data-node=${node}>
    <button class="head" onClick=${pickNode(node)} aria-label=${words}>
      <span class="sign" data-tip=${stateWords(state)}>${stateSign(state)}</span>
      <strong>${film.nodes[node].id}</strong>
      <span class="state">${size === "tight" ? "" : state}</span>
    </button>
    <div class="scl"><${Value} word="SCL" label=${size === "roomy" || scl < 1e4 ? "SCL" : ""}><b class=${scl < 1e4 ? "" : "long"}>${count(scl)}</b><//>
      ${size !== "tight" && (gap || size === "roomy") ? html` <span class="gap" data-tip=${gap ? `gap ${gap}\n${wordsFor("gap")}` : undefined}>${gap && html`<span class="dim">gap </span>${gap.replace("LSN ", "")}`}</span>` : ""}</div>
    <${LittleLog} run=${run} scl=${scl} received=${received} />
    ${size === "roomy" && html`<div class="facts">
      <${Value} word="epoch">${brief(moment.of(node, "epoch"))}<//>
      <${Value} word="table">${brief(moment.of(node, "table_epoch"))}<//>
      <${Value} word="starts">${moment.of(node, "starts") || 0}<//>
    </div>`}
    <${Recent} run=${run} node=${node} />
  </div>`;
}

const LOG_WORDS = "The newest part of its log: filled up to the SCL, pale up to what was received; the tick is the VDL.";
/** How many commits a card may have room for, by the window's height. */
const roomFor = (groups) => Math.max(2, Math.min(20, Math.floor((window.innerHeight - 640) / 20 / groups)));

/** The one that a finding speaks of, the newest commits, newest first, and how far this segment is with each; as many as there is room for. */
function Recent({ run, node }) {
  const { film, cursor } = run;
  const most = roomFor(film.groups.length);
  const mine = (commit) => film.groups.length === 1 || commit.pg === film.nodes[node].group;
  const accused = film.accusedAt(cursor);
  const rows = accused && mine(accused) ? [accused] : [];
  for (let i = upperBound(film.allocated, cursor - 1) - 1; i >= 0 && rows.length < most; i -= 1) {
    const commit = film.commits[i];
    if (commit !== accused && mine(commit) && (commit.annulled < 0 || commit.annulled >= cursor)) rows.push(commit);
  }
  return html`<ol class="recent" aria-hidden="true">${rows.map((commit) => {
    const words = stageOf(commit, node, cursor, run.moment.of(node, "state"));
    return html`<li key=${commit.lsn} class=${words.replaceAll(" ", "-")} data-tip="Commit ${lsnRange(commit.first_lsn, commit.lsn)}: ${words} at ${film.nodes[node].id}">
      <i></i>${count(commit.lsn)}</li>`;
  })}</ol>`;
}

/** The last LSNs as a bar: filled up to the SCL, outlined to what was received, a tick at the VDL. */
function LittleLog({ run, scl, received }) {
  const { film, moment } = run;
  const newest = film.newestAt(run.cursor);
  const vdl = Math.max(0, ...film.writers.map((writer) => moment.of(writer, "vdl") || 0));
  const end = newest ? film.axis.columnOf(newest) + 1 : 0;
  const from = Math.max(0, end - WINDOW);
  const range = Math.max(end - from, 8);
  const column = (lsn) => (lsn ? film.axis.columnOf(lsn) + 1 : 0);
  const at = (lsn) => Math.max(0, Math.min(1, (column(lsn) - from) / range)) * 100;
  return html`<svg class="littlelog" data-tip=${LOG_WORDS} viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
    <rect class="track" width="100" height="8" />
    <rect class="received" x=${at(scl)} width=${Math.max(at(received) - at(scl), 0)} height="8" />
    <rect class="have" width=${at(scl)} height="8" />
    <rect class="vdl" x=${Math.min(at(vdl), 98.8)} width="1.2" height="8" />
  </svg>`;
}
