// What the page knows of the cluster: everything that /v1/live has sent. One for the whole page.
import { Refused, get } from "./api.js";
import { Bars } from "./lanes/bars.js";
import { assign } from "./colours.js";
import { Happenings } from "./happenings.js";
import { Samples } from "./samples.js";
import { useEffect, useState } from "./html.js";

const AGAIN_MS = 2000;
const SILENT_S = 40; // without news: the gateway's comments every 15 s are not shown to scripts

class Store {
  constructor() {
    this.cluster = null;
    this.slaves = new Map();
    this.frameworks = new Map();
    this.bars = new Bars();
    this.samples = new Samples();
    this.happenings = new Happenings();
    /** state: connecting | open | lost | refused; since: Unix time; why: in words. */
    this.connection = { state: "connecting", since: Date.now() / 1000, why: "" };
    this.onlyOf = "";
    this.version = 0;
    this._skew = 0;
    this._heardAt = 0;
    this._listeners = new Set();
    this._isNotifying = false;
    this._source = null;
  }

  /** The gateway's clock, in Unix seconds. */
  now() {
    return Date.now() / 1000 + this._skew;
  }

  /** When the gateway was heard last, in Unix seconds. */
  get heardAt() {
    return this._heardAt;
  }

  /** Everything has been sent at least once, by a gateway that knows the master. */
  get isReady() {
    return this.cluster !== null;
  }

  /** Call this after changes, at most once for each frame; returns a function that stops that. */
  subscribe(listener) {
    this._listeners.add(listener);
    return () => this._listeners.delete(listener);
  }

  start() {
    this._connect();
    setInterval(() => this._everySecond(), 1000);
  }

  // -- the stream -----------------------------------------------------------------------------------------------------

  _connect() {
    this._source?.close();
    const source = new EventSource("/v1/live");
    this._source = source;
    source.addEventListener("open", () => this._heard());
    source.addEventListener("live", (event) => {
      this._heard();
      this._take(JSON.parse(event.data));
    });
    source.addEventListener("error", () => {
      this._lose("the gateway does not answer");
      // The browser tries again by itself, unless the gateway has refused it.
      if (source.readyState === EventSource.CLOSED) this._askWhy();
    });
  }

  _heard() {
    this._heardAt = this.now();
    if (this.connection.state !== "open") {
      this.connection = { state: "open", since: Date.now() / 1000, why: "" };
      get("/v1/tasks?limit=1").then((page) => { this.onlyOf = page.only_of; this._changed(); }, () => {});
      this._changed();
    }
  }

  _lose(why, state = "lost") {
    if (this.connection.state !== state || this.connection.why !== why) {
      const since = this.connection.state === "open" ? Date.now() / 1000 : this.connection.since;
      this.connection = { state, since, why };
      this._changed();
    }
  }

  async _askWhy() {
    try {
      await get("/v1/cluster");
    } catch (error) {
      if (error instanceof Refused) {
        const isUnknown = error.status === 401;
        this._lose(
          isUnknown ? "this browser's token is not valid any more: open the address that `offerd web token new` prints"
            : error.message,
          isUnknown ? "refused" : "lost",
        );
      }
    }
    setTimeout(() => this._connect(), AGAIN_MS);
  }

  // -- what it says ---------------------------------------------------------------------------------------------------

  _take(text) {
    this._skew = text.now - Date.now() / 1000;
    if (text.is_first) {
      if (this.cluster !== null && text.cluster.master === null) {
        // A gateway that has just started knows nothing yet: what it knew before is shown until it does.
        this.cluster = { ...this.cluster, following: text.cluster.following };
        this._changed();
        return;
      }
      this._takeFirst(text);
    } else {
      this._takeChanges(text);
    }
    this.happenings.cluster(this.cluster, text.cluster, text.now);
    this.cluster = text.cluster;
    this.samples.take(text.now, this.cluster, this.frameworks);
    this._changed();
  }

  _takeFirst(text) {
    const slaves = new Map(text.slaves.map((slave) => [slave.slave_id, slave]));
    const frameworks = new Map(text.frameworks.map((framework) => [framework.framework_id, framework]));
    if (this.cluster !== null) {
      for (const slave of slaves.values()) this.happenings.slave(this.slaves.get(slave.slave_id), slave, text.now);
    }
    this.slaves = slaves;
    this.frameworks = frameworks;
    assign(text.frameworks);
    this.bars.replace(text.bars, text.bars_left_out, text.now);
    for (const slave of slaves.values()) this.bars.offers(slave, text.now);
  }

  _takeChanges(text) {
    for (const slave of text.slaves) {
      this.happenings.slave(this.slaves.get(slave.slave_id), slave, text.now);
      this.slaves.set(slave.slave_id, slave);
      this.bars.offers(slave, text.now);
    }
    for (const slaveId of text.gone_slaves) this.slaves.delete(slaveId);
    for (const framework of text.frameworks) {
      this.happenings.framework(this.frameworks.get(framework.framework_id), framework, text.now);
      this.frameworks.set(framework.framework_id, framework);
    }
    for (const frameworkId of text.gone_frameworks) this.frameworks.delete(frameworkId);
    if (text.frameworks.length) assign([...this.frameworks.values()]);
    for (const bar of text.bars) this.bars.take(bar);
    for (const key of text.gone_bars) this.bars.remove(key, text.now);
    this.bars.leftOut += text.bars_left_out;
  }

  // -- listeners ------------------------------------------------------------------------------------------------------

  _everySecond() {
    const now = this.now();
    this.bars.expire(now);
    if (this.cluster !== null && this.connection.state === "open" && this.cluster.following.is_following) {
      this.samples.take(now, this.cluster, this.frameworks);
    }
    if (this.connection.state === "open" && now - this._heardAt > SILENT_S) {
      this._heardAt = now;
      this._checkStream();
    }
    this._changed();
  }

  /** A stream may be dead without an error, after the host has slept: then there is news that it has not brought. */
  async _checkStream() {
    try {
      const { version } = await get("/v1/cluster");
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
      if (version > this.cluster.version) this._connect();
    } catch {
      this._lose("the gateway does not answer");
      this._connect();
    }
  }

  _changed() {
    this.version += 1;
    if (this._isNotifying) return;
    this._isNotifying = true;
    const notify = () => {
      this._isNotifying = false;
      for (const listener of this._listeners) listener();
    };
    // Hidden pages have no frames, but the tests of what is shown when they return have.
    if (document.hidden) setTimeout(notify, 1000);
    else requestAnimationFrame(notify);
  }
}

export const store = new Store();

/** Draw the component again when the cluster changes, at most every `pauseMs`. */
export function useStore(pauseMs = 200) {
  const [, setVersion] = useState(0);
  useEffect(() => {
    let waiting = 0;
    let last = performance.now();
    const draw = () => {
      waiting = 0;
      last = performance.now();
      setVersion(store.version);
    };
    const stop = store.subscribe(() => {
      if (!waiting) waiting = setTimeout(draw, Math.max(0, pauseMs - (performance.now() - last)));
    });
    return () => {
      stop();
      clearTimeout(waiting);
    };
  }, [pauseMs]);
  return store;
}
