// One task: how it went, what it wrote, and its files.
import { html, useEffect, useMemo, useRef, useState } from "../html.js";
import { Refused, get, lineOf, open, taskPath, withQuery } from "../api.js";
import { colourOf } from "../colours.js";
import { link, setParameters } from "../router.js";
import { store, useStore } from "../store.js";
import { age, bytes, clock, count, duration, quantity, resources } from "../units.js";
import { BAD, Facts, FrameworkLink, HELD, Meter, Nothing, Panel, State } from "../parts/bits.js";
import { Log } from "../parts/log.js";
import { killTask } from "../parts/orders.js";

const AGAIN_MS = 1000;
const PREVIEW_BYTES = 128 << 10;
const TABS = [["stdout", "stdout"], ["stderr", "stderr"], ["files", "Files"]];

/** The task, asked for again when the gateway has sent a change of its bar, and once in a while. */
function useTask(frameworkId, taskId) {
  const [known, setKnown] = useState({ task: null, fault: "" });
  const seen = useRef("");
  useEffect(() => {
    let isOver = false;
    let asked = 0;
    const look = async () => {
      try {
        const task = await get(taskPath(frameworkId, taskId));
        if (!isOver) setKnown({ task, fault: "" });
      } catch (error) {
        if (isOver) return;
        const isGone = error instanceof Refused && error.status === 404;
        setKnown((before) => ({ task: before.task && isGone ? ended(before.task) : before.task, fault: lineOf(error), isGone }));
      }
    };
    const again = () => {
      const bar = store.bars.latest(frameworkId, taskId);
      const now = bar ? `${bar.launched_at} ${bar.state}` : "";
      if (now === seen.current && performance.now() - asked < 10 * AGAIN_MS) return;
      seen.current = now;
      asked = performance.now();
      look();
    };
    again();
    const timer = setInterval(again, AGAIN_MS / 2);
    return () => {
      isOver = true;
      clearInterval(timer);
    };
  }, [frameworkId, taskId]);
  return known;
}

/** What is known of a task that the gateway does not know any more: its bar has seen the end. */
function ended(task) {
  const bar = store.bars.find(task);
  return { ...task, state: bar?.state || task.state, ended_at: bar?.ended_at ?? task.ended_at, reason: bar?.reason || task.reason };
}

/** A task as far as its bar says. */
function ofBar(frameworkId, taskId) {
  const bar = store.bars.latest(frameworkId, taskId);
  if (!bar) return null;
  return {
    ...bar, framework_name: store.frameworks.get(frameworkId)?.name || "", hostname: store.slaves.get(bar.slave_id)?.hostname || "", name: "", executor_id: "",
    resources: bar.millicpus ? { cpus: bar.millicpus / 1000 } : {}, time_limit_s: undefined, message: "", exit_status: null, user: "", output: null, usage: null, has_files: true,
  };
}

export function Task({ frameworkId, taskId, query }) {
  useStore(500);
  const { task: found, fault, isGone } = useTask(frameworkId, taskId);
  const task = found || ofBar(frameworkId, taskId);
  const tab = query.get("tab") || "stdout";
  if (!task) return html`<div class="page"><h1>${taskId}</h1><${Nothing}>${fault || "Loading…"}<//></div>`;
  const now = store.now();
  return html`<div class="page">
    <div class="title"><h1>${taskId}</h1>${task.name && task.name !== taskId && html`<span class="muted">${task.name}</span>`}<${State} state=${task.state} note=${task.is_being_killed && task.ended_at === null ? "being killed" : ""} /><span class="spacer"></span>
      ${task.ended_at === null && html`<button type="button" class="is-dangerous" onClick=${() => killTask(task)}>Kill…</button>`}</div>
    ${isGone && found === null && html`<p class="muted">The gateway knows only this much of it: it has ended, and no history is kept.</p>`}
    <${Panel} title="How it went"><${Timeline} task=${task} now=${now} />
      ${(task.reason || task.message) && html`<p class=${task.ended_at !== null && task.reason ? "reason is-bad-text" : "reason"}>${task.reason}${task.reason && task.message ? ": " : ""}${task.message}</p>`}<//>
    <${Panel} title="Task"><${Facts} facts=${facts(task, now)} /><//>
    <section class="panel">
      <div class="tabs" role="tablist" aria-label="What it wrote">${TABS.map(([key, title]) => html`<button type="button" role="tab" id=${`tab-${key}`} aria-selected=${tab === key} aria-controls="tab-content"
        onClick=${() => setParameters({ tab: key === "stdout" ? "" : key, path: "", file: "" })}>${title}${size(task, key)}</button>`)}</div>
      <div id="tab-content" role="tabpanel" aria-labelledby=${`tab-${tab}`}>
        ${tab === "files" ? html`<${Files} task=${task} query=${query} />` : html`<${Log} key=${tab} task=${task} name=${tab} />`}</div>
    </section>
  </div>`;
}

function size(task, name) {
  const amount = task.output?.[`${name}_bytes`];
  return amount === undefined ? "" : html` <span class="muted">${bytes(amount)}</span>`;
}

function facts(task, now) {
  const asked = task.resources.mem;
  const peak = task.usage?.peak_mem_bytes;
  return [
    ["Framework", html`<${FrameworkLink} id=${task.framework_id} name=${task.framework_name} />`],
    ["Host", html`<a href=${link("slave", task.slave_id)}>${task.hostname || task.slave_id}</a>`],
    [task.ended_at === null ? "Holds" : "Held", resources(task.resources) || "nothing"],
    task.time_limit_s !== undefined && ["Time limit", task.time_limit_s === null ? "none" : duration(task.time_limit_s)],
    task.is_long !== null && ["Counts as", task.is_long ? "long" : "short"],
    task.executor_id && ["Executor", task.executor_id],
    ["User", task.user || "not known"],
    ["Launched", `${clock(task.launched_at, { millis: true })}, ${age(now - task.launched_at)} ago`],
    task.ended_at !== null && ["Ended", `${clock(task.ended_at, { millis: true })}, ${age(now - task.ended_at)} ago`],
    task.exit_status !== null && ["Exit", task.exit_status < 0 ? `signal ${-task.exit_status}` : `status ${task.exit_status}`],
    task.usage && ["Cpu time", `${duration(task.usage.cpu_s)}${task.running_since && task.ended_at > task.running_since ? ` (${(task.usage.cpu_s / (task.ended_at - task.running_since)).toFixed(1)} of ${quantity("cpus", count(task.resources.cpus))} cpus)` : ""}`],
    peak && ["Memory", html`<span class="held">${asked ? html`<${Meter} label=${`peak ${bytes(peak)} of ${bytes(asked)} asked for`} parts=${[{ part: peak / asked, colour: peak > 0.9 * asked ? BAD : HELD }]} />` : ""}
      <span>peak ${bytes(peak)}${asked ? ` of ${bytes(asked)} asked for` : ", none asked for"}</span></span>`],
  ];
}

// -- Timeline -----------------------------------------------------------------------------------------------------------

function Timeline({ task, now }) {
  const end = task.ended_at ?? now;
  const limit = task.time_limit_s && task.running_since !== null ? task.running_since + task.time_limit_s : null;
  const whole = Math.max(end, limit !== null && limit - end < 3 * (end - task.launched_at + 1) ? limit : end) - task.launched_at || 0.001;
  const at = (time) => `${Math.max(0, Math.min(100, (100 * (time - task.launched_at)) / whole))}%`;
  const started = task.running_since ?? end;
  const colour = colourOf(task.framework_id);
  const isLimitShown = limit !== null && limit <= task.launched_at + whole + 0.01;
  return html`<div class="timeline">
    <div class="track" role="img" aria-label=${`launched ${clock(task.launched_at)}, staging ${duration(started - task.launched_at)}, ran ${duration(end - started)}`}>
      <i class="is-staging" style=${{ left: "0%", width: at(started), background: `${colour}55` }}></i>
      <i style=${{ left: at(started), width: `calc(${at(end)} - ${at(started)})`, background: colour }}></i>
      ${isLimitShown && html`<i class="is-limit" style=${{ left: at(limit) }}></i>`}
    </div>
    <ol class="steps">
      <li><b>launched</b> ${clock(task.launched_at)}</li>
      <li><b>running</b> ${task.running_since === null ? (task.ended_at === null ? "not yet" : "never") : `after ${duration(task.running_since - task.launched_at)}`}</li>
      <li><b>${task.ended_at === null ? "now" : "ended"}</b> ${task.running_since === null ? "" : `after ${task.ended_at === null ? age(end - started) : duration(end - started)}`}</li>
      ${limit !== null && html`<li><b>limit</b> ${duration(task.time_limit_s)}${task.ended_at === null ? `, in ${age(Math.max(0, limit - now))}` : ""}</li>`}
    </ol>
  </div>`;
}

// -- Files --------------------------------------------------------------------------------------------------------------

function Files({ task, query }) {
  const path = query.get("path") || "";
  const file = query.get("file") || "";
  const [known, setKnown] = useState({ entries: null, fault: "" });
  const base = taskPath(task.framework_id, task.task_id);
  const look = () => get(withQuery(`${base}/files`, { path })).then(
    (found) => setKnown({ entries: found.entries, isCut: found.truncated, fault: "" }), (error) => setKnown({ entries: null, fault: lineOf(error) }));
  useEffect(() => void look(), [base, path, task.state]);
  const entries = useMemo(() => [...(known.entries || [])].sort((one, other) => (one.kind === other.kind ? (one.name < other.name ? -1 : 1) : one.kind === "directory" ? -1 : other.kind === "directory" ? 1 : 0)), [known.entries]);
  const steps = path ? path.split("/") : [];
  return html`<div class="files">
    <nav aria-label="Path"><button type="button" class="is-link" onClick=${() => setParameters({ path: "", file: "" })}>sandbox</button>
      ${steps.map((step, at) => html` / <button type="button" class="is-link" onClick=${() => setParameters({ path: steps.slice(0, at + 1).join("/"), file: "" })}>${step}</button>`)}
      <button type="button" onClick=${look}>Look again</button></nav>
    ${known.fault ? html`<${Nothing}>${known.fault}<//>` : known.entries === null ? html`<${Nothing}>Loading…<//>` : !entries.length ? html`<${Nothing}>The directory is empty.<//>` : html`
    <table class="plain"><thead><tr><th>Name</th><th class="number">Size</th><th class="number is-minor">Changed</th><th></th></tr></thead><tbody>
      ${entries.map((entry) => {
        const inside = path ? `${path}/${entry.name}` : entry.name;
        return html`<tr><td>${entry.kind === "directory" ? html`<button type="button" class="is-link" onClick=${() => setParameters({ path: inside, file: "" })}>${entry.name}/</button>`
          : entry.kind === "file" ? html`<button type="button" class="is-link" onClick=${() => setParameters({ file: inside })}>${entry.name}</button>` : entry.name}</td>
          <td class="number">${entry.kind === "file" ? bytes(entry.size_bytes) : ""}</td><td class="number is-minor">${clock(entry.modified_s)}</td>
          <td class="number">${entry.kind === "file" && html`<a href=${withQuery(`${base}/files/content`, { path: inside })} download=${entry.name}>Download</a>`}</td></tr>`;
      })}</tbody></table>`}
    ${known.isCut && html`<p class="muted">There are more entries than are shown: ${entries.length} are.</p>`}
    ${file && html`<${Preview} base=${base} path=${file} />`}
  </div>`;
}

/** The beginning of a file, if it is text. */
function Preview({ base, path }) {
  const [shown, setShown] = useState({ text: null, line: "Loading…" });
  useEffect(() => {
    const abort = new AbortController();
    const load = async () => {
      const answer = await open(withQuery(`${base}/files/content`, { path }), { signal: abort.signal });
      const reader = answer.body.getReader();
      const pieces = [];
      let size = 0;
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        pieces.push(value);
        size += value.length;
        if (size >= PREVIEW_BYTES) break;
      }
      await reader.cancel();
      const whole = new Uint8Array(await new Blob(pieces).arrayBuffer()).slice(0, PREVIEW_BYTES);
      if (whole.includes(0)) return { text: null, line: "It is not a text; download it to look at it." };
      return { text: new TextDecoder().decode(whole), line: size >= PREVIEW_BYTES ? `Its first ${bytes(PREVIEW_BYTES)}.` : "" };
    };
    setShown({ text: null, line: "Loading…" });
    load().then(setShown, (error) => abort.signal.aborted || setShown({ text: null, line: lineOf(error) }));
    return () => abort.abort();
  }, [base, path]);
  return html`<div class="preview"><h3>${path}</h3>${shown.line && html`<p class="muted">${shown.line}</p>`}
    ${shown.text !== null && html`<div class="log" tabindex="0" role="region" aria-label=${path}><pre>${shown.text}</pre></div>`}</div>`;
}
