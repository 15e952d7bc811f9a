// The first visit's tour: one minute in which the visitor does three things. Whether a thing is done
// is read from the page's own moment, so that any way of doing it counts.

import { useEffect } from "preact/hooks";
import { acknowledged } from "view/film.js";
import { html } from "view/html.js";
import { store, stored } from "view/palette.js";
import { active, app, select, set, useApp } from "view/store.js";
import { toEvent } from "view/time.js";

const COMMITS = 3;

/** A commit that four of six acknowledge one after the other, while nothing fails. */
function calmCommit(film) {
  const fit = (each) => each.durable >= 0 && acknowledged(each, film.count).length >= 4 && film.t[each.allocated] > 2e7;
  return film.commits.find(fit) ?? film.commits.find((each) => each.durable >= 0) ?? null;
}

const fourth = (film, commit) => acknowledged(commit, film.count)[3]?.heard ?? commit.durable;

/** The first fault that takes a whole zone. */
function zoneFault(film) {
  return film.episodes.find((each) => {
    const zones = new Set(each.nodes.map((node) => film.nodes[node].az));
    return each.kind === "crash" && each.nodes.length > 1 && zones.size === 1;
  });
}

const eventAt = (film, ns) => Math.max(0, film.cursorAt(ns) - 1);

function durableSince(film, from, cursor) {
  return film.durables.filter((each) => each.durable > from && each.durable < cursor).length;
}

function commitTask(film) {
  const commit = calmCommit(film);
  if (!commit) return null;
  const id = film.commits.indexOf(commit);
  return {
    title: "Find the fourth acknowledgement",
    words: "A writer has just given LSNs to a commit and sends it to six segments. Press → again and again (or hold it) and watch the ring at the writer: when its fourth part fills, the commit is durable.",
    begin: () => {
      toEvent(commit.allocated);
      select({ type: "commit", id }, { show: true });
    },
    done: () => active().cursor > fourth(film, commit) && active().cursor <= fourth(film, commit) + 60,
    missed: () => active().cursor > fourth(film, commit) + 60,
    praise: "That was the fourth of six: the PGCL moves, then the VDL, and the caller is told. Two slow copies would not have mattered.",
  };
}

function zoneTask(film) {
  const fault = zoneFault(film);
  if (!fault) return null;
  const start = eventAt(film, fault.from_ns);
  return {
    title: "Watch a zone die, and commits go on",
    words: "A whole availability zone is about to crash: two of six copies. Press Space to play, or c to go from commit to commit. Do commits still become durable?",
    begin: () => {
      select(null);
      set({ speed: 2e7 });
      toEvent(Math.max(0, start - 1));
    },
    done: () => active().cursor > start && durableSince(film, start, active().cursor) >= COMMITS,
    praise: "They do: four of six are left, and four are enough. Nobody was asked, nobody elected anyone.",
  };
}

function forkTask(film) {
  const fault = zoneFault(film);
  const at = fault ? fault.from_ns + (fault.to_ns - fault.from_ns) * 0.06 : film.endNs / 2;
  const target = film.segments.find((node) => !fault?.nodes.includes(node));
  return {
    title: "Fork, and take a fourth copy away",
    words: app.server
      ? `The zone is still away, and four copies are left. Under Fork, add “crash of ${film.nodes[target].id}” at this moment and press Run the fork: with three of six, what happens to writes?`
      : "The zone is still away, and four copies are left. With one more gone, writes would wait. This exported page cannot run forks: open the tab Fork, where the command stands that can.",
    begin: () => {
      app.playing = false;
      toEvent(eventAt(film, at));
      app.draft = { kind: "crash", target: film.nodes[target].id, params: {}, add: [], remove: [], redraw: false };
      set({ tab: app.server ? "fork" : "now" });
    },
    done: () => (app.server ? [...app.forks.values()].some((each) => each.state === "done") : app.tab === "fork"),
    praise: app.server
      ? "Two runs side by side from one moment: press Space and compare. In the fork no commit becomes durable until a copy is back."
      : "That command brings the page with a simulator behind it.",
  };
}

function tasksOf(film) {
  return [commitTask(film), zoneTask(film), forkTask(film)].filter(Boolean);
}

function begin(at) {
  const tasks = app.tour.tasks;
  app.tour = { tasks, at, done: false };
  tasks[at].begin();
  set({});
}

export function startTour() {
  app.other = null;
  app.active = "main";
  app.view = "map";
  app.tour = { tasks: tasksOf(active().film), at: 0, done: false };
  store("tour", "seen");
  begin(0);
}

export function skipTour() {
  store("tour", "seen");
  set({ tour: null });
}

/** On the first visit, if the run has what the tour shows. */
export function offerTour(film) {
  if (stored("tour") || film.run.finding || !zoneFault(film)) return;
  app.tour = { tasks: tasksOf(film), at: -1, done: false };
}

export function Tour() {
  useApp();
  const { tour } = app;
  const task = tour && tour.at >= 0 ? tour.tasks[tour.at] : null;
  const done = Boolean(task && (tour.done || task.done()));
  useEffect(() => {
    if (done && !tour.done) {
      tour.done = true;
      set({ playing: false });
    }
  }, [done]);
  if (!tour) return null;
  if (!task) {
    return html`<aside class="tour" aria-label="Tour"><h2>What is this?</h2>
      <p>One recorded run of the real engine: three zones, six copies of its log, and faults on purpose. You can stand at any moment of it. In one minute, do three things yourself?</p>
      <p class="choices"><button class="primary" id="tour-start" onClick=${startTour}>Show me</button> <button onClick=${skipTour}>Not now</button></p></aside>`;
  }
  const last = tour.at === tour.tasks.length - 1;
  return html`<aside class="tour" aria-label="Tour" aria-live="polite">
    <p class="dim">${tour.at + 1} of ${tour.tasks.length}</p><h2>${done ? "✓ " : ""}${task.title}</h2>
    <p>${done ? task.praise : task.words}</p>
    ${!done && task.missed?.() && html`<p class="bad">You have gone past it. Step back with ←, or <button class="link" onClick=${() => begin(tour.at)}>start again</button>.</p>`}
    <p class="choices">${done && !last && html`<button class="primary" id="tour-next" onClick=${() => begin(tour.at + 1)}>Next</button> `}
      ${done && last && html`<button class="primary" id="tour-end" onClick=${skipTour}>Done</button> `}
      ${!(done && last) && html`<button onClick=${skipTour}>End the tour</button>`}
      ${!done && !last && html` <button onClick=${() => begin(tour.at + 1)}>Skip this</button>`}</p></aside>`;
}
