// Lanes: a space-time diagram. Time from left to right, one lane a node, messages as arrows, syncs
// as ticks; zoomed by the wheel, moved by dragging, filtered by node, kind, page or LSN.

import { useEffect, useRef } from "preact/hooks";
import { SMALL, cross, hatch, useCanvas } from "view/canvas.js";
import { briefMoment, tickLabel, tickStep } from "view/format.js";
import { html } from "view/html.js";
import { FilterBar, eventPasses, messagePasses } from "view/filter.js";
import { colors } from "view/palette.js";
import { family } from "view/signs.js";
import { activate, active, app, changed, endNs, nameOf, select, set, useApp } from "view/store.js";
import { toEvent, toTime } from "view/time.js";
import { hideTip, showTip } from "view/words.js";

const LEFT = 76;
const TOP = 18;
const LEAST = 22; // a lane's height
const MOST_ARROWS = 1500;
const MOST_TICKS = 4000;
const CLOSEST_NS = 5e4;

export function Lanes({ run }) {
  useApp();
  const view = useRef({ drag: null, moved: false, spots: [] });
  const lanes = laneNodes(run.film);
  const ref = useCanvas({
    paint: (context, width, height) => paint(context, width, height, run, lanes, view.current),
    stamp: () => arranged(run, view.current),
    over: (context, width, height) => moment(context, width, height),
    moving: () => app.t,
  });
  useEffect(() => {
    if (!app.lanes) set({ lanes: around(app.t) });
  }, []);
  const x = (event) => event.clientX - ref.current.getBoundingClientRect().left;
  const wheel = (event) => {
    if (event.shiftKey) return;
    event.preventDefault();
    zoom(Math.sign(event.deltaY) > 0 ? 1.3 : 1 / 1.3, timeAt(ref.current, x(event)));
  };
  const down = (event) => {
    view.current.drag = { x: event.clientX, lanes: [...app.lanes] };
    view.current.moved = false;
    ref.current.setPointerCapture(event.pointerId);
  };
  const move = (event) => {
    const { drag } = view.current;
    if (!drag) return hint(view.current, event, ref.current, lanes);
    const by = ((event.clientX - drag.x) / (ref.current.clientWidth - LEFT)) * (drag.lanes[1] - drag.lanes[0]);
    if (Math.abs(event.clientX - drag.x) > 3) view.current.moved = true;
    if (view.current.moved) show(drag.lanes[0] - by, drag.lanes[1] - by);
    return undefined;
  };
  const up = (event) => {
    view.current.drag = null;
    if (!view.current.moved) pick(view.current, event, ref.current, lanes);
  };
  const rows = lanes.length + 1;
  return html`<section class="lanes" aria-label="Lanes of ${run.name}">
    <div class="lanebar">${app.other && html`<b data-tip="The other run: key s">${nameOf(run.name)}</b>
      <button onClick=${() => activate(app.other)} data-tip="Lanes show one run at a time (key: s)">show ${nameOf(app.other)}</button>`}<${FilterBar} run=${run} />
      <span class="grow"></span>
      <button onClick=${() => zoom(0.5)} data-tip="Closer (key: ])" aria-label="Zoom in">+</button>
      <button onClick=${() => zoom(2)} data-tip="Further (key: [)" aria-label="Zoom out">−</button>
      <button onClick=${() => zoom(1e9)} data-tip="From the beginning to the end">whole run</button>
    </div>
    <div class="lanescroll">
      <canvas ref=${ref} height=${rows * LEAST + TOP} onWheel=${wheel} onPointerDown=${down} onPointerMove=${move} onPointerUp=${up}
        onPointerLeave=${hideTip} role="img" aria-label="Space-time diagram from ${briefMoment(app.lanes?.[0] ?? 0)} to ${briefMoment(app.lanes?.[1] ?? endNs())}"></canvas>
    </div>
  </section>`;
}

/** The first window: what a visitor can take in, around the moment. */
function around(ns) {
  const wide = Math.min(endNs(), Math.max(endNs() / 400, 4e6));
  const from = Math.max(0, Math.min(ns - wide / 2, rightmost() - wide));
  return [from, from + wide];
}

/** As far right as one can go: a little past the end, so that what happens there can be seen. */
const rightmost = () => endNs() * 1.015;

function show(from, to) {
  const wide = Math.min(to - from, rightmost());
  const start = Math.max(0, Math.min(from, rightmost() - wide));
  set({ lanes: [start, start + wide] });
}

/** Show the lanes from one moment to another, with a little before and after. */
export function showLanes(from, to) {
  const around = Math.max((to - from) * 0.08, CLOSEST_NS);
  set({ view: "lanes" });
  show(Math.max(0, from - around), to + around);
}

export function zoom(factor, at = app.t) {
  const [from, to] = app.lanes ?? around(app.t);
  const wide = Math.max(CLOSEST_NS, Math.min((to - from) * factor, rightmost()));
  const share = Math.max(0, Math.min(1, (at - from) / (to - from)));
  show(at - share * wide, at + (1 - share) * wide);
}

function timeAt(canvas, x) {
  const [from, to] = app.lanes;
  return from + ((x - LEFT) / (canvas.clientWidth - LEFT)) * (to - from);
}

function laneNodes(film) {
  const others = film.nodes.map((_, i) => i).filter((i) => film.nodes[i].kind === "schedule");
  const used = (i) => film.nodeEvents[i].length > 0;
  return [...film.clients.filter(used), ...film.writers.filter(used), ...film.segments, ...others.filter(used)];
}

/** Keep the moment in the window while it plays or is stepped. */
function follow(view) {
  if (!app.lanes) return;
  const [from, to] = app.lanes;
  const stamp = app.t;
  if (view.stamp !== undefined && view.stamp !== stamp && (app.t < from || app.t > to - (to - from) * 0.04)) {
    const wide = to - from;
    const start = Math.max(0, Math.min(app.t - wide * (app.t < from ? 0.7 : 0.3), rightmost() - wide));
    app.lanes = [start, start + wide];
  }
  view.stamp = stamp;
}

/** Decide which window is shown, before anything is drawn; what is drawn depends on. */
function arranged(run, view) {
  follow(view);
  const { node, klass, page, lsn } = app.filter;
  return `${run.name} ${app.lanes} ${app.selection?.type} ${app.selection?.id} ${node} ${klass} ${page} ${lsn}`;
}

function paint(context, width, height, run, lanes, view) {
  if (!app.lanes) return;
  const [from, to] = app.lanes;
  const { film } = run;
  view.spots = [];
  const row = Math.max((height - TOP - 4) / (lanes.length + 1), 12);
  const y = new Map(lanes.map((node, i) => [node, TOP + (i + 0.5) * row]));
  const x = (ns) => LEFT + ((ns - from) / (to - from)) * (width - LEFT);
  context.font = SMALL;
  time(context, x, from, to, height);
  rails(context, film, lanes, y, row, width, x);
  context.save();
  context.beginPath();
  context.rect(LEFT, 0, width - LEFT, height);
  context.clip();
  const crowded = arrows(context, film, y, x, from, to, view);
  ticks(context, film, y, x, from, to, row, view, crowded);
  invariantLane(context, film, TOP + (lanes.length + 0.5) * row, x, view);
  context.restore();
  context.fillStyle = colors.dim;
  context.textAlign = "right";
  context.fillText("invariants", LEFT - 8, TOP + (lanes.length + 0.5) * row + 3.5);
  context.textAlign = "left";
}

function time(context, x, from, to, height) {
  const step = tickStep(to - from, 7);
  context.strokeStyle = colors.track;
  context.fillStyle = colors.dim;
  context.lineWidth = 1;
  for (let ns = Math.ceil(from / step) * step; ns <= to; ns += step) {
    const at = Math.round(x(ns)) + 0.5;
    context.beginPath();
    context.moveTo(at, TOP - 4);
    context.lineTo(at, height);
    context.stroke();
    context.fillText(tickLabel(ns, step), at + 3, 11);
  }
}

function rails(context, film, lanes, y, row, width, x) {
  for (const node of lanes) {
    const at = y.get(node);
    const mine = app.marks?.nodes.has(node) || app.filter.node === node;
    context.strokeStyle = mine ? colors.select : colors.line;
    context.lineWidth = mine ? 1.5 : 1;
    context.beginPath();
    context.moveTo(LEFT, at);
    context.lineTo(width, at);
    context.stroke();
    context.fillStyle = mine ? colors.select : colors.ink;
    context.textAlign = "right";
    context.fillText(film.nodes[node].id, LEFT - 8, at + 3.5);
  }
  context.textAlign = "left";
  for (const each of film.episodes) {
    for (const node of each.nodes) {
      if (!y.has(node)) continue;
      const [left, right] = [Math.max(x(each.from_ns), LEFT), Math.min(x(each.to_ns), width)];
      hatch(context, left, y.get(node) - row * 0.32, right - left, row * 0.64, colors.fault, 6);
    }
  }
}

function arrows(context, film, y, x, from, to, view) {
  const found = film.underWay(from, to, Infinity).filter((m) => messagePasses(film, m));
  const crowded = found.length > MOST_ARROWS;
  const every = crowded ? Math.ceil(found.length / MOST_ARROWS) : 1;
  for (let i = 0; i < found.length; i += every) {
    const m = found[i];
    const message = film.messages[m];
    const [a, b] = [y.get(message.from), y.get(message.to)];
    if (a === undefined || b === undefined) continue;
    const mine = app.marks?.messages.has(m);
    const color = mine ? colors.select : colors[family(message.type)];
    context.globalAlpha = mine ? 1 : message.type === "Heartbeat" ? 0.2 : crowded ? 0.25 : app.marks?.messages.size ? 0.3 : 0.75;
    context.strokeStyle = color;
    context.lineWidth = mine ? 2 : 1;
    const ends = message.arrived.length ? message.arrived : [message.lost ? null : film.endNs];
    for (const arrival of ends) arrow(context, x, a, b, message, arrival, film, view, m, color);
  }
  context.globalAlpha = 1;
  if (app.marks) for (const m of found) if (app.marks.messages.has(m) && every > 1) lit(context, film, y, x, m);
  return crowded;
}

function lit(context, film, y, x, m) {
  const message = film.messages[m];
  if (!message.arrived.length) return;
  context.strokeStyle = colors.select;
  context.lineWidth = 2;
  context.beginPath();
  context.moveTo(x(message.sent_ns), y.get(message.from));
  context.lineTo(x(message.arrived[0]), y.get(message.to));
  context.stroke();
}

function arrow(context, x, a, b, message, arrival, film, view, m, color) {
  const x0 = x(message.sent_ns);
  const lost = arrival === null;
  const x1 = lost ? x(message.sent_ns + film.tripNs) : x(arrival);
  const [ex, ey] = lost ? [x0 + (x1 - x0) * 0.45, a + (b - a) * 0.45] : [x1, b];
  context.setLineDash(lost ? [3, 3] : []);
  context.beginPath();
  context.moveTo(x0, a);
  context.lineTo(ex, ey);
  context.stroke();
  context.setLineDash([]);
  if (lost) cross(context, ex, ey, 3.5, colors.fault);
  else {
    const angle = Math.atan2(ey - a, ex - x0);
    context.fillStyle = color;
    context.beginPath();
    context.moveTo(ex, ey);
    context.lineTo(ex - 6 * Math.cos(angle - 0.4), ey - 6 * Math.sin(angle - 0.4));
    context.lineTo(ex - 6 * Math.cos(angle + 0.4), ey - 6 * Math.sin(angle + 0.4));
    context.fill();
  }
  view.spots.push({ line: [x0, a, ex, ey], m });
}

function ticks(context, film, y, x, from, to, row, view, crowded) {
  const [start, stop] = [film.cursorAt(from - 1), film.cursorAt(to)];
  const marks = new Set(app.marks?.events ?? []);
  const every = Math.max(1, Math.ceil((stop - start) / MOST_TICKS));
  for (let n = start; n < stop; n += every) {
    const at = y.get(film.node[n]);
    if (at === undefined || !eventPasses(film, n)) continue;
    tick(context, film, n, x(film.t[n]), at, row, marks.has(n), crowded);
    if (stop - start <= MOST_TICKS) view.spots.push({ at: [x(film.t[n]), at], n });
  }
  if (every > 1) for (const n of marks) if (n >= start && n < stop && y.has(film.node[n])) tick(context, film, n, x(film.t[n]), y.get(film.node[n]), row, true, false);
}

function tick(context, film, n, at, y, row, mine, crowded) {
  const { class: klass, name } = film.kindOf(n);
  context.fillStyle = mine ? colors.select : colors[klass] ?? colors.dim;
  if (klass === "finding") return cross(context, at, y, 5, colors.finding);
  if (klass === "fault") {
    context.fillRect(at - 1, y - row * 0.4, 2, row * 0.8);
    return undefined;
  }
  if (klass === "net" && !mine) return undefined; // arrows say so
  const tall = klass === "disk" ? Math.min(row * 0.36, 8) : 3;
  if (/Synced/.test(name)) context.fillRect(at - 1, y - tall, mine ? 3 : 2, tall * 2);
  else if (crowded && !mine) {
    context.globalAlpha = 0.5;
    context.fillRect(at - 0.5, y - 2, 1, 4);
    context.globalAlpha = 1;
  } else {
    context.beginPath();
    context.arc(at, y, mine ? 4 : 2.2, 0, 7);
    context.fill();
  }
  return undefined;
}

function invariantLane(context, film, y, x, view) {
  const broken = film.invariants.filter((each) => each.broken_at !== null && each.broken_at !== undefined);
  const first = Math.min(film.endNs, ...broken.map((each) => film.t[each.broken_at] ?? film.endNs));
  context.fillStyle = colors.ok;
  context.fillRect(Math.max(x(0), LEFT), y - 3, x(first) - Math.max(x(0), LEFT), 6);
  if (!broken.length) return;
  cross(context, x(first), y, 6, colors.finding);
  context.fillStyle = colors.finding;
  context.fillText(broken[0].name, x(first) - context.measureText(broken[0].name).width - 12, y - 6);
  view.spots.push({ at: [x(first), y], n: broken[0].broken_at });
}

function moment(context, width, height) {
  if (!app.lanes) return;
  const [from, to] = app.lanes;
  const x = LEFT + ((app.t - from) / (to - from)) * (width - LEFT);
  if (x < LEFT) return;
  context.strokeStyle = colors.ink;
  context.lineWidth = 1.5;
  context.beginPath();
  context.moveTo(x, 0);
  context.lineTo(x, height);
  context.stroke();
}

const REACH = 7;

function nearest(view, px, py) {
  let best = null;
  let least = REACH;
  for (const spot of view.spots) {
    const away = spot.at ? Math.hypot(spot.at[0] - px, spot.at[1] - py) - 2 : toLine(spot.line, px, py);
    if (away < least) [best, least] = [spot, away];
  }
  return best;
}

function toLine([x0, y0, x1, y1], px, py) {
  const [dx, dy] = [x1 - x0, y1 - y0];
  const share = Math.max(0, Math.min(1, ((px - x0) * dx + (py - y0) * dy) / (dx * dx + dy * dy || 1)));
  return Math.hypot(x0 + share * dx - px, y0 + share * dy - py);
}

/** The node whose lane is at this height. */
function laneAt(lanes, box, py) {
  const row = Math.max((box.height - TOP - 4) / (lanes.length + 1), 12);
  return lanes[Math.floor((py - TOP) / row)];
}

function pick(view, event, canvas, lanes) {
  const box = canvas.getBoundingClientRect();
  const [px, py] = [event.clientX - box.left, event.clientY - box.top];
  if (px < LEFT) {
    const node = laneAt(lanes, box, py);
    if (node !== undefined) select({ type: "node", id: node });
    return;
  }
  const spot = nearest(view, px, py);
  if (!spot) toTime(timeAt(canvas, px));
  else if (spot.m !== undefined) select({ type: "message", id: spot.m });
  else {
    toEvent(spot.n);
    select({ type: "event", id: spot.n });
  }
  changed();
}

function hint(view, event, canvas, lanes) {
  const box = canvas.getBoundingClientRect();
  const [px, py] = [event.clientX - box.left, event.clientY - box.top];
  const { film } = active();
  if (px < LEFT) {
    const node = film.nodes[laneAt(lanes, box, py)];
    return node ? showTip(event.clientX, event.clientY, node.words, node.id) : hideTip();
  }
  const spot = nearest(view, px, py);
  if (!spot) return hideTip();
  if (spot.n !== undefined) return showTip(event.clientX, event.clientY, film.text(spot.n), film.kindOf(spot.n).name);
  return showTip(event.clientX, event.clientY, ...film.letter(spot.m));
}
