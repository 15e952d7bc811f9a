// The life of the selected thing, in facts and in sentences, each of which selects what it tells of.

import { acknowledged, fateOf, stageOf } from "view/film.js";
import { commitLife, eventLife, messageFacts, pageWords, titleOf, tooFewWords } from "view/follow.js";
import { bytes, count, lsnRange, moment, span } from "view/format.js";
import { html } from "view/html.js";
import { showLanes } from "view/lanes.js";
import { stageWords, stateSign, stateWords } from "view/signs.js";
import { active, app, select, selectBack } from "view/store.js";
import { toEvent } from "view/time.js";
import { wordsFor } from "view/words.js";

export function Life() {
  const run = active();
  const thing = app.selection;
  if (!thing) return html`<div class="empty"><p>Nothing is selected.</p>
    <p>Click a node, a dot, a commit on the log line or a sentence, or press <kbd>/</kbd> and name it:
    <code>LSN 12</code>, <code>page 3</code>, <code>commit 12</code>, <code>A0</code>.</p></div>`;
  const View = VIEWS[thing.type];
  return html`<header class="lifehead"><h2>${titleOf(run.film, thing)}</h2>
      ${app.past.length > 0 && html`<button onClick=${selectBack} data-tip="What was selected before (key: Backspace)">← back</button>`}
      ${app.marks.events.length > 0 && html`<button onClick=${() => toEvent(app.marks.events[0])} data-tip="To its first event">go there</button>`}
      ${app.marks.events.length > 1 && html`<button onClick=${() => inLanes(run.film)} data-tip="From its first event to its last, in the lanes">lanes</button>`}
      <button onClick=${() => select(null)} data-tip="Select nothing (key: Escape)">✕ clear</button></header>
    <${View} run=${run} id=${thing.id} />`;
}

const PAUSE_NS = 2e6;

/** A life in the lanes: from its first event until nothing happens for long, as before a late read. */
function inLanes(film) {
  const times = app.marks.events.map((n) => film.t[n]);
  const last = times.findIndex((at, i) => times[i + 1] - at > Math.max(PAUSE_NS, 3 * (at - times[0])));
  showLanes(times[0], times.at(last));
}

function Facts({ facts }) {
  return html`<dl class="factlist">${facts.map(([name, value, word = name]) => html`<div key=${name}>
    <dt data-tip=${wordsFor(FIELDS[word] ?? word) || undefined}>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function Lines({ run, lines }) {
  const { film, cursor } = run;
  if (!lines.length) return html`<p class="empty">No event speaks of it.</p>`;
  const now = lines.findLastIndex((each) => each.n >= 0 && each.n < cursor);
  return html`<ol class="events life">${lines.map((each, i) => html`<li key=${i}
      class="${each.mark ?? ""} ${i === now ? "current" : ""} ${each.n >= cursor ? "future" : ""}">
    ${each.n < 0
      ? html`<p>${each.text}</p>`
      : html`<button onClick=${() => toEvent(each.n)} aria-current=${i === now ? "step" : undefined}>
        <span class="when">${moment(film.t[each.n]).slice(0, -2)}</span>
        <span class="klass ${film.classOf(each.n)}"></span>
        <span class="what">${each.text}</span></button>`}</li>`)}</ol>`;
}

const link = (words, thing) => html`<button class="link" onClick=${() => select(thing)}>${words}</button>`;

const joined = (parts) => parts.flatMap((each, i) => (i ? [", ", each] : [each]));

const ORDER = ["scl", "received", "gap", "vdl", "vcl", "next_lsn", "waiting", "commits", "epoch", "table_epoch", "starts", "log_bytes", "floor", "layers", "pgcl"];

function place(field) {
  const at = ORDER.indexOf(field.startsWith("pgcl") ? "pgcl" : field);
  return at < 0 ? ORDER.length : at;
}

function Node({ run, id }) {
  const { film, moment: state } = run;
  const node = film.nodes[id];
  const fields = Object.keys(film.slots[id]).sort((a, b) => place(a) - place(b));
  const condition = film.slots[id].state === undefined ? null : state.of(id, "state") || "not yet";
  const facts = fields.filter((field) => field !== "state").map((field) => [fieldWords(field), shown(field, state.of(id, field)), field.split(":")[0]]);
  const events = film.nodeEvents[id];
  const near = nearby(events, run.cursor);
  return html`<p>${node.words}</p>
    ${condition !== null && html`<p><span class="sign">${stateSign(condition)}</span> <b>${condition}</b>
      <span class="dim"> ${stateWords(condition)}</span></p>`}
    <${Facts} facts=${facts} />
    <h3>Its events around this moment <span class="dim">of ${count(events.length)}; Shift + ← → steps through them</span></h3>
    <${Lines} run=${run} lines=${near.map((n) => ({ n, text: film.line(n) }))} />`;
}

function nearby(events, cursor) {
  let at = events.findIndex((n) => n >= cursor);
  if (at < 0) at = events.length;
  return events.slice(Math.max(0, at - 12), at + 8);
}

const FIELDS = { scl: "SCL", vcl: "VCL", vdl: "VDL" };

/** A field's name in words; those that are kept for each group or segment say for which. */
function fieldWords(field) {
  const [name, of] = field.split(":");
  if (name === "pgcl") return `PGCL of group ${of}`;
  if (name === "scl" && of) return `SCL heard of ${of}`;
  return FIELDS[name] ?? name.replaceAll("_", " ");
}

function shown(field, value) {
  if (field === "gap" && !value) return "none";
  if (field.endsWith("bytes")) return bytes(value);
  if (Array.isArray(value)) return value.length ? value.map((each) => (Array.isArray(each) ? lsnRange(...each) : each)).join(", ") : "none";
  return count(value);
}

function Commit({ run, id }) {
  const { film, cursor } = run;
  const commit = film.commits[id];
  const heard = acknowledged(commit, cursor);
  const fate = fateOf(commit, cursor);
  const words = { durable: "Durable.", annulled: "Annulled.", "declared durable": `${tooFewWords(heard.length)}.` }[fate] ?? "Not durable yet.";
  const pages = commit.pages.slice(0, 6).map((page) => link(count(page), { type: "page", id: page }));
  const records = commit.lsn - commit.first_lsn < 8
    ? Array.from({ length: commit.lsn - commit.first_lsn + 1 }, (_, i) => commit.first_lsn + i)
    : [commit.first_lsn, commit.lsn];
  return html`<p class="summary"><b>${heard.length} of 6</b> copies acknowledged at this moment${heard.length ? html`: ${joined(heard.map((each) => link(film.nodes[each.node].id, { type: "node", id: each.node })))}` : ""}.
      <b class=${{ durable: "good", "": "" }[fate] ?? "bad"}> ${words}</b></p>
    <${Holders} run=${run} commit=${commit} />
    <p class="dim">Records ${joined(records.map((lsn) => link(count(lsn), { type: "lsn", id: lsn })))}
      ${pages.length > 0 && html` · ${commit.pages.length === 1 ? "page" : "pages"} ${joined(pages)}`}
      ${commit.call >= 0 && html` · ${link(`call ${commit.call}`, { type: "call", id: commit.call })}`}</p>
    <h3>Its life</h3>
    <${Lines} run=${run} lines=${commitLife(film, commit)} />`;
}

/** Six boxes: how far each copy is with the commit, at this moment. */
function Holders({ run, commit }) {
  const { film, cursor } = run;
  const nodes = film.segments.filter((i) => film.nodes[i].group === commit.pg || film.groups.length === 1);
  return html`<div class="holders">${nodes.map((node) => {
    const words = stageOf(commit, node, cursor, run.moment.of(node, "state"));
    return html`<button key=${node} class="holder ${words.replaceAll(" ", "-")}" data-tip=${stageWords(words)} onClick=${() => select({ type: "node", id: node })}>
      <b>${film.nodes[node].id}</b><span>${words}</span></button>`;
  })}</div>`;
}

function Record({ run, id }) {
  const { film, moment: state } = run;
  const commit = film.commitOf(id);
  const group = film.segments.filter((i) => film.nodes[i].group === (commit?.pg ?? app.group));
  const gone = commit && fateOf(commit, run.cursor) === "annulled";
  const have = gone ? [] : group.filter((i) => (state.of(i, "scl") || 0) >= id);
  return html`<p>${gone ? "A recovery has annulled it: it exists nowhere, and an SCL above it says nothing of it." : have.length ? html`At this moment ${joined(have.map((i) => link(film.nodes[i].id, { type: "node", id: i })))} ${have.length === 1 ? "has" : "have"} everything up to it (SCL).` : "At this moment no segment has everything up to it."}</p>
    ${commit && html`<p>It belongs to ${link(titleOf(film, { type: "commit" , id: film.commits.indexOf(commit) }), { type: "commit", id: film.commits.indexOf(commit) })}${commit.pages.length ? html`, of ${pageWords(commit.pages)}` : ""}.</p>`}
    <h3>Events that speak of it</h3>
    <${Lines} run=${run} lines=${eventLife(film, app.marks)} />${cut()}`;
}

const cut = () => app.marks.more && html`<p class="dim">and more; use the filter of the lanes to see them all.</p>`;

function Page({ run, id }) {
  const { film } = run;
  const writes = film.commits.map((_, i) => i).filter((i) => film.commits[i].pages.includes(id));
  return html`<p>${writes.length ? html`Changed by ${writes.length === 1 ? "one commit" : `${count(writes.length)} commits`}: ${joined(writes.slice(0, 16).map((i) => link(lsnRange(film.commits[i].first_lsn, film.commits[i].lsn), { type: "commit", id: i })))}${writes.length > 16 ? ", …" : ""}.` : "No commit of this run changes it."}</p>
    <h3>Events that speak of it</h3>
    <${Lines} run=${run} lines=${eventLife(film, app.marks)} />${cut()}`;
}

function Message({ run, id }) {
  const { film } = run;
  const m = film.messages[id];
  const lines = eventLife(film, app.marks);
  const commits = m.lsns ? film.commitsIn(...m.lsns).slice(0, 8) : [];
  return html`<p>${m.text}</p><${Facts} facts=${messageFacts(film, m)} />
    ${commits.length > 0 && html`<p class="dim">It carries ${joined(commits.map((each) => link(`commit ${lsnRange(each.first_lsn, each.lsn)}`, { type: "commit", id: film.commits.indexOf(each) })))}.</p>`}
    <h3>Its events</h3><${Lines} run=${run} lines=${lines} />`;
}

function Call({ run, id }) {
  const { film } = run;
  const call = film.callOf.get(id);
  const commit = film.commits.findIndex((each) => each.call === id);
  const facts = [["client", film.nodes[call.client]?.id ?? "–"], ["writer", film.nodes[call.writer]?.id ?? "–"], ["called", moment(call.invoked_ns)]];
  if (call.returned_ns !== null) facts.push(["took", span(call.returned_ns - call.invoked_ns)]);
  facts.push(["outcome", call.outcome]);
  return html`<p>${call.text}</p><${Facts} facts=${facts} />
    ${call.said.length > 0 && html`<h3>What it says</h3>${call.said.map((each, i) => html`<pre class="command" key=${i}>${each}</pre>`)}`}
    ${commit >= 0 && html`<p>It became ${link(titleOf(film, { type: "commit", id: commit }), { type: "commit", id: commit })}.</p>`}
    <h3>Its events</h3><${Lines} run=${run} lines=${eventLife(film, app.marks)} />`;
}

function Event({ run, id }) {
  const { film } = run;
  const range = film.lsns(id);
  const things = [];
  if (film.node[id] >= 0) things.push(link(film.nodes[film.node[id]].id, { type: "node", id: film.node[id] }));
  if (film.message[id] >= 0) things.push(link(`message #${film.message[id]}`, { type: "message", id: film.message[id] }));
  if (film.callOf.has(film.call[id])) things.push(link(`call ${film.call[id]}`, { type: "call", id: film.call[id] }));
  for (const page of film.pages(id).slice(0, 4)) things.push(link(`page ${page}`, { type: "page", id: page }));
  if (range) for (const each of film.commitsIn(...range).slice(0, 6)) things.push(link(`commit ${lsnRange(each.first_lsn, each.lsn)}`, { type: "commit", id: film.commits.indexOf(each) }));
  return html`<p>${film.text(id)}</p><p class="dim">${film.kindOf(id).words}</p>
    <${Facts} facts=${[["at", moment(film.t[id])], ["event", count(id + 1)]]} />
    ${things.length > 0 && html`<p>It speaks of ${joined(things)}.</p>`}`;
}

/** A word that is explained. */
function Word({ id }) {
  return html`<p>${wordsFor(id)}</p>`;
}

const VIEWS = { word: Word, node: Node, commit: Commit, lsn: Record, page: Page, message: Message, call: Call, event: Event };
