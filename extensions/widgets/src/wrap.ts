// Columns for tall drawings: a deep network in one piece is a thin line when all of it is in view, so it goes on in a
// further column where few tensors cross. Columns that were there before stay, so that little moves.
import { LANE, type LevelInput, type Work } from "./layout";

export const GUTTER = 90; // between columns, for names of modules
const TALL = 2400; // what is lower stays in one piece
const [WIDE, HIGH] = [1200, 600]; // pixels of a usual view

/** Left and right end of what is in each column. */
export function bounds(g: Work, vx: Float32Array, column: Int32Array): [Float32Array, Float32Array] {
  const count = g.layers ? column[g.layers - 1] + 1 : 0;
  const least = new Float32Array(count).fill(Infinity);
  const most = new Float32Array(count).fill(-Infinity);
  for (let u = 0; u < g.v; u++) {
    const c = column[g.layer[u]];
    least[c] = Math.min(least[c], vx[u] - g.w[u] / 2);
    most[c] = Math.max(most[c], vx[u] + g.w[u] / 2);
  }
  return [least, most];
}

/** About how large all of it can be drawn in a usual view. */
function scale(need: Float32Array, step: Float32Array, column: Int32Array): number {
  const wide = new Float32Array(column[column.length - 1] + 1);
  const high = new Float32Array(wide.length);
  for (let l = 0; l < step.length; l++) {
    high[column[l]] += step[l];
    wide[column[l]] = Math.max(wide[column[l]], need[l]);
  }
  const most = high.reduce((a, b) => Math.max(a, b), 0);
  return Math.min(WIDE / wide.reduce((sum, w) => sum + w + GUTTER + LANE, 0), HIGH / most);
}

/** Of each layer, how many modules go on around its end: of its item on the longest path and of that of the next. */
function depths(input: LevelInput, g: Work): Int32Array {
  const { scope, parents } = input;
  const depth = new Int32Array(g.layers);
  if (!scope || !parents) return depth;
  const trunk = new Int32Array(g.layers).fill(-1);
  for (let u = 0; u < g.n; u++) {
    const at = trunk[g.layer[u]];
    if (at < 0 || g.rank[u] > g.rank[at]) trunk[g.layer[u]] = u;
  }
  for (let l = 0; l + 1 < g.layers; l++) {
    if (trunk[l] < 0 || trunk[l + 1] < 0) continue;
    let [a, b] = [scope[trunk[l]], scope[trunk[l + 1]]];
    while (a !== b) if (a > b) a = parents[a]; else b = parents[b];
    for (; a > 0; a = parents[a]) depth[l]++;
  }
  return depth;
}

/** Breaks after about `tall` each, where the fewest tensors cross. */
function broken(step: Float32Array, crossing: Int32Array, tall: number): Int32Array {
  const column = new Int32Array(step.length);
  for (let l = 0, c = 0; l < step.length; c++) {
    let best = step.length - 1;
    let cost = Infinity;
    let high = 0;
    let at = l;
    for (; at < step.length && high <= 1.25 * tall; at++) {
      high += step[at];
      const price = crossing[at] + (3 * Math.abs(high - tall)) / tall;
      if (high < 0.7 * tall || price >= cost) continue;
      best = at;
      cost = price;
    }
    if (at === step.length && high <= 1.15 * tall) best = at - 1;
    for (; l <= best; l++) column[l] = c;
  }
  return column;
}

/** The column of each layer. */
export function columnsOf(input: LevelInput, g: Work, back: Uint8Array, need: Float32Array, step: Float32Array): Int32Array {
  const one = new Int32Array(g.layers);
  const height = step.reduce((sum, s) => sum + s, 0);
  if (height < TALL) return one;
  const crossing = new Int32Array(g.layers + 1); // tensors between a layer and the next
  for (let t = 0; t < input.src.length; t++) {
    const from = g.layer[input.src[t]];
    let far = from;
    for (let e = input.start[t]; e < input.start[t + 1]; e++) if (!back[e]) far = Math.max(far, g.layer[input.dst[e]]);
    crossing[from]++;
    crossing[far]--;
  }
  for (let l = 0; l < g.layers; l++) crossing[l + 1] += crossing[l];
  const depth = depths(input, g);
  depth.forEach((modules, l) => (crossing[l] += 2 * modules));
  let best: Int32Array = one;
  let most = scale(need, step, one);
  const guess = Math.sqrt(((WIDE / HIGH) * height) / (need.reduce((a, b) => Math.max(a, b), 0) + GUTTER));
  for (const part of [0.6, 0.75, 0.9, 1, 1.15, 1.35, 1.6, 2, 2.5, 3.2]) {
    const column = broken(step, crossing, height / Math.max(1, guess * part));
    // a break inside a module is worth a somewhat smaller picture
    let inside = 0;
    for (let l = 0; l + 1 < g.layers; l++) if (column[l] !== column[l + 1] && depth[l] > 0) inside++;
    const size = scale(need, step, column) * (1 - (0.25 * inside) / Math.max(1, column[g.layers - 1]));
    if (size > 1.02 * most) [best, most] = [column, size];
  }
  const old = earlier(input, g);
  // what is there stays as long as it is not much smaller than it could be
  return old && scale(need, step, old) > 0.6 * most ? old : best;
}

/** The columns that the items were in; undefined for one or none. */
function earlier(input: LevelInput, g: Work): Int32Array | undefined {
  const column = new Int32Array(g.layers).fill(-1);
  for (let u = 0; u < g.n; u++) {
    const c = input.columns![u];
    if (!Number.isNaN(c)) column[g.layer[u]] = Math.max(column[g.layer[u]], c);
  }
  let [now, was] = [0, -1];
  for (let l = 0; l < g.layers; l++) {
    if (column[l] > was && was >= 0) now++; // columns of which nothing is left close up
    was = Math.max(was, column[l]);
    column[l] = now;
  }
  return now ? column : undefined;
}
