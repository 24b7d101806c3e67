// A colour for each framework: from Okabe and Ito's and Paul Tol's palettes, which colour-blind people can keep apart. Red is left to failures.

const PALETTE = [
  "#0077BB", "#EE7733", "#009E73", "#CC79A7", "#56B4E9", "#DDAA33", "#8172B3", "#44AA99", "#A6761D", "#999933",
];
const given = new Map();

function hashOf(text) {
  let hash = 2166136261;
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 16777619);
  return hash >>> 0;
}

/** Give colours to frameworks that have none: each the one that its id asks for, or the next that few others have. */
export function assign(frameworks) {
  const fresh = frameworks.filter((each) => !given.has(each.framework_id));
  if (!fresh.length) return;
  const taken = new Array(PALETTE.length).fill(0);
  for (const framework of frameworks) {
    const at = given.get(framework.framework_id);
    if (at !== undefined && framework.state !== "ended") taken[at] += 1;
  }
  fresh.sort((one, other) => one.since - other.since || (one.framework_id < other.framework_id ? -1 : 1));
  for (const framework of fresh) {
    const wished = hashOf(framework.framework_id) % PALETTE.length;
    const least = Math.min(...taken);
    let at = wished;
    while (taken[at] > least) at = (at + 1) % PALETTE.length;
    if (framework.state !== "ended") taken[at] += 1;
    given.set(framework.framework_id, at);
  }
}

/** The framework's colour. */
export function colourOf(frameworkId) {
  const at = given.get(frameworkId);
  return PALETTE[at === undefined ? hashOf(frameworkId) % PALETTE.length : at];
}

/** The same, partly transparent. */
export function faded(colour, alpha) {
  return colour + Math.round(alpha * 255).toString(16).padStart(2, "0");
}

/** The value of a CSS variable, for canvases. */
export function themeColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const dark = window.matchMedia("(prefers-color-scheme: dark)");

/** Call this when the browser changes between light and dark; returns a function that stops that. */
export function onTheme(changed) {
  dark.addEventListener("change", changed);
  return () => dark.removeEventListener("change", changed);
}

const still = window.matchMedia("(prefers-reduced-motion: reduce)");

/** The user wants little motion. */
export function wantsStillness() {
  return still.matches;
}
