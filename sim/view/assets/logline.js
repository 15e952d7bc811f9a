// The log line: LSNs from left to right, one row for each segment of a group: who has what.
// A cell is outlined when a commit's records were received, dashed when on disk above a gap, hatched
// when synced, full when heard. Of a run beside it there is one row, on the same axis: how many have
// acknowledged each commit.

import { useRef } from "preact/hooks";
import { SMALL, cross, hatch, shownStamp, useCanvas } from "view/canvas.js";
import { Axis, acknowledged, fateOf } from "view/film.js";
import { count, lsnRange } from "view/format.js";
import { html } from "view/html.js";
import { colors } from "view/palette.js";
import { stateSign } from "view/signs.js";
import { activate, active, app, nameOf, select, set, useApp } from "view/store.js";
import { parting } from "view/time.js";
import { hideTip, showTip, wordsFor, wordsForAll } from "view/words.js";

const LEFT = 64;
const TOP = 27;
const COUNTS = 23; // the line on which it stands how many have acknowledged; watermarks are above
const BOTTOM = 15;
const BESIDE = 20; // for the row of another run
const NARROW = 15; // an LSN's width, if the run has many
const WIDE = 44; // and if it has few

const COPIES = 6;
const QUORUM = 4;
let CELL = NARROW;

export function LogLine() {
  useApp();
  const view = useRef({ first: 0, own: false, spots: [], axis: null });
  const ref = useCanvas({
    paint: (context, width, height) => paint(context, height, view.current),
    stamp: (width) => arranged(view.current, width),
  });
  const { film } = active();
  const pick = (event) => {
    const { run, commit } = pointedAt(view.current, event);
    if (!commit) return;
    activate(run.name);
    select({ type: "commit", id: run.film.commits.indexOf(commit) });
  };
  const hover = (event) => hint(view.current, event);
  const wheel = (event) => {
    event.preventDefault();
    const by = Math.sign(event.deltaY || event.deltaX) * 6;
    view.current.own = true;
    view.current.first = Math.max(0, view.current.first + by);
    set({});
  };
  return html`<section class="logline" aria-label="Log line">
    <canvas ref=${ref} onClick=${pick} onPointerMove=${hover} onPointerLeave=${hideTip} onWheel=${wheel}
      role="img" aria-label=${spoken()}></canvas>
    ${film.groups.length > 1 && html`<div class="groups" role="group" aria-label="Protection group">
      ${film.groups.map((g) => html`<button key=${g} aria-pressed=${app.group === g} onClick=${() => set({ group: g })}
        data-tip="Show protection group ${g}: its six segments, and the commits that touch it.">PG ${g}</button>`)}</div>`}
  </section>`;
}

function spoken() {
  const { vdl, vcl } = marks(active());
  return `The log: VDL ${vdl}, VCL ${vcl}`;
}

/** The watermarks as the newest writer knows them. */
function marks(run) {
  const { film, moment } = run;
  const found = { vdl: 0, vcl: 0, pgcl: 0, next: 1 };
  for (const writer of film.writers) {
    if (!moment.of(writer, "state")) continue;
    found.vdl = Math.max(found.vdl, moment.of(writer, "vdl") || 0);
    found.vcl = Math.max(found.vcl, moment.of(writer, "vcl") || 0);
    found.pgcl = Math.max(found.pgcl, moment.of(writer, `pgcl:${app.group}`) || 0);
    found.next = Math.max(found.next, moment.of(writer, "next_lsn") || 1);
  }
  return found;
}

function rowsOf(film) {
  const rows = film.segments.filter((i) => film.nodes[i].group === app.group);
  return rows.length ? rows : film.segments.slice(0, 6);
}

/** The columns of all LSNs that are shown: with a run beside it, those of both. */
function axisOf(view) {
  const runs = `${app.active} ${app.other}`;
  if (view.runs !== runs) {
    const other = app.runs.get(app.other);
    view.axis = other ? new Axis([...active().film.commits, ...other.film.commits]) : active().film.axis;
    view.runs = runs;
  }
  return view.axis;
}

const SPARE = 4; // columns to the right of the frontier, at least

/** The first column that is shown: what is selected, or else the frontier in the right part of the
 * picture, which is moved by whole tens, and not past the end of the log. */
function firstShown(axis, next, columns) {
  const step = Math.max(10, Math.floor((columns * 0.3) / 10) * 10);
  const home = Math.ceil((axis.columnOf(next) + SPARE - columns) / step) * step;
  const first = Math.max(0, Math.min(home, axis.columns + SPARE - columns));
  if (app.playing || inSight(axis, first, columns)) return first;
  return Math.max(0, Math.floor((axis.columnOf(app.marks.lsns[0]) - columns / 2) / 10) * 10);
}

/** Whether all that is selected stands in these columns. */
function inSight(axis, first, columns) {
  if (!app.marks?.lsns) return true;
  const [from, to] = app.marks.lsns.map((lsn) => axis.columnOf(lsn));
  return from >= first && to < first + columns;
}

/** The frontier; with two runs the later one, if both can be seen. */
function frontier(columns) {
  const { next } = marks(active());
  if (!app.other) return next;
  return Math.max(next, Math.min(marks(app.runs.get(app.other)).next, next + columns / 2));
}

/** Decide which LSNs are shown, before anything is drawn; what is told depends on. A place that the
 * visitor has scrolled to is kept until what is told, or the room for it, is another. */
function arranged(view, width) {
  const run = active();
  const axis = axisOf(view);
  CELL = Math.max(NARROW, Math.min(WIDE, Math.floor((width - LEFT - 60) / (axis.columns + 2))));
  const columns = Math.floor((width - LEFT - 8) / CELL);
  const next = frontier(columns);
  const place = `${columns} ${next} ${view.runs}`;
  if (app.playing || place !== view.place || !inSight(axis, view.first, columns)) view.own = false;
  Object.assign(view, { columns, width, place });
  if (!view.own) view.first = firstShown(axis, next, columns);
  const beside = app.other ? app.runs.get(app.other).cursor : "";
  return `${shownStamp(run)} ${view.first} ${beside}`;
}

function paint(context, height, view) {
  const run = active();
  const { axis, width } = view;
  const found = marks(run);
  const rows = rowsOf(run.film);
  const row = (height - TOP - BOTTOM - (app.other ? BESIDE : 0)) / rows.length;
  Object.assign(view, { row, rows, vdl: found.vdl, spots: [] });
  context.font = SMALL;
  names(context, run, rows, row);
  const x = (lsn) => LEFT + (axis.columnOf(lsn) - view.first) * CELL;
  context.save();
  context.beginPath();
  context.rect(LEFT - 1, 0, width - LEFT, height);
  context.clip();
  selection(context, x, height);
  complete(context, run, view);
  const [from, to] = lsnsShown(view);
  for (const commit of run.film.commitsIn(from, to)) {
    if (commit.allocated < run.cursor) column(context, run, commit, view, x);
  }
  annulled(context, run, view, x);
  outline(context, x, height);
  const parts = app.other ? partingAt(x) : -1;
  axisLabels(context, view, x, height, parts);
  watermarks(context, found, view, x, height, width);
  context.restore();
  if (app.other) beside(context, app.runs.get(app.other), view, x, height, parts);
  if (found.next <= 1) empty(context, width, height);
}

/** The row of the other run: each commit filled by how many have acknowledged it, up to its VDL; and
 * where the LSNs of the two begin to be different. */
function beside(context, run, view, x, height, parts) {
  const { vdl } = marks(run);
  const [top, tall] = [bottomOf(view) + 4, BESIDE - 6];
  context.fillStyle = colors.dim;
  context.textAlign = "right";
  context.fillText(nameOf(active().name), LEFT - 6, COUNTS - 1);
  context.fillText(nameOf(run.name), LEFT - 6, top + tall / 2 + 3.5);
  context.save();
  context.beginPath();
  context.rect(LEFT, 0, view.columns * CELL, height);
  context.clip();
  context.fillStyle = colors.track;
  context.fillRect(LEFT, top, view.columns * CELL, tall);
  context.textAlign = "center";
  for (const commit of run.film.commitsIn(...lsnsShown(view))) {
    if (commit.allocated < run.cursor) share(context, run, commit, [x(commit.first_lsn) + 0.5, top, x(commit.lsn) + CELL - x(commit.first_lsn) - 1.5, tall]);
  }
  context.fillStyle = colors.write;
  context.fillRect((vdl ? x(vdl) + CELL : x(1)) - 2, top - 3, 2, tall + 5);
  if (parts >= 0) parted(context, view, parts, top + tall);
  away(context, run, view, top + tall / 2 + 3.5);
  context.restore();
}

/** Where the other run is, if its newest LSNs are not in the picture. */
function away(context, run, view, y) {
  const last = marks(run).next - 1;
  const column = view.axis.columnOf(last) - view.first;
  if (column >= 0 && column < view.columns) return;
  const place = `${nameOf(run.name)} is at LSN ${count(last)}`;
  const words = column < 0 ? `← ${place}` : `${place} →`;
  const wide = context.measureText(words).width + 8;
  const left = column < 0 ? LEFT : LEFT + view.columns * CELL - wide;
  context.fillStyle = colors.panel;
  context.fillRect(left, y - 10, wide, 13);
  context.fillStyle = colors.ink;
  context.textAlign = "left";
  context.fillText(words, left + 4, y);
}

/** A commit of the other run. */
function share(context, run, commit, [x, y, width, height]) {
  const fate = fateOf(commit, run.cursor);
  const heard = acknowledged(commit, run.cursor).length;
  const filled = (fate === "durable" ? 1 : heard / COPIES) * height;
  context.fillStyle = fate === "durable" ? colors.write : colors.have;
  if (fate === "annulled") hatch(context, x, y, width, height, colors.recovery, 7);
  else context.fillRect(x, y + height - filled, width, filled);
  context.strokeStyle = colors.write;
  context.lineWidth = 1;
  if (fate) return;
  context.strokeRect(x + 0.5, y + 0.5, width - 1, height - 1);
  context.fillStyle = colors.ink;
  context.fillText(String(heard), x + width / 2, y + height - 3.5);
}

/** Where the log of the one run stops being that of the other; -1 if nowhere. */
function partingAt(x) {
  const at = parting(app.other);
  if (!at) return -1;
  const same = active().film.commits.filter((each) => each.allocated < at.mine);
  return same.length ? x(Math.max(...same.map((each) => each.lsn))) + CELL : x(1);
}

function parted(context, view, left, bottom) {
  context.strokeStyle = colors.select;
  context.lineWidth = 1.5;
  context.setLineDash([3, 3]);
  context.beginPath();
  context.moveTo(left, TOP - 2);
  context.lineTo(left, bottom + 3);
  context.stroke();
  context.setLineDash([]);
  context.fillStyle = colors.select;
  context.fillText("≠", left, bottom + 13);
  view.spots.push({ x: left - 6, width: 12, low: true, text: "Up to here the logs of the two runs are the same." });
}

const bottomOf = (view) => TOP + view.row * view.rows.length;

function names(context, run, rows, row) {
  rows.forEach((node, i) => {
    const state = run.moment.of(node, "state");
    context.fillStyle = app.marks?.nodes.has(node) ? colors.select : ["up", "open"].includes(state) ? colors.ink : colors.dim;
    context.textAlign = "right";
    context.fillText(`${run.film.nodes[node].id}  ${stateSign(state)}`, LEFT - 6, TOP + i * row + row / 2 + 3.5);
  });
  context.textAlign = "left";
}

/** Up to its SCL a segment has everything. */
function complete(context, run, view) {
  view.rows.forEach((node, i) => {
    const lost = run.moment.of(node, "state") === "lost";
    const scl = lost ? 0 : run.moment.of(node, "scl") || 0;
    const y = TOP + i * view.row;
    context.fillStyle = colors.track;
    context.fillRect(LEFT, y + 1.5, view.columns * CELL, view.row - 3);
    const until = scl ? Math.min(view.axis.columnOf(scl) + 1 - view.first, view.columns) : 0;
    if (until > 0) {
      context.fillStyle = colors.have;
      context.fillRect(LEFT, y + 1.5, until * CELL, view.row - 3);
    }
  });
}

function column(context, run, commit, view, x) {
  const { cursor, film, moment } = run;
  const left = x(commit.first_lsn) + 0.5;
  const width = x(commit.lsn) + CELL - x(commit.first_lsn) - 1.5;
  const fate = fateOf(commit, cursor);
  const durable = fate === "durable";
  let heard = 0;
  if (commit.pg === app.group || film.groups.length === 1) {
    for (const holder of commit.holders) {
      const i = view.rows.indexOf(holder.node);
      if (i < 0) continue;
      if (holder.heard >= 0 && holder.heard < cursor) heard += 1;
      const whole = fate !== "annulled" && (moment.of(holder.node, "scl") || 0) >= commit.lsn;
      const gone = moment.of(holder.node, "state") === "lost" && holder.synced >= 0 && holder.synced < cursor;
      cell(context, holder, cursor, [left, TOP + i * view.row + 1.5, width, view.row - 3], whole, gone);
    }
  }
  context.strokeStyle = colors.panel;
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(left - 0.5, TOP);
  context.lineTo(left - 0.5, bottomOf(view));
  context.stroke();
  if (fate === "annulled") return;
  // The VDL may have passed a commit of which too few have told: that is what one looks for.
  const early = !durable && commit.lsn <= view.vdl && heard < QUORUM;
  context.fillStyle = durable ? colors.write : early ? colors.finding : colors.dim;
  context.textAlign = "center";
  context.font = SMALL;
  const words = durable ? "✓" : early ? `${heard} of 6` : String(heard);
  context.fillText(words, left + width / 2, COUNTS);
  context.textAlign = "left";
}

/** How far a segment is with a commit's records: received, synced, or heard by the writer. */
function cell(context, holder, cursor, [x, y, width, height], complete, gone) {
  const reached = (n) => n >= 0 && n < cursor;
  if (reached(holder.lost) || gone) {
    context.strokeStyle = colors.fault;
    context.strokeRect(x + 0.5, y + 0.5, width - 1, height - 1);
    cross(context, x + width / 2, y + height / 2, Math.min(height, 8) / 2 - 1, colors.fault);
  } else if (reached(holder.heard)) {
    context.fillStyle = colors.write;
    context.fillRect(x, y, width, height);
  } else if (reached(holder.synced) || complete) {
    context.fillStyle = colors.have;
    context.fillRect(x, y, width, height);
    hatch(context, x, y, width, height, colors.write, 4);
  } else if (reached(holder.received)) {
    const above = reached(holder.disk);
    context.strokeStyle = above ? colors.recovery : colors.write;
    context.lineWidth = 1;
    context.setLineDash(above ? [4, 3] : []);
    context.strokeRect(x + 0.5, y + 0.5, width - 1, height - 1);
    context.setLineDash([]);
    if (above) hatch(context, x + 2, y + 2, width - 4, height - 4, colors.recovery, 7);
  }
}

function annulled(context, run, view, x) {
  for (const [first, last] of run.moment.world("annulled") || []) {
    const from = Math.max(x(first), LEFT);
    const to = Math.min(x(last + 1), LEFT + view.columns * CELL);
    if (to <= from) continue;
    const width = to - from;
    const height = view.row * view.rows.length;
    context.globalAlpha = 0.8;
    context.fillStyle = colors.panel;
    context.fillRect(from, TOP, width, height);
    context.globalAlpha = 1;
    hatch(context, from, TOP, width, height, colors.recovery, 7);
    context.fillStyle = colors.recovery;
    if (width > 60) context.fillText("annulled", from + 4, COUNTS);
    view.spots.push({ x: from, width, word: "annulled" });
  }
}

function axisLabels(context, view, x, height, parts) {
  const { axis } = view;
  const right = LEFT + view.columns * CELL;
  context.fillStyle = colors.dim;
  context.textAlign = "center";
  let free = LEFT;
  for (let column = view.first; column < view.first + view.columns; column += 1) {
    const lsn = axis.lsnAt(column);
    const edge = column > 0 && lsn > 0 && axis.lsnAt(column - 1) === 0;
    if (!lsn || (lsn % 10 && !edge && lsn !== 1)) continue;
    const text = count(lsn);
    const half = context.measureText(text).width / 2;
    const at = x(lsn) + CELL / 2;
    if (at - half < free || at + half > right || Math.abs(at - parts) < half + 8) continue;
    context.fillText(text, at, height - 4);
    free = at + half + 12;
  }
  context.textAlign = "left";
}

function watermarks(context, found, view, x, height, width) {
  const labels = [["VDL", found.vdl, colors.write, 0], ["VCL", found.vcl, colors.ink, 1], ["PGCL", found.pgcl, colors.read, 2]];
  const places = new Map();
  for (const [word, lsn, color] of labels) {
    const at = lsn ? x(lsn) + CELL - 1 : x(1) - 1;
    if (at < LEFT - 2 || at > LEFT + view.columns * CELL) continue;
    const names = places.get(at) ?? [];
    places.set(at, [...names, [word, color]]);
  }
  for (const [at, names] of places) {
    context.strokeStyle = names[0][1];
    context.lineWidth = 2;
    context.beginPath();
    context.moveTo(at, 2);
    context.lineTo(at, height - BOTTOM + 2);
    context.stroke();
    const text = names.map(([word]) => word).join(" = ");
    const wide = context.measureText(text).width;
    const left = Math.min(at + 4, width - wide - 8);
    context.fillStyle = colors.panel;
    context.fillRect(left - 3, 0, wide + 6, 13);
    context.fillStyle = names[0][1];
    context.fillText(text, left, 10);
    view.spots.push({ x: left - 3, width: wide + 6, words: names.map(([word]) => word), top: true });
  }
}

function selection(context, x, height) {
  if (!app.marks?.lsns) return;
  const [first, last] = app.marks.lsns;
  context.fillStyle = colors.halo;
  context.fillRect(x(first), 0, x(last) + CELL - x(first), height);
}

function outline(context, x, height) {
  if (!app.marks?.lsns) return;
  const [first, last] = app.marks.lsns;
  context.strokeStyle = colors.select;
  context.lineWidth = 2;
  context.strokeRect(x(first) + 0.5, 1, x(last) + CELL - x(first) - 1, height - 2);
}

function empty(context, width, height) {
  context.fillStyle = colors.dim;
  context.textAlign = "center";
  context.fillText("No record yet: the log begins with the first write.", LEFT + (width - LEFT) / 2, height / 2 + 4);
}

/** The first and the last LSN that the picture has room for. */
function lsnsShown({ axis, first, columns }) {
  let last = first + columns;
  while (first > 0 && !axis.lsnAt(first)) first -= 1;
  while (!axis.lsnAt(last)) last += 1;
  return [axis.lsnAt(first), axis.lsnAt(last)];
}

/** What the pointer is at: the run, the commit if there is one, and the row of the one looked at. */
function pointedAt(view, event) {
  const place = event.currentTarget.getBoundingClientRect();
  const [x, y] = [event.clientX - place.left, event.clientY - place.top];
  const run = app.other && y > bottomOf(view) ? app.runs.get(app.other) : active();
  const lsn = x < LEFT ? 0 : view.axis.lsnAt(view.first + Math.floor((x - LEFT) / CELL));
  const found = lsn > 0 ? run.film.commitOf(lsn) : null;
  return { x, y, run, commit: found && found.allocated < run.cursor ? found : null, row: Math.floor((y - TOP) / view.row) };
}

function hint(view, event) {
  const { x, y, run, commit, row } = pointedAt(view, event);
  const tip = (words, title) => showTip(event.clientX, event.clientY, words, title);
  const spot = view.spots.find((each) => x >= each.x && x <= each.x + each.width && (!each.top || y < 14) && (!each.low || y > bottomOf(view)));
  if (spot?.words) return tip(wordsForAll(spot.words));
  if (spot) return tip(spot.text ?? wordsFor(spot.word), spot.word);
  if (!commit) return hideTip();
  const whose = run === active() ? "" : `${nameOf(run.name)}: `;
  return tip(cellWords(run, commit, whose ? undefined : view.rows[row]), `${whose}commit ${lsnRange(commit.first_lsn, commit.lsn)}`);
}

function cellWords(run, commit, node) {
  const heard = acknowledged(commit, run.cursor).length;
  const whole = `${heard} of 6 acknowledged, ${fateOf(commit, run.cursor) || "not durable yet"}.`;
  if (node === undefined) return whole;
  const holder = commit.holders.find((each) => each.node === node);
  const reached = (n) => n !== undefined && n >= 0 && n < run.cursor;
  const name = run.film.nodes[node].id;
  if (reached(holder?.lost)) return `${name} had it, and has lost it. ${whole}`;
  if (reached(holder?.heard)) return `${name} has it on disk, and the writer knows. ${whole}`;
  if (reached(holder?.synced)) return `${name} has it on disk; the writer has not heard so yet. ${whole}`;
  if (reached(holder?.disk)) return `${name} has it on disk, but above a gap: something before it is missing, so nothing is acknowledged. ${whole}`;
  if (reached(holder?.received)) return `${name} has received it; it is not on disk yet. ${whole}`;
  if (reached(holder?.dropped)) return `The network has lost it on the way to ${name}. ${whole}`;
  return `${name} has not received it from the writer. ${whole}`;
}
