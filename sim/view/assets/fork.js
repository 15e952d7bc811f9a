// Fork: take the run from this moment, with another fault, one fault less, or other chances.

import { useEffect, useRef, useState } from "preact/hooks";
import { briefMoment, plural } from "view/format.js";
import { html } from "view/html.js";
import { active, activate, app, changed, notice, set } from "view/store.js";
import { askFork, checkFork, openFork } from "view/server.js";
import { toParting } from "view/time.js";

const MOST_LATER = 40;

/** The fork that is being put together, of the run that is looked at. */
function draft() {
  if (app.draft?.of !== app.active) {
    app.draft = { of: app.active, kind: "crash", target: "", params: {}, add: [], remove: [], redraw: false };
  }
  return app.draft;
}

function change(values) {
  Object.assign(draft(), values);
  changed();
}

export function Fork() {
  const { film } = active();
  const at = Math.round(app.t);
  return html`<h2>Fork at ${briefMoment(at)}${app.active === "main" ? "" : `, of ${app.active}`}</h2>
    <p class="dim how">The run stays as it is up to this moment. From here on it has what you add and lacks what you take away; the same seed decides the rest. A run ends at its finding, and so does a fork: what would be lost after it is not played.</p>
    <${AddFault} film=${film} at=${at} />
    <${Changes} film=${film} at=${at} />
    <${Go} film=${film} at=${at} />
    <${Forks} />`;
}

/** The names that a fault may be given, by what the simulator says it takes. */
function targetsOf(film, targets) {
  if (targets === "nobody") return [];
  const segments = film.segments.map((i) => film.nodes[i].id);
  const zones = [...new Set(film.segments.map((i) => `az${film.nodes[i].az}`))].sort();
  if (/writer/.test(targets)) return [...segments, ...zones, "writer", ...film.writers.map((i) => film.nodes[i].id)];
  return [...segments, ...zones];
}

function AddFault({ film, at }) {
  const { kind, target, params } = draft();
  const fault = film.faults.find((each) => each.kind === kind) ?? film.faults[0];
  if (!fault) return html`<p class="empty">This film has no list of faults.</p>`;
  const targets = targetsOf(film, fault.targets);
  const chosen = targets.includes(target) ? target : targets[0] ?? "";
  const add = async () => {
    const values = {};
    for (const { name, default: usual } of fault.params) {
      const text = params[name] ?? usual;
      if (text === null || text === undefined || text === "") continue;
      values[name] = typeof usual === "number" || /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text;
    }
    const added = { kind: fault.kind, target: chosen, params: values, at_ns: at };
    try {
      await checkFork({ from: app.active, at_ns: at, add: [added] });
    } catch (error) {
      return notice(error.message);
    }
    app.notice = "";
    return change({ add: [...draft().add, added].slice(-20), params: {} });
  };
  return html`<div class="form">
    <label>Fault <select id="fork-kind" value=${fault.kind} onChange=${(e) => change({ kind: e.target.value, params: {} })}>
      ${film.faults.map((each) => html`<option key=${each.kind} value=${each.kind}>${each.kind}</option>`)}</select></label>
    ${targets.length > 0 && html`<label>of <select id="fork-target" value=${chosen} onChange=${(e) => change({ target: e.target.value })}>
      ${targets.map((each) => html`<option key=${each} value=${each}>${each}</option>`)}</select></label>`}
    ${fault.params.map((each) => html`<label key=${fault.kind + each.name} data-tip=${each.words}>${each.name.replaceAll("_", " ")} <${Param} param=${each} value=${params[each.name]} /></label>`)}
    <button id="fork-add" onClick=${add}>Add at ${briefMoment(at)}</button>
    <p class="dim">${fault.kind}: ${fault.words.replaceAll("`", "")}</p></div>`;
}

function Param({ param, value }) {
  const put = (event) => change({ params: { ...draft().params, [param.name]: event.target.value } });
  if (param.one_of?.length) {
    return html`<select value=${value ?? param.default} onChange=${put}>${param.one_of.map((each) => html`<option key=${each} value=${each}>${each}</option>`)}</select>`;
  }
  return html`<input size="8" value=${value ?? param.default ?? ""} placeholder=${param.missing ?? ""} onInput=${put} />`;
}

function Changes({ film, at }) {
  const { add, remove, redraw } = draft();
  const later = film.planned.filter((each) => each.at_ns >= at);
  const drop = (i) => change({ add: add.filter((_, j) => j !== i) });
  const toggle = (action) => change({ remove: remove.includes(action) ? remove.filter((each) => each !== action) : [...remove, action] });
  return html`<ul class="changes">
    ${add.map((each, i) => html`<li key=${i}><b>+</b>${" "}${[each.kind, each.target, ...Object.entries(each.params).map(([k, v]) => `${k}=${v}`)].filter(Boolean).join(" ")} at ${briefMoment(each.at_ns)}${" "}
      <button onClick=${() => drop(i)} aria-label="Do not add ${each.kind} ${each.target}">✕</button></li>`)}
    ${later.slice(0, MOST_LATER).map((each) => html`<li key=${`a${each.action}`}><label><input type="checkbox" checked=${remove.includes(each.action)} onChange=${() => toggle(each.action)} />
      take away: ${each.title} <span class="dim">${briefMoment(each.at_ns)}${each.at_ns > film.endNs ? ", after this run's end" : ""}</span></label></li>`)}
    ${later.length > MOST_LATER && html`<li class="dim">and ${plural(later.length - MOST_LATER, "later fault")}</li>`}
    <li><label><input type="checkbox" checked=${redraw} onChange=${() => change({ redraw: !redraw })} /> other chances from here on${" "}
      <span class="dim">(latencies, losses, drawn anew)</span></label></li></ul>`;
}

function titleOf({ add, remove, redraw }, { planned }) {
  const parts = add.map((each) => `+ ${each.kind} ${each.target}`.trim());
  const gone = planned.filter((each) => remove.includes(each.action));
  parts.push(...gone.slice(0, 2).map((each) => `− ${each.title}`));
  if (gone.length > 2) parts.push(`− ${plural(gone.length - 2, "more fault")}`);
  if (redraw) parts.push("other chances");
  return parts.join(", ") || "nothing changed";
}

/** The actions of faults that are taken away, and of the repairs that end these alone. */
function takenAway({ planned }, chosen) {
  const gone = planned.filter((each) => chosen.includes(each.action));
  const needed = planned.filter((each) => !gone.includes(each)).flatMap((each) => each.ended_by);
  const repairs = gone.flatMap((each) => each.ended_by).filter((each) => !needed.includes(each));
  return [...new Set([...chosen, ...repairs])].sort((a, b) => a - b);
}

function request(film, at) {
  const { add, remove, redraw } = draft();
  const from = Math.min(at, ...add.map((each) => each.at_ns));
  return { from: app.active, at_ns: from, add, remove: takenAway(film, remove), redraw: redraw ? Math.floor(Math.random() * 2 ** 31) : null };
}

function Go({ film, at }) {
  const [busy, setBusy] = useState(false);
  const { add, remove, redraw } = draft();
  const nothing = !add.length && !remove.length && !redraw;
  if (!app.server) {
    return html`<p><button disabled>Run the fork</button> <span class="dim">An exported page has no simulator. In the project's directory, type:</span></p>
      <pre class="command">${film.run.command.replace(/ run /, " view ")}</pre>`;
  }
  const go = async () => {
    setBusy(true);
    try {
      const of = app.active === "main" ? "" : `${app.active}, `;
      const name = await askFork(request(film, at), `${of}${titleOf(draft(), film)}`);
      app.draft = null;
      app.notice = "";
      requestAnimationFrame(() => document.querySelector(`[data-fork=${name}]`)?.focus({ preventScroll: true }));
    } catch (error) {
      notice(error.message);
    }
    setBusy(false);
    changed();
  };
  return html`<p class="go"><button class="primary" id="fork-run" disabled=${nothing} aria-disabled=${busy} onClick=${() => busy || go()}>${busy ? "Asking…" : "Run the fork"}</button>
    ${nothing && html` <span class="dim">Add a fault, take one away, or draw other chances.</span>`}</p>`;
}

function Forks() {
  if (!app.forks.size) return html`<h3>Forks</h3><p class="empty">None yet. A fork runs beside the run, and their first difference is marked.</p>`;
  return html`<h3>Forks</h3>${[...app.forks].map(([name, fork]) => html`<${Told} key=${name} name=${name} fork=${fork} />`)}`;
}

function Told({ name, fork }) {
  const shown = app.other === name || app.active === name;
  const difference = fork.first_difference;
  const box = useRef(null);
  // What has come of it, and the way out, are looked at first.
  useEffect(() => {
    if (shown) box.current.scrollIntoView({ block: "nearest" });
  }, [shown, fork.state]);
  const save = () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([fork.toml], { type: "application/toml" }));
    link.download = `${name}.toml`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  return html`<div class="fork" tabindex="-1" ref=${box} data-fork=${name} data-state=${fork.state}>
    <p><b>${name}</b> ${fork.title ?? ""} <span class=${fork.verdict === "passed" ? "good" : fork.verdict ? "bad" : "dim"}>${fork.verdict ?? fork.state}</span></p>
    ${fork.state === "done" && !difference && html`<p class="dim">Nothing differs: the two runs are the same, event by event.</p>`}
    ${fork.error && html`<p class="bad">${fork.error}</p>`}
    <p>${fork.state === "done" && !shown && html`<button onClick=${() => openFork(name)}>Show beside the run</button> `}
      ${shown && html`<button onClick=${closeFork} data-tip="The run alone again (key: Escape)">Close</button> `}
      ${difference && shown && html`<button onClick=${toDifference} data-tip="Key: d">First difference</button> `}
      ${fork.toml && html`<button onClick=${save} data-tip="A scenario file that plants what was changed">Save ${name}.toml</button>`}</p>
    ${fork.command && html`<pre class="command" aria-label="The command that makes it again">${fork.command}</pre>`}</div>`;
}

/** One run again. */
export function closeFork() {
  activate("main");
  set({ other: null });
}

/** To the first event in which the two runs that are shown differ. */
export function toDifference() {
  if (!app.other) return notice("no fork is shown");
  return toParting(app.other) || notice("the two runs are the same");
}
