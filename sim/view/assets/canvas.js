// A canvas that fits its place, at the screen's own resolution, painted once a frame when needed.

import { useEffect, useRef } from "preact/hooks";
import { onFrame } from "view/store.js";

export const FONT = '11px system-ui, "Segoe UI", "DejaVu Sans", sans-serif';
export const SMALL = '10px system-ui, "Segoe UI", "DejaVu Sans", sans-serif';

/** A ref for a <canvas>; `paint(context, width, height)` draws in CSS pixels. */
export function useCanvas(paint) {
  const ref = useRef(null);
  const latest = useRef(paint);
  latest.current = paint;
  useEffect(() => {
    const canvas = ref.current;
    const context = canvas.getContext("2d");
    const size = { width: 0, height: 0 };
    const fit = () => {
      const place = canvas.getBoundingClientRect();
      const ratio = window.devicePixelRatio || 1;
      size.width = place.width;
      size.height = place.height;
      const [width, height] = [Math.round(place.width * ratio), Math.round(place.height * ratio)];
      if (canvas.width !== width || canvas.height !== height) {
        canvas.width = width;
        canvas.height = height;
      }
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      draw();
    };
    const draw = () => {
      if (!size.width || !size.height) return;
      context.clearRect(0, 0, size.width, size.height);
      context.font = FONT;
      context.textBaseline = "alphabetic";
      context.textAlign = "left";
      context.setLineDash([]);
      context.globalAlpha = 1;
      latest.current(context, size.width, size.height);
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
