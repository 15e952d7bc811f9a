// Messages under way, drawn over the map. A dot moves because a message does; when there are too
// many to follow, they become the density of their links.

import { cross, sign, useCanvas } from "view/canvas.js";
import { html } from "view/html.js";
import { colors, reducedMotion } from "view/palette.js";
import { family } from "view/signs.js";
import { FAST, app } from "view/store.js";

const MANY = 160; // dots, beyond which only density is shown
const NEAR = 9;
const SIDE = 4; // each direction is a little to its own right

/** Between two segments the way is a bow below their cards, so that it crosses no third one. */
function bow(from, to) {
  const deep = Math.max(from.y + from.h, to.y + to.h);
  const down = 14 + Math.min(Math.abs(to.x - from.x) * 0.09, 40);
  const side = Math.sign(to.x - from.x) * 6;
  return { x0: from.x + side, y0: from.y + from.h, x1: to.x - side, y1: to.y + to.h, cx: (from.x + to.x) / 2, cy: deep + down };
}

/** Between a writer and a segment the way is in the segment's own column, down to its head: nothing on
 * it is above another's card. One in a second row is reached between the two columns. */
function drop(writer, segment) {
  const column = segment.row ? segment.x + Math.sign(segment.zone - segment.x) * (segment.w - 3) : segment.x;
  const reach = writer.w - 12;
  const out = Math.max(writer.x - reach, Math.min(column, writer.x + reach));
  return { x0: out, y0: writer.y + writer.h, x1: column, y1: segment.y - segment.h };
}

function back({ x0, y0, x1, y1 }) {
  return { x0: x1, y0: y1, x1: x0, y1: y0 };
}

const aside = ({ x0, y0, x1, y1 }, by) => ({ x0: x0 + by, y0, x1: x1 + by, y1 });

/** Where a line from one card to another leaves and arrives, each direction on its own right. */
function lane(from, to) {
  const dx = to.x - from.x;
  const dy = to.y - from.y;
  const length = Math.hypot(dx, dy) || 1;
  const [ux, uy] = [dx / length, dy / length];
  const edge = (box) =>
    Math.min(ux ? box.w / Math.abs(ux) : Infinity, uy ? box.h / Math.abs(uy) : Infinity);
  const out = Math.min(edge(from), length / 2);
  const back = Math.min(edge(to), length / 2);
  return {
    x0: from.x + ux * out - uy * SIDE,
    y0: from.y + uy * out + ux * SIDE,
    x1: to.x - ux * back - uy * SIDE,
    y1: to.y - uy * back + ux * SIDE,
  };
}

export function Dots({ run, places }) {
  const ref = useCanvas({
    paint: (context) => paint(context, run, places),
    stamp: () => `${run.cursor} ${app.selection?.type} ${app.selection?.id} ${places.stamp} ${moved(run, places)}`,
  });
  return html`<canvas class="dots" ref=${ref} aria-hidden="true"></canvas>`;
}

/** Changes with the time as long as something is under way. */
function moved(run, places) {
  const any = run.film.underWay(app.t - (app.playing ? app.speed / 30 : 0), app.t, 1).length > 0;
  return any || places.dots?.length ? app.t : "";
}

function paint(context, run, places) {
  const { film } = run;
  places.dots = [];
  if (run.cursor === 0) return;
  const fast = app.playing && app.speed >= FAST;
  const behind = fast ? app.speed / 30 : 0;
  const found = film.underWay(app.t - behind, app.t);
  if (fast || found.length > MANY) density(context, film, places, found);
  else for (const m of found) dot(context, run, places, m);
  selected(context, run, places);
}

function ends(film, places, m) {
  const { from, to } = film.messages[m];
  const [a, b] = [places.at.get(from), places.at.get(to)];
  if (!a || !b) return null;
  const [mine, its] = [film.nodes[from].kind, film.nodes[to].kind];
  if (mine === "writer" && its === "segment") return aside(drop(a, b), -SIDE);
  if (mine === "segment" && its === "writer") return aside(back(drop(b, a)), SIDE);
  return mine === its && Math.abs(a.y - b.y) < 20 ? bow(a, b) : lane(a, b);
}

function dot(context, run, places, m) {
  const { film } = run;
  const message = film.messages[m];
  if (message.sent >= run.cursor) return;
  const line = ends(film, places, m);
  if (!line) return;
  const kind = family(message.type);
  const mine = app.marks?.messages.has(m);
  context.fillStyle = mine ? colors.select : colors[kind];
  const since = app.t - message.sent_ns;
  if (!message.arrived.length && message.lost) {
    const at = Math.min(since / film.tripNs, 0.45);
    const [x, y] = place(line, at);
    cross(context, x, y, 4, colors.fault);
    places.dots.push({ x, y, m });
    return;
  }
  const quiet = message.type === "Heartbeat";
  context.globalAlpha = mine ? 1 : quiet ? 0.3 : app.marks ? 0.55 : 1;
  // What is still on its way when the run ends goes as far as most would have come by then.
  const arrivals = message.arrived.length ? message.arrived : [message.sent_ns + Math.max(since * 1.25, film.tripNs)];
  for (const arrival of arrivals) {
    if (arrival < app.t) continue;
    const whole = Math.max(arrival - message.sent_ns, 1);
    const at = reducedMotion() ? 0.5 : Math.max(0, Math.min(since / whole, 1));
    const [x, y] = place(line, at);
    sign(context, kind, x, y, mine ? 5 : quiet ? 2.5 : 3.5);
    places.dots.push({ x, y, m });
  }
  context.globalAlpha = 1;
}

function place(line, at) {
  if (line.cx === undefined) return [line.x0 + (line.x1 - line.x0) * at, line.y0 + (line.y1 - line.y0) * at];
  const [p, q, r] = [(1 - at) ** 2, 2 * at * (1 - at), at * at];
  return [p * line.x0 + q * line.cx + r * line.x1, p * line.y0 + q * line.cy + r * line.y1];
}

function density(context, film, places, found) {
  const links = new Map();
  for (const m of found) {
    const { from, to, type, lost } = film.messages[m];
    const key = `${from} ${to} ${family(type)} ${lost ?? ""}`;
    const link = links.get(key);
    if (link) link.count += 1;
    else links.set(key, { m, count: 1, lost: Boolean(lost), kind: family(type) });
  }
  const most = Math.max(4, ...[...links.values()].map((each) => each.count));
  for (const link of links.values()) {
    const line = ends(film, places, link.m);
    if (!line) continue;
    const share = link.count / most;
    context.globalAlpha = 0.25 + 0.6 * share;
    context.strokeStyle = link.lost ? colors.fault : colors[link.kind];
    context.lineWidth = 1 + 3 * share;
    context.setLineDash(link.lost ? [2, 5] : []);
    stroke(context, line, link.lost ? 0.45 : 1);
    if (link.lost) cross(context, ...place(line, 0.45), 3.5, colors.fault);
  }
  context.globalAlpha = 1;
  context.setLineDash([]);
}

function stroke(context, line, until) {
  context.beginPath();
  context.moveTo(line.x0, line.y0);
  const steps = line.cx === undefined ? 1 : 16;
  for (let i = 1; i <= steps; i += 1) context.lineTo(...place(line, (until * i) / steps));
  context.stroke();
}

/** The way of a message that is selected, once it has been sent. */
function selected(context, run, places) {
  const { film } = run;
  if (run.name !== app.active || app.selection?.type !== "message" || film.messages[app.selection.id].sent >= run.cursor) return;
  const line = ends(film, places, app.selection.id);
  if (!line) return;
  const lost = Boolean(film.messages[app.selection.id].lost);
  context.strokeStyle = colors.select;
  context.lineWidth = 1.5;
  context.setLineDash([4, 4]);
  stroke(context, line, lost ? 0.45 : 1);
  context.setLineDash([]);
}

/** The message whose dot is at this place of the map, or -1. */
export function hitDot(places, x, y) {
  let best = -1;
  let least = NEAR;
  for (const each of places.dots ?? []) {
    const distance = Math.hypot(each.x - x, each.y - y);
    if (distance < least) [best, least] = [each.m, distance];
  }
  return best;
}
