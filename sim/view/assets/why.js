// Why: the finding and its story, whose sentences select what they speak of; the invariants, each a
// lane that is green until it is not; and when the end became inevitable.

import { briefMoment, plural } from "view/format.js";
import { html } from "view/html.js";
import { Inevitable } from "view/inevitable.js";
import { active, app, notice, select } from "view/store.js";
import { titleOf } from "view/follow.js";
import { toEvent } from "view/time.js";
import { wordsFor } from "view/words.js";

export function Why() {
  const run = active();
  const { film } = run;
  const { finding, verdict, invariant, bug } = film.run;
  const broken = film.invariants.find((each) => each.name === invariant);
  return html`${finding
      ? html`<div class="finding" role="note"><h2><span class="bad">✕</span> ${invariant ?? verdict}</h2>
          <p><${Words} run=${run} sentence=${film.story.find((each) => each.kind === "found") ?? { text: finding, refs: [] }} at=${foundAt(film)} /></p>${broken && html`<p class="dim">The rule: ${broken.words}</p>`}
          <${LastStep} run=${run} />
          ${film.story.filter((each) => each.gist).map((each, i) => html`<p key=${i}><${Words} run=${run} sentence=${capital(each)} />.</p>`)}
          ${bug && html`<${Planted} run=${film.run} />`}</div>`
      : html`<div class="passed"><h2><span class="good">✓</span> ${verdict}</h2>
          <p>Nothing was found. ${heldWords(film)}</p>${bug && html`<${Planted} run=${film.run} />`}</div>`}
    ${film.story.length > 0 && html`<h3>${finding ? "How it came to that" : "What happened"} <span class="dim">click a sentence</span></h3>
      <ol class="story">${told(film).map((each, i) => html`<${Sentence} key=${i} run=${run} sentence=${each} />`)}</ol>
      <${Footnotes} film=${film} />`}
    ${finding && app.active === "main" && html`<${Inevitable} />`}
    <h3>Invariants <span class="dim">green until it is not</span></h3>
    <${Invariants} run=${run} />`;
}

/** The bug that was planted, and what it does wrong. */
function Planted({ run }) {
  const edits = run.bug_edits ?? [];
  return html`<p>Planted on purpose: <b>${run.bug}</b>${run.bug_words ? `: ${run.bug_words}` : ""}${run.bug_breaks ? html` <span class="dim" tabindex="0" data-tip="Where the rule stands: in docs/protocol.md, and in the papers of 2017 and 2018.">(${run.bug_breaks})</span>` : ""}</p>
    ${edits.length > 0 && html`<details class="footnotes"><summary>What it changes in the code</summary>
      ${edits.map((each) => html`<pre class="command" key=${each.target}>${each.target}${"\n"}${marked("−", each.old)}${"\n"}${marked("+", each.new)}</pre>`)}</details>`}`;
}

const marked = (sign, text) => text.split("\n").map((each) => `${sign} ${each}`).join("\n");

/** What explain tells besides what happened: it stands in other places, or below. */
const BESIDE = { head: "", found: "", broken: "", next: "", proved: "Proved", met: "Expected, and met", missed: "Expected, and not met", marks: "Reached" };

const told = (film) => film.story.filter((each) => BESIDE[each.kind] === undefined);

function Footnotes({ film }) {
  const rest = film.story.filter((each) => BESIDE[each.kind]);
  if (!rest.length) return null;
  return html`<details class="footnotes"><summary>${rest.length} more sentences: what was expected and reached</summary>
    ${rest.map((each, i) => html`<p key=${i}><b>${BESIDE[each.kind]}:</b> ${each.text}</p>`)}</details>`;
}

function thingOf(film, ref) {
  if (ref.call !== null && ref.call !== undefined) return film.callOf.has(ref.call) ? { type: "call", id: ref.call } : null;
  if (ref.lsn !== null && ref.lsn !== undefined) {
    const commit = film.commitOf(ref.lsn);
    if (!commit && ref.lsn < 1) return null;
    return commit ? { type: "commit", id: film.commits.indexOf(commit) } : { type: "lsn", id: ref.lsn };
  }
  if (ref.page !== null && ref.page !== undefined) return { type: "page", id: ref.page };
  if (ref.node !== null && ref.node !== undefined) return { type: "node", id: ref.node };
  if (ref.event !== null && ref.event !== undefined) return { type: "event", id: ref.event };
  return null;
}

const hasEvent = (ref) => ref.event !== null && ref.event !== undefined;

function heldWords(film) {
  const tested = film.invariants.filter((each) => each.checks > 0);
  const checks = tested.reduce((sum, each) => sum + each.checks, 0);
  const idle = film.invariants.length - tested.length;
  return `${plural(tested.length, "invariant")} held in ${plural(checks, "check")}${idle ? `; ${idle} ${idle === 1 ? "was" : "were"} not put to the test` : ""}.`;
}

/** The last thing that is told before the finding: mostly it says all. */
function LastStep({ run }) {
  const { film } = run;
  const last = film.story.findLast((each) => each.kind === "step" && each.event !== null);
  if (!last) return null;
  return html`<p>The last step: <${Words} run=${run} sentence=${last} at=${last.event} />
    ${" "}<button class="goto" onClick=${() => toEvent(last.event)} data-tip="Go to this moment">${briefMoment(film.t[last.event])}</button></p>`;
}

const capital = (sentence) => ({ ...sentence, text: sentence.text[0].toUpperCase() + sentence.text.slice(1) });

const foundAt = (film) => film.landmarks.find((each) => each.kind === "finding")?.event ?? null;

/** A sentence whose words select what they name. */
function Words({ run, sentence, at: event = null }) {
  const { film } = run;
  const parts = [];
  let at = 0;
  const refs = [...sentence.refs].sort((a, b) => a.from - b.from);
  for (const ref of refs) {
    if (ref.from < at || !thingOf(film, ref)) continue;
    const [, before, bracket] = /^(.*?)(\(?)$/s.exec(sentence.text.slice(at, ref.from)); // no line ends behind it
    parts.push(before);
    const words = sentence.text.slice(ref.from, ref.to);
    parts.push(html`<span class="whole">${bracket}<button class="link" data-tip=${tipOf(film, words, ref)} onClick=${() => follow(film, ref, event)}>${words}</button></span>`);
    at = ref.to;
  }
  parts.push(sentence.text.slice(at));
  return parts;
}

/** What a link's symbol means, and what it selects. */
function tipOf(film, words, ref) {
  const symbol = wordsFor(words.split(" ")[0]);
  const thing = `Click: ${titleOf(film, thingOf(film, ref))}`;
  return symbol ? `${symbol}\n${thing}` : thing;
}

/** A sentence of the story: its time goes to its moment. */
function Sentence({ run, sentence }) {
  const { film, cursor } = run;
  const event = sentence.event ?? sentence.refs.find(hasEvent)?.event ?? null;
  const here = event !== null && event === cursor - 1;
  const telling = sentence.refs.find((ref) => ref.lsn) ?? sentence.refs.find((ref) => thingOf(film, ref));
  const pick = (click) => {
    if (click.target.closest("button")) return;
    if (telling) follow(film, telling, event);
    else if (event !== null) toEvent(event);
  };
  return html`<li class=${here ? "current" : ""} onClick=${pick}>
    ${event !== null && html`<button class="goto" onClick=${() => toEvent(event)} aria-label="Go to ${briefMoment(film.t[event])}"
      data-tip="Go to this moment">${briefMoment(film.t[event])}</button>`}
    <span><${Words} run=${run} sentence=${sentence} at=${event} /></span></li>`;
}

function follow(film, ref, event) {
  if (hasEvent(ref)) toEvent(ref.event);
  else if (event !== null) toEvent(event);
  const thing = thingOf(film, ref);
  if (!thing) return;
  select(thing, { show: false });
  notice(`${titleOf(film, thing)} is marked (key 2: its life)`);
}

function Invariants({ run }) {
  const { film, cursor } = run;
  const order = film.invariants.toSorted((a, b) => (b.broken_at !== null) - (a.broken_at !== null) || a.number - b.number);
  return html`<ol class="invariants">${order.map((each) => {
    const broken = each.broken_at !== null && each.broken_at !== undefined;
    const at = broken ? (film.t[each.broken_at] ?? film.endNs) / film.endNs : 1;
    const now = broken && (film.t[cursor - 1] ?? 0) >= (film.t[each.broken_at] ?? Infinity); // the clock's, as it stands beside it
    const idle = !broken && !each.checks;
    return html`<li key=${each.name} class=${broken ? "broken" : ""}>
      <span class=${now ? "bad" : idle ? "dim" : "good"}>${now ? "✕" : idle ? "–" : "✓"}</span>
      <span class="name" data-tip=${each.words} tabindex="0">${each.name}</span>
      <svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true"><rect class=${idle ? "idle" : "ok"} width=${at * 100} height="6" />
        ${broken && html`<rect class="broke" x=${Math.min(at * 100, 97)} width=${Math.max(100 - at * 100, 3)} height="6" />`}</svg>
      ${broken
        ? html`<button class="link" onClick=${() => toEvent(each.broken_at)}>broken at ${briefMoment(film.t[each.broken_at] ?? film.endNs)}</button>`
        : html`<span class="dim">${idle ? "not tested" : plural(each.checks, "check")}</span>`}</li>`;
  })}</ol>`;
}
