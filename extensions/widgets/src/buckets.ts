// What lies at a height of the picture, without a look at all the rest.
const BUCKET = 512;

/** Which entries lie in which stretch of y; `low` and `high` are their ends. */
export class Buckets {
  private start: Int32Array;
  private list: Int32Array;
  private stamp: Int32Array;
  private turn = 0;

  constructor(height: number, private low: Float32Array, private high: Float32Array) {
    const count = low.length;
    const rows = Math.max(1, Math.ceil((height + 1) / BUCKET));
    const start = new Int32Array(rows + 1);
    const first = new Int32Array(count);
    const last = new Int32Array(count);
    for (let i = 0; i < count; i++) {
      first[i] = Math.max(0, Math.min(rows - 1, Math.floor(low[i] / BUCKET)));
      last[i] = Math.max(0, Math.min(rows - 1, Math.floor(high[i] / BUCKET)));
      for (let r = first[i]; r <= last[i]; r++) start[r + 1]++;
    }
    for (let r = 0; r < rows; r++) start[r + 1] += start[r];
    const at = start.slice();
    const list = new Int32Array(start[rows]);
    for (let i = 0; i < count; i++) for (let r = first[i]; r <= last[i]; r++) list[at[r]++] = i;
    [this.start, this.list, this.stamp] = [start, list, new Int32Array(count)];
  }

  each(y0: number, y1: number, act: (i: number) => void) {
    this.turn++;
    const rows = this.start.length - 1;
    const first = Math.max(0, Math.min(rows - 1, Math.floor(y0 / BUCKET)));
    const last = Math.min(rows - 1, Math.floor(y1 / BUCKET));
    for (let k = this.start[first]; k < this.start[Math.max(first, last + 1)]; k++) {
      const i = this.list[k];
      if (this.stamp[i] === this.turn) continue;
      this.stamp[i] = this.turn;
      if (this.low[i] <= y1 && this.high[i] >= y0) act(i);
    }
  }
}
