// A canvas that fits its place, at the screen's own resolution, painted once a frame when needed.

import { useEffect, useRef } from "preact/hooks";
import { theme } from "view/palette.js";
import { app, onFrame } from "view/store.js";

export const FONT = '11px system-ui, "Segoe UI", "DejaVu Sans", sans-serif';
export const SMALL = '10px system-ui, "Segoe UI", "DejaVu Sans", sans-serif';

/** A sheet to draw on, in CSS pixels at the screen's own resolution. */
function sheet(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

function fresh(context, width, height) {
  context.clearRect(0, 0, width, height);
  context.font = FONT;
  context.textBaseline = "alphabetic";
  context.textAlign = "left";
  context.setLineDash([]);
  context.globalAlpha = 1;
}

/** A ref for a <canvas>. `paint(context, width, height)` draws what stays, and is asked only when
 * `stamp(width, height)` has changed; `over(…)`, if there is one, draws what moves above it, whenever
 * `moving()` has. */
export function useCanvas(views) {
  const ref = useRef(null);
  const latest = useRef(views);
  latest.current = views;
  useEffect(() => {
    const canvas = ref.current;
    const below = document.createElement("canvas");
    let [context, still] = [null, null];
    let [width, height] = [0, 0];
    let [stamp, moved] = [null, null];
    const fit = () => {
      const place = canvas.getBoundingClientRect();
      [width, height] = [place.width, place.height];
      if (!width || !height) return;
      context = sheet(canvas, width, height);
      if (latest.current.over) still = sheet(below, width, height);
      stamp = null;
      draw();
    };
    const draw = () => {
      if (!context) return;
      const { paint, over, moving } = latest.current;
      const now = `${theme()} ${latest.current.stamp(width, height)}`;
      const motion = moving?.();
      if (now === stamp && motion === moved) return;
      if (now !== stamp) {
        fresh(still ?? context, width, height);
        paint(still ?? context, width, height);
      }
      [stamp, moved] = [now, motion];
      if (!over) return;
      fresh(context, width, height);
      context.drawImage(below, 0, 0, width, height);
      over(context, width, height);
    };
    const watch = new ResizeObserver(fit);
    watch.observe(canvas);
    fit();
    const end = onFrame(draw);
    return () => {
      watch.disconnect();
      end();
    };
  }, []);
  return ref;
}

/** What most pictures depend on: the run, its moment, what is selected. */
export function shownStamp(run) {
  const { selection } = app;
  return `${run.name} ${run.cursor} ${selection?.type} ${selection?.id} ${app.other} ${app.group}`;
}

/** Diagonal lines in a rectangle: what is annulled, cut or broken. */
export function hatch(context, x, y, width, height, color, gap = 5) {
  if (width <= 0 || height <= 0) return;
  context.save();
  context.beginPath();
  context.rect(x, y, width, height);
  context.clip();
  context.strokeStyle = color;
  context.lineWidth = 1;
  context.beginPath();
  for (let at = x - height; at < x + width; at += gap) {
    context.moveTo(at, y + height);
    context.lineTo(at + height, y);
  }
  context.stroke();
  context.restore();
}

export function cross(context, x, y, size, color) {
  context.strokeStyle = color;
  context.lineWidth = 2;
  context.beginPath();
  context.moveTo(x - size, y - size);
  context.lineTo(x + size, y + size);
  context.moveTo(x + size, y - size);
  context.lineTo(x - size, y + size);
  context.stroke();
}

/** A message's sign by its family: circle, diamond, triangle or square. */
export function sign(context, kind, x, y, r) {
  context.beginPath();
  if (kind === "read") {
    context.moveTo(x, y - r - 1);
    context.lineTo(x + r + 1, y);
    context.lineTo(x, y + r + 1);
    context.lineTo(x - r - 1, y);
  } else if (kind === "gossip") {
    context.moveTo(x, y - r);
    context.lineTo(x + r, y + r);
    context.lineTo(x - r, y + r);
  } else if (kind === "recovery") context.rect(x - r, y - r, 2 * r, 2 * r);
  else context.arc(x, y, r, 0, 7);
  context.fill();
}

/** Text that fits into `width`, cut at its end if it must be. */
export function fitted(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let end = Math.max(1, Math.floor((text.length * width) / context.measureText(text).width));
  while (end > 1 && context.measureText(`${text.slice(0, end)}…`).width > width) end -= 1;
  return end > 1 ? `${text.slice(0, end)}…` : "";
}
