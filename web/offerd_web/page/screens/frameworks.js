// All frameworks.
import { html, useMemo } from "../html.js";
import { colourOf } from "../colours.js";
import { setParameters } from "../router.js";
import { useStore } from "../store.js";
import { age, clock, number, percent, plural } from "../units.js";
import { FrameworkLink, Meter, State } from "../parts/bits.js";
import { Table, sorted, useSort } from "../parts/table.js";

const tasks = (framework, ...states) => states.reduce((sum, state) => sum + (framework.tasks[`TASK_${state}`] || 0), 0);

function columns(store) {
  return [
    { key: "name", title: "Framework", width: "minmax(140px, 1.6fr)", narrow: "minmax(0, 1fr)", sort: (each) => each.name,
      cell: (each) => html`<${FrameworkLink} id=${each.framework_id} name=${each.name} />` },
    { key: "role", title: "Role", width: "minmax(70px, .7fr)", isMinor: true, sort: (each) => each.role, cell: (each) => each.role },
    { key: "user", title: "User", width: "minmax(70px, .7fr)", isMinor: true, sort: (each) => each.user, cell: (each) => each.user },
    { key: "state", title: "State", width: "110px", narrow: "104px", sort: (each) => each.state, cell: (each) => html`<${State} state=${each.state} />` },
    { key: "share", title: "Share", width: "minmax(110px, 1fr)", narrow: "74px", sort: (each) => each.share,
      cell: (each) => html`<span class="held"><${Meter} label=${`share ${percent(each.share)}`} parts=${[{ part: each.share, colour: colourOf(each.framework_id) }]} /><span class="number">${percent(each.share)}</span></span>` },
    { key: "running", title: "Running", width: "74px", narrow: "60px", kind: "number", sort: (each) => tasks(each, "RUNNING"), cell: (each) => number(tasks(each, "RUNNING")) },
    { key: "staging", title: "Staging", width: "74px", kind: "number", isMinor: true, sort: (each) => tasks(each, "STAGING"), cell: (each) => tasks(each, "STAGING") || "" },
    { key: "finished", title: "Finished", width: "80px", kind: "number", isMinor: true, sort: (each) => tasks(each, "FINISHED"), cell: (each) => number(tasks(each, "FINISHED")) },
    { key: "failed", title: "Failed", width: "70px", kind: "number is-bad-text", isMinor: true, sort: (each) => tasks(each, "FAILED", "LOST", "ERROR"), cell: (each) => tasks(each, "FAILED", "LOST", "ERROR") || "" },
    { key: "waits", title: "Below its share", width: "110px", kind: "number", isMinor: true,
      sort: (each) => (each.under_share_since === null ? null : each.under_share_since), cell: (each) => (each.under_share_since === null ? "" : age(store.now() - each.under_share_since)) },
    { key: "since", title: "Since", width: "100px", kind: "number", isMinor: true, sort: (each) => each.since, cell: (each) => clock(each.since) },
  ];
}

export function Frameworks({ query }) {
  const store = useStore(500);
  const all = useMemo(() => columns(store), []);
  const [sort, onSort] = useSort(query, "-share", setParameters);
  const wanted = (query.get("q") || "").toLowerCase();
  const ended = query.get("ended") === "yes";
  const rows = useMemo(() => {
    const found = [...store.frameworks.values()].filter((each) => (ended || each.state !== "ended")
      && (!wanted || [each.framework_id, each.name, each.role, each.user].join(" ").toLowerCase().includes(wanted)));
    return sorted(found, all, sort);
  }, [store.version, wanted, ended, sort.key, sort.isDown]);
  return html`<div class="list">
    <div class="tools"><h1>Frameworks</h1>
      <input type="search" placeholder="Name, id, role or user" aria-label="Search frameworks" value=${query.get("q") || ""} onInput=${(event) => setParameters({ q: event.target.value })} />
      <label><input type="checkbox" checked=${ended} onChange=${(event) => setParameters({ ended: event.target.checked ? "yes" : "" })} /> ended ones too</label>
      <span class="muted">${number(rows.length)} of ${plural(store.frameworks.size, "framework")}</span></div>
    <${Table} label="Frameworks" columns=${all} rows=${rows} versionOf=${(each) => (each.under_share_since === null ? 0 : Math.floor(store.now()))}
      sort=${sort} onSort=${onSort}>${store.frameworks.size ? "No framework matches." : html`No framework is registered. Try <code>offerd run -n 8 -- sleep 5</code>`}<//>
  </div>`;
}
