// A log that is followed: text only, in the colours that the task wrote, and only as much of it as a browser can hold.
import { html, useEffect, useRef, useState } from "../html.js";
import { lineOf, open, taskPath, withQuery } from "../api.js";
import { bytes } from "../units.js";
import { Ansi, rgb } from "./ansi.js";

const MOST_BYTES = 2 << 20; // of text that is shown; older text is left out
const PIECE = 64 << 10; // shown for each frame
const AGAIN_MS = 2000;

/** Reads one log and puts it into a <pre>, until `stop`. `say(state, line)`: waiting | following | ended | failed. */
class Reader {
  constructor(pre, path, say) {
    this._pre = pre;
    this._path = path;
    this._say = say;
    this._abort = new AbortController();
    this._ansi = new Ansi();
    this._size = 0;
    this.read = 0;
    this.cut = 0;
  }

  stop() {
    this._abort.abort();
  }

  async run(isOpen) {
    while (!this._abort.signal.aborted) {
      try {
        const query = { follow: isOpen() ? "true" : "", offset: this.read || "" };
        const answer = await open(withQuery(this._path, query), { signal: this._abort.signal });
        this._say("following", "");
        await this._show(answer.body.getReader());
        this._say("ended", "");
        return;
      } catch (error) {
        if (this._abort.signal.aborted) return;
        const isOver = !isOpen();
        this._say(isOver ? "failed" : "waiting", lineOf(error));
        if (isOver) return;
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      }
    }
  }

  async _show(reader) {
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      this.read += value.length;
      const text = decoder.decode(value, { stream: true });
      for (const piece of pieces(text)) {
        await new Promise((resolve) => (document.hidden ? setTimeout(resolve, 200) : requestAnimationFrame(resolve)));
        if (this._abort.signal.aborted) return;
        this._append(piece);
      }
    }
  }

  _append(text) {
    const box = this._pre.parentElement;
    const isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    const chunk = document.createElement("span");
    chunk.className = "chunk";
    for (const piece of this._ansi.feed(text)) chunk.append(styled(piece));
    chunk.size = text.length;
    this._pre.append(chunk);
    this._size += text.length;
    while (this._size > MOST_BYTES && this._pre.childNodes.length > 1) {
      const first = this._pre.firstChild;
      this._size -= first.size;
      this.cut += first.size;
      first.remove();
    }
    if (isAtEnd) box.scrollTop = box.scrollHeight;
    this._say("following", "");
  }
}

function* pieces(text) {
  let at = 0;
  while (at < text.length) {
    let end = at + PIECE;
    if ((text.charCodeAt(end - 1) & 0xfc00) === 0xd800) end += 1; // both halves of a character stay together
    yield text.slice(at, end);
    at = end;
  }
}

function styled({ text, style }) {
  if (!Object.keys(style).length) return document.createTextNode(text);
  const span = document.createElement("span");
  span.textContent = text;
  for (const name of ["bold", "faint", "italic", "underline", "inverse"]) if (style[name]) span.classList.add(`t-${name}`);
  for (const [name, property] of [["fg", "color"], ["bg", "backgroundColor"]]) {
    const colour = style[name];
    if (colour === undefined) continue;
    if (typeof colour === "number" && colour < 16) span.classList.add(`t-${name}-${colour}`);
    else span.style[property] = rgb(colour);
  }
  return span;
}

/** The log `name` of a task. isOpen: it has not ended. */
export function Log({ task, name }) {
  const pre = useRef(null);
  const reader = useRef(null);
  const isOpen = useRef(true);
  isOpen.current = task.ended_at === null;
  const [said, setSaid] = useState({ state: "waiting", line: "", read: 0, cut: 0 });
  const path = `${taskPath(task.framework_id, task.task_id)}/logs/${name}`;
  const hasRun = task.running_since !== null || task.ended_at !== null;
  useEffect(() => {
    if (!hasRun) return undefined; // there is nothing to read yet
    pre.current.textContent = "";
    const made = new Reader(pre.current, path, (state, line) => setSaid({ state, line, read: made.read, cut: made.cut }));
    reader.current = made;
    made.run(() => isOpen.current);
    return () => made.stop();
  }, [path, hasRun]);
  const words = {
    waiting: said.line ? `waits: ${said.line}` : "waits for the first output",
    following: task.ended_at === null ? "followed live" : "",
    ended: "complete",
    failed: said.line,
  };
  return html`<div class="log-box">
    <div class="log-bar"><span class=${`log-said is-${said.state}`} aria-live="polite">${words[said.state]}</span>
      <span class="muted">${bytes(said.read)}${said.cut ? `, the first ${bytes(said.cut)} are not shown` : ""}</span>
      <a class="button" href=${path} download=${`${task.task_id}.${name}.txt`}>Download</a></div>
    <div class="log" tabindex="0" role="region" aria-label=${name}><pre ref=${pre}></pre>
      ${said.read === 0 && said.state === "ended" && html`<p class="nothing">It has written nothing to ${name}.</p>`}</div>
  </div>`;
}
