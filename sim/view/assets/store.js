// What the page shows, in one place; views read it, and are told when it has changed.

import { useLayoutEffect, useReducer } from "preact/hooks";
import { Moment } from "view/film.js";
import { marksOf } from "view/follow.js";

/** A run on the page: its film, and the state at the page's moment. */
export class Run {
  constructor(name, film) {
    this.name = name;
    this.film = film;
    this.moment = new Moment(film);
  }

  get cursor() {
    return this.moment.cursor;
  }
}

export const app = {
  runs: new Map(),
  active: "main", // whose events are stepped through, told and followed
  other: null, // the run beside it, if two are compared
  t: 0, // the moment, in ns; never behind the active run's last event
  playing: false,
  speed: 0, // ns of virtual time in a second of the visitor's
  selection: null, // {type, id}
  marks: null, // what the selection is marked by in all views
  past: [], // selections before, for going back
  filter: { node: -1, klass: "", page: null, lsn: null },
  view: "map",
  lanes: null, // [from, to] in ns, or null: all of it
  group: 0,
  tab: "now",
  dialog: null, // "keys", or null
  tour: null,
  server: null, // null in an exported page
  forks: new Map(), // name → {state, title, command, verdict, first_difference, …}
  draft: null, // the fork that is being put together
  future: null, // how inevitable: {state, points, last_safe_ns}
  notice: "",
};

export function active() {
  return app.runs.get(app.active);
}

export function film() {
  return active().film;
}

/** A run's name in words. */
export const nameOf = (name) => (name === "main" ? "the run" : name);

/** The active run, and the one beside it. */
export const runsShown = () => (app.other ? [active(), app.runs.get(app.other)] : [active()]);

export function endNs() {
  return Math.max(...runsShown().map((run) => run.film.endNs));
}

// ---- being told ---------------------------------------------------------------------------------

const painters = new Set();
const listeners = new Set();
const advances = new Set();
const CALM_MS = 120; // how often words and lists follow while a run plays
const FAST_MS = 50; // how often numbers do that change too fast to be read
export const FAST = 5e7; // ns a second, from which nothing stays for more than a frame or two
let asked = false;
let told = 0;
let last = 0;

function frame(now) {
  asked = false;
  const passed = Math.min(now - last, 100);
  last = now;
  for (const advance of advances) advance(passed);
  for (const paint of painters) paint(now);
  if (!app.playing || now - told >= CALM_MS) {
    told = now;
    for (const listen of listeners) listen();
  }
  if (app.playing) changed();
}

/** Something has changed: everything is shown anew with the next frame. */
export function changed() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(frame);
}

/** `advance(ms)` is called before each frame, `paint(now)` in it. Returns what ends that. */
export function onAdvance(advance) {
  advances.add(advance);
}

export function onFrame(paint) {
  painters.add(paint);
  return () => painters.delete(paint);
}

const bump = (n) => n + 1;

/** A component with this hook is shown anew when something has changed; with a `stamp`, also while
 * a run plays, in each frame in which that has changed. */
export function useApp(stamp = null) {
  const [, again] = useReducer(bump, 0);
  useLayoutEffect(() => {
    let shown = null;
    let last = 0;
    const look = (time) => {
      const now = app.playing ? stamp() : null;
      if (now !== null && (now === shown || (app.speed >= FAST && time - last < FAST_MS))) return;
      again();
      [shown, last] = [now, time];
    };
    const list = stamp ? painters : listeners;
    const listen = stamp ? look : again;
    list.add(listen);
    return () => list.delete(listen);
  }, []);
  return app;
}

// ---- changing -----------------------------------------------------------------------------------

export function set(values) {
  Object.assign(app, values);
  changed();
}

export function notice(text) {
  set({ notice: text });
}

export const sameThing = (a, b) => a?.type === b?.type && a?.id === b?.id;

/** Select one thing, or nothing; it is marked in every view and told in the inspector. */
export function select(thing, { show = true } = {}) {
  if (sameThing(thing, app.selection)) {
    if (thing && show) set({ tab: "life" });
    return;
  }
  if (app.selection) app.past = [...app.past.slice(-30), app.selection];
  app.selection = thing;
  app.marks = thing ? marksOf(film(), thing) : null;
  if (thing?.type === "node") {
    const group = film().nodes[thing.id]?.group;
    if (group !== null && group !== undefined) app.group = group;
  }
  if (show) app.tab = thing ? "life" : "now";
  changed();
}

export function selectBack() {
  const thing = app.past.pop();
  if (!thing) return;
  app.selection = thing;
  app.marks = marksOf(film(), thing);
  app.tab = "life";
  changed();
}

export function activate(name) {
  if (app.active === name || !app.runs.has(name)) return;
  const old = app.active;
  app.active = name;
  if (app.other === name) app.other = old;
  app.selection = null;
  app.marks = null;
  app.past = [];
  changed();
}
