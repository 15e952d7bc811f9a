// The life of one thing, backwards and forwards: which events, nodes, messages and LSNs are its own.

import { acknowledged, fateOf } from "view/film.js";
import { briefMoment, bytes, count, lsnRange, plural, span } from "view/format.js";

const MOST = 400;

const meets = (range, first, last) => range && range[0] <= last && range[1] >= first;

/** What a selection marks in all views. `events` is ascending, and `more` says that it was cut. */
export function marksOf(film, thing) {
  const marks = { events: [], nodes: new Set(), messages: new Set(), lsns: null, page: null, more: false };
  const { type, id } = thing;
  if (type === "word") return marks;
  if (type === "node") {
    marks.nodes.add(id);
    return marks;
  }
  if (type === "message") {
    const m = film.messages[id];
    marks.messages.add(id);
    marks.nodes.add(m.from).add(m.to);
    marks.lsns = m.lsns || null;
    collect(film, marks, (n) => film.message[n] === id);
  } else if (type === "commit") {
    const commit = film.commits[id];
    byLsn(film, marks, commit.first_lsn, commit.lsn);
  } else if (type === "lsn") byLsn(film, marks, id, id);
  else if (type === "page") {
    marks.page = id;
    collect(film, marks, (n) => film.pages(n).includes(id));
    film.messages.forEach((m, i) => m.pages && m.pages.includes(id) && marks.messages.add(i));
  } else if (type === "call") collect(film, marks, (n) => film.call[n] === id);
  else if (type === "event") eventMarks(film, marks, id);
  for (const n of marks.events) if (film.node[n] >= 0) marks.nodes.add(film.node[n]);
  return marks;
}

function eventMarks(film, marks, n) {
  marks.events = [n];
  marks.lsns = film.lsns(n);
  if (film.message[n] >= 0) {
    const m = film.messages[film.message[n]];
    marks.messages.add(film.message[n]);
    marks.nodes.add(m.from).add(m.to);
  }
}

function byLsn(film, marks, first, last) {
  marks.lsns = [first, last];
  // Events that speak of a thousand LSNs at once say little about one of them.
  const near = Math.max(64, last - first + 1);
  collect(film, marks, (n) => {
    const range = film.raw.events.lsns[n];
    return meets(range, first, last) && range[1] - range[0] < near;
  });
  film.messages.forEach((m, i) => meets(m.lsns, first, last) && marks.messages.add(i));
}

function collect(film, marks, wanted) {
  for (let n = 0; n < film.count; n += 1) {
    if (!wanted(n)) continue;
    if (marks.events.length >= MOST) {
      marks.more = true;
      return;
    }
    marks.events.push(n);
  }
}

/** A thing's name: the inspector's title. */
export function titleOf(film, { type, id }) {
  if (type === "word") return id;
  if (type === "node") return film.nodes[id].id;
  if (type === "message") return `${film.messages[id].type} #${id}`;
  if (type === "commit") {
    const { first_lsn: first, lsn } = film.commits[id];
    return `Commit ${lsnRange(first, lsn)}`;
  }
  if (type === "lsn") return `Record LSN ${count(id)}`;
  if (type === "page") return `Page ${count(id)}`;
  if (type === "call") return `Call ${count(id)}`;
  return film.kindOf(id).name;
}

// ---- facts and sentences ------------------------------------------------------------------------

/** A line of a life: {n: event or -1, text, mark, thing}. */
const line = (n, text, extra = {}) => ({ n, text, ...extra });

const ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth"];

/** The life of a commit in sentences: from the call to whoever reads it. */
export function commitLife(film, commit) {
  const name = (node) => film.nodes[node].id;
  const lines = [];
  const call = film.callOf.get(commit.call);
  if (call) {
    lines.push(line(call.invoked, `${name(call.client)} calls: ${call.text}`, { thing: { type: "call", id: commit.call } }));
  }
  const pages = commit.pages.length ? ` for ${pageWords(commit.pages)}` : "";
  lines.push(line(commit.allocated, `${name(commit.writer)} allocates ${lsnRange(commit.first_lsn, commit.lsn)}${pages}`));
  for (const each of commit.holders) {
    if (each.dropped >= 0) lines.push(line(each.dropped, `It is lost on the way to ${name(each.node)}`, { node: each.node }));
    if (each.received >= 0) lines.push(line(each.received, `${name(each.node)} receives it`, { node: each.node }));
    if (each.lost >= 0) lines.push(line(each.lost, `${name(each.node)} loses it`, { node: each.node, mark: "never" }));
    const early = each.disk >= 0 && each.disk !== each.synced;
    if (early) lines.push(line(each.disk, `${name(each.node)} has it on disk, above a gap`, { node: each.node }));
    if (each.synced >= 0) lines.push(line(each.synced, early ? `${name(each.node)} has all before it, too` : `${name(each.node)} has it on disk (synced)`, { node: each.node }));
  }
  const acks = commit.holders.filter((each) => each.heard >= 0).sort((a, b) => a.heard - b.heard);
  acks.forEach((each, i) => {
    const text = `${name(commit.writer)} hears ${name(each.node)}: the ${ORDINALS[i] ?? `${i + 1}th`} acknowledgement`;
    lines.push(line(each.heard, text, { node: each.node, mark: i === 3 ? "fourth" : "" }));
  });
  if (commit.durable >= 0) {
    const needed = film.t[commit.durable] - film.t[commit.allocated];
    const reached = `the VDL has reached LSN ${count(commit.lsn)}, ${span(needed)} after allocation`;
    const early = fateOf(commit, commit.durable + 1) !== "durable" && tooFewWords(acknowledged(commit, commit.durable + 1).length);
    lines.push(line(commit.durable, early ? `${early}: ${reached}` : `Durable: ${reached}`, { mark: early ? "never" : "durable" }));
  }
  if (call && call.returned >= 0) lines.push(line(call.returned, `${name(call.client)} is told: ${call.outcome}`));
  for (const reader of commit.readers.slice(0, 12)) lines.push(line(reader, `Read: ${film.line(reader)}`));
  if (commit.annulled >= 0) lines.push(line(commit.annulled, "Annulled by a recovery: its LSNs never exist again", { mark: "never" }));
  lines.sort((a, b) => a.n - b.n);
  if (commit.readers.length > 12) lines.push(line(-1, `and ${plural(commit.readers.length - 12, "later read")}`));
  if (call && call.returned < 0 && commit.durable >= 0) lines.push(line(-1, `The run ends here: ${name(call.client)} has not been told yet`));
  if (commit.annulled < 0 && commit.durable < 0) lines.push(line(-1, "It never became durable in this run", { mark: "never" }));
  return lines;
}

/** What is wrong with a commit that counted as durable too early. */
export const tooFewWords = (heard) => `Declared durable with ${heard} of 6, where 4 are needed`;

export function pageWords(pages) {
  const shown = pages.slice(0, 6).map(count).join(", ");
  const more = pages.length > 6 ? ` and ${pages.length - 6} more` : "";
  return `${pages.length === 1 ? "page" : "pages"} ${shown}${more}`;
}

/** The life of anything else: the events that speak of it, those that say the same in one line. */
export function eventLife(film, marks) {
  const who = (n) => (film.node[n] >= 0 ? `${film.nodes[film.node[n]].id}: ` : "");
  const lines = [];
  for (const n of marks.events) {
    const text = `${who(n)}${film.line(n)}`;
    const last = lines.at(-1);
    if (last?.one === text) {
      last.times += 1;
      last.text = `${text} (${last.times} times)`;
    } else lines.push(line(n, text, { node: film.node[n], one: text, times: 1 }));
  }
  return lines;
}

/** Facts about a message, in pairs of name and value. */
export function messageFacts(film, m) {
  const facts = [
    ["from", film.nodes[m.from].id],
    ["to", film.nodes[m.to].id],
    ["sent", briefMoment(m.sent_ns)],
  ];
  if (m.arrived.length) {
    facts.push(["under way", span(m.arrived[0] - m.sent_ns)]);
    if (m.arrived.length > 1) facts.push(["copies", count(m.arrived.length)]);
  } else facts.push(["lost", m.lost ?? "still under way at the end"]);
  if (m.bytes) facts.push(["size", bytes(m.bytes)]);
  if (m.lsns) facts.push(["records", lsnRange(...m.lsns)]);
  if (m.pages && m.pages.length) facts.push(["pages", pageWords(m.pages)]);
  return facts;
}
