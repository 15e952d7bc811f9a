// A film is what a run left behind. State at a moment is a keyframe and the assignments after it;
// nothing here knows a rule of the protocol.

import { span } from "view/format.js";
import { family } from "view/signs.js";

/** The first index whose value is > `value` in an ascending array. */
export function upperBound(values, value) {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] > value) high = middle;
    else low = middle + 1;
  }
  return low;
}

const BLOCK = 64;
const HOLE = 3;
const NONE = Object.freeze([]);

/** Where LSNs stand on the log line. They have holes, some of them huge: each LSN that was given has a
 * column, and what lies between has no more than three. */
export class Axis {
  constructor(commits) {
    this.stretches = [];
    let column = 0;
    let next = 1;
    const add = (first, last, columns, hole) => {
      this.stretches.push({ first, last, column, columns, hole });
      column += columns;
      next = last + 1;
    };
    for (const { first_lsn: first, lsn } of commits.toSorted((a, b) => a.first_lsn - b.first_lsn)) {
      if (first > next) add(next, first - 1, Math.min(HOLE, first - next), first - next > HOLE);
      const last = this.stretches.at(-1);
      if (last && !last.hole && last.last === next - 1 && lsn >= next && last.columns === last.last - last.first + 1) {
        last.columns += lsn - last.last;
        column += lsn - last.last;
        last.last = lsn;
        next = lsn + 1;
      } else if (lsn >= next) add(next, lsn, lsn - next + 1, false);
    }
    this.columns = column;
    add(next, Infinity, Infinity, false);
    this.stretchFirst = this.stretches.map((each) => each.first);
    this.stretchColumn = this.stretches.map((each) => each.column);
  }

  /** The column of the log line in which an LSN stands; fractions inside of a hole. */
  columnOf(lsn) {
    const each = this.stretches[Math.max(upperBound(this.stretchFirst, lsn) - 1, 0)];
    if (!each.hole) return each.column + Math.max(lsn - each.first, 0);
    return each.column + ((lsn - each.first) / (each.last - each.first + 1)) * each.columns;
  }

  /** The LSN that stands in a column, or 0 in a hole. */
  lsnAt(column) {
    const each = this.stretches[Math.max(upperBound(this.stretchColumn, column) - 1, 0)];
    return each.hole ? 0 : each.first + Math.floor(column - each.column);
  }
}

export class Film {
  constructor(raw) {
    if (raw.format !== "aurora-sim film" || raw.version !== 1) {
      throw new Error(`a film of version 1 was expected, not ${raw.format} ${raw.version}`);
    }
    this.raw = raw;
    this.run = raw.run;
    this.nodes = raw.nodes;
    this.kinds = raw.kinds;
    this.words = raw.words;
    this.messages = raw.messages;
    this.calls = raw.calls;
    this.callOf = new Map(raw.calls.map((each) => [each.number, each]));
    this.commits = raw.commits;
    this.episodes = raw.episodes;
    this.planned = raw.planned;
    this.landmarks = raw.landmarks;
    this.invariants = raw.invariants;
    this.story = raw.story;
    this.faults = raw.faults;
    this.t = Float64Array.from(raw.events.t);
    this.count = this.t.length;
    this.kind = Int32Array.from(raw.events.kind);
    this.node = Int32Array.from(raw.events.node);
    this.message = Int32Array.from(raw.events.message);
    this.call = Int32Array.from(raw.events.call);
    this.sets = raw.events.sets;
    this.endNs = Math.max(raw.run.end_ns, this.count ? this.t[this.count - 1] : 0, 1);
    this.#slots(raw.slots);
    this.#nodes();
    this.#messages();
    this.#commits();
  }

  #slots(slots) {
    this.slotCount = slots.length;
    this.slots = this.nodes.map(() => ({}));
    this.worldSlots = {};
    slots.forEach(({ node, field }, index) => {
      (node < 0 ? this.worldSlots : this.slots[node])[field] = index;
    });
    this.keyframeEvents = this.raw.keyframes.map((each) => each.event);
  }

  #nodes() {
    const lists = this.nodes.map(() => []);
    for (let n = 0; n < this.count; n += 1) if (this.node[n] >= 0) lists[this.node[n]].push(n);
    this.nodeEvents = lists;
    this.byName = new Map(this.nodes.map((each, index) => [each.id, index]));
    const of = (kind) => {
      const found = this.nodes.map((_, i) => i).filter((i) => this.nodes[i].kind === kind);
      const name = (i) => this.nodes[i].id;
      const group = (i) => this.nodes[i].group ?? 0;
      const byName = (a, b) => name(a).localeCompare(name(b), "en", { numeric: true });
      return found.sort((a, b) => group(a) - group(b) || byName(a, b));
    };
    this.segments = of("segment");
    this.writers = of("writer");
    this.clients = of("client");
    this.groups = [...new Set(this.segments.map((i) => this.nodes[i].group))].sort((a, b) => a - b);
  }

  #messages() {
    const { messages } = this;
    const trips = [];
    for (const m of messages) if (m.arrived.length) trips.push(m.arrived[0] - m.sent_ns);
    trips.sort((a, b) => a - b);
    this.tripNs = Math.max(trips[trips.length >> 1] ?? 1e5, 1);
    this.families = messages.map((m) => family(m.type));
    this.sentNs = Float64Array.from(messages, (m) => m.sent_ns);
    const over = (m) => {
      if (m.arrived.length) return Math.max(...m.arrived);
      return m.lost ? m.sent_ns + this.tripNs * 2 : this.endNs;
    };
    this.overNs = Float64Array.from(messages, over);
    this.blockOver = [];
    for (let n = 0; n < messages.length; n += 1) {
      const block = Math.floor(n / BLOCK);
      this.blockOver[block] = Math.max(this.blockOver[block] ?? 0, this.overNs[n]);
    }
  }

  #commits() {
    const order = this.commits.map((_, i) => i);
    order.sort((a, b) => this.commits[a].first_lsn - this.commits[b].first_lsn);
    this.commitOrder = order;
    this.commitFirst = Float64Array.from(order, (i) => this.commits[i].first_lsn);
    this.allocated = Float64Array.from(this.commits, (each) => each.allocated);
    this.durables = this.commits
      .filter((each) => each.durable >= 0)
      .sort((a, b) => a.durable - b.durable);
    this.axis = new Axis(this.commits);
    this.#accused();
  }

  /** The commit that the finding speaks of, and when that was: there it is shown, whatever else waits. */
  #accused() {
    const finding = this.landmarks.find((each) => each.kind === "finding");
    const lsn = this.story.find((each) => each.kind === "found")?.refs.find((each) => each.lsn)?.lsn;
    this.accused = finding && lsn ? this.commitOf(lsn) : null;
    this.accusedNs = finding?.t;
  }

  /** The commit that a finding of this very moment speaks of. */
  accusedAt(cursor) {
    return this.accused && this.t[cursor - 1] >= this.accusedNs ? this.accused : null;
  }

  /** What an event tells, in all its lines. */
  text(n) {
    return this.raw.events.text[n];
  }

  /** The first line of what an event tells. */
  line(n) {
    const text = this.raw.events.text[n];
    const end = text.indexOf("\n");
    return end < 0 ? text : text.slice(0, end);
  }

  /** What a message says, how it fares, and its type and way. */
  letter(index) {
    const m = this.messages[index];
    const fate = m.arrived.length ? `${span(m.arrived[0] - m.sent_ns)} under way` : m.lost ? `lost: ${m.lost}` : "still under way at the end";
    return [`${m.text} (${fate})`, `${m.type}, ${this.nodes[m.from].id} → ${this.nodes[m.to].id}`];
  }

  lsns(n) {
    return this.raw.events.lsns[n] || null;
  }

  pages(n) {
    return this.raw.events.pages[n] || NONE;
  }

  kindOf(n) {
    return this.kinds[this.kind[n]];
  }

  classOf(n) {
    return this.kinds[this.kind[n]].class;
  }

  /** How many events have happened at `ns`, that very moment included. */
  cursorAt(ns) {
    return upperBound(this.t, ns);
  }

  /** Messages that are under way in (from, to], oldest first; at most `limit`. */
  underWay(from, to, limit = 20000) {
    const found = [];
    const until = upperBound(this.sentNs, to);
    const last = Math.floor((until - 1) / BLOCK);
    for (let block = 0; block <= last; block += 1) {
      if (this.blockOver[block] <= from) continue;
      const stop = Math.min(until, (block + 1) * BLOCK);
      for (let m = block * BLOCK; m < stop; m += 1) {
        if (this.overNs[m] > from) found.push(m);
        if (found.length >= limit) return found;
      }
    }
    return found;
  }

  /** Commits with an LSN in [first, last], ascending. */
  commitsIn(first, last) {
    const start = Math.max(upperBound(this.commitFirst, first) - 1, 0);
    const found = [];
    for (let i = start; i < this.commitOrder.length && this.commitFirst[i] <= last; i += 1) {
      const commit = this.commits[this.commitOrder[i]];
      if (commit.lsn >= first) found.push(commit);
    }
    return found;
  }

  commitOf(lsn) {
    return this.commitsIn(lsn, lsn)[0] ?? null;
  }

  /** The newest LSN that was given in the first `cursor` events and is not annulled; 0 if there is none. */
  newestAt(cursor) {
    let i = upperBound(this.allocated, cursor - 1) - 1;
    while (i >= 0 && fateOf(this.commits[i], cursor) === "annulled") i -= 1;
    return this.commits[i]?.lsn ?? 0;
  }

  /** The commit that is being acknowledged after `cursor` events: the one that a finding speaks of,
   * or the oldest that still waits, or else the newest that is durable. */
  commitAt(cursor) {
    const accused = this.accusedAt(cursor);
    if (accused) return accused;
    let oldest = null;
    let newest = null;
    const from = upperBound(this.allocated, cursor - 1) - 1;
    for (let i = from; i >= 0 && i > from - 400; i -= 1) {
      const each = this.commits[i];
      if (each.durable < 0 || each.durable >= cursor) oldest = each;
      else newest ??= each;
      if (newest && i < from - 60) break;
    }
    return oldest ?? newest;
  }
}

/** How a commit is after `cursor` events: durable, annulled by a recovery, or neither yet; or
 * declared durable, though too few had acknowledged it. */
export function fateOf(commit, cursor) {
  if (commit.annulled >= 0 && commit.annulled < cursor) return "annulled";
  if (commit.durable < 0 || commit.durable >= cursor) return "";
  return commit.backed >= 0 && commit.backed < cursor ? "durable" : "declared durable";
}

/** Whose acknowledgement of a commit the writer has heard after `cursor` events, in that order. */
export function acknowledged(commit, cursor) {
  return commit.holders
    .filter((each) => each.heard >= 0 && each.heard < cursor)
    .sort((a, b) => a.heard - b.heard);
}

/** How far a segment, which is in a `state`, is with a commit after `cursor` events, in words. */
export function stageOf(commit, node, cursor, state) {
  const holder = commit.holders.find((each) => each.node === node);
  const reached = (n) => n !== undefined && n >= 0 && n < cursor;
  const away = reached(holder?.dropped) ? "lost on the way" : "not there";
  if (reached(commit.annulled)) return reached(holder?.received) ? "lost" : away;
  if (reached(holder?.lost) || (state === "lost" && reached(holder?.synced))) return "lost";
  if (reached(holder?.heard)) return "acknowledged";
  if (reached(holder?.synced)) return "on disk";
  if (reached(holder?.disk)) return "above a gap";
  return reached(holder?.received) ? "received" : away;
}

/** The state after `cursor` events, kept up to date as the cursor moves. */
export class Moment {
  constructor(film) {
    this.film = film;
    this.cursor = -1;
    this.state = [];
    this.moveTo(0);
  }

  moveTo(cursor) {
    const { film } = this;
    const wanted = Math.max(0, Math.min(cursor, film.count));
    if (wanted === this.cursor) return;
    if (wanted < this.cursor || wanted - this.cursor > 1000 || this.cursor < 0) {
      const index = Math.max(upperBound(film.keyframeEvents, wanted) - 1, 0);
      const keyframe = film.raw.keyframes[index];
      this.state = keyframe ? keyframe.state.slice() : new Array(film.slotCount).fill(0);
      this.cursor = keyframe ? keyframe.event : 0;
    }
    for (let n = this.cursor; n < wanted; n += 1) {
      const sets = film.sets[n];
      if (!sets) continue;
      for (let i = 0; i < sets.length; i += 2) this.state[sets[i]] = sets[i + 1];
    }
    this.cursor = wanted;
  }

  of(node, field) {
    return this.state[this.film.slots[node][field]];
  }

  world(field) {
    return this.state[this.film.worldSlots[field]];
  }
}
