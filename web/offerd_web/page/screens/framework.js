// One framework: what it holds, why it waits, its jobs and tasks.
import { html, useEffect, useMemo, useState } from "../html.js";
import { Refused, get, lineOf, withQuery } from "../api.js";
import { colourOf } from "../colours.js";
import { link } from "../router.js";
import { store, useStore } from "../store.js";
import { age, clock, duration, number, percent, plural, resources, stateWord } from "../units.js";
import { Facts, Panel, State, Swatch } from "../parts/bits.js";
import { Chart } from "../parts/chart.js";
import { jobsOf } from "../parts/jobs.js";
import { endFramework } from "../parts/orders.js";
import { TaskTable } from "./tasks.js";

const AGAIN_MS = 3000;
const SHOWN_S = 600;
const MOST_TASKS = 1000;

export function Framework({ id, query }) {
  useStore(500);
  const framework = store.frameworks.get(id);
  const fixed = useMemo(() => ({ framework: id }), [id]);
  if (!framework) {
    return html`<div class="page"><h1>${id}</h1><p class="muted">The master knows no framework of this id any more; its tasks may still be remembered.</p>
      <${TaskTable} query=${query} fixed=${fixed} title="Tasks" /></div>`;
  }
  const now = store.now();
  return html`<div class="page">
    <div class="title"><h1><${Swatch} id=${id} />${framework.name || id}</h1><${State} state=${framework.state} /><span class="spacer"></span>
      <a class="button" href=${`${link("lanes")}?framework=${encodeURIComponent(id)}`}>Lanes</a>
      ${framework.state !== "ended" && html`<button type="button" class="is-dangerous" onClick=${() => endFramework(framework)}>End…</button>`}</div>
    <div class="columns">
      <${Panel} title="Dominant share"><${Share} id=${id} now=${now} /><//>
      <${Panel} title="Why it waits, or does not">${framework.state === "ended"
        ? html`<p class="muted">It has ended, so it waits for nothing.</p>` : html`<${Why} framework=${framework} />`}<//>
    </div>
    <${Panel} title="Framework"><${Facts} facts=${facts(framework, now)} /><//>
    <${Jobs} id=${id} />
    <${TaskTable} query=${query} fixed=${fixed} title="Tasks" />
  </div>`;
}

function facts(framework, now) {
  const tasks = Object.entries(framework.tasks).map(([state, amount]) => `${number(amount)} ${stateWord(state)}`).join(", ");
  const wasted = Object.entries(framework.wasted_resource_s).filter(([name]) => name === "cpus");
  return [
    ["Id", framework.framework_id], ["Role", framework.role], ["User", framework.user || "not known"], ["Scheduler", `${framework.hostname || "?"}, ${plural(framework.schedulers, "connection")}`],
    ["Registered", `${clock(framework.since)}, ${age(now - framework.since)} ago`],
    framework.ended_at !== null && ["Ended", clock(framework.ended_at)],
    ["Holds", resources(framework.held) || "nothing"], Object.keys(framework.offered).length > 0 && ["Offered", resources(framework.offered)],
    Object.keys(framework.guaranteed).length > 0 && ["Guaranteed", resources(framework.guaranteed)],
    ["Tasks", tasks || "none"], wasted.length > 0 && ["Lost to time limits", `${duration(wasted[0][1])} of cpus`],
    framework.ramp_up_s !== null && ["Reached its share in", duration(framework.ramp_up_s)],
    ...Object.entries(framework.labels),
  ];
}

function Share({ id, now }) {
  useEffect(() => void store.samples.want(store.now() - SHOWN_S), []);
  const points = store.samples.since(now - SHOWN_S);
  const data = useMemo(() => [points.map((point) => point.at), points.map((point) => point.shares[id] || 0)], [points.length, points[0]?.at, points[points.length - 1]?.at]);
  const colour = colourOf(id);
  return html`<${Chart} label="Dominant share over time" span=${[now - Math.min(SHOWN_S, Math.max(60, now - (points[0]?.at ?? now))), now]} height=${150} format=${percent} max=${0.1} data=${data}
    series=${[{ label: id, colour, fill: `${colour}40` }]} legend=${(at) => html`<b>${percent(data[1][at === null ? data[1].length - 1 : at] || 0)}</b>`} />`;
}

// -- Why it waits -------------------------------------------------------------------------------------------------------

function Why({ framework }) {
  const [said, setSaid] = useState({ found: null, fault: "" });
  const id = framework.framework_id;
  useEffect(() => {
    let isOver = false;
    let timer = 0;
    const look = async () => {
      try {
        const found = await get(`/v1/frameworks/${encodeURIComponent(id)}/explanation`);
        if (!isOver) setSaid({ found, fault: "" });
      } catch (error) {
        if (!isOver) setSaid((known) => ({ ...known, fault: lineOf(error) }));
        if (error instanceof Refused && error.status === 404) return;
      }
      if (!isOver) timer = setTimeout(look, AGAIN_MS);
    };
    look();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [id, framework.state]);
  const { found, fault } = said;
  if (!found) return html`<p class="muted">${fault || "The master is asked…"}</p>`;
  return html`<div class="why">
    <p>${inWords(found)}</p>
    ${Object.keys(found.needed).length > 0 && html`<p>Its filters ask for at least ${resources(found.needed)} on one slave.</p>`}
    ${found.under_guarantee_s !== null && html`<p class="is-warn-text">It has been below what it is guaranteed for ${duration(found.under_guarantee_s)}.</p>`}
    ${!found.causes.length && html`<p>The cluster has no slaves.</p>`}
    <ul class="causes">${found.causes.map((cause) => html`<li><b class="number">${number(cause.slaves)}</b><div>${cause.slaves === 1 ? "slave" : "slaves"}: ${cause.text}</div></li>`)}</ul>
    ${fault && html`<p class="muted">Not up to date: ${fault}</p>`}
  </div>`;
}

function inWords(found) {
  const share = `It holds ${percent(found.share)}; its fair share is ${percent(found.fair_share)}`;
  if (found.state !== "active") return `${share}. It is ${found.state}, so it gets no offers.`;
  if (!found.needs_offers) return `${share}. It has asked for no offers, so it waits for nothing.`;
  if (found.under_share_s === null) return `${share}: it has its share.`;
  return html`${share}. <strong class="is-warn-text">It has been below it for ${duration(found.under_share_s)}.</strong>`;
}

// -- Jobs ---------------------------------------------------------------------------------------------------------------

/** Its MapReduce jobs and MPI gangs, by the names of its tasks. */
function Jobs({ id }) {
  const [known, setKnown] = useState({ tasks: [], isWhole: true });
  const counts = () => JSON.stringify(store.frameworks.get(id)?.tasks || {});
  useEffect(() => {
    let isOver = false;
    let seen = "";
    const load = async () => {
      if (seen === counts()) return;
      seen = counts();
      const tasks = [];
      let after = "";
      while (after !== null && tasks.length < MOST_TASKS) {
        const page = await get(withQuery("/v1/tasks", { framework: id, limit: 500, after }));
        tasks.push(...page.tasks);
        after = page.next;
      }
      if (!isOver) setKnown({ tasks, isWhole: after === null });
    };
    const again = () => load().catch(() => { seen = ""; }); // the gateway is away: that is said above
    again();
    const timer = setInterval(again, AGAIN_MS);
    return () => {
      isOver = true;
      clearInterval(timer);
    };
  }, [id]);
  const ended = store.bars.endedOf(id);
  const jobs = useMemo(() => jobsOf([...known.tasks, ...ended]), [known, ended.length]);
  if (!jobs.length) return null;
  return html`<${Panel} title="Jobs" extra=${known.isWhole ? "" : html`<span class="muted">its latest ${number(MOST_TASKS)} tasks</span>`}>
    ${jobs.map((job) => html`<div class="job"><h3>${job.title}</h3>
      ${job.parts.map((part) => html`<div class="job-part"><span class="job-name">${part.name}</span>
        <span class="cells">${part.tasks.map((task) => html`<a class=${`cell is-${stateWord(task.state)}`} href=${link("task", task.framework_id, task.task_id)}
          title=${`${task.name || task.task_id}: ${stateWord(task.state)}${task.hostname ? ` on ${task.hostname}` : ""}`} aria-label=${`${task.name || task.task_id}, ${stateWord(task.state)}`}></a>`)}</span>
        <span class="muted number">${part.words}</span></div>`)}</div>`)}
  <//>`;
}
