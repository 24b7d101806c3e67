// A table that draws only the rows that are on the screen, so it stays fast with tens of thousands of them.
import { Component, classes, html, useEffect, useLayoutEffect, useRef, useState } from "../html.js";
import { compareNames } from "../units.js";
import { useIsNarrow } from "./bits.js";

export const ROW_PX = 30;
const SPARE = 8; // rows above and below the screen that are drawn as well
const NEAR_END_PX = 1500;

class Row extends Component {
  shouldComponentUpdate(next) {
    const { row, version, at, columns } = this.props;
    return next.row !== row || next.version !== version || next.at !== at || next.columns !== columns;
  }

  render({ row, at, columns, tracks }) {
    return html`<div class="row" role="row" aria-rowindex=${at + 2}
        style=${{ transform: `translateY(${at * ROW_PX}px)`, gridTemplateColumns: tracks }}>
      ${columns.map((column) => html`<div role="cell" class=${column.kind || ""}>${column.cell(row)}</div>`)}
    </div>`;
  }
}

/**
 * columns: [{key, title, width: a grid track, cell(row), sort(row)?, kind?, isMinor?: left out on phones}]
 * rows, versionOf(row)?: changes when a row that is the same object looks different
 * sort: {key, isDown}, onSort(key); onEnd(): the end comes near
 */
export function Table({ label, columns, rows, versionOf, sort, onSort, onEnd, onTop, total = rows.length, children }) {
  const scroller = useRef(null);
  const [view, setView] = useState({ first: 0, height: 600 });
  const isNarrow = useIsNarrow();
  const shown = useShown(columns, isNarrow);
  const measure = () => {
    const node = scroller.current;
    if (!node) return;
    const first = Math.max(0, Math.floor(node.scrollTop / ROW_PX) - SPARE);
    setView((known) => (known.first === first && known.height === node.clientHeight ? known : { first, height: node.clientHeight }));
    onTop?.(node.scrollTop < ROW_PX);
    if (onEnd && node.scrollHeight - node.scrollTop - node.clientHeight < NEAR_END_PX) onEnd();
  };
  useLayoutEffect(measure, [rows.length, onEnd]);
  useEffect(() => {
    const observer = new ResizeObserver(measure);
    observer.observe(scroller.current);
    return () => observer.disconnect();
  }, [onEnd]);
  // A row that leaves the screen becomes one that enters it: elements are made only once.
  const pool = Math.ceil(view.height / ROW_PX) + 2 * SPARE + 1;
  const last = Math.min(rows.length, view.first + Math.ceil(view.height / ROW_PX) + 2 * SPARE);
  return html`<div class="table" role="table" aria-label=${label} aria-rowcount=${total + 1}>
    <div class="table-scroll" ref=${scroller} onScroll=${measure}>
      <div class="table-head" role="rowgroup">
        <div class="row" role="row" style=${{ gridTemplateColumns: shown.tracks }}>
          ${shown.columns.map((column) => html`<${Head} column=${column} sort=${sort} onSort=${onSort} />`)}
        </div>
      </div>
      <div class="table-body" role="rowgroup" style=${{ height: `${rows.length * ROW_PX}px` }}>
        ${rows.slice(view.first, last).map((row, at) => html`<${Row} key=${(view.first + at) % pool} row=${row} at=${view.first + at}
          columns=${shown.columns} tracks=${shown.tracks} version=${versionOf ? versionOf(row) : 0} />`)}
      </div>
    </div>
    ${!rows.length && html`<div class="table-empty">${children}</div>`}
  </div>`;
}

function useShown(columns, isNarrow) {
  const memo = useRef({});
  if (memo.current.from !== columns || memo.current.isNarrow !== isNarrow) {
    const shown = isNarrow ? columns.filter((column) => !column.isMinor) : columns;
    memo.current = {
      from: columns, isNarrow, columns: shown, tracks: shown.map((column) => (isNarrow && column.narrow) || column.width).join(" "),
    };
  }
  return memo.current;
}

function Head({ column, sort, onSort }) {
  const isSorted = sort && sort.key === column.key;
  const order = isSorted ? (sort.isDown ? "descending" : "ascending") : column.sort ? "none" : undefined;
  return html`<div role="columnheader" class=${classes(column.kind || "", { "is-sorted": isSorted })} aria-sort=${order}>
    ${column.sort && onSort
      ? html`<button type="button" onClick=${() => onSort(column.key)}>${column.title}<span aria-hidden="true">${isSorted ? (sort.isDown ? " ↓" : " ↑") : ""}</span></button>`
      : column.title}
  </div>`;
}

/** The rows in the order that `sort` asks for. */
export function sorted(rows, columns, sort) {
  const column = columns.find((each) => each.key === sort.key && each.sort);
  if (!column) return rows;
  const keys = new Map(rows.map((row) => [row, column.sort(row)]));
  const way = sort.isDown ? -1 : 1;
  return [...rows].sort((one, other) => {
    const [a, b] = [keys.get(one), keys.get(other)];
    if (a === b) return 0;
    if (a === null || a === undefined) return 1;
    if (b === null || b === undefined) return -1;
    return way * (typeof a === "string" ? compareNames(a, b) : a - b);
  });
}

/** `sort=-share` in the place's parameters, and what changes it. */
export function useSort(query, usual, setParameters) {
  const text = query.get("sort") || usual;
  const sort = { key: text.replace(/^-/, ""), isDown: text.startsWith("-") };
  const onSort = (key) => setParameters({ sort: key === sort.key && !sort.isDown ? `-${key}` : key });
  return [sort, onSort];
}
