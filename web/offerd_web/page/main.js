// The page: its frame, and the screen that the URL's hash asks for.
import { html, render, useEffect, useRef, useState } from "./html.js";
import { usePlace } from "./router.js";
import { store, useStore } from "./store.js";
import { age, clock } from "./units.js";
import { Framework } from "./screens/framework.js";
import { Frameworks } from "./screens/frameworks.js";
import { Lanes } from "./screens/lanes.js";
import { Overview } from "./screens/overview.js";
import { Slave, Slaves } from "./screens/slaves.js";
import { Task } from "./screens/task.js";
import { Tasks } from "./screens/tasks.js";

const TABS = [["", "Overview"], ["lanes", "Lanes"], ["slaves", "Slaves"], ["frameworks", "Frameworks"], ["tasks", "Tasks"]];
const TAB_OF = { slave: "slaves", framework: "frameworks", task: "tasks" };

function Screen({ parts, query }) {
  const [kind = "", id = "", second = ""] = parts;
  if (kind === "lanes") return html`<${Lanes} query=${query} />`;
  if (kind === "slaves") return html`<${Slaves} query=${query} />`;
  if (kind === "slave") return html`<${Slave} key=${id} id=${id} query=${query} />`;
  if (kind === "frameworks") return html`<${Frameworks} query=${query} />`;
  if (kind === "framework") return html`<${Framework} key=${id} id=${id} query=${query} />`;
  if (kind === "tasks") return html`<${Tasks} query=${query} />`;
  if (kind === "task") return html`<${Task} key=${`${id}/${second}`} frameworkId=${id} taskId=${second} query=${query} />`;
  return html`<${Overview} />`;
}

function titleOf(parts) {
  const tab = TABS.find(([key]) => key === (parts[0] || ""));
  return parts[1] ? `${parts[2] || parts[1]} – offerd` : `${tab ? tab[1] : "Overview"} – offerd`;
}

/** Whether everything was sent once. */
function useIsReady() {
  const [is, setIs] = useState(store.isReady);
  useEffect(() => {
    setIs(store.isReady);
    return store.subscribe(() => setIs(store.isReady));
  }, []);
  return is;
}

function Page() {
  const isReady = useIsReady();
  const { parts, query } = usePlace();
  const main = useRef(null);
  const place = parts.join("/");
  const isFirst = useRef(true);
  useEffect(() => {
    document.title = titleOf(parts);
    if (!isFirst.current) main.current.focus({ preventScroll: true });
    if (!isFirst.current) window.scrollTo(0, 0);
    isFirst.current = false;
  }, [place]);
  const tab = TAB_OF[parts[0]] || parts[0] || "";
  return html`
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>Skip to the content</a>
    <header class="top">
      <a class="brand" href="#/">offerd</a>
      <nav aria-label="Screens">${TABS.map(([key, title]) => html`<a href=${`#/${key}`} aria-current=${key === tab ? "page" : undefined}>${title}</a>`)}</nav>
      <${Master} />
    </header>
    <${Bar} />
    <main id="main" ref=${main} tabindex="-1">${isReady ? html`<${Screen} parts=${parts} query=${query} />` : html`<p class="nothing">Waiting for the gateway…</p>`}</main>`;
}

function Master() {
  useStore(500);
  const { cluster, connection } = store;
  if (!cluster?.master) return html`<div class="master"></div>`;
  const isGood = connection.state === "open" && cluster.following.is_following;
  const { master } = cluster;
  return html`<div class="master" title=${`master ${master.master_id}, allocation by ${master.allocator}`}>
    <span class=${`state is-${isGood ? "good" : "bad"}`}><i class="dot" aria-hidden="true"></i>${isGood ? "live" : "not live"}</span>
    <span class="is-minor">master <b>${master.address}</b>, ${master.version}, leads for ${age(store.now() - master.leads_since)}</span></div>`;
}

/** What is wrong between the cluster and this page, as long as it is. */
function Bar() {
  useStore(200);
  const { cluster, connection } = store;
  const now = Date.now() / 1000;
  if (connection.state !== "open") {
    if (connection.state === "connecting" && !connection.why) return null;
    const then = cluster ? ` What is shown is of ${clock(store.heardAt)}.` : "";
    const again = connection.state === "refused" ? "" : `${now - connection.since < 1 ? "" : ` for ${age(now - connection.since)}`}; the page tries again by itself`;
    return html`<div class="bar is-bad" role="alert">${sentence(connection.why)}${again}.${then}</div>`;
  }
  if (cluster && !cluster.following.is_following) {
    const { why, heard_at: heardAt } = cluster.following;
    return html`<div class="bar is-warn" role="alert">The gateway does not follow the master: ${why}.${heardAt ? ` Heard last ${age(store.now() - heardAt)} ago.` : ""} What is shown may be old.</div>`;
  }
  return null;
}

function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

store.start();
render(html`<${Page} />`, document.getElementById("page"));

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest?.("input, select, textarea, dialog");
  if (event.key === "/" && !isTyping) {
    const search = document.querySelector("main input[type=search]");
    if (search) {
      event.preventDefault();
      search.focus();
    }
  }
});
