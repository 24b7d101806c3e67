// The tasks as bars, packed into rows of their slaves' lanes, and the offers that were seen. Without drawing.

export const KEPT_S = 900;
const MOST_ENDED = 40000;
const MOST_OFFERS = 64; // for each slave
const FIELDS = [
  "framework_id", "task_id", "slave_id", "launched_at", "running_since", "ended_at", "state", "is_long", "millicpus", "reason",
];

/** The bar of an array as the gateway sends it (offerd_web.core.live.Bar). */
export function barOf(fields) {
  const bar = { row: -1, key: `${fields[0]}/${fields[1]}/${fields[3]}` };
  FIELDS.forEach((name, at) => { bar[name] = fields[at]; });
  return bar;
}

/** One slave's lane. */
class Lane {
  constructor() {
    /** Rows of bars that do not overlap, in the order of time. */
    this.rows = [];
    /** Offers that are or were open: {offer_id, framework_id, from, until (null: open), cpus}. */
    this.offers = [];
    this.openOffers = new Map();
  }

  get isEmpty() {
    return !this.rows.length && !this.offers.length;
  }

  place(bar) {
    const end = bar.ended_at ?? Infinity;
    let row = this.rows.findIndex((bars) => isFree(bars, bar.launched_at, end));
    if (row < 0) row = this.rows.push([]) - 1;
    const bars = this.rows[row];
    let at = bars.length;
    while (at > 0 && bars[at - 1].launched_at > bar.launched_at) at -= 1;
    bars.splice(at, 0, bar);
    bar.row = row;
  }

  trim() {
    while (this.rows.length && !this.rows[this.rows.length - 1].length) this.rows.pop();
  }
}

function isFree(bars, start, end) {
  for (let at = bars.length - 1; at >= 0; at--) {
    const otherEnd = bars[at].ended_at ?? Infinity;
    if (otherEnd <= start) return true; // those before ended even earlier
    if (bars[at].launched_at < end) return false;
  }
  return true;
}

export class Bars {
  constructor() {
    this.lanes = new Map();
    /** Bars that the gateway has not sent, since there were too many. */
    this.leftOut = 0;
    /** Ended tasks are known since this time. */
    this.since = Infinity;
    /** Somebody looks at this time and later; null: at the last few minutes only. */
    this.keepFrom = null;
    this.version = 0;
    this._byKey = new Map();
    this._open = new Map();
    this._latest = new Map();
    this._ended = [];
    this._durations = new Map();
    this._usual = new Map();
  }

  lane(slaveId) {
    let lane = this.lanes.get(slaveId);
    if (!lane) this.lanes.set(slaveId, (lane = new Lane()));
    return lane;
  }

  /** All bars anew. */
  replace(bars, leftOut, now) {
    this.since = now;
    const offers = [...this.lanes].map(([slaveId, lane]) => [slaveId, lane.offers, lane.openOffers]);
    this.lanes.clear();
    this._byKey.clear();
    this._open.clear();
    this._latest.clear();
    this._ended = [];
    this.leftOut = leftOut;
    for (const [slaveId, known, open] of offers) Object.assign(this.lane(slaveId), { offers: known, openOffers: open });
    const sorted = bars.map(barOf).sort((one, other) => one.launched_at - other.launched_at);
    for (const bar of sorted) this._add(bar);
    this.version += 1;
  }

  /** Bars of the history, which reach back to this time. */
  takePast(bars, since) {
    for (const bar of bars.map(barOf)) {
      const latest = this.latest(bar.framework_id, bar.task_id);
      // Another run of the gateway may have measured the master's clock a little differently.
      if (!this._byKey.has(bar.key) && !(latest && Math.abs(latest.launched_at - bar.launched_at) < 1)) this._add(bar);
    }
    this._ended.sort((one, other) => one.ended_at - other.ended_at);
    this.since = since;
    this.version += 1;
  }

  take(fields) {
    const bar = barOf(fields);
    const known = this._byKey.get(bar.key);
    if (known) {
      const wasOpen = known.ended_at === null;
      Object.assign(known, bar, { row: known.row });
      if (wasOpen && known.ended_at !== null) this._note(known);
    } else {
      this._add(bar);
    }
    this.version += 1;
  }

  /** The task of this [framework id, task id, launch] has gone without an end. */
  remove(key, now) {
    const bar = this._byKey.get(key.join("/"));
    if (!bar || bar.ended_at !== null) return;
    Object.assign(bar, { ended_at: now, state: "TASK_LOST", reason: bar.reason || "" });
    this._note(bar);
    this.version += 1;
  }

  /** The open bar of a task, if there is one. */
  open(frameworkId, taskId) {
    return this._open.get(`${frameworkId}/${taskId}`);
  }

  /** The latest bar of a task, open or ended. */
  latest(frameworkId, taskId) {
    return this._latest.get(`${frameworkId}/${taskId}`);
  }

  /** The bar of one launch of a task. */
  find(task) {
    return this._byKey.get(`${task.framework_id}/${task.task_id}/${task.launched_at}`);
  }

  /** The bars of a framework's tasks that have ended lately. */
  endedOf(frameworkId) {
    return this._ended.filter((bar) => bar.framework_id === frameworkId);
  }

  _add(bar) {
    this._byKey.set(bar.key, bar);
    const latest = this.latest(bar.framework_id, bar.task_id);
    if (!latest || latest.launched_at <= bar.launched_at) this._latest.set(`${bar.framework_id}/${bar.task_id}`, bar);
    this.lane(bar.slave_id).place(bar);
    if (bar.ended_at === null) this._open.set(`${bar.framework_id}/${bar.task_id}`, bar);
    else this._note(bar);
  }

  _note(bar) {
    const key = `${bar.framework_id}/${bar.task_id}`;
    if (this._open.get(key) === bar) this._open.delete(key);
    this._ended.push(bar);
    if (bar.state === "TASK_FINISHED" && bar.running_since !== null) {
      const kind = kindOf(bar);
      const known = this._durations.get(kind) || [];
      if (!known.length) this._durations.set(kind, known);
      known.push(bar.ended_at - bar.running_since);
      if (known.length > 60) known.shift();
      this._usual.delete(kind);
    }
  }

  /** It runs much longer than its like did: three times as long as half of them, and two seconds at least. */
  isStraggler(bar, now) {
    if (bar.ended_at !== null || bar.running_since === null) return false;
    const ran = now - bar.running_since;
    if (ran < 2) return false;
    return ran > 3 * this._usualOf(kindOf(bar));
  }

  /** How long half of the tasks of this kind took at most. */
  _usualOf(kind) {
    let usual = this._usual.get(kind);
    if (usual === undefined) {
      const known = this._durations.get(kind) || [];
      usual = known.length < 5 ? Infinity : [...known].sort((one, other) => one - other)[known.length >> 1];
      this._usual.set(kind, usual);
    }
    return usual;
  }

  /** The open offers of a slave now. */
  offers(slave, now) {
    if (!slave.offers.length && !this.lanes.has(slave.slave_id)) return;
    const lane = this.lane(slave.slave_id);
    const seen = new Set();
    for (const offer of slave.offers) {
      seen.add(offer.offer_id);
      if (lane.openOffers.has(offer.offer_id)) continue;
      const shown = { ...offer, from: now, until: null };
      lane.openOffers.set(offer.offer_id, shown);
      lane.offers.push(shown);
    }
    for (const [offerId, offer] of lane.openOffers) {
      if (seen.has(offerId)) continue;
      offer.until = now;
      lane.openOffers.delete(offerId);
    }
    if (lane.offers.length > MOST_OFFERS) {
      lane.offers = lane.offers.filter((each) => each.until === null).concat(
        lane.offers.filter((each) => each.until !== null).slice(-MOST_OFFERS / 2),
      );
    }
    this.version += 1;
  }

  /** Forget what ended long ago, or is too much. */
  expire(now) {
    const old = Math.min(now - KEPT_S, this.keepFrom ?? Infinity);
    this.since = Math.max(this.since, old);
    let drop = Math.max(0, this._ended.length - MOST_ENDED);
    while (drop < this._ended.length && this._ended[drop].ended_at < old) drop += 1;
    const gone = this._ended.splice(0, drop);
    if (!gone.length) return;
    const touched = new Map();
    for (const bar of gone) {
      this._byKey.delete(bar.key);
      const task = `${bar.framework_id}/${bar.task_id}`;
      if (this._latest.get(task) === bar) this._latest.delete(task);
      if (!touched.has(bar.slave_id)) touched.set(bar.slave_id, new Set());
      touched.get(bar.slave_id).add(bar);
    }
    for (const [slaveId, bars] of touched) {
      const lane = this.lanes.get(slaveId);
      if (!lane) continue;
      lane.rows = lane.rows.map((row) => row.filter((bar) => !bars.has(bar)));
      lane.trim();
      lane.offers = lane.offers.filter((offer) => offer.until === null || offer.until > old);
      if (lane.isEmpty) this.lanes.delete(slaveId);
    }
    this.version += 1;
  }
}

/** Tasks of one kind are expected to take similar times: those of a framework, maps and reduces of a job apart. */
function kindOf(bar) {
  const match = /\.([mr])\d+\.\d+$/.exec(bar.task_id);
  return match ? `${bar.framework_id} ${match[1]}` : bar.framework_id;
}
