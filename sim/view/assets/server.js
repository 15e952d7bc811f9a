// Where films come from: the server that made the page, or the page itself when it was exported.

import { Film } from "view/film.js";
import { toParting } from "view/time.js";
import { Run, app, changed, set } from "view/store.js";

const MOST_FORKS = 16;
const GONE = "The server does not answer: what is here stays, but forks need it.";

async function embedded(element) {
  const text = element.textContent.trim();
  const packed = Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

/** What the server says of a request that it refuses. */
async function whyNot(response) {
  const text = await response.text();
  try {
    return JSON.parse(text).message.slice(0, 400);
  } catch {
    return text.slice(0, 400) || `${response.status} ${response.statusText}`;
  }
}

async function answered(response) {
  if (response.ok) return response.json();
  throw new Error(await whyNot(response));
}

/** The film of the run that the page is for. */
export async function firstFilm() {
  const element = document.getElementById("film");
  if (element) return new Film(await embedded(element));
  app.server = { base: "./" };
  return new Film(await answered(await fetch("./film?run=main")));
}

/** Listen to what the server tells of forks and futures. */
export function listen() {
  if (!app.server) return;
  const source = new EventSource("./events");
  source.onmessage = (event) => heard(JSON.parse(event.data));
  source.onerror = () => set({ notice: GONE });
  source.onopen = () => app.notice === GONE && set({ notice: "" });
  app.server.source = source;
}

function heard(news) {
  if (news.kind === "fork") forkNews(news);
  else if (news.kind === "inevitable") {
    app.future = { ...app.future, ...news, state: news.state ?? (news.done ? "done" : "running") };
    changed();
  }
}

async function forkNews(news) {
  const fork = { ...app.forks.get(news.run), ...news };
  const parent = / fork (fork-\d+)\.toml /.exec(news.command ?? "")?.[1];
  if (parent && news.title) fork.title = `${parent}, ${news.title}`;
  app.forks.set(news.run, fork);
  if (news.state === "failed") app.notice = `${news.run}: ${news.error ?? "the fork could not be run"}`;
  changed();
  if (news.state === "done" && fork.asked && !app.runs.has(news.run)) await openFork(news.run);
}

/** Fetch a fork's film and set it beside the run. */
export async function openFork(name) {
  try {
    if (!app.runs.has(name)) {
      const film = new Film(await answered(await fetch(`./film?run=${encodeURIComponent(name)}`)));
      app.runs.set(name, new Run(name, film));
    }
  } catch (error) {
    set({ notice: `${name}: ${error.message}` });
    return;
  }
  app.active = "main";
  app.other = name;
  app.view = "map";
  app.selection = null;
  app.marks = null;
  toParting(name);
  changed();
}

async function post(path, body) {
  const request = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(`./${path}`, request).catch(() => Promise.reject(new Error(GONE)));
  return answered(response);
}

/** Have the server say what is wrong with a fork; an exported page has nobody to ask. */
export async function checkFork(draft) {
  const { wrong } = app.server ? await post("fork", { ...draft, check: true }) : {};
  if (wrong) throw new Error(wrong);
}

/** Ask for a fork; the film comes when the server says that it is done. */
export async function askFork(draft, title) {
  if (app.forks.size >= MOST_FORKS) throw new Error(`there are ${MOST_FORKS} forks already`);
  const reply = await post("fork", draft);
  const before = app.forks.get(reply.run);
  app.forks.set(reply.run, { state: "running", ...before, title, command: reply.command, toml: reply.toml, asked: true });
  changed();
  if (before?.state === "done") await openFork(reply.run); // faster than its own announcement
  return reply.run;
}

export async function stopFuture() {
  await post("inevitable", { run: "main", stop: true });
}

export async function askFuture(futures) {
  app.future = { state: "running", points: [] };
  changed();
  const reply = await post("inevitable", { run: "main", futures });
  app.future = { ...app.future, command: reply.command };
  changed();
}
