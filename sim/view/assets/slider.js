// The slider is a map of the run: faults as spans, commits as density, recoveries, findings, the
// invariants as a line that is green until it is not, and over it how inevitable the end was. Of two
// runs each has commits and invariants of its own; a fault that only one of them has says whose it is.

import { useRef } from "preact/hooks";
import { SMALL, cross, fitted, hatch, useCanvas } from "view/canvas.js";
import { briefMoment, moment, plural, span, tickLabel, tickStep } from "view/format.js";
import { html } from "view/html.js";
import { curve } from "view/inevitable.js";
import { colors } from "view/palette.js";
import { active, app, endNs, film, nameOf, runsShown, set, useApp } from "view/store.js";
import { parting, toEvent, toParting, toTime } from "view/time.js";
import { hideTip, showTip } from "view/words.js";

const SIDE = 14;
const FLAGS = 20; // the row of landmarks
const FAULTS = 22; // where spans begin
const SPAN = 11;
const ROWS = 2; // of spans with their names
const THIN = 4; // of thin ones below, where there are more at a time
const DENSITY = 24;
const INVARIANTS = 5;
const BAND = 15; // commits and invariants of one of two runs
const NAMES = 44; // for which run it is

const left = () => SIDE + (app.other ? NAMES : 0);

export function Slider() {
  useApp();
  const view = useRef({ drag: false, spots: [], bins: new WeakMap() });
  const ref = useCanvas({
    paint: (context, width, height) => paint(context, width, height, view.current),
    stamp: () => `${app.active} ${app.other} ${app.selection?.type} ${app.selection?.id} ${app.future?.points?.length} ${app.future?.last_safe_ns} ${[...app.forks.values()].map((each) => each.state)}`,
    over,
    moving: () => app.t,
  });
  const place = (event) => {
    const box = ref.current.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top, box.width];
  };
  const scrub = (event) => {
    const [x, , width] = place(event);
    toTime(scale(width).ns(x));
  };
  const down = (event) => {
    set({ playing: false, notice: "" });
    const [x, y] = place(event);
    const flag = view.current.spots.find((each) => each.flag && inside(each, x, y));
    if (flag?.parting) return toParting(app.other);
    if (flag) return flag.ns === undefined ? toEvent(flag.event) : toTime(flag.ns);
    ref.current.setPointerCapture(event.pointerId);
    view.current.drag = true;
    return scrub(event);
  };
  const move = (event) => {
    if (view.current.drag) return scrub(event);
    const [x, y, width] = place(event);
    return hint(view.current, event, x, y, width);
  };
  const up = () => (view.current.drag = false);
  const { cursor } = active();
  return html`<div class="slider" role="slider" tabindex="0" id="slider" aria-label="Time"
      aria-valuemin="0" aria-valuemax=${film().count} aria-valuenow=${cursor}
      aria-valuetext="${moment(app.t)}, after event ${cursor} of ${film().count}">
    <canvas ref=${ref} onPointerDown=${down} onPointerMove=${move} onPointerUp=${up}
      onPointerCancel=${up} onPointerLeave=${hideTip} aria-hidden="true"></canvas>
  </div>`;
}

/** When the last commit, landmark or answer was: gossip and heartbeats go on for ever. */
function lastHappening({ t, durables, landmarks, calls }) {
  let last = durables.length ? t[durables.at(-1).durable] : 0;
  for (const each of landmarks) last = Math.max(last, each.t);
  for (const each of calls) last = Math.max(last, each.returned_ns ?? each.invoked_ns);
  return last;
}

/** Time and place on the slider. When a long quiet end follows what happened, it is drawn narrower,
 * behind a break. */
function scale(width) {
  const end = endNs();
  const busy = Math.min(lastHappening(film()) * 1.06, end);
  const from = left();
  const whole = width - from - SIDE;
  if (busy > 0.6 * end) {
    return { x: (ns) => from + (ns / end) * whole, ns: (x) => ((x - from) / whole) * end, busy: end };
  }
  const near = whole * 0.88;
  return {
    x: (ns) => from + (ns <= busy ? (ns / busy) * near : near + ((ns - busy) / (end - busy)) * (whole - near)),
    ns: (x) => (x - from <= near ? ((x - from) / near) * busy : busy + ((x - from - near) / (whole - near)) * (end - busy)),
    busy,
  };
}

const inside = (spot, x, y) => x >= spot.x && x <= spot.x + spot.w && y >= spot.y && y <= spot.y + spot.h;

function paint(context, width, height, view) {
  const end = endNs();
  const { x, busy } = scale(width);
  view.spots = [];
  context.font = SMALL;
  const base = height - 14;
  axis(context, x, busy, width, height);
  runsShown().forEach((run, i, { length }) => {
    const below = base - (length - 1 - i) * BAND;
    const tall = length > 1 ? BAND - INVARIANTS - 1 : DENSITY;
    density(context, view, run, x, width, below - INVARIANTS - (length > 1 ? 0 : 2), tall);
    invariants(context, view, run, x, below);
    if (length > 1) name(context, run, below);
  });
  spans(context, view, x, end);
  curve(context, x, FAULTS + ROWS * (SPAN + 2) + 2, base - INVARIANTS - 2, view.spots);
  flags(context, view, x, width);
}

/** What moves: the playhead, and around it the labels of the axis. */
function over(context, width, height) {
  const { x, busy } = scale(width);
  context.font = SMALL;
  labels(context, x, busy, width, height);
  playhead(context, x(app.t), height, width);
}

function axis(context, x, end, width, height) {
  const step = tickStep(end, width / 110);
  context.strokeStyle = colors.line;
  context.lineWidth = 1;
  for (let ns = 0; ns <= end; ns += step) {
    context.beginPath();
    context.moveTo(Math.round(x(ns)) + 0.5, FLAGS);
    context.lineTo(Math.round(x(ns)) + 0.5, height - 12);
    context.stroke();
  }
}

function labels(context, x, busy, width, height) {
  const step = tickStep(busy, width / 110);
  const end = endNs();
  context.fillStyle = colors.dim;
  const label = (ns, text, align) => {
    if (Math.abs(x(ns) - x(app.t)) < 60) return;
    context.textAlign = align;
    context.fillText(text, Math.min(x(ns), width - 4), height - 3);
  };
  for (let ns = 0; ns <= busy; ns += step) {
    label(ns, tickLabel(ns, step), ns === 0 ? "left" : x(ns) > width - 40 ? "right" : "center");
  }
  if (busy < end) {
    label(end, tickLabel(end, step), "right");
    context.textAlign = "center";
    context.fillText("//", x(busy), height - 3);
  }
  context.textAlign = "left";
}

/** How many commits became durable in each pixel column, kept until the scale changes. */
function bins(view, { film: of }, width, x) {
  const scaled = `${width} ${x(1e9)} ${x(endNs())}`;
  const kept = view.bins.get(of);
  if (kept?.scaled === scaled) return kept;
  const columns = Math.max(1, Math.floor((width - left() - SIDE) / 3));
  const counts = new Array(columns).fill(0);
  for (const { durable } of of.durables) {
    counts[Math.min(columns - 1, Math.floor((x(of.t[durable]) - left()) / 3))] += 1;
  }
  const found = { scaled, counts, most: Math.max(1, ...counts) };
  view.bins.set(of, found);
  return found;
}

function density(context, view, run, x, width, bottom, high) {
  const { counts, most } = bins(view, run, width, x);
  context.fillStyle = colors.write;
  context.globalAlpha = 0.75;
  counts.forEach((each, i) => {
    if (!each) return;
    const tall = Math.max(2, (each / most) * high);
    context.fillRect(left() + i * 3, bottom - tall, 2, tall);
  });
  context.globalAlpha = 1;
  view.spots.push({ x: left(), w: width - left() - SIDE, y: bottom - high, h: high, text: "Commits that became durable: the taller, the more. Where nothing stands, none did." });
}

function invariants(context, view, { film: of }, x, base) {
  const broken = of.invariants.filter((each) => each.broken_at !== null && each.broken_at !== undefined);
  const first = Math.min(of.endNs, ...broken.map((each) => of.t[each.broken_at] ?? of.endNs));
  const y = base - INVARIANTS;
  const right = x(of.endNs);
  context.fillStyle = colors.ok;
  context.fillRect(left(), y, x(first) - left(), INVARIANTS - 1);
  if (broken.length) {
    context.fillStyle = colors.finding;
    context.fillRect(Math.min(x(first), right - 6), y - 1, Math.max(right - x(first), 6), INVARIANTS + 1);
  }
  const text = broken.length
    ? `Every invariant holds until ${briefMoment(first)}; then ${broken.map((each) => each.name).join(", ")} is broken.`
    : `All ${plural(of.invariants.length, "invariant")} hold, from beginning to end.`;
  view.spots.push({ x: left(), w: right - left(), y: y - 2, h: INVARIANTS + 4, text });
}

function name(context, run, y) {
  context.fillStyle = colors.dim;
  context.textAlign = "right";
  context.fillText(nameOf(run.name), left() - 6, y - 1);
  context.textAlign = "left";
}

/** The faults of all runs that are shown, from left to right; `of` is the run that alone has it. */
function faultsShown() {
  const [mine, its = mine] = runsShown();
  const keys = ({ film: { episodes } }) => new Set(episodes.map((each) => `${each.title} ${each.from_ns}`));
  const found = mine.film.episodes.map((each) => ({ ...each, of: keys(its).has(`${each.title} ${each.from_ns}`) ? null : mine }));
  const known = keys(mine);
  for (const each of its.film.episodes) if (!known.has(`${each.title} ${each.from_ns}`)) found.push({ ...each, of: its });
  return found.sort((a, b) => a.from_ns - b.from_ns);
}

function spans(context, view, x, end) {
  const free = new Array(ROWS + THIN).fill(-Infinity);
  const outside = []; // names of short ones, which stand beside them where nothing else does
  const faults = faultsShown();
  for (const each of faults) {
    const color = each.of ? colors.select : colors.fault;
    const title = each.of ? `${nameOf(each.of.name)}: ${each.title}` : each.title;
    const from = x(each.from_ns);
    const to = Math.max(x(Math.min(each.to_ns, end)), from + 3);
    const row = free.findIndex((until) => until <= from);
    const thin = row < 0 || row >= ROWS;
    const y = FAULTS + Math.min(row < 0 ? ROWS : row, ROWS) * (SPAN + 2) + (thin ? (Math.max(row, ROWS) - ROWS) * 3 : 0);
    if (row >= 0) free[row] = to + 1;
    if (thin) {
      context.fillStyle = color;
      context.fillRect(from, y, to - from, 2);
    } else {
      context.globalAlpha = 0.16;
      context.fillStyle = color;
      context.fillRect(from, y, to - from, SPAN);
      context.globalAlpha = 1;
      hatch(context, from, y, to - from, SPAN, color, 6);
      context.fillStyle = color;
      context.fillRect(from, y, 2, SPAN);
      const text = to - from > 34 ? fitted(context, title, to - from - 8) : "";
      if (!text) outside.push([to + 3, y + 9, title]);
      else {
        const wide = context.measureText(text).width;
        context.fillStyle = colors.panel;
        context.fillRect(from + 3, y + 0.5, wide + 4, SPAN - 1);
        context.fillStyle = colors.ink;
        context.fillText(text, from + 5, y + 9);
      }
    }
    view.spots.push({ x: from - 1, w: to - from + 2, y, h: thin ? 3 : SPAN, timed: true, text: `${title}, ${briefMoment(each.from_ns)} to ${briefMoment(each.to_ns)} (${span(each.to_ns - each.from_ns)})` });
  }
  beside(context, outside, faults.map((each) => x(each.from_ns)), x(endNs()));
}

/** Names to the right of their spans, if they fit before anything else begins. */
function beside(context, names, begins, end) {
  context.fillStyle = colors.dim;
  for (const [left, y, title] of names) {
    const next = Math.min(end, ...begins.filter((at) => at > left - 6));
    if (context.measureText(title).width < next - left - 4) context.fillText(title, left, y);
  }
}

const FLAG = {
  fault: ["▼", "fault"], heal: ["◇", "ok"], repair: ["◇", "ok"], recovery: ["◆", "recovery"], opened: ["◆", "recovery"], finding: ["✕", "finding"],
  commit_stall: ["", "dim"], commits_go_on: ["", "dim"], difference: ["≠", "select"],
};

function flags(context, view, x, width) {
  let last = -Infinity;
  let stalled = left();
  const landmarks = [...film().landmarks];
  const parted = app.other ? parting(app.other) : null;
  if (parted && parted.ns < Infinity) landmarks.push({ t: parted.ns, kind: "difference", title: "first difference of the two runs" });
  for (const mark of landmarks.sort((a, b) => a.t - b.t)) {
    const at = x(mark.t);
    const [text, color] = FLAG[mark.kind] ?? ["▪", "dim"];
    if (mark.kind === "commit_stall") stalled = at;
    if (mark.kind === "commits_go_on") stall(context, stalled, at);
    const close = at - last < 7 && mark.kind !== "finding" && mark.kind !== "difference";
    context.fillStyle = colors[color];
    if (mark.kind === "finding") cross(context, Math.min(at, width - SIDE), 9, 4.5, colors.finding);
    else if (!close) {
      context.textAlign = "center";
      context.fillText(text, at, 13);
      context.textAlign = "left";
    }
    if (!close && text) last = at;
    view.spots.unshift({ flag: true, timed: true, parting: mark.kind === "difference", event: mark.event, x: at - 5, w: 10, y: 1, h: 17, text: `${mark.title}, at ${briefMoment(mark.t)}` });
  }
  for (const each of app.marks?.events.slice(0, 200) ?? []) {
    context.fillStyle = colors.select;
    context.fillRect(x(film().t[each]) - 0.5, FLAGS - 2, 1.5, 4);
  }
}

/** While commits wait, a bar stands in the row of landmarks. */
function stall(context, from, to) {
  context.strokeStyle = colors.dim;
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(from, 13);
  context.lineTo(from, 18);
  context.lineTo(to, 18);
  context.lineTo(to, 13);
  context.stroke();
}

function playhead(context, x, height, width) {
  context.strokeStyle = colors.ink;
  context.lineWidth = 1.5;
  context.beginPath();
  context.moveTo(x, 2);
  context.lineTo(x, height - 12);
  context.stroke();
  context.fillStyle = colors.ink;
  context.beginPath();
  context.arc(x, height - 13, 4.5, 0, 7);
  context.fill();
  const text = briefMoment(app.t);
  const wide = context.measureText(text).width + 8;
  const left = Math.max(2, Math.min(x - wide / 2, width - wide - 2));
  context.fillRect(left, height - 13, wide, 13);
  context.fillStyle = colors.panel;
  context.fillText(text, left + 4, height - 3);
}

function hint(view, event, x, y, width) {
  const spot = view.spots.find((each) => inside(each, x, y));
  const ns = Math.max(0, Math.min(scale(width).ns(x), endNs()));
  // A mark tells its own time; elsewhere it is that of the place.
  const title = spot?.timed ? "" : briefMoment(ns);
  showTip(event.clientX, event.clientY - 70, spot?.text ?? "Drag to go to a moment.", title);
}
