// All slaves, and one of them.
import { html, useMemo } from "../html.js";
import { link, setParameters } from "../router.js";
import { useStore } from "../store.js";
import { age, bytes, clock, number, percent, plural, resourceNames, resources } from "../units.js";
import { Facts, FrameworkLink, HeldMeter, Meter, Nothing, Panel, SlaveState, USED } from "../parts/bits.js";
import { activateSlave, deactivateSlave, drainSlave } from "../parts/orders.js";
import { Table, sorted, useSort } from "../parts/table.js";
import { TaskTable } from "./tasks.js";
import { Start } from "./start.js";

const total = (slave, name) => slave.total[name] || 0;
const part = (slave, name) => (total(slave, name) ? (slave.held[name] || 0) / total(slave, name) : 0);
const running = (slave) => slave.tasks.TASK_RUNNING || 0;
const stateOf = (slave) => (slave.state !== "lost" && !slave.is_connected ? "silent" : slave.state);

const COLUMNS = [
  { key: "host", title: "Host", width: "minmax(120px, 1.4fr)", narrow: "minmax(0, 1.4fr)", sort: (slave) => slave.hostname || slave.slave_id,
    cell: (slave) => html`<a href=${link("slave", slave.slave_id)} title=${slave.slave_id}>${slave.hostname || slave.slave_id}</a>` },
  { key: "state", title: "State", width: "minmax(110px, 1fr)", narrow: "100px", sort: stateOf, cell: (slave) => html`<${SlaveState} slave=${slave} />` },
  { key: "cpus", title: "Cpus held", width: "minmax(110px, 1.2fr)", narrow: "minmax(0, 1fr)", sort: (slave) => part(slave, "cpus"),
    cell: (slave) => html`<${HeldMeter} name="cpus" total=${slave.total.cpus} held=${slave.held.cpus} offered=${slave.offered.cpus} />` },
  { key: "mem", title: "Memory held", width: "minmax(110px, 1.2fr)", isMinor: true, sort: (slave) => part(slave, "mem"),
    cell: (slave) => html`<${HeldMeter} name="mem" total=${slave.total.mem} held=${slave.held.mem} offered=${slave.offered.mem} />` },
  { key: "used", title: "Cpus used", width: "90px", kind: "number", isMinor: true, sort: (slave) => slave.used_cpus,
    cell: (slave) => `${slave.used_cpus.toFixed(1)} / ${number(total(slave, "cpus"))}` },
  { key: "usedmem", title: "Mem used", width: "110px", kind: "number", isMinor: true, sort: (slave) => slave.used_mem_bytes,
    cell: (slave) => `${bytes(slave.used_mem_bytes)} / ${bytes(total(slave, "mem"))}` },
  { key: "tasks", title: "Running", width: "80px", kind: "number", narrow: "64px", sort: running, cell: (slave) => number(running(slave)) },
  { key: "offers", title: "Offers", width: "70px", kind: "number", isMinor: true, sort: (slave) => slave.offers.length, cell: (slave) => slave.offers.length || "" },
  { key: "isolation", title: "Isolation", width: "90px", isMinor: true, sort: (slave) => slave.isolation, cell: (slave) => slave.isolation },
  { key: "since", title: "Since", width: "100px", kind: "number", isMinor: true, sort: (slave) => slave.since, cell: (slave) => clock(slave.since) },
];
const STATES = ["", "active", "draining", "drained", "deactivated", "silent", "lost"];

function texts(slave) {
  return [slave.slave_id, slave.hostname, ...Object.entries(slave.attributes).map((pair) => pair.join("="))].join(" ").toLowerCase();
}

export function Slaves({ query }) {
  const store = useStore(500);
  const [sort, onSort] = useSort(query, "host", setParameters);
  const [wanted, state] = [(query.get("q") || "").toLowerCase(), query.get("state") || ""];
  const rows = useMemo(() => {
    const found = [...store.slaves.values()].filter((slave) => (!state || stateOf(slave) === state) && (!wanted || texts(slave).includes(wanted)));
    return sorted(found, COLUMNS, sort);
  }, [store.version, wanted, state, sort.key, sort.isDown]);
  if (!store.slaves.size && store.cluster.following.is_following) return html`<${Start} />`;
  return html`<div class="list">
    <div class="tools"><h1>Slaves</h1>
      <input type="search" placeholder="Host, id or attribute" aria-label="Search slaves" value=${query.get("q") || ""} onInput=${(event) => setParameters({ q: event.target.value })} />
      <label>State <select value=${state} onChange=${(event) => setParameters({ state: event.target.value })}>
        ${STATES.map((each) => html`<option value=${each} selected=${each === state}>${each || "any"}</option>`)}</select></label>
      <span class="muted">${number(rows.length)} of ${plural(store.slaves.size, "slave")}</span></div>
    <${Table} label="Slaves" columns=${COLUMNS} rows=${rows} sort=${sort} onSort=${onSort}>No slave matches.<//>
  </div>`;
}

// -- One slave ----------------------------------------------------------------------------------------------------------

export function Slave({ id, query }) {
  const store = useStore(500);
  const slave = store.slaves.get(id);
  const fixed = useMemo(() => ({ slave: id }), [id]);
  if (!slave) return html`<div class="page"><h1>${id}</h1><${Nothing}>The master knows no slave of this id. <a href="#/slaves">All slaves</a><//></div>`;
  const now = store.now();
  return html`<div class="page">
    <div class="title"><h1>${slave.hostname || id}</h1><${SlaveState} slave=${slave} /><span class="spacer"></span>
      <a class="button" href=${`${link("lanes")}?q=${encodeURIComponent(slave.hostname)}`}>Lane</a>
      ${!store.onlyOf && slave.state !== "lost" && html`<${Modes} slave=${slave} />`}</div>
    <div class="columns">
      <${Panel} title="Resources"><${Amounts} slave=${slave} /><//>
      <${Panel} title="Host"><${Facts} facts=${[
        ["Id", slave.slave_id],
        [slave.state === "lost" ? "Lost" : "Registered", `${clock(slave.since)}, ${age(now - slave.since)} ago`],
        ["Isolation", slave.isolation || "not known"],
        ["Short tasks", `time limit of ${age(slave.short_limit_s)} at most; others may hold ${percent(slave.long_fraction)}`],
        ...Object.entries(slave.attributes), ...Object.entries(slave.facts),
      ]} /><//>
    </div>
    ${slave.offers.length > 0 && html`<${Panel} title="Open offers"><ul class="offers">${slave.offers.map((offer) => html`<li>
      <${FrameworkLink} id=${offer.framework_id} name=${offer.framework_name} /> ${resources(offer.resources)}
      <span class="muted"> rescinded in ${age(Math.max(0, offer.expires_at - now))}</span></li>`)}</ul><//>`}
    <${TaskTable} query=${query} fixed=${fixed} title="Tasks" />
  </div>`;
}

function Modes({ slave }) {
  if (slave.state === "active") {
    return html`<button type="button" onClick=${() => deactivateSlave(slave)}>Deactivate…</button>
      <button type="button" class="is-dangerous" onClick=${() => drainSlave(slave)}>Drain…</button>`;
  }
  return html`<button type="button" onClick=${() => activateSlave(slave)}>Activate…</button>`;
}

function Amounts({ slave }) {
  return html`<table class="plain"><thead><tr><th>Resource</th><th>Held, offered</th><th class="number">Free</th><th class="number">Total</th><th class="number">Long</th></tr></thead>
    <tbody>${resourceNames(slave.total).map((name) => html`<tr><th scope="row">${name}</th>
      <td class="wide"><${HeldMeter} name=${name} total=${slave.total[name]} held=${slave.held[name]} offered=${slave.offered[name]} /></td>
      <td class="number">${resources({ [name]: slave.free[name] || 0 }).replace(`${name} `, "") || 0}</td>
      <td class="number">${resources({ [name]: slave.total[name] }).replace(`${name} `, "")}</td>
      <td class="number">${slave.long_held[name] ? resources({ [name]: slave.long_held[name] }).replace(`${name} `, "") : ""}</td></tr>`)}
    <tr><th scope="row">in use</th><td class="wide"><${Meter} label="cpus in use" parts=${[{ part: total(slave, "cpus") ? slave.used_cpus / total(slave, "cpus") : 0, colour: USED }]} /></td>
      <td class="number" colspan="3">${slave.used_cpus.toFixed(1)} cpus, ${bytes(slave.used_mem_bytes)}</td></tr></tbody></table>`;
}
