// Time series, drawn by uPlot. Redrawn about once a second, and when the cursor moves.
import { html, useEffect, useRef, useState } from "../html.js";
import { onTheme, themeColour } from "../colours.js";
import { clock } from "../units.js";

const { uPlot } = window;

/**
 * series: [{label, colour, dash?, fill?, width?}]; data: [times, values of each series]; span: [from, to] in Unix seconds
 * format(value): the value for people; max: the top of the scale at least
 * legend(at): what stands below; at: the index of the point under the cursor, null: none is
 */
export function Chart({ label, series, data, span, format, max, height = 200, legend }) {
  const place = useRef(null);
  const plot = useRef(null);
  const range = useRef({ span, max });
  range.current = { span, max };
  const [at, setAt] = useState(null);
  const [theme, setTheme] = useState(0);
  const shape = series.map((each) => `${each.label} ${each.colour} ${each.fill}`).join("|");
  useEffect(() => onTheme(() => setTheme((known) => known + 1)), []);
  useEffect(() => {
    const node = place.current;
    const made = new uPlot(options(series, range, format, node.clientWidth, height, setAt), data, node);
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: node.clientWidth, height }));
    observer.observe(node);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape, theme, height]);
  useEffect(() => plot.current?.setData(data), [data]);
  const time = at === null ? null : data[0][at];
  return html`<div class="chart">
    <div class="plot" ref=${place} role="img" aria-label=${label}></div>
    <div class="chart-legend">${legend(at)}<span class="chart-time muted">${time === null || time === undefined ? "" : clock(time)}</span></div>
  </div>`;
}

function options(series, range, format, width, height, setAt) {
  const axis = { stroke: themeColour("--muted"), font: "11px system-ui, sans-serif", grid: { stroke: themeColour("--grid"), width: 1 }, ticks: { show: false } };
  const stepped = uPlot.paths.stepped({ align: 1 });
  return {
    width, height,
    padding: [8, 8, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { show: false }, drag: { setScale: false } },
    scales: {
      x: { time: true, range: () => range.current.span },
      y: { range: (_plot, _least, most) => [0, Math.max(range.current.max || 0, most === null ? 0 : most * 1.02)] },
    },
    axes: [
      { ...axis, size: 24, space: 90, values: (_plot, times) => times.map((time) => shortClock(time, times)) },
      { ...axis, size: 44, values: (_plot, values) => values.map(format) },
    ],
    series: [{}, ...series.map((each) => ({
      label: each.label, stroke: each.colour, fill: each.fill, width: each.width ?? 1.5, dash: each.dash, paths: stepped,
      points: { show: false },
    }))],
    hooks: { setCursor: [(plot) => setAt(plot.cursor.idx ?? null)] },
  };
}

function shortClock(time, times) {
  const isFine = times.length > 1 && times[1] - times[0] < 60;
  return clock(time).slice(-8).slice(0, isFine ? 8 : 5);
}
