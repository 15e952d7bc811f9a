// The bar: which run, its verdict, playing, jumps, what is shown, finding a thing by its name.

import { count, moment } from "view/format.js";
import { html } from "view/html.js";
import { theme, toggleTheme } from "view/palette.js";
import { find } from "view/search.js";
import { active, app, changed, set, useApp } from "view/store.js";
import { faster, jump, jumpList, play, speedWords, step, stepOfNode } from "view/time.js";
import { startTour } from "view/tour.js";

export function Bar() {
  useApp();
  const { film } = active();
  const { verdict } = film.run;
  const search = (event) => {
    if (event.key !== "Enter") return;
    if (find(film, event.target.value)) event.target.blur();
  };
  return html`<header class="bar">
    <div class="run"><strong data-tip=${`${runName(film)}\n${film.run.command}`}>${runName(film)}</strong>
      <button class="verdict ${verdict === "passed" ? "good" : "bad"}" onClick=${() => set({ tab: "why" })}
        data-tip="How the run ended, and why">${verdict === "passed" ? "✓" : "✕"} ${verdict}</button></div>
    <div class="transport" role="group" aria-label="Time">
      <button class="icon" onClick=${() => step(-1)} aria-label="One event back" data-tip="One event back (key: ←; with Shift: of this node)">◂</button>
      <button class="icon play" id="play" onClick=${() => play()} aria-label=${app.playing ? "Pause" : "Play"} data-tip="Play or pause (key: Space)">${app.playing ? "❚❚" : "▶"}</button>
      <button class="icon" onClick=${() => step(1)} aria-label="One event on" data-tip="One event on (key: →; with Shift: of this node)">▸</button>
      <button class="icon" onClick=${() => stepOfNode(1)} aria-label="Next event of this node" data-tip="Next event of this node (keys: Shift + → and Shift + ←)">▸ₙ</button>
      <span class="speed" data-tip="How much virtual time passes in a second of yours (keys: + and −); playing skips what is long and empty">
        <button class="icon" onClick=${() => faster(-1)} aria-label="Slower">−</button>
        <span class="number">${speedWords(app.speed)}</span>
        <button class="icon" onClick=${() => faster(1)} aria-label="Faster">+</button></span>
      <span class="clock number" data-tip="Virtual time">${moment(app.t)}</span>
    </div>
    <div class="jumps" role="group" aria-label="Jump to the next">
      ${JUMPS.map(([kind, sign, key]) => html`<button key=${kind} disabled=${!jumpList(kind, film).length}
        data-tip="Next ${kind} (key: ${key}; with Shift: the one before); there are ${count(jumpList(kind, film).length)}"
        onClick=${(e) => jump(kind, e.shiftKey ? -1 : 1)}>${sign} ${kind}</button>`)}
    </div>
    <div class="tools"><input id="find" type="search" placeholder="LSN 12" data-tip="Name a thing: LSN 12, page 3, commit 12, call 3, A0, 0.6 s; or a word: PGCL" aria-label="Find a thing by its name" onKeyDown=${search} onFocus=${(e) => e.target.select()} />
    <button onClick=${() => set({ view: app.view === "map" ? "lanes" : "map" })} aria-pressed=${app.view === "lanes"} data-tip="Space-time lanes instead of the map (key: l)">lanes</button>
    <button class="icon" onClick=${() => { toggleTheme(); changed(); }} aria-label="Theme: ${theme()}" data-tip="Dark or light (key: t)">${theme() === "dark" ? "☾" : "☀"}</button>
    <button class="icon" onClick=${startTour} aria-label="Tour" data-tip="A tour of one minute (key: Shift + T)">⚑</button>
    <button class="icon" onClick=${() => set({ dialog: "keys" })} aria-label="Keys" data-tip="All keys (key: ?)">?</button></div>
  </header>`;
}

/** A run's name as people say it. */
export function runName({ run }) {
  const { name, seed, bug, shape } = run;
  const words = [/seed/.test(name) ? name : `${name}, seed ${seed}`];
  if (bug && !name.includes(bug)) words.push(`bug ${bug}`);
  else if (shape) words.push(shape);
  return words.join(", ");
}

const JUMPS = [["fault", "▼", "f"], ["commit", "✓", "c"], ["finding", "✕", "x"]];
