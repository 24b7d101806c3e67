// The cluster at a glance.
import { html, useEffect, useMemo, useState } from "../html.js";
import { colourOf } from "../colours.js";
import { linkWith } from "../router.js";
import { useStore } from "../store.js";
import { age, clock, duration, number, percent, plural, quantity, resourceNames } from "../units.js";
import { Choice, FrameworkLink, HELD, Meter, OFFERED, WITHHELD, Nothing, Panel } from "../parts/bits.js";
import { Chart } from "../parts/chart.js";
import { Start } from "./start.js";

const SPANS = [[120, "2m"], [600, "10m"], [3600, "1h"], [21600, "6h"], [86400, "1d"]];
const MOST_LAYERS = 10;
const OTHERS = "#8a8f98";
const RESOURCE_COLOURS = { cpus: "#0077BB", mem: "#EE7733", disk: "#44AA99", ports: "#B5A316", gpus: "#CC79A7" };
const MAIN = ["cpus", "mem"]; // resources that are drawn even if nobody has held any
const LEAST_SPAN_S = 30;
const GAP_S = 25; // a longer time without a point is a gap in the line

export function Overview() {
  const store = useStore(500);
  const [span, setSpan] = useState(120);
  const { cluster } = store;
  useEffect(() => void store.samples.want(store.now() - span), [span, store.samples.points.length > 0]);
  if (isEmpty(store)) return html`<${Start} />`;
  const now = store.now();
  // At first there are few points: they need not stand in a corner of an empty chart.
  const begin = store.samples.since(now - span)[0]?.at ?? now;
  const shown = [now - Math.min(span, Math.max(LEAST_SPAN_S, now - begin)), now];
  return html`<div class="overview">
    <h1 class="hidden">Overview</h1>
    <${Tiles} store=${store} now=${now} />
    <${Warnings} store=${store} now=${now} />
    <div class="columns">
      <${Panel} title="Dominant share by framework" extra=${html`<${Choice} label="Time that is shown" options=${SPANS} value=${span} onChange=${setSpan} />`}>
        <${Shares} store=${store} span=${shown} /><//>
      <${Panel} title="Utilization"><${Utilization} store=${store} span=${shown} /><//>
    </div>
    <div class="columns is-uneven">
      <${Panel} title="Frameworks" extra=${html`<a href="#/frameworks">all ${store.frameworks.size}</a>`}><${Top} store=${store} now=${now} /><//>
      <div>
        <${Panel} title="Resources"><${Resources} cluster=${cluster} /><//>
        <${Panel} title="Lately"><${Lately} store=${store} now=${now} /><//>
      </div>
    </div>
  </div>`;
}

function isEmpty({ cluster, slaves, frameworks }) {
  return cluster.following.is_following && !slaves.size && !frameworks.size;
}

// -- Numbers ------------------------------------------------------------------------------------------------------------

function Tiles({ store, now }) {
  const { cluster, frameworks } = store;
  const { tasks, slaves } = cluster;
  const count = (state) => tasks[`TASK_${state}`] || 0;
  const failed = count("FAILED") + count("LOST") + count("ERROR");
  const registered = (slaves.active || 0) + (slaves.deactivated || 0) + (slaves.draining || 0) + (slaves.drained || 0);
  const waiting = [...frameworks.values()].filter((each) => each.state === "active" && each.under_share_since !== null);
  const longest = waiting.length ? Math.max(...waiting.map((each) => now - each.under_share_since)) : 0;
  const wasted = cluster.wasted_resource_s.cpus;
  return html`<div class="tiles">
    <${Tile} title="Slaves" value=${number(registered)} href="#/slaves"
      note=${[slaves.lost && `${slaves.lost} lost`, slaves.silent && `${slaves.silent} silent`].filter(Boolean).join(", ") || "all heard"} kind=${slaves.lost || slaves.silent ? "is-bad" : ""} />
    <${Tile} title="Running" value=${number(count("RUNNING"))} note="tasks" href=${linkWith(["tasks"], { state: "running" })} />
    <${Tile} title="Staging" value=${number(count("STAGING"))} note="launched, not running yet" href=${linkWith(["tasks"], { state: "staging" })} />
    <${Tile} title="Waiting" value=${number(waiting.length)} kind=${waiting.length ? "is-warn" : ""}
      note=${waiting.length ? `below ${waiting.length === 1 ? "its" : "their"} share, up to ${age(longest)}` : "frameworks below their share"} href=${linkWith(["frameworks"], { sort: "waits" })} />
    <${Tile} title="Failed" value=${number(failed)} note="failed, lost or refused" kind=${failed ? "is-bad" : ""} href=${linkWith(["tasks"], { state: "failed" })} />
    <${Tile} title="Finished" value=${number(count("FINISHED"))} note=${`${number(count("KILLED"))} killed${wasted ? `, ${duration(wasted)} of cpus lost to limits` : ""}`} href=${linkWith(["tasks"], { state: "finished" })} />
  </div>`;
}

function Tile({ title, value, note, href, kind = "" }) {
  return html`<a class=${`tile ${kind}`} href=${href}><span class="tile-title">${title}</span>
    <span class="tile-value">${value}</span><span class="tile-note">${note}</span></a>`;
}

function Warnings({ store }) {
  const { cluster } = store;
  const full = [...store.slaves.values()].filter((slave) => slave.is_disk_full && slave.state !== "lost");
  const lines = [
    cluster.slaves.lost && [`${plural(cluster.slaves.lost, "slave")} lost`, linkWith(["slaves"], { state: "lost" })],
    cluster.slaves.silent && [`${plural(cluster.slaves.silent, "slave")} silent: no connection, not lost yet`, linkWith(["slaves"], { state: "silent" })],
    full.length && [`${plural(full.length, "slave")} with a full disk: offered to nobody`, "#/slaves"],
    cluster.refused && [`${plural(cluster.refused, "connection or message")} refused by keys`, ""],
    cluster.dropped_peers && [`${plural(cluster.dropped_peers, "peer")} hung up on for breaking the protocol`, ""],
    cluster.failed_messages && [`${plural(cluster.failed_messages, "message")} failed in the master: see its log`, ""],
    cluster.unsent_messages && [`${plural(cluster.unsent_messages, "message")} too large to send: see the master's log`, ""],
  ].filter(Boolean);
  if (!lines.length) return null;
  return html`<ul class="warnings">${lines.map(([text, href]) => html`<li>${href ? html`<a href=${href}>${text}</a>` : text}</li>`)}</ul>`;
}

function Resources({ cluster }) {
  const names = resourceNames(cluster.resources);
  if (!names.length) return html`<${Nothing}>No slave is registered.<//>`;
  return html`<table class="plain"><thead><tr><th>Resource</th><th>Held, offered</th><th class="number">Held</th><th class="number">Used</th><th class="number">Total</th></tr></thead>
    <tbody>${names.map((name) => {
      const usage = cluster.resources[name];
      const part = (amount) => (usage.total ? amount / usage.total : 0);
      return html`<tr><th scope="row">${name}</th>
        <td class="wide"><${Meter} label=${`${name}: ${percent(part(usage.held))} held, ${percent(part(usage.offered))} offered, ${percent(part(usage.withheld))} withheld`}
          parts=${[{ part: part(usage.held), colour: HELD }, { part: part(usage.offered), colour: OFFERED }, { part: part(usage.withheld), colour: WITHHELD }]} /></td>
        <td class="number">${quantity(name, usage.held)}</td>
        <td class="number">${usage.used === null ? "" : quantity(name, usage.used)}</td>
        <td class="number">${quantity(name, usage.total)}</td></tr>`;
    })}</tbody></table>`;
}

function Top({ store, now }) {
  const shown = [...store.frameworks.values()].filter((each) => each.state !== "ended")
    .sort((one, other) => other.share - one.share || one.since - other.since).slice(0, 12);
  if (!shown.length) return html`<${Nothing}>No framework is registered. Try <code>offerd run -n 8 -- sleep 5</code><//>`;
  const most = Math.max(...shown.map((each) => each.share), 0.01);
  return html`<table class="plain"><thead><tr><th>Framework</th><th colspan="2">Share</th><th class="number">Running</th><th class="is-minor">Waits</th></tr></thead>
    <tbody>${shown.map((each) => html`<tr>
      <th scope="row"><${FrameworkLink} id=${each.framework_id} name=${each.name} /></th>
      <td class="wide"><${Meter} label=${`share ${percent(each.share)}`} parts=${[{ part: each.share / most, colour: colourOf(each.framework_id) }]} /></td>
      <td class="number">${percent(each.share)}</td><td class="number">${number(each.tasks.TASK_RUNNING || 0)}</td>
      <td class="is-minor">${waits(each, now)}</td></tr>`)}</tbody></table>`;
}

function waits(framework, now) {
  if (framework.state !== "active") return html`<span class="muted">${framework.state}</span>`;
  if (framework.under_share_since !== null) return html`<span class="is-warn-text">below its share for ${age(now - framework.under_share_since)}</span>`;
  return html`<span class="muted">${framework.needs_offers ? "takes offers" : "wants nothing"}</span>`;
}

function Lately({ store }) {
  const { list } = store.happenings;
  if (!list.length) return html`<${Nothing}>Nothing has happened to slaves, frameworks or the master since this page was opened.<//>`;
  return html`<ol class="lately">${list.slice(0, 12).map((each) => html`<li class=${`is-${each.kind}`}>
    <time>${clock(each.at)}</time>${each.href ? html`<a href=${each.href}>${each.text}</a>` : html`<span>${each.text}</span>`}</li>`)}</ol>`;
}

// -- Charts -------------------------------------------------------------------------------------------------------------

function Shares({ store, span }) {
  const points = withGaps(store.samples.since(span[0]));
  const layers = useLayers(points, store);
  const data = useMemo(() => stacked(points, layers), [points.length, points[0]?.at, points[points.length - 1]?.at, layers.key]);
  return html`<${Chart} label="Dominant share by framework over time, stacked" span=${span} max=${1} height=${210} format=${percent}
    series=${[...layers.list].reverse().map((layer) => ({ label: layer.id, colour: layer.colour, fill: layer.colour, width: 1 }))} data=${data.columns}
    legend=${(at) => html`<ul class="legend">${[...layers.list].reverse().map((layer) => html`<li>
      ${layer.id ? html`<${FrameworkLink} id=${layer.id} name=${layer.name} />` : html`<i class="swatch" style=${{ background: OTHERS }}></i>others`}
      <b>${percent(at === null && layer.id ? store.frameworks.get(layer.id)?.share || 0 : data.shares(layer.id, at))}</b></li>`)}
      ${!layers.list.length && html`<li class="muted">No framework holds anything.</li>`}</ul>`} />`;
}

/** The frameworks that get a layer of their own, the oldest first. */
function useLayers(points, store) {
  const most = new Map();
  for (const { shares } of points) for (const id in shares) most.set(id, Math.max(most.get(id) || 0, shares[id]));
  const ids = [...most.keys()].sort((one, other) => most.get(other) - most.get(one) || (one < other ? -1 : 1)).slice(0, MOST_LAYERS);
  const since = (id) => store.frameworks.get(id)?.since ?? 0;
  ids.sort((one, other) => since(one) - since(other) || (one < other ? -1 : 1));
  const list = ids.map((id) => ({ id, name: store.samples.names.get(id), colour: colourOf(id) }));
  if (most.size > ids.length) list.push({ id: "", name: "others", colour: OTHERS });
  return { list, key: list.map((layer) => layer.id).join() };
}

/** The columns for the chart: from the top of the stack to its lowest layer, since each is painted over those before. */
function stacked(points, { list }) {
  const own = new Set(list.map((layer) => layer.id));
  const shareOf = (point, id) => (id ? point.shares[id] || 0
    : Object.entries(point.shares).reduce((sum, [other, share]) => (own.has(other) ? sum : sum + share), 0));
  const columns = list.map(() => new Array(points.length));
  points.forEach((point, at) => {
    let sum = 0;
    list.forEach((layer, place) => {
      if (point.shares === null) return void (columns[place][at] = null);
      sum += shareOf(point, layer.id);
      columns[place][at] = sum;
    });
  });
  return {
    columns: [points.map((point) => point.at), ...columns.reverse()],
    shares: (id, at) => {
      const point = points[at === null ? points.length - 1 : at];
      return point?.shares ? shareOf(point, id) : 0;
    },
  };
}

function withGaps(points) {
  const found = [];
  points.forEach((point, at) => {
    if (at && point.at - points[at - 1].at > Math.max(GAP_S, 3 * (points[at - 1].step || 0))) found.push({ at: points[at - 1].at + 0.001, shares: null, used: null });
    found.push(point);
  });
  return found;
}

function current(usage, kind) {
  return usage?.total ? (kind ? usage.used : usage.held) / usage.total : 0;
}

function Utilization({ store, span }) {
  const points = withGaps(store.samples.since(span[0]));
  const names = resourceNames(store.cluster.resources).filter((name) => MAIN.includes(name) || points.some((point) => point.used?.[name]?.[0] > 0));
  const lines = names.flatMap((name) => {
    const colour = RESOURCE_COLOURS[name] || OTHERS;
    const isUsed = store.cluster.resources[name].used !== null;
    return [{ name, kind: 0, label: `${name} held`, colour, width: 2 }, ...(isUsed ? [{ name, kind: 2, label: `${name} used`, colour, dash: [4, 3], width: 1.5 }] : [])];
  });
  const value = (point, line) => point?.used?.[line.name]?.[line.kind] ?? null;
  const data = useMemo(() => [points.map((point) => point.at), ...lines.map((line) => points.map((point) => value(point, line)))],
    [points.length, points[0]?.at, points[points.length - 1]?.at, names.join()]);
  return html`<${Chart} label="Parts of each resource that are held and used, over time" span=${span} max=${1} height=${210} format=${percent} series=${lines} data=${data}
    legend=${(at) => html`<ul class="legend">${lines.map((line) => html`<li><i class=${line.dash ? "dash" : "swatch"} style=${{ [line.dash ? "borderColor" : "background"]: line.colour }}></i>${line.label}
      <b>${percent(at === null ? current(store.cluster.resources[line.name], line.kind) : value(points[at], line) || 0)}</b></li>`)}</ul>`} />`;
}
