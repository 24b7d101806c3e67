// One lane for each slave, with its tasks as bars, as they happen.
import { Component, classes, html, useEffect, useMemo, useRef, useState } from "../html.js";
import { get, taskPath } from "../api.js";
import { colourOf } from "../colours.js";
import { link, setParameters } from "../router.js";
import { store, useStore } from "../store.js";
import { age, clock, compareNames, duration, number, percent, plural, resources, stateWord } from "../units.js";
import { Choice, HELD, LONG, Meter, OFFERED, Swatch } from "../parts/bits.js";
import { Viewer } from "../lanes/viewer.js";
import { Start } from "./start.js";

const SPANS = [[10, "10s"], [60, "1m"], [300, "5m"], [900, "15m"]];
const ORDERS = { host: "host", busy: "most tasks", state: "state" };
const MOST_CHIPS = 12;

export function Lanes({ query }) {
  useStore(500);
  const { cluster, slaves } = store;
  if (cluster.following.is_following && !slaves.size) return html`<${Start} />`;
  return html`<${Stage} query=${query} />`;
}

function chosen(query) {
  const wanted = (query.get("q") || "").toLowerCase();
  const order = query.get("order") || "host";
  const found = [...store.slaves.values()].filter((slave) => !wanted || `${slave.hostname} ${slave.slave_id}`.toLowerCase().includes(wanted));
  const byHost = (one, other) => compareNames(one.hostname, other.hostname) || (one.slave_id < other.slave_id ? -1 : 1);
  const open = (slave) => Object.values(slave.tasks).reduce((sum, amount) => sum + amount, 0);
  if (order === "busy") return found.sort((one, other) => open(other) - open(one) || byHost(one, other));
  if (order === "state") return found.sort((one, other) => other.state.localeCompare(one.state) || byHost(one, other));
  return found.sort(byHost);
}

function Stage({ query }) {
  const axis = useRef(null);
  const scroller = useRef(null);
  const viewer = useRef(null);
  const labels = useRef(null);
  const [, draw] = useState(0);
  const [hovered, setHovered] = useState(null);
  const only = query.get("framework") || "";
  const wanted = `${query.get("q")} ${query.get("order")}`;
  const slaves = useMemo(() => chosen(query), [store.version, wanted]);
  useEffect(() => {
    const made = new Viewer(axis.current, scroller.current, {
      changed: () => draw((known) => known + 1),
      scrolled: () => labels.current?.(),
      hover: setHovered,
      opened: (bar) => { location.hash = link("task", bar.framework_id, bar.task_id); },
    });
    viewer.current = made;
    window.offerdLanes = made; // for tests and the curious
    const observer = new ResizeObserver(() => made.draw());
    observer.observe(scroller.current);
    return () => {
      observer.disconnect();
      made.stop();
    };
  }, []);
  useEffect(() => {
    Object.assign(viewer.current, { slaves, only });
    viewer.current.dirty();
  }, [slaves, only]);
  const made = viewer.current;
  return html`<div class="lanes">
    <${Tools} viewer=${made} query=${query} slaves=${slaves} />
    <${Legend} only=${only} />
    <div class="lanes-stage">
      <div class="lanes-scroll" ref=${scroller} tabindex="0" role="region" aria-label="Tasks on slaves over time. Arrows move, plus and minus zoom, space pauses. The list of tasks has the same as a table.">
        <canvas class="lanes-axis" ref=${axis} aria-hidden="true"></canvas>
        <div class="lanes-body" style=${{ height: `${made?.layout.height || 0}px` }}>
          ${made && html`<${Near} viewer=${made} scroller=${scroller.current} again=${labels} />`}
        </div>
      </div>
      ${hovered && html`<${Tooltip} over=${hovered} height=${scroller.current.clientHeight} />`}
    </div>
  </div>`;
}

function Tools({ viewer, query, slaves }) {
  const order = query.get("order") || "host";
  const span = viewer?.span ?? 60;
  const leftOut = store.bars.leftOut;
  return html`<div class="tools"><h1>Lanes</h1>
    <${Choice} label="Time that is shown" options=${SPANS} value=${span} onChange=${(each) => { viewer.span = each; viewer.live(); }} />
    <div class="choice" role="group" aria-label="Zoom"><button type="button" aria-label="Zoom out" onClick=${() => viewer.zoom(1.5)}>−</button><button type="button" aria-label="Zoom in" onClick=${() => viewer.zoom(1 / 1.5)}>+</button></div>
    <button type="button" aria-pressed=${Boolean(viewer && viewer.pausedAt !== null)} onClick=${() => viewer.pause()}>${viewer && viewer.pausedAt !== null ? "Go on" : "Pause"}</button>
    <button type="button" class=${classes("", { "is-main": viewer && !viewer.isLive })} disabled=${!viewer || viewer.isLive} onClick=${() => viewer.live()}>Live</button>
    <input type="search" placeholder="Host" aria-label="Search slaves" value=${query.get("q") || ""} onInput=${(event) => setParameters({ q: event.target.value })} />
    <label class="is-minor">Order <select value=${order} onChange=${(event) => setParameters({ order: event.target.value === "host" ? "" : event.target.value })}>
      ${Object.entries(ORDERS).map(([each, title]) => html`<option value=${each} selected=${each === order}>${title}</option>`)}</select></label>
    <span class="muted">${plural(slaves.length, "slave")}${leftOut ? `; ${number(leftOut)} tasks were not drawn` : ""}</span>
    <span class="muted is-minor hint">wheel zooms, drag moves, shift + wheel scrolls</span></div>`;
}

function Legend({ only }) {
  const all = [...store.frameworks.values()].filter((each) => each.state !== "ended").sort((one, other) => other.share - one.share || (one.framework_id < other.framework_id ? -1 : 1));
  const shown = all.slice(0, MOST_CHIPS);
  if (only && !shown.some((each) => each.framework_id === only) && store.frameworks.has(only)) shown.push(store.frameworks.get(only));
  return html`<div class="lanes-legend"><div class="chips" role="group" aria-label="Show one framework">
      ${shown.map((each) => html`<button type="button" class="chip" aria-pressed=${each.framework_id === only} onClick=${() => setParameters({ framework: each.framework_id === only ? "" : each.framework_id })}>
        <${Swatch} id=${each.framework_id} />${each.name}</button>`)}
      ${all.length > shown.length && html`<span class="muted">and ${all.length - shown.length} more</span>`}</div>
    <ul class="signs"><li><i class="sign is-staging"></i>staging</li><li><i class="sign is-running"></i>running</li><li><i class="sign is-long"></i>long</li><li><i class="sign is-offer"></i>offer</li>
      <li><i class="sign is-bad"></i>failed</li><li><i class="sign is-warn"></i>killed</li><li><i class="sign is-limit"></i>time limit</li><li><i class="sign is-straggler"></i>straggler</li></ul></div>`;
}

/** The lanes that are on the screen or near it. `again`: is set to what makes them anew. */
function Near({ viewer, scroller, again }) {
  const [, draw] = useState(0);
  again.current = () => draw((known) => known + 1);
  const top = scroller.scrollTop;
  const near = viewer.layout.between(top - 200, top + scroller.clientHeight + 200);
  return near.map((placed) => html`<${Lane} key=${placed.slave.slave_id} viewer=${viewer}
    slave=${store.slaves.get(placed.slave.slave_id) || placed.slave} top=${placed.top} height=${placed.height} />`);
}

class Lane extends Component {
  componentDidMount() {
    this.props.viewer.show(this.props.slave.slave_id, this.canvas);
  }

  componentDidUpdate() {
    this.props.viewer.dirty();
  }

  componentWillUnmount() {
    this.props.viewer.show(this.props.slave.slave_id, null);
  }

  shouldComponentUpdate({ slave, top, height }) {
    return slave !== this.props.slave || top !== this.props.top || height !== this.props.height;
  }

  render({ slave, top, height }) {
    const cpus = slave.total.cpus || 0;
    const part = (amount) => (cpus ? (amount || 0) / cpus : 0);
    const [held, long] = [part(slave.held.cpus), part(slave.long_held.cpus)];
    const state = slave.state !== "lost" && !slave.is_connected ? "silent" : slave.state;
    return html`<div class="lane" style=${{ transform: `translateY(${top}px)`, height: `${height}px` }}>
    <a class=${`lane-label is-${state}`} href=${link("slave", slave.slave_id)}
        title=${`${slave.hostname}, ${slave.slave_id}: ${state}${slave.is_disk_full ? ", disk full" : ""}`}>
      <span class="lane-name">${slave.hostname || slave.slave_id}${state !== "active" && html` <b>${state}</b>`}${slave.is_disk_full && html` <b>disk full</b>`}</span>
      <${Meter} label=${`cpus: ${percent(held)} held, ${percent(long)} by long tasks, which may hold ${percent(slave.long_fraction)}`} mark=${slave.long_fraction < 1 ? slave.long_fraction : null}
        parts=${[{ part: long, colour: LONG }, { part: Math.max(0, held - long), colour: HELD }, { part: part(slave.offered.cpus), colour: OFFERED }]} />
    </a><canvas ref=${(node) => { this.canvas = node; }} aria-hidden="true"></canvas></div>`;
  }
}

// -- What the pointer is over -------------------------------------------------------------------------------------------

function Tooltip({ over, height }) {
  const { bar, offer, slave, x, y, left, width } = over;
  const [details, setDetails] = useState(null);
  useEffect(() => {
    setDetails(null);
    if (!bar) return undefined;
    const abort = new AbortController();
    const timer = setTimeout(() => get(taskPath(bar.framework_id, bar.task_id), { signal: abort.signal }).then(setDetails, () => {}), 200);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [bar?.key]);
  const id = (bar || offer).framework_id;
  const name = store.frameworks.get(id)?.name || id;
  const now = store.now();
  const isRight = x > width / 2;
  const style = { top: `${Math.min(y + 14, height - 130)}px`, ...(isRight ? { right: `${width - x + 24}px` } : { left: `${left + x + 14}px` }), borderColor: colourOf(id) };
  const host = slave.hostname || slave.slave_id;
  if (offer) {
    return html`<div class="tooltip" style=${style}><b>Offer to ${name}</b><span>${resources(offer.resources)} on ${host}</span>
      <span class="muted">${offer.until === null ? `open for ${age(now - offer.from)}, rescinded in ${age(Math.max(0, offer.expires_at - now))}` : `was open for ${duration(offer.until - offer.from)}`}</span></div>`;
  }
  const end = bar.ended_at ?? now;
  const straggles = store.bars.isStraggler(bar, now);
  return html`<div class="tooltip" style=${style}><b>${details?.name || bar.task_id}</b><span>${name} on ${host}${bar.is_long ? ", long" : ""}</span>
    <span>${stateWord(bar.state)}${bar.reason ? `: ${bar.reason}` : ""}${straggles ? ", takes three times as long as its like" : ""}</span>
    <span class="muted">launched ${clock(bar.launched_at)}, ${bar.running_since === null ? `staging for ${duration(end - bar.launched_at)}` : `ran ${duration(end - bar.running_since)} after ${duration(bar.running_since - bar.launched_at)}`}; ${number(bar.millicpus / 1000)} cpus</span>
    ${details?.message && html`<span class="muted tooltip-message">${details.message.slice(0, 200)}</span>`}</div>`;
}
