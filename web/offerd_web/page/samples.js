// Shares and utilization over time: taken from what the gateway sends while the page is open, and before that from its history.
import { get, withQuery } from "./api.js";


const EVERY_S = 1;
const FINE_S = 900; // points that are older than this are kept every COARSE_S only
const COARSE_S = 10;
const KEPT_S = 24 * 3600;
const PAST_STEPS = 240;
const LEAST_STEP_S = 10; // the history has no more

export class Samples {
  constructor() {
    /** {at, shares: {framework id: share}, used: {resource: [held, offered, used] as parts of the total}, running} */
    this.points = [];
    this.names = new Map();
    /** Points of the history, from `pastSince` to the first of our own. */
    this.past = [];
    this._pastSpan = 0;
  }

  /** Take a point, unless one was taken just now. */
  take(now, cluster, frameworks) {
    const last = this.points[this.points.length - 1];
    const point = pointOf(now, cluster, frameworks);
    for (const id of Object.keys(point.shares)) this.names.set(id, frameworks.get(id).name);
    if (last && now - last.at < EVERY_S * 0.9) {
      if (now >= last.at) return;
      this.points = this.points.filter((each) => each.at < now); // the clock was set back
    }
    this.points.push(point);
    if (this.points.length % 60 === 0) this._thin(now);
  }

  _thin(now) {
    let lastKept = -Infinity;
    this.points = this.points.filter((point) => {
      if (point.at < now - KEPT_S) return false;
      if (point.at > now - FINE_S) return true;
      if (point.at - lastKept < COARSE_S * 0.95) return false;
      lastKept = point.at;
      return true;
    });
  }

  /** Look up what was before our own points, if `start` lies there. */
  async want(start) {
    const until = this.points[0]?.at;
    if (until === undefined || start >= until - LEAST_STEP_S) return;
    const span = Math.round(until - start);
    if (this._pastSpan >= span * 0.9 && this._pastSpan < span * 3) return;
    this._pastSpan = span;
    const step = Math.max(LEAST_STEP_S, Math.ceil(span / PAST_STEPS));
    const query = { since: start, until, step };
    try {
      const [shares, uses] = await Promise.all([get(withQuery("/v1/shares", query)), get(withQuery("/v1/utilization", query))]);
      if (this._pastSpan === span) this.past = this._pastPoints(shares.points, uses.points, step, until);
    } catch {
      // A gateway without a history: then there are only our own points.
    }
  }

  _pastPoints(shares, uses, step, until) {
    const points = new Map();
    const pointAt = (at) => {
      if (!points.has(at)) points.set(at, { at, step, shares: {}, used: {}, running: 0 });
      return points.get(at);
    };
    for (const use of uses) {
      if (use.total) pointAt(use.at).used[use.resource] = [use.held, use.offered, use.used].map((amount) => (amount === null ? null : amount / use.total));
    }
    for (const share of shares) {
      pointAt(share.at).shares[share.framework_id] = share.share;
      if (!this.names.has(share.framework_id)) this.names.set(share.framework_id, share.framework_name);
    }
    return [...points.values()].filter((point) => point.at < until).sort((one, other) => one.at - other.at);
  }

  /** The points since this time. */
  since(start) {
    const own = this._own(start);
    return this.points[0]?.at > start ? [...this.past.filter((point) => point.at >= start), ...own] : own;
  }

  _own(start) {
    let at = this.points.length;
    while (at > 0 && this.points[at - 1].at >= start) at -= 1;
    return this.points.slice(Math.max(0, at - 1));
  }
}

function pointOf(now, cluster, frameworks) {
  const shares = {};
  for (const framework of frameworks.values()) {
    if (framework.share > 0 && framework.state !== "ended") shares[framework.framework_id] = framework.share;
  }
  const used = {};
  for (const [name, usage] of Object.entries(cluster.resources)) {
    if (!usage.total) continue;
    used[name] = [usage.held / usage.total, usage.offered / usage.total, usage.used === null ? null : usage.used / usage.total];
  }
  return { at: now, shares, used, running: cluster.tasks.TASK_RUNNING || 0 };
}
