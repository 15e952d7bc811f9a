// The page: what stands where, and how it begins.

import { render } from "preact";
import { Bar } from "view/bar.js";
import { html } from "view/html.js";
import { Inspector } from "view/inspector.js";
import { KeysDialog, currentSentence, startKeys } from "view/keys.js";
import { Lanes } from "view/lanes.js";
import { LogLine } from "view/logline.js";
import { ClusterMap } from "view/map.js";
import { startTheme } from "view/palette.js";
import { firstFilm, listen } from "view/server.js";
import { Slider } from "view/slider.js";
import { Run, active, app, changed, film, set, useApp } from "view/store.js";
import { toCursor } from "view/time.js";
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
      <div class="side"><${Tour} /><${Inspector} /></div>
    </main>
    <${Sentence} />
    <${LogLine} />
    <${Slider} />
    <${KeysDialog} />`;
}

/** What happens at this moment, in a sentence; read aloud when it is stepped. */
function Sentence() {
  useApp();
  const { cursor, film: shown } = active();
  const node = cursor > 0 ? shown.nodes[shown.node[cursor - 1]] : null;
  const told = shown.run.cut ? "The film holds the beginning of a longer run." : "";
  return html`<div class="sentence">
    <p aria-live=${app.playing ? "off" : "polite"} id="sentence">${node && html`<b>${node.id}</b> `}${currentSentence()}</p>
    <p class="notice" role="status">${app.notice || told}</p></div>`;
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

async function start() {
  startTheme(changed);
  startTips();
  const main = await firstFilm();
  app.runs.set("main", new Run("main", main));
  useWords(main.words);
  app.group = main.groups[0] ?? 0;
  app.tab = main.run.finding ? "why" : "now";
  document.title = `${main.run.title} – aurora-sim`;
  offerTour(main);
  document.getElementById("page").replaceChildren();
  render(html`<${Page} />`, document.getElementById("page"));
  toCursor(firstCursor(main));
  startKeys();
  listen();
  requestAnimationFrame(() => {
    performance.mark("first picture");
    document.documentElement.dataset.ready = String(film().count);
  });
  set({});
}

start().catch(trouble);
