// The first visit's tour: one minute in which the visitor does three things. Whether a thing is done
// is read from the page's own moment, so that any way of doing it counts.

import { useEffect } from "preact/hooks";
import { acknowledged } from "view/film.js";
import { html } from "view/html.js";
import { store, stored } from "view/palette.js";
import { active, app, select, set, useApp } from "view/store.js";
import { toEvent } from "view/time.js";

const COMMITS = 3;
const COPIES = 6;
const QUORUM = 4;
const CALM_NS = 2e7;

/** Whether no fault lasts in [from, to], but for one that is given. */
const calm = (film, from, to, but = null) => film.episodes.every((each) => each === but || each.to_ns < from || each.from_ns > to);

/** A commit that is durable with its fourth acknowledgement, and not before, while nothing fails;
 * the ring at the writer shows it all the while. */
function calmCommit(film) {
  const fit = (each) => {
    if (each.durable < 0 || each.annulled >= 0 || acknowledged(each, each.durable + 1).length !== QUORUM) return false;
    const shown = film.commitAt(each.allocated + 1) === each && film.commitAt(each.durable + 1) === each;
    return shown && calm(film, film.t[each.allocated], film.t[each.durable]);
  };
  return film.commits.find((each) => fit(each) && film.t[each.allocated] > CALM_NS) ?? film.commits.find(fit) ?? null;
}

/** The first fault that takes a whole zone, no other one, and lets some commits become durable. */
function zoneFault(film) {
  if (film.run.bug || film.segments.length !== COPIES) return null;
  return film.episodes.find((each) => {
    const zones = new Set(each.nodes.map((node) => film.nodes[node].az));
    if (each.kind !== "crash" || each.nodes.length !== 2 || zones.size !== 1) return false;
    const some = film.durables.filter((commit) => film.t[commit.durable] > each.from_ns)[COMMITS - 1];
    return some && film.t[some.durable] < each.to_ns && calm(film, each.from_ns, film.t[some.durable], each);
  });
}

const eventAt = (film, ns) => Math.max(0, film.cursorAt(ns) - 1);

/** How many events have happened before a fault begins: all of it is still to come. */
const before = (film, fault) => film.cursorAt(fault.from_ns - 1);

function durableSince(film, from, cursor) {
  return film.durables.filter((each) => each.durable >= from && each.durable < cursor).length;
}

function commitTask(film) {
  const commit = calmCommit(film);
  if (!commit) return null;
  const id = film.commits.indexOf(commit);
  return {
    title: "Find the fourth acknowledgement",
    words: "A writer has just given LSNs to a commit and sends it to six segments. Press → again and again (or hold it) and watch the ring at the writer: with its fourth part the commit is durable, and the ring shows a tick.",
    begin: () => {
      toEvent(commit.allocated);
      select({ type: "commit", id }, { show: true });
    },
    done: () => active().cursor > commit.durable,
    praise: "That was the fourth of six: with it the PGCL moved, then the VDL; the caller is told next. The two copies that are still to come need not be waited for.",
  };
}

function zoneTask(film) {
  const fault = zoneFault(film);
  if (!fault) return null;
  const start = before(film, fault);
  const zone = film.nodes[fault.nodes[0]].az;
  return {
    title: "Watch a zone die, and commits go on",
    words: `All of AZ${zone} is about to crash: two of six copies. Press Space to play, or c to go from commit to commit. Do commits still become durable?`,
    begin: () => {
      select(null);
      set({ speed: 2e7 });
      toEvent(Math.max(0, start - 1));
    },
    done: () => durableSince(film, start, active().cursor) >= COMMITS,
    praise: "They do: four of six are left, and four are enough. Nobody was asked, nobody elected anyone.",
  };
}

function forkTask(film) {
  const fault = zoneFault(film);
  if (!fault) return null;
  const at = fault.from_ns + (fault.to_ns - fault.from_ns) * 0.06;
  if (!calm(film, fault.from_ns, at, fault)) return null;
  const target = film.segments.find((node) => !fault.nodes.includes(node));
  let known = 0;
  const done = () => [...app.forks.values()].filter((each) => each.state === "done").length;
  return {
    title: "Fork, and take a third copy away",
    words: app.server
      ? `AZ${film.nodes[fault.nodes[0]].az} is still away, and four copies are left. Under Fork, add “crash of ${film.nodes[target].id}” at this moment and press Run the fork: with three of six, what happens to writes?`
      : `AZ${film.nodes[fault.nodes[0]].az} is still away, and four copies are left. With one more gone, writes would wait. This exported page cannot run forks: open the tab Fork, where the command stands that can.`,
    begin: () => {
      known = done();
      app.playing = false;
      toEvent(eventAt(film, at));
      app.draft = { of: "main", kind: "crash", target: film.nodes[target].id, params: {}, add: [], remove: [], redraw: false };
      set({ tab: app.server ? "fork" : "now" });
    },
    done: () => (app.server ? done() > known : app.tab === "fork"),
    praise: app.server
      ? "Two runs side by side from one moment: press Space and compare. In the fork no commit becomes durable until a copy is back."
      : "That command brings the page with a simulator behind it.",
  };
}

/** Of a run with a finding: from the first sentence of its story to where the rule breaks. */
function findingTask(film) {
  const told = film.story.filter((each) => each.kind === "step" && each.event !== null);
  if (!film.run.finding || !told.length) return null;
  const last = Math.max(...told.map((each) => each.event));
  return {
    title: "Watch a rule break",
    words: "Below the red box stands what led to the finding. Click the time of each sentence, from the first to the last, and look at the map and the log line: who has the records, who has not?",
    begin: () => {
      select(null);
      toEvent(Math.max(0, told[0].event - 1));
      set({ tab: "why" });
    },
    done: () => active().cursor > last,
    praise: "Here it breaks: the box at the top says which rule, what would have been right, and what may be lost.",
  };
}

function tasksOf(film) {
  const tasks = film.run.finding ? [findingTask(film)] : [commitTask(film), zoneTask(film), forkTask(film)];
  return tasks.filter(Boolean);
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
  const tasks = tasksOf(active().film);
  store("tour", "seen");
  if (!tasks.length) {
    return set({ tour: null, notice: "This run has nothing that the tour could show; `python -m aurora.sim view` has." });
  }
  app.tour = { tasks, at: 0, done: false };
  return begin(0);
}

/** Whether what the tour asks for is done: a key that is still held down goes no further. */
export function tourStops() {
  const task = app.tour?.tasks[app.tour.at];
  return Boolean(task?.done());
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
      <p>One recorded run of the real engine: three zones, six copies of its log, and faults on purpose. You can stand at any moment of it. In one minute, do ${["", "one thing", "two things", "three things"][tour.tasks.length]} yourself?</p>
      <p class="choices"><button class="primary" id="tour-start" onClick=${startTour}>Show me</button> <button onClick=${skipTour}>Not now</button></p></aside>`;
  }
  const last = tour.at === tour.tasks.length - 1;
  return html`<aside class="tour" aria-label="Tour" aria-live="polite">
    <p class="dim">${tour.at + 1} of ${tour.tasks.length}</p><h2>${done ? "✓ " : ""}${task.title}</h2>
    <p>${done ? task.praise : task.words}</p>
    <p class="choices">${done && !last && html`<button class="primary" id="tour-next" onClick=${() => begin(tour.at + 1)}>Next</button> `}
      ${done && last && html`<button class="primary" id="tour-end" onClick=${skipTour}>Done</button> `}
      ${!(done && last) && html`<button onClick=${skipTour}>End the tour</button>`}
      ${done ? html` <button onClick=${() => begin(tour.at)}>Again</button>` : !last && html` <button onClick=${() => begin(tour.at + 1)}>Skip this</button>`}</p></aside>`;
}
