// The page: what stands where, and how it begins.

import { render } from "preact";
import { Bar, runName } from "view/bar.js";
import { html } from "view/html.js";
import { Inspector } from "view/inspector.js";
import { KeysDialog, startKeys } from "view/keys.js";
import { Lanes } from "view/lanes.js";
import { LogLine } from "view/logline.js";
import { ClusterMap } from "view/map.js";
import { kept, keep, startTheme } from "view/palette.js";
import { firstFilm, listen } from "view/server.js";
import { Slider } from "view/slider.js";
import { Run, active, app, changed, film, nameOf, set, useApp } from "view/store.js";
import { isParting, toCursor, watchable } from "view/time.js";
import { Tour, offerTour } from "view/tour.js";
import { startTips, useWords } from "view/words.js";

function Page() {
  useApp();
  const runs = app.other ? [app.runs.get("main"), app.runs.get(app.active === "main" ? app.other : app.active)] : [active()];
  const layout = app.view === "lanes" ? "lanesview" : app.other ? "pair" : "mapview";
  return html`<${Bar} />
    <main class=${layout}>
      ${app.view === "lanes"
        ? html`<${Lanes} run=${active()} key=${app.active} />`
        : runs.map((run) => html`<${ClusterMap} run=${run} key=${run.name} />`)}
      <div class="side ${app.tour ? "touring" : ""}"><${Tour} /><${Inspector} /></div>
    </main>
    <${Sentence} />
    <${LogLine} />
    <${Slider} />
    <${KeysDialog} />`;
}

/** What happens at this moment, in a sentence, in each run that is shown; read aloud when stepped. */
function Sentence() {
  useApp();
  const { film: shown } = active();
  const told = shown.run.cut ? "The film holds the beginning of a longer run." : "";
  const here = app.other && isParting(app.other);
  return html`<div class="sentence ${app.other ? "two" : ""}">
    ${here && html`<span class="differ" data-tip="Up to here the two runs are the same, event by event.">≠ first difference</span>`}
    <p aria-live=${app.playing ? "off" : "polite"} id="sentence"><${Told} run=${active()} /></p>
    ${app.other && html`<p class="othersentence"><span class="dim">${nameOf(app.other)}:</span> <${Told} run=${app.runs.get(app.other)} /></p>`}
    <p class="notice" role="status">${app.notice || told}</p></div>`;
}

function Told({ run }) {
  const { cursor, film: shown } = run;
  const node = cursor > 0 ? shown.nodes[shown.node[cursor - 1]] : null;
  const words = cursor > 0 ? shown.line(cursor - 1) : "Before the first event. Press Space to play, or → to step.";
  return html`${node && html`<b>${node.id}</b> `}${words}`;
}

function trouble(error) {
  document.getElementById("page").replaceChildren();
  const words = document.createElement("p");
  words.className = "trouble";
  words.setAttribute("role", "alert");
  words.textContent = `The run could not be shown: ${error.message}`;
  document.getElementById("page").append(words);
}

/** Where a visitor begins: a little before the finding, or at the first commit. */
function firstCursor(of) {
  const finding = of.landmarks.find((each) => each.kind === "finding");
  if (finding) return finding.event + 1;
  const first = of.durables[0];
  return first ? first.durable + 1 : 0;
}

/** Where a visitor was when the page was loaded anew. */
function keptCursor(of) {
  const [digest, cursor] = (kept("moment") ?? "").split(" ");
  return digest === of.run.digest && Number(cursor) <= of.count ? Number(cursor) : null;
}

async function start() {
  startTheme(changed);
  startTips();
  const main = await firstFilm();
  app.runs.set("main", new Run("main", main));
  useWords(main.words);
  app.group = main.groups[0] ?? 0;
  app.speed = watchable(main);
  app.tab = main.run.finding ? "why" : "now";
  document.title = `${runName(main)} – aurora-sim`;
  offerTour(main);
  document.getElementById("page").replaceChildren();
  render(html`<${Page} />`, document.getElementById("page"));
  toCursor(keptCursor(main) ?? firstCursor(main));
  window.addEventListener("pagehide", () => keep("moment", `${main.run.digest} ${app.runs.get("main").cursor}`));
  startKeys();
  listen();
  requestAnimationFrame(() => {
    performance.mark("first picture");
    document.documentElement.dataset.ready = String(film().count);
  });
  set({});
}

start().catch(trouble);
