// Numbers as people read them.

const whole = new Intl.NumberFormat("en");

export function count(value) {
  return typeof value === "number" ? whole.format(value) : String(value ?? "–");
}

/** A moment of virtual time, to the microsecond: 0.600123 s. */
export function moment(ns) {
  return `${(ns / 1e9).toFixed(6)} s`;
}

/** A moment in short: 0.6001 s. */
export function briefMoment(ns) {
  return `${(ns / 1e9).toFixed(4)} s`;
}

/** How long something took, with three digits that count. */
export function span(ns) {
  for (const [unit, size] of [["s", 1e9], ["ms", 1e6], ["µs", 1e3]]) {
    if (ns >= size) return `${Number((ns / size).toPrecision(3))} ${unit}`;
  }
  return `${Math.round(ns)} ns`;
}

export function lsnRange(first, last) {
  return first === last ? `LSN ${count(first)}` : `LSN ${count(first)}–${count(last)}`;
}

export function bytes(value) {
  if (value >= 1 << 20) return `${(value / (1 << 20)).toFixed(1)} MiB`;
  if (value >= 1 << 10) return `${(value / (1 << 10)).toFixed(1)} KiB`;
  return `${count(value)} B`;
}

export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/** A tick's distance (1, 2 or 5 times a power of ten) that gives about `wanted` ticks. */
export function tickStep(range, wanted) {
  const raw = range / Math.max(wanted, 1);
  const power = 10 ** Math.floor(Math.log10(Math.max(raw, 1e-9)));
  const factor = raw / power;
  return power * (factor <= 1 ? 1 : factor <= 2 ? 2 : factor <= 5 ? 5 : 10);
}

/** The label of a tick of an axis of time whose ticks are `step` apart. */
export function tickLabel(ns, step) {
  if (step >= 1e8) return `${(ns / 1e9).toFixed(1)} s`;
  if (step >= 1e6) return `${(ns / 1e6).toFixed(0)} ms`;
  if (step >= 1e5) return `${(ns / 1e6).toFixed(1)} ms`;
  if (step >= 1e4) return `${(ns / 1e6).toFixed(2)} ms`;
  return `${(ns / 1e6).toFixed(3)} ms`;
}
