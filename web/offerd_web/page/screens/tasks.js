// Tasks, page by page from the gateway, which filters them.
import { html, useCallback, useEffect, useMemo, useRef, useState } from "../html.js";
import { get, lineOf, withQuery } from "../api.js";
import { link, setParameters } from "../router.js";
import { store, useStore } from "../store.js";
import { age, bytes, clock, duration, number, plural, quantity } from "../units.js";
import { FrameworkLink, State } from "../parts/bits.js";
import { Table } from "../parts/table.js";

const PAGE = 200;
const REFRESH_MS = 1500;
const TYPING_MS = 250;
const STATES = ["", "open", "ended", "running", "staging", "unreachable", "finished", "failed", "killed", "lost", "error"];

/** Pages of the tasks that the gateway finds with these parameters. The first is asked for again while the cluster changes. */
class Pages {
  constructor(parameters, changed) {
    this.rows = [];
    this.next = null;
    this.fault = "";
    this.isLoading = true;
    this.isAtTop = true;
    this.version = 0;
    this._parameters = parameters;
    this._changed = changed;
    this._seen = null;
    this._abort = new AbortController();
    this._load("");
  }

  stop() {
    this._abort.abort();
  }

  more() {
    if (this.next !== null && !this.isLoading) this._load(this.next);
  }

  /** The cluster may have changed. */
  refresh() {
    if (this.isLoading) return;
    let isChanged = false;
    this.rows.forEach((task, at) => {
      const bar = task.ended_at === null && store.bars.find(task);
      if (bar && (bar.state !== task.state || bar.ended_at !== task.ended_at || bar.running_since !== task.running_since)) {
        this.rows[at] = { ...task, state: bar.state, ended_at: bar.ended_at, running_since: bar.running_since, reason: bar.reason || task.reason };
        isChanged = true;
      }
    });
    if (this.isAtTop && this._seen !== store.cluster.version) this._load("");
    else if (isChanged) this._say();
  }

  async _load(after) {
    this.isLoading = true;
    this._seen = store.cluster?.version;
    try {
      const page = await get(withQuery("/v1/tasks", { ...this._parameters, limit: PAGE, after }), { signal: this._abort.signal });
      this.rows = after ? [...this.rows, ...page.tasks] : page.tasks;
      this.next = page.next;
      this.fault = "";
    } catch (error) {
      if (this._abort.signal.aborted) return;
      this.fault = lineOf(error);
      this._seen = null;
    }
    this.isLoading = false;
    this._say();
  }

  _say() {
    this.version += 1;
    this._changed(this.version);
  }
}

function usePages(parameters) {
  const [, setVersion] = useState(0);
  const pages = useRef(null);
  const key = JSON.stringify(parameters);
  const shown = useRef("");
  useEffect(() => {
    const start = () => {
      pages.current?.stop();
      pages.current = new Pages(parameters, setVersion);
      shown.current = key;
      setVersion(-1);
    };
    const timer = setTimeout(start, shown.current ? TYPING_MS : 0);
    return () => clearTimeout(timer);
  }, [key]);
  useEffect(() => {
    const timer = setInterval(() => pages.current?.refresh(), REFRESH_MS);
    return () => {
      clearInterval(timer);
      pages.current?.stop();
    };
  }, []);
  return pages.current;
}

const NONE = { rows: [], next: null, fault: "", isLoading: true };

function ran(task) {
  if (task.running_since === null) return "";
  return task.ended_at === null ? age(store.now() - task.running_since) : duration(task.ended_at - task.running_since);
}

const COLUMNS = [
  { key: "task", title: "Task", width: "minmax(150px, 1.6fr)", narrow: "minmax(0, 1fr)",
    cell: (task) => html`<a href=${link("task", task.framework_id, task.task_id)} title=${`${task.task_id} ${task.name}`}>${task.task_id}${task.name && task.name !== task.task_id && html` <span class="muted">${task.name}</span>`}</a>` },
  { key: "state", title: "State", width: "minmax(112px, 150px)", narrow: "104px",
    cell: (task) => html`<${State} state=${task.state} note=${task.is_being_killed && task.ended_at === null ? "being killed" : task.is_long ? "long" : ""} />` },
  { key: "framework", title: "Framework", width: "minmax(110px, 1fr)", isMinor: true, of: "framework",
    cell: (task) => html`<${FrameworkLink} id=${task.framework_id} name=${task.framework_name} />` },
  { key: "host", title: "Host", width: "minmax(90px, .9fr)", isMinor: true, of: "slave", cell: (task) => html`<a href=${link("slave", task.slave_id)}>${task.hostname || task.slave_id}</a>` },
  { key: "user", title: "User", width: "80px", isMinor: true, cell: (task) => task.user },
  { key: "cpus", title: "Cpus", width: "56px", kind: "number", isMinor: true, cell: (task) => number(task.resources.cpus || 0) },
  { key: "mem", title: "Mem", width: "62px", kind: "number", isMinor: true, cell: (task) => (task.resources.mem ? quantity("mem", task.resources.mem) : "") },
  { key: "peak", title: "Peak", width: "62px", kind: "number", isMinor: true, cell: (task) => (task.usage?.peak_mem_bytes ? bytes(task.usage.peak_mem_bytes) : "") },
  { key: "launched", title: "Launched", width: "84px", kind: "number", isMinor: true, cell: (task) => clock(task.launched_at).slice(-8) },
  { key: "ran", title: "Ran", width: "74px", kind: "number", narrow: "60px", cell: ran },
  { key: "why", title: "Why", width: "minmax(90px, 1fr)", isMinor: true, cell: (task) => html`<span class="muted" title=${task.message}>${task.reason}</span>` },
];

/** The table with its filters. `fixed`: parameters that the screen gives. */
export function TaskTable({ query, fixed = {}, title }) {
  useStore(1000);
  const state = query.get("state") || "";
  const name = query.get("q") || "";
  const user = query.get("user") || "";
  const pages = usePages({ ...fixed, state, name, user, framework: fixed.framework || query.get("framework") || "", slave: fixed.slave || query.get("slave") || "" }) || NONE;
  const columns = useMemo(() => COLUMNS.filter((column) => !column.of || !(column.of in fixed)), [fixed]);
  const onEnd = useCallback(() => pages.more?.(), [pages]);
  const onTop = useCallback((is) => { pages.isAtTop = is; }, [pages]);
  const Heading = title ? "h2" : "h1";
  const set = (which) => (event) => setParameters({ [which]: event.target.value });
  return html`<div class=${title ? "list is-part" : "list"}>
    <div class="tools"><${Heading}>${title || "Tasks"}<//>
      <input type="search" placeholder="Name or id" aria-label="Search tasks" value=${name} onInput=${set("q")} />
      <label>State <select value=${state} onChange=${set("state")}>${STATES.map((each) => html`<option value=${each} selected=${each === state}>${each || "any"}</option>`)}</select></label>
      ${!fixed.framework && html`<input type="search" class="is-minor" placeholder="Framework" aria-label="Framework's id or name" value=${query.get("framework") || ""} onInput=${set("framework")} />`}
      ${!fixed.slave && html`<input type="search" class="is-minor" placeholder="Host" aria-label="Slave's id or host" value=${query.get("slave") || ""} onInput=${set("slave")} />`}
      <input type="search" class="is-minor is-short" placeholder="User" aria-label="User" value=${user} onInput=${set("user")} />
      <span class="muted" aria-live="polite">${pages.fault || (pages.next === null ? plural(pages.rows.length, "task") : `${number(pages.rows.length)}+ tasks`)}</span></div>
    <${Table} label="Tasks" columns=${columns} rows=${pages.rows}
      versionOf=${(task) => (task.ended_at === null && task.running_since !== null ? Math.floor(store.now()) : 0)} onEnd=${onEnd} onTop=${onTop}>
      ${pages.isLoading ? "Loading…" : pages.fault || "No task matches."}<//>
  </div>`;
}

export function Tasks({ query }) {
  const fixed = useMemo(() => ({}), []);
  return html`<${TaskTable} query=${query} fixed=${fixed} />`;
}
