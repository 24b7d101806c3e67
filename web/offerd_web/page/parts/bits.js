// Small pieces that many screens show.
import { classes, html, useEffect, useState } from "../html.js";
import { colourOf } from "../colours.js";
import { link } from "../router.js";
import { count, percent, quantity, stateWord } from "../units.js";

const MOODS = {
  running: "good", active: "good", finished: "quiet", staging: "note", draining: "warn", drained: "warn", deactivated: "warn",
  disconnected: "warn", unreachable: "warn", silent: "warn", killed: "warn", failed: "bad", error: "bad", lost: "bad", ended: "quiet",
};

/** A state in a word, with a dot whose shape and colour say the same. */
export function State({ state, note = "" }) {
  const word = stateWord(state);
  return html`<span class=${`state is-${MOODS[word] || "quiet"}`}><i class="dot" aria-hidden="true"></i>${word}${note && html` <span class="muted">${note}</span>`}</span>`;
}

/** A slave's state: silent, or with a full disk, beside what it is. */
export function SlaveState({ slave }) {
  if (slave.state === "lost") return html`<${State} state="lost" />`;
  if (!slave.is_connected) return html`<${State} state="silent" note=${slave.state} />`;
  return html`<${State} state=${slave.state} />${slave.is_disk_full && html` <span class="tag is-bad">disk full</span>`}`;
}

/** The framework's colour as a small square. */
export function Swatch({ id }) {
  return html`<i class="swatch" aria-hidden="true" style=${{ background: colourOf(id) }}></i>`;
}

/** A framework's name as a link to its page. */
export function FrameworkLink({ id, name }) {
  return html`<a class="framework" href=${link("framework", id)} title=${id}><${Swatch} id=${id} />${name || id}</a>`;
}

/** Parts of a whole as a bar: [{part: 0 to 1, colour}]. `mark`: a line at this part. One element, since tables have many. */
export function Meter({ parts, label, mark = null }) {
  let sum = 0;
  const stops = parts.map(({ part, colour }) => {
    const from = sum;
    sum = Math.min(1, sum + Math.max(0, part));
    return `${colour} ${place(from)} ${place(sum)}`;
  });
  const layers = [`linear-gradient(90deg, ${[...stops, `var(--track) ${place(sum)}`].join(", ")})`];
  if (mark !== null) layers.unshift(`linear-gradient(90deg, transparent calc(${place(mark)} - 1px), var(--text) 0 calc(${place(mark)} + 1px), transparent 0)`);
  return html`<span class="meter" role="img" aria-label=${label} title=${label} style=${{ background: layers.join(", ") }}></span>`;
}

const place = (part) => `${(part * 100).toFixed(1)}%`;
export const HELD = "var(--held)", OFFERED = "var(--offered)", WITHHELD = "var(--withheld)", LONG = "var(--long)", USED = "var(--good)", BAD = "var(--bad)";

/** How much of one resource of a slave is held and offered. */
export function HeldMeter({ name, total, held = 0, offered = 0 }) {
  const whole = count(total);
  if (!whole) return html`<span class="muted">none</span>`;
  const label = `${name}: ${quantity(name, held)} held${offered ? `, ${quantity(name, offered)} offered` : ""} of ${quantity(name, whole)}`;
  return html`<span class="held"><${Meter} label=${label}
      parts=${[{ part: held / whole, colour: HELD }, { part: offered / whole, colour: OFFERED }]} />
    <span class="number">${percent(held / whole)}</span></span>`;
}

/** Title and value, one below the other. */
export function Facts({ facts }) {
  return html`<dl class="facts">${facts.filter(Boolean).map(([title, value]) => html`<div><dt>${title}</dt><dd>${value}</dd></div>`)}</dl>`;
}

/** A part of a screen, with a heading. */
export function Panel({ title, extra, children, kind = "" }) {
  return html`<section class=${classes("panel", { [kind]: kind })}>
    <header><h2>${title}</h2>${extra}</header>${children}</section>`;
}

/** What to say instead of an empty list. */
export function Nothing({ children }) {
  return html`<p class="nothing">${children}</p>`;
}

/** Whether the screen is narrower than this, also after it was turned. */
export function useIsNarrow(width = 720) {
  const query = `(max-width: ${width - 1}px)`;
  const [is, setIs] = useState(() => window.matchMedia(query).matches);
  useEffect(() => {
    const media = window.matchMedia(query);
    const changed = () => setIs(media.matches);
    media.addEventListener("change", changed);
    return () => media.removeEventListener("change", changed);
  }, [query]);
  return is;
}

/** Choices in a row, one of them chosen. */
export function Choice({ label, options, value, onChange }) {
  return html`<div class="choice" role="group" aria-label=${label}>
    ${options.map(([each, title]) => html`<button type="button" aria-pressed=${each === value} onClick=${() => onChange(each)}>${title}</button>`)}
  </div>`;
}
