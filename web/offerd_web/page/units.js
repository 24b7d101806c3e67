// Numbers and times for people, as the commands write them (offerd_cli/units.py).

/** At most two units: 120ms, 3.2s, 4m10s, 2h05m, 3d4h. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "";
  if (seconds < 0.9995) return `${Math.round(Math.max(seconds, 0) * 1000)}ms`;
  if (seconds < 59.95) return `${seconds.toFixed(1)}s`.replace(".0s", "s");
  const whole = Math.round(seconds);
  for (const [size, small, unit, smallUnit] of [[86400, 3600, "d", "h"], [3600, 60, "h", "m"], [60, 1, "m", "s"]]) {
    if (whole >= size) {
      const rest = Math.floor((whole % size) / small);
      return `${Math.floor(whole / size)}${unit}` + (rest ? `${String(rest).padStart(2, "0")}${smallUnit}` : "");
    }
  }
  return `${whole}s`;
}

/** The same in whole seconds, for what counts up. */
export function age(seconds) {
  return seconds < 1 ? "now" : duration(Math.floor(seconds));
}

/** Three digits and a binary unit: 812K, 3.4G. */
export function bytes(amount) {
  if (amount === null || amount === undefined) return "";
  const units = ["B", "K", "M", "G", "T", "P"];
  let size = amount;
  while (size >= 1000 && units.length > 1) {
    size /= 1024;
    units.shift();
  }
  return (size >= 10 || Number.isInteger(size) ? size.toFixed(0) : size.toFixed(1)) + units[0];
}

/** 12,345; at most three decimals. */
export function number(amount) {
  return (Math.round(amount * 1000) / 1000).toLocaleString("en-US", { maximumFractionDigits: 3 });
}

/** An amount of a resource; of ports how many there are. */
export function quantity(name, amount) {
  if (Array.isArray(amount)) return spans(amount);
  return name === "mem" || name === "disk" ? bytes(amount) : number(amount);
}

function spans(parts) {
  return parts.map((part) => (Array.isArray(part) ? (part[0] === part[1] ? part[0] : part.join("–")) : part)).join(", ");
}

/** cpus 2 · mem 512M */
export function resources(amounts) {
  return resourceNames(amounts)
    .filter((name) => amounts[name] !== 0)
    .map((name) => `${name} ${quantity(name, amounts[name])}`)
    .join(" · ");
}

/** How many, for an amount that may be ranges. */
export function count(amount) {
  if (!Array.isArray(amount)) return amount || 0;
  return amount.reduce((sum, part) => sum + (Array.isArray(part) ? part[1] - part[0] + 1 : 1), 0);
}

const collator = new Intl.Collator(undefined, { numeric: true });

/** The order of two names in which host-9 comes before host-10. */
export const compareNames = collator.compare;

const ORDER = ["cpus", "gpus", "mem", "disk", "ports"];

/** The names of resources in the order in which people expect them. */
export function resourceNames(amounts) {
  return Object.keys(amounts || {}).sort((one, other) => rank(one) - rank(other) || (one < other ? -1 : 1));
}

function rank(name) {
  const place = ORDER.indexOf(name);
  return place < 0 ? ORDER.length : place;
}

export function percent(part) {
  const hundredths = part * 100;
  return `${hundredths > 0 && hundredths < 10 ? hundredths.toFixed(1).replace(/\.0$/, "") : Math.round(hundredths)} %`;
}

const pad = (digits) => String(digits).padStart(2, "0");

/** 14:03:22; with the day if that is another than today. */
export function clock(seconds, { millis = false } = {}) {
  if (seconds === null || seconds === undefined) return "";
  const date = new Date(seconds * 1000);
  const time = `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`
    + (millis ? `.${String(date.getMilliseconds()).padStart(3, "0")}` : "");
  if (date.toDateString() === new Date().toDateString()) return time;
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${time}`;
}

/** Seconds from 90, 500ms, 2s, 5m or 1h30m; null: it cannot be read. */
export function parseDuration(text) {
  const sizes = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86400 };
  const trimmed = text.trim();
  if (!/^(\d+(\.\d+)?(ms|s|m|h|d))+$/.test(trimmed)) return null;
  let sum = 0;
  for (const [, amount, unit] of trimmed.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)) sum += amount * sizes[unit];
  return sum;
}

const STATES = {
  TASK_STAGING: "staging", TASK_RUNNING: "running", TASK_FINISHED: "finished", TASK_FAILED: "failed",
  TASK_KILLED: "killed", TASK_ERROR: "error", TASK_LOST: "lost", TASK_UNREACHABLE: "unreachable",
};

/** A task's state in one word. */
export function stateWord(state) {
  return STATES[state] || state.toLowerCase();
}

/** One thing or several: plural(2, "slave") is "2 slaves". */
export function plural(amount, noun) {
  return `${number(amount)} ${noun}${amount === 1 ? "" : "s"}`;
}
