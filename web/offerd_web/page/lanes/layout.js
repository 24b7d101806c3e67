// Where the lanes and their rows stand, one below the other.

const LEAST_PX = 34;
const PAD_PX = 4;
const MOST_GROWTH = 2;

/** The height of a row in a lane with so many. */
export function rowHeight(rows) {
  if (rows <= 2) return 13;
  if (rows <= 6) return 10;
  if (rows <= 16) return 7;
  if (rows <= 40) return 5;
  return 3;
}

export class Layout {
  constructor() {
    /** {index, slave, lane, top, height, row: height of a row} */
    this.lanes = [];
    this.height = 0;
    this._of = new Map();
  }

  /** Lay the slaves' lanes out, in this order. Few lanes become higher, up to twice as high, to fill `room`. */
  place(slaves, bars, room = 0) {
    if (this._slaves === slaves && this._version === bars.version && this._room === room) return;
    Object.assign(this, { _slaves: slaves, _version: bars.version, _room: room });
    this._place(slaves, bars, 1);
    const growth = Math.min(MOST_GROWTH, room / this.height);
    if (slaves.length && growth > 1.05) this._place(slaves, bars, growth);
  }

  _place(slaves, bars, growth) {
    let top = 0;
    this.lanes = slaves.map((slave, index) => {
      const lane = bars.lanes.get(slave.slave_id) || null;
      const rows = Math.max(1, lane ? lane.rows.length : 0);
      const row = rowHeight(rows) * growth;
      const height = Math.max(LEAST_PX, rows * row + 2 * PAD_PX);
      const placed = { index, slave, lane, top, height, row, rowsTop: PAD_PX };
      top += height;
      return placed;
    });
    this.height = top;
    this._of = new Map(this.lanes.map((placed) => [placed.slave.slave_id, placed]));
  }

  /** The lane of this slave. */
  of(slaveId) {
    return this._of.get(slaveId);
  }

  /** The index of the lane at this height, or of the last one. */
  at(y) {
    let [low, high] = [0, this.lanes.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.lanes[middle].top <= y) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** The lanes that touch this part. */
  between(top, bottom) {
    if (!this.lanes.length) return [];
    return this.lanes.slice(this.at(top), this.at(bottom) + 1);
  }
}

/** The bar of a lane at this time and height, within some seconds; null: there is none. */
export function barAt(placed, time, y, nearS) {
  if (!placed.lane) return null;
  const row = placed.lane.rows[Math.floor((y - placed.rowsTop) / placed.row)];
  if (!row) return null;
  let [best, distance] = [null, nearS];
  for (let at = row.length - 1; at >= 0; at--) {
    const bar = row[at];
    const away = Math.max(bar.launched_at - time, time - (bar.ended_at ?? Infinity), 0);
    if (away <= distance) [best, distance] = [bar, away];
    if (away === 0) return bar;
    if (bar.ended_at !== null && bar.ended_at < time - 3600) break;
  }
  return best;
}

/** The open or past offer of a lane at this time; null: there is none. */
export function offerAt(placed, time, now) {
  if (!placed.lane) return null;
  return placed.lane.offers.find((offer) => offer.from <= time && time <= (offer.until ?? now)) || null;
}
