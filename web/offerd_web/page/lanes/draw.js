// Draws lanes, each on a canvas of its own, so that they scroll without being drawn again.
import { colourOf, faded, themeColour } from "../colours.js";

const ENDS = { TASK_FAILED: "bad", TASK_ERROR: "bad", TASK_LOST: "bad", TASK_KILLED: "warn" };
const STEPS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900];
export const AXIS_PX = 22;

/** The theme's colours, read once. */
export function readTheme() {
  const theme = {};
  for (const name of ["panel", "text", "muted", "line", "grid", "bad", "warn", "stripe"]) theme[name] = themeColour(`--${name}`);
  return theme;
}

function hatch(context, colour, gap) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = gap;
  const ink = tile.getContext("2d");
  ink.strokeStyle = colour;
  ink.lineWidth = 1.5;
  for (const shift of [-gap, 0, gap]) {
    ink.beginPath();
    ink.moveTo(shift - 1, gap + 1);
    ink.lineTo(shift + gap + 1, -1);
    ink.stroke();
  }
  return context.createPattern(tile, "repeat");
}

/** A view with what the drawing of one canvas needs. */
function framed(view, height, bars) {
  return { ...view, height, bars, x: (time) => ((time - view.from) / (view.to - view.from)) * view.width };
}

export class Painter {
  constructor() {
    this.retheme();
  }

  /** Read the colours again. */
  retheme() {
    this.theme = readTheme();
    const context = document.createElement("canvas").getContext("2d");
    this.longHatch = hatch(context, "rgba(255,255,255,.4)", 7);
    this.lostHatch = hatch(context, faded(this.theme.bad, 0.35), 8);
  }

  /** Draw on this canvas next. */
  _take(canvas, width, height) {
    const ratio = window.devicePixelRatio || 1;
    const [across, down] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== across || canvas.height !== down) Object.assign(canvas, { width: across, height: down });
    // Rasterized on the CPU: some hundred rectangles are quick there, and hosts without a GPU only emulate one, slowly.
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
  }

  /** view: {width, from, to, now, hovered, only (framework id; empty: all)} */
  drawLane(canvas, placed, view, bars) {
    this._take(canvas, view.width, placed.height);
    const frame = framed(view, placed.height, bars);
    this._background(placed, frame);
    this._grid(frame);
    if (placed.lane) this._lane(placed, frame);
    this._nowLine(frame);
  }

  drawAxis(canvas, view) {
    this._take(canvas, view.width, AXIS_PX);
    this._axis(framed(view, AXIS_PX, null));
  }

  _background({ index, slave, height }, frame) {
    const { context, theme } = this;
    context.fillStyle = index % 2 ? theme.stripe : theme.panel;
    context.fillRect(0, 0, frame.width, height);
    if (slave.state === "lost") {
      const from = Math.max(0, frame.x(slave.since));
      context.fillStyle = this.lostHatch;
      context.fillRect(from, 0, Math.max(0, Math.min(frame.width, frame.x(frame.now)) - from), height);
    }
  }

  _lane({ lane, row, rowsTop, height }, frame) {
    for (const offer of lane.offers) this._offer(offer, 0, height, frame);
    lane.rows.forEach((bars, at) => {
      let lastX = Infinity;
      // From the latest backwards: what ended before the left edge ends the loop.
      for (let place = bars.length - 1; place >= 0; place--) {
        const bar = bars[place];
        if (bar.ended_at !== null && bar.ended_at < frame.from) {
          if (bar.ended_at < frame.from - 60) break;
          continue;
        }
        if (bar.launched_at > frame.to) continue;
        const left = frame.x(bar.launched_at);
        if (left > lastX - 0.5) continue; // hidden below its neighbour
        lastX = left;
        this._bar(bar, left, frame.x(bar.ended_at ?? frame.now), rowsTop + at * row, row - 1, frame);
      }
    });
  }

  _bar(bar, left, right, y, height, frame) {
    const { context, theme } = this;
    const width = Math.max(1.5, right - left);
    const colour = colourOf(bar.framework_id);
    const isFaint = frame.only && frame.only !== bar.framework_id;
    context.globalAlpha = isFaint ? 0.15 : 1;
    const runs = bar.running_since === null ? right : Math.max(left, frame.x(bar.running_since));
    if (runs > left + 0.5) {
      context.fillStyle = faded(colour, 0.38);
      context.fillRect(left, y, Math.min(runs - left, width), height);
    }
    if (bar.running_since !== null) {
      context.fillStyle = colour;
      context.fillRect(runs, y, Math.max(1.5, right - runs), height);
    }
    if (bar.is_long && height >= 4) {
      context.fillStyle = this.longHatch;
      context.fillRect(left, y, width, height);
    }
    const end = ENDS[bar.state];
    if (end && bar.ended_at !== null) {
      context.fillStyle = theme[end];
      context.fillRect(Math.max(left, right - 3), y, 3, height);
      if (bar.reason === "TASK_TIMEOUT" && height >= 6) this._notch(right, y, height);
    }
    if (frame.bars.isStraggler(bar, frame.now)) this._outline(left, y, width, height, theme.warn, 2);
    if (bar === frame.hovered) this._outline(left, y, width, height, theme.text, 1.5);
    context.globalAlpha = 1;
  }

  /** The end at a time limit: a triangle against the bar. */
  _notch(x, y, height) {
    const { context } = this;
    context.beginPath();
    context.moveTo(x + 1, y);
    context.lineTo(x - height * 0.8, y + height / 2);
    context.lineTo(x + 1, y + height);
    context.fill();
    context.strokeStyle = this.theme.panel;
    context.lineWidth = 1;
    context.stroke();
  }

  _outline(left, y, width, height, colour, line) {
    const { context } = this;
    context.strokeStyle = colour;
    context.lineWidth = line;
    context.strokeRect(left - 0.5, y - 0.5, width + 1, height + 1);
  }

  _offer(offer, y, height, frame) {
    const { context } = this;
    const [left, right] = [frame.x(offer.from), frame.x(offer.until ?? frame.now)];
    if (right < 0 || left > frame.width) return;
    context.globalAlpha = frame.only && frame.only !== offer.framework_id ? 0.15 : offer.until === null ? 1 : 0.5;
    context.setLineDash([4, 3]);
    context.strokeStyle = colourOf(offer.framework_id);
    context.lineWidth = 1.5;
    context.strokeRect(left + 0.5, y + 2, Math.max(2, right - left), height - 4);
    context.setLineDash([]);
    context.globalAlpha = 1;
  }

  _nowLine(frame) {
    const { context, theme } = this;
    const x = frame.x(frame.now);
    if (x > frame.width) return;
    context.fillStyle = theme.muted;
    context.fillRect(Math.round(x), 0, 1, frame.height);
  }

  _steps(frame) {
    const span = frame.to - frame.from;
    const step = STEPS_S.find((each) => (each / span) * frame.width >= 80) || STEPS_S[STEPS_S.length - 1];
    const times = [];
    for (let time = Math.ceil(frame.from / step) * step; time < frame.to; time += step) times.push(time);
    return [times, step];
  }

  _grid(frame) {
    const { context, theme } = this;
    context.fillStyle = theme.grid;
    for (const time of this._steps(frame)[0]) context.fillRect(Math.round(frame.x(time)), 0, 1, frame.height);
  }

  _axis(frame) {
    const { context, theme } = this;
    context.fillStyle = theme.panel;
    context.fillRect(0, 0, frame.width, AXIS_PX);
    context.fillStyle = theme.line;
    context.fillRect(0, AXIS_PX - 1, frame.width, 1);
    context.fillStyle = theme.muted;
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "center";
    const [times, step] = this._steps(frame);
    for (const time of times) {
      const date = new Date(time * 1000);
      const text = date.toTimeString().slice(0, step >= 60 ? 5 : 8) + (step < 1 ? `.${Math.floor(date.getMilliseconds() / 100)}` : "");
      context.fillText(text, Math.min(frame.width - 24, Math.max(24, frame.x(time))), 14);
    }
  }
}
