// Name a thing and it is selected: "LSN 12", "page 3", "commit 12", "A0", "message 7", "call 3", "0.6",
// "crash az3", or a word to be explained: "PGCL", "heartbeat", "pgcl-is-backed", "crash". What the page calls a thing names it: "WriteBatch #7", "Commit
// LSN 3–4".

import { app, select, set } from "view/store.js";
import { toEvent, toTime } from "view/time.js";
import { wordNamed } from "view/words.js";

/** The thing that words name in a film, or null. */
export function thingNamed(film, words) {
  const text = words.trim();
  const node = film.nodes.findIndex((each) => each.id.toLowerCase() === text.toLowerCase());
  if (node >= 0) return { type: "node", id: node };
  const match = /^(?:record )?(lsn|commit|page|message|call|event)?(?: lsn)?\s*#?(\d[\d,_]*)(?:[–-][\d,_]+)?$/i.exec(text);
  const message = /^([a-z]*) ?#(\d+)$/i.exec(text);
  if (message) {
    const [, type, id] = message;
    const found = film.messages[Number(id)]?.type.toLowerCase();
    return found && ["", "message", found].includes(type.toLowerCase()) ? { type: "message", id: Number(id) } : null;
  }
  if (!match) {
    const word = wordNamed(text);
    return word ? { type: "word", id: word } : null;
  }
  const number = Number(match[2].replaceAll(/[,_]/g, ""));
  const kind = (match[1] ?? "lsn").toLowerCase();
  if (kind === "page") return { type: "page", id: number };
  if (kind === "message") return number < film.messages.length ? { type: "message", id: number } : null;
  if (kind === "event") return number >= 1 && number <= film.count ? { type: "event", id: number - 1 } : null;
  if (kind === "call") {
    return film.callOf.has(number) ? { type: "call", id: number } : null;
  }
  const commit = film.commitOf(number);
  if (kind === "commit") return commit ? { type: "commit", id: film.commits.indexOf(commit) } : null;
  return commit ? { type: "lsn", id: number } : null;
}

/** Select what the words name, or go to the moment they name; says so when there is no such thing. */
export function find(film, words) {
  const moment = /^(\d+\.\d*|\d+(\.\d+)?\s*(s|ms|us|µs))$/.exec(words.trim());
  if (moment) {
    const scale = { s: 1e9, ms: 1e6, us: 1e3, "µs": 1e3 }[moment[3] ?? "s"];
    app.notice = "";
    toTime(parseFloat(words) * scale);
    return true;
  }
  const fault = film.episodes.find((each) => each.title.toLowerCase() === words.trim().toLowerCase());
  if (fault) {
    set({ notice: "" });
    toTime(fault.from_ns);
    return true;
  }
  const thing = thingNamed(film, words);
  if (!thing) {
    set({ notice: `nothing here is called “${words.slice(0, 40)}”: try LSN 12, page 3, message 7, A0 or 0.6 s` });
    return false;
  }
  set({ notice: "" });
  if (thing.type === "event") toEvent(thing.id);
  select(thing);
  return true;
}
