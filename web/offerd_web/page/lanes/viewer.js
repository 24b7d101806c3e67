// What is on the lanes' canvases: the time that is shown, whether it moves on, and what the pointer does.
import { get, withQuery } from "../api.js";
import { store } from "../store.js";
import { onTheme, wantsStillness } from "../colours.js";
import { AXIS_PX, Painter } from "./draw.js";
import { Layout, barAt, offerAt } from "./layout.js";

const LEAST_SPAN_S = 0.5;
const MOST_SPAN_S = 900;
const AHEAD = 0.03; // the part of the width that is left free at the right of now
const DRAG_PX = 4;
const NEAR_PX = 3;
const STILL_MS = 1000;
const FASTEST_MS = 33;
const SCROLL_MS = 150;
const LOAD_AGAIN_MS = 30_000;
const SHARE = 3; // times as long as drawing takes is waited before it is done again

export class Viewer {
  /**
   * changed(): the toolbar and the lanes' elements are to be made again; scrolled(): the elements are; hover(what or null);
   * opened(bar): it was clicked. The lanes' elements give their canvases to `show`.
   */
  constructor(axis, scroller, { changed, scrolled, hover, opened }) {
    this.axis = axis;
    this.scroller = scroller;
    this.painter = new Painter();
    this._canvases = new Map();
    this._fresh = new Set();
    this._cost = 0;
    this._scrolledAt = 0;
    this._loadAgainAt = 0;
    this.layout = new Layout();
    this.span = 60;
    /** The right edge; null: it moves on with time. */
    this.to = null;
    /** Everything stands still as it was then; null: it moves on. */
    this.pausedAt = null;
    this.only = "";
    this.slaves = [];
    this._hovered = null;
    this._call = { changed, scrolled, hover, opened };
    this._isDirty = true;
    this._drawnAt = 0;
    this._pointers = new Map();
    this._stops = [onTheme(() => { this.painter.retheme(); this.dirty(); }), store.subscribe(() => this.dirty())];
    this._listen();
    this._request = requestAnimationFrame((time) => this._frame(time));
  }

  stop() {
    cancelAnimationFrame(this._request);
    for (const stop of this._stops) stop();
    store.bars.keepFrom = null;
  }

  dirty() {
    this._isDirty = true;
  }

  /** The lane of this slave is on this canvas now; null: on none. */
  show(slaveId, canvas) {
    if (canvas === null) this._canvases.delete(slaveId);
    else if (this._canvases.get(slaveId) !== canvas) {
      this._canvases.set(slaveId, canvas);
      this._fresh.add(slaveId);
    }
  }

  /** The width of the lanes in pixels. */
  get width() {
    return this.axis.clientWidth;
  }

  // -- time -----------------------------------------------------------------------------------------------------------

  get now() {
    const isAway = store.connection.state !== "open" || !store.cluster?.following.is_following;
    // Nobody knows what happens while the gateway or the master is away.
    return this.pausedAt ?? (isAway ? Math.min(store.now(), store.heardAt) : store.now());
  }

  range() {
    const to = this.to ?? this.now + this.span * AHEAD;
    return [to - this.span, to];
  }

  get isLive() {
    return this.to === null && this.pausedAt === null;
  }

  pause() {
    this.pausedAt = this.pausedAt === null ? this.now : null;
    if (this.pausedAt === null) this.to = null;
    this._say();
  }

  live() {
    this.pausedAt = null;
    this.to = null;
    this._say();
  }

  /** `part`: the part of the width that stays where it is. */
  zoom(factor, part = 1) {
    const [from, to] = this.range();
    const span = Math.min(MOST_SPAN_S, Math.max(LEAST_SPAN_S, this.span * factor));
    const fixed = from + part * (to - from);
    const isAtNow = this.to === null && part > 0.9;
    this.span = span;
    if (!isAtNow) this.to = fixed + (1 - part) * span;
    this._clamp();
    this._say();
  }

  /** Show what was, or will be, so many seconds earlier or later. */
  pan(seconds) {
    this.to = this.range()[1] + seconds;
    this._clamp();
    this._say();
  }

  _clamp() {
    const latest = this.now + this.span * AHEAD;
    if (this.to !== null && this.to >= latest) this.to = null;
  }

  _say() {
    this.dirty();
    this._call.changed();
  }

  // -- drawing --------------------------------------------------------------------------------------------------------

  _frame(time) {
    this._request = requestAnimationFrame((next) => this._frame(next));
    if (this._wasDrawn) this._cost = 0.7 * this._cost + 0.3 * Math.max(0, time - this._drawnAt - 17);
    this._wasDrawn = false;
    if (time - this._scrolledAt < SCROLL_MS) {
      // While it scrolls, only lanes that come into sight are drawn.
      this._drawSome(this._fresh);
      return;
    }
    const isStill = wantsStillness();
    const speed = this.width / this.span; // pixels for each second
    const every = isStill ? STILL_MS : Math.max(FASTEST_MS, Math.min(1000, 500 / speed));
    // Where drawing is slow, it is done less often, so that the page remains quick.
    const pause = Math.max(this._isDirty ? (isStill ? 250 : 16) : every, SHARE * this._cost);
    if ((this._isDirty || this.isLive) && time - this._drawnAt >= pause) this.draw(time);
    else if (this._fresh.size) this._drawSome(this._fresh);
  }

  /** Draw everything that is on the screen. */
  draw(time = performance.now()) {
    this._isDirty = false;
    this._wasDrawn = true;
    this._drawnAt = time;
    const [from] = this.range();
    store.bars.keepFrom = this.isLive ? null : from - this.span;
    this._wantPast(from);
    this.layout.place(this.slaves, store.bars, this.scroller.clientHeight - AXIS_PX);
    if (this.layout.height !== this._height) {
      this._height = this.layout.height;
      this._call.changed();
    }
    this.painter.drawAxis(this.axis, this._view());
    this._drawSome(this._canvases.keys());
  }

  /** Look up what was before the bars that are known, if that is shown. */
  async _wantPast(from) {
    const { bars } = store;
    if (from > bars.since - 0.5 || this._isLoading || performance.now() < this._loadAgainAt) return;
    this._isLoading = true;
    const [since, until] = [from - this.span, bars.since];
    try {
      bars.takePast((await get(withQuery("/v1/lanes", { since, until }))).bars, since);
      this._say();
    } catch {
      this._loadAgainAt = performance.now() + LOAD_AGAIN_MS; // the gateway has no history, or is away
    }
    this._isLoading = false;
  }

  _view() {
    const [from, to] = this.range();
    return { width: this.width, from, to, now: this.now, hovered: this._hovered, only: this.only };
  }

  _drawSome(slaveIds) {
    const view = this._view();
    for (const slaveId of slaveIds) {
      const placed = this.layout.of(slaveId);
      const canvas = this._canvases.get(slaveId);
      if (placed && canvas) this.painter.drawLane(canvas, placed, view, store.bars);
    }
    this._fresh.clear();
  }

  // -- the pointer ----------------------------------------------------------------------------------------------------

  _listen() {
    const { scroller } = this;
    const on = (node, name, handler, options) => {
      node.addEventListener(name, handler, options);
      this._stops.push(() => node.removeEventListener(name, handler, options));
    };
    on(scroller, "wheel", (event) => this._wheel(event), { passive: false });
    on(scroller, "pointerdown", (event) => this._down(event));
    on(scroller, "pointermove", (event) => this._move(event));
    on(scroller, "pointerup", (event) => this._up(event));
    on(scroller, "pointercancel", (event) => this._pointers.delete(event.pointerId));
    on(scroller, "pointerleave", () => this._hover(null));
    on(scroller, "keydown", (event) => this._key(event));
    on(scroller, "scroll", () => { this._scrolledAt = performance.now(); this._call.scrolled(); }, { passive: true });
  }

  /** The place of an event: from the left edge of the lanes, and from the top of the first one. */
  _place(event) {
    const box = this.axis.getBoundingClientRect();
    const top = this.scroller.getBoundingClientRect().top;
    return { x: event.clientX - box.left, y: event.clientY - top, inside: event.clientY - top - AXIS_PX + this.scroller.scrollTop };
  }

  _wheel(event) {
    const { x } = this._place(event);
    if (x < 0) return; // the names scroll as usual
    event.preventDefault();
    if (event.shiftKey) this.scroller.scrollTop += event.deltaY || event.deltaX;
    else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.pan((event.deltaX / this.width) * this.span);
    else this.zoom(Math.exp(Math.max(-100, Math.min(100, event.deltaY)) * 0.003), x / this.width);
  }

  _down(event) {
    const { x } = this._place(event);
    if (x < 0 || x > this.width || event.button) return;
    this.scroller.setPointerCapture(event.pointerId);
    this._pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, wasMoved: false });
  }

  _move(event) {
    const pointer = this._pointers.get(event.pointerId);
    if (!pointer) {
      this._hover(this._at(event), event);
      return;
    }
    const [right, down] = [event.clientX - pointer.x, event.clientY - pointer.y];
    if (!pointer.wasMoved && Math.hypot(right, down) < DRAG_PX) return;
    pointer.wasMoved = true;
    if (this._pointers.size === 2) this._pinch(event);
    else {
      this.pan((-right / this.width) * this.span);
      if (event.pointerType === "mouse") this.scroller.scrollTop -= down; // fingers scroll by themselves
    }
    Object.assign(pointer, { x: event.clientX, y: event.clientY });
  }

  _pinch(event) {
    const [one, other] = [...this._pointers.entries()];
    const still = (one[0] === event.pointerId ? other : one)[1];
    const moving = this._pointers.get(event.pointerId);
    const before = Math.abs(moving.x - still.x) + 1;
    const after = Math.abs(event.clientX - still.x) + 1;
    this.zoom(before / after, (still.x - this.axis.getBoundingClientRect().left) / this.width);
  }

  _up(event) {
    const pointer = this._pointers.get(event.pointerId);
    this._pointers.delete(event.pointerId);
    if (!pointer || pointer.wasMoved) return;
    const found = this._at(event);
    if (found?.bar) this._call.opened(found.bar);
  }

  _key(event) {
    const step = this.span / 8;
    const keys = {
      ArrowLeft: () => this.pan(-step), ArrowRight: () => this.pan(step), "+": () => this.zoom(0.7), "=": () => this.zoom(0.7), "-": () => this.zoom(1 / 0.7),
      " ": () => this.pause(), Home: () => this.live(),
    };
    if (event.target !== this.scroller || !keys[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    keys[event.key]();
  }

  /** What is at the place of an event: {bar, offer, slave}; null: no lane. */
  _at(event) {
    const { x, y, inside } = this._place(event);
    const { lanes } = this.layout;
    if (x < 0 || y < AXIS_PX || !lanes.length || inside >= this.layout.height) return null;
    const placed = lanes[this.layout.at(inside)];
    const [from, to] = this.range();
    const secondsPerPx = (to - from) / this.width;
    const time = from + x * secondsPerPx;
    const bar = time > this.now + NEAR_PX * secondsPerPx ? null : barAt(placed, time, inside - placed.top, NEAR_PX * secondsPerPx);
    return { slave: placed.slave, bar, offer: bar ? null : offerAt(placed, time, this.now) };
  }

  _hover(found, event) {
    const bar = found?.bar || null;
    if (bar !== this._hovered) this.dirty();
    this._hovered = bar;
    this.scroller.classList.toggle("is-over", bar !== null);
    this._call.hover(found && (found.bar || found.offer) ? { ...found, ...this._place(event), left: this.axis.offsetLeft, width: this.width } : null);
  }
}
