// One time for all views: playing, stepping, jumping. The moment is a number of events that have
// happened, and the virtual time, which between two events may run on.

import { active, app, changed, endNs, film, onAdvance, runsShown, set } from "view/store.js";

export const SPEEDS = [1e5, 2e5, 5e5, 1e6, 2e6, 5e6, 1e7, 2e7, 5e7, 1e8, 2e8, 5e8, 1e9, 2e9];

/** Virtual time in a second of the visitor's, in words. */
export function speedWords(speed) {
  if (speed >= 1e9) return `${speed / 1e9} s/s`;
  if (speed >= 1e6) return `${speed / 1e6} ms/s`;
  return `${speed / 1e3} µs/s`;
}

/** Where the active run and another one part: the event of each, and when the earlier of them is. */
export function parting(other) {
  const main = app.active === "main";
  const differ = app.forks.get(main ? other : app.active)?.first_difference;
  const run = app.runs.get(other);
  if (!differ || !run) return null;
  const [mine, its] = main ? [differ.main, differ.fork] : [differ.fork, differ.main];
  const [a, b] = [film().t[mine] ?? Infinity, run.film.t[its] ?? Infinity];
  return { mine, its, mineNs: a, itsNs: b, ns: Math.min(a, b) };
}

/** The other run follows: event by event as long as the two are the same, by time from there on. */
function follow() {
  const { name, cursor } = active();
  for (const run of app.runs.values()) {
    if (run.name === name) continue;
    const same = cursor <= (parting(run.name)?.mine ?? -1);
    run.moment.moveTo(same ? cursor : run.film.cursorAt(app.t));
  }
}

/** How many events have happened once this one is seen: a fault is, by what it makes fall. */
function shownAfter(of, n) {
  let next = n + 1;
  if (of.classOf(n) === "fault") while (of.t[next] === of.t[n] && of.classOf(next) === "fault") next += 1;
  return next;
}

/** To the first event in which the active run and another differ; false if there is none. */
export function toParting(other) {
  const at = parting(other);
  if (!at || at.ns === Infinity) return false;
  app.playing = false;
  toCursor(at.mineNs === at.ns ? shownAfter(film(), at.mine) : at.mine);
  app.t = at.ns;
  const { film: its, moment } = app.runs.get(other);
  moment.moveTo(at.itsNs === at.ns ? shownAfter(its, at.its) : at.its);
  return true;
}

/** Whether the moment is that of the first difference. */
export function isParting(other) {
  const at = parting(other);
  return Boolean(at) && app.t === at.ns && active().cursor >= at.mine;
}

/** To the state after `cursor` events, at the time of the last of them. What was noticed before is
 * not true of another moment. */
export function toCursor(cursor) {
  const { t, count } = film();
  app.notice = "";
  const wanted = Math.max(0, Math.min(cursor, count));
  active().moment.moveTo(wanted);
  app.t = wanted > 0 ? t[wanted - 1] : 0;
  follow();
  changed();
}

/** To just after event `n`. */
export function toEvent(n) {
  app.playing = false;
  toCursor(n + 1);
}

export function toTime(ns) {
  app.notice = "";
  runTo(ns);
}

function runTo(ns) {
  app.t = Math.max(0, Math.min(ns, endNs()));
  active().moment.moveTo(film().cursorAt(app.t));
  follow();
  changed();
}

export function step(by) {
  app.playing = false;
  toCursor(active().cursor + by);
}

/** To the next (or previous) event in an ascending list of events. */
export function stepIn(events, by) {
  const at = active().cursor - 1;
  const found =
    by > 0 ? events.find((n) => n > at) : events.findLast((n) => n < at);
  if (found === undefined) return false;
  toEvent(found);
  return true;
}

/** The node whose events are stepped through: the selected one, or the current event's. */
export function nodeHere() {
  if (app.selection?.type === "node") return app.selection.id;
  const n = active().cursor - 1;
  return n >= 0 ? film().node[n] : -1;
}

export function stepOfNode(by) {
  const node = nodeHere();
  if (node < 0) return step(by);
  if (app.selection?.type !== "node") app.selection = { type: "node", id: node };
  return stepIn(film().nodeEvents[node], by);
}

const FINDINGS = ["finding"];
const jumpLists = new WeakMap();

/** The events that a jump of this kind goes to, ascending. */
export function jumpList(kind, of = film()) {
  let lists = jumpLists.get(of);
  if (!lists) jumpLists.set(of, (lists = {}));
  if (lists[kind]) return lists[kind];
  const marks = (kinds) => of.landmarks.filter((m) => kinds.includes(m.kind)).map((m) => m.event);
  let found;
  if (kind === "commit") found = of.durables.map((each) => each.durable);
  else if (kind === "finding") found = marks(FINDINGS);
  else if (kind === "landmark") found = of.landmarks.map((each) => each.event);
  else found = marks([kind]);
  lists[kind] = [...new Set(found)].sort((a, b) => a - b);
  return lists[kind];
}

export function jump(kind, by) {
  if (!stepIn(jumpList(kind), by)) set({ notice: `no ${by > 0 ? "later" : "earlier"} ${kind}` });
}

export function play(on = !app.playing) {
  if (on && app.t >= endNs()) toTime(0);
  set({ playing: on, notice: "" });
}

export function faster(by) {
  const at = SPEEDS.findIndex((each) => each >= app.speed);
  set({ speed: SPEEDS[Math.max(0, Math.min(at + by, SPEEDS.length - 1))] });
}

const TRIP_S = 0.8; // of the visitor's time: how long a usual message can be watched at first
const IDLE_S = 0.5;
const IDLE_TRIPS = 10;
const OVER_TRIPS = 2; // what was sent last has come by then, or its cross has been seen

/** The fastest speed at which one sees messages fly. */
export const watchable = ({ tripNs }) => SPEEDS.findLast((each) => each * TRIP_S <= tripNs) ?? SPEEDS[0];

/** Playing does not wait where nothing happens for long: it goes to just before the next event. */
function idleUntil() {
  const { tripNs } = film();
  let [last, next] = [0, endNs()];
  for (const { film: each } of runsShown()) {
    const cursor = each.cursorAt(app.t);
    last = Math.max(last, each.t[cursor - 1] ?? 0);
    next = Math.min(next, each.t[cursor] ?? next);
  }
  const long = next - app.t > Math.max(IDLE_TRIPS * tripNs, IDLE_S * app.speed);
  return long && app.t - last > OVER_TRIPS * tripNs ? next - tripNs : app.t;
}

function advance(ms) {
  if (!app.playing) return;
  runTo(idleUntil() + (app.speed * ms) / 1000);
  if (app.t >= endNs()) app.playing = false;
}

onAdvance(advance);
