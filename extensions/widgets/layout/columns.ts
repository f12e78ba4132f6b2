// Columns for tall drawings: a deep network in one piece is a thin line when all of it is in view, so it goes on in a
// further column where few tensors cross. Columns that were there before stay, so that little moves.
import { filled, Floats, Input, Ints, LANE, NONE, Work } from "./graph";

export const GUTTER: f64 = 90; // between columns, for names of modules
const TALL: f64 = 2400; // what is lower stays in one piece
const WIDE: f64 = 1200; // pixels of a usual view
const HIGH: f64 = 600;
const PARTS: StaticArray<f64> = [0.6, 0.75, 0.9, 1, 1.15, 1.35, 1.6, 2, 2.5, 3.2]; // of the guessed number of columns

/** Left and right end of what is in each column. */
export class Bounds {
  least: Floats;
  most: Floats;

  constructor(g: Work, vx: Floats, column: Ints) {
    const count = g.layers ? column[g.layers - 1] + 1 : 0;
    const least = (this.least = filled<f32>(count, Infinity));
    const most = (this.most = filled<f32>(count, -Infinity));
    for (let u = 0; u < g.v; u++) {
      const c = column[g.layer[u]];
      least[c] = min(least[c], <f32>(<f64>vx[u] - <f64>g.w[u] / 2));
      most[c] = max(most[c], <f32>(<f64>vx[u] + <f64>g.w[u] / 2));
    }
  }

  width(c: i32): f64 {
    return <f64>this.most[c] - <f64>this.least[c];
  }
}

/** About how large all of it can be drawn in a usual view. */
function scale(need: Floats, step: Floats, column: Ints): f64 {
  const count = column[column.length - 1] + 1;
  const wide = new StaticArray<f32>(count);
  const high = new StaticArray<f32>(count);
  for (let l = 0; l < step.length; l++) {
    high[column[l]] = <f32>(<f64>high[column[l]] + <f64>step[l]);
    wide[column[l]] = max(wide[column[l]], need[l]);
  }
  let width: f64 = 0;
  let most: f64 = 0;
  for (let c = 0; c < count; c++) {
    width += <f64>wide[c] + GUTTER + LANE;
    most = max(most, <f64>high[c]);
  }
  return min(WIDE / width, HIGH / most);
}

/** Of each layer, how many modules go on around its end: of its item on the longest path and of that of the next. */
function depths(input: Input, g: Work): Ints {
  const scope = input.scope;
  const parents = input.parents;
  const depth = new StaticArray<i32>(g.layers);
  if (scope === null || parents === null) return depth;
  const trunk = filled(g.layers, NONE);
  for (let u = 0; u < g.n; u++) {
    const at = trunk[g.layer[u]];
    if (at < 0 || g.rank[u] > g.rank[at]) trunk[g.layer[u]] = u;
  }
  for (let l = 0; l + 1 < g.layers; l++) {
    if (trunk[l] < 0 || trunk[l + 1] < 0) continue;
    let a = scope[trunk[l]];
    let b = scope[trunk[l + 1]];
    while (a !== b)
      if (a > b) a = parents[a];
      else b = parents[b];
    for (; a > 0; a = parents[a]) depth[l]++;
  }
  return depth;
}

/** Breaks after about `tall` each, where the fewest tensors cross. */
function broken(step: Floats, crossing: Ints, tall: f64): Ints {
  const count = step.length;
  const column = new StaticArray<i32>(count);
  for (let l = 0, c = 0; l < count; c++) {
    let best = count - 1;
    let cost = Infinity;
    let high: f64 = 0;
    let at = l;
    for (; at < count && high <= 1.25 * tall; at++) {
      high += step[at];
      const price = <f64>crossing[at] + (3 * abs(high - tall)) / tall;
      if (high < 0.7 * tall || price >= cost) continue;
      best = at;
      cost = price;
    }
    if (at === count && high <= 1.15 * tall) best = at - 1;
    for (; l <= best; l++) column[l] = c;
  }
  return column;
}

/** Tensors between each layer and the next. */
function between(input: Input, g: Work): Ints {
  const crossing = new StaticArray<i32>(g.layers + 1);
  for (let t = 0; t < input.src.length; t++) {
    const from = g.layer[input.src[t]];
    crossing[from]++;
    crossing[max(from, g.last[t] + 1)]--;
  }
  for (let l = 0; l < g.layers; l++) crossing[l + 1] += crossing[l];
  return crossing;
}

/** The column of each layer. */
export function columnsOf(input: Input, g: Work, need: Floats, step: Floats): Ints {
  const one = new StaticArray<i32>(g.layers);
  let height: f64 = 0;
  let widest: f64 = 0;
  for (let l = 0; l < g.layers; l++) {
    height += step[l];
    widest = max(widest, <f64>need[l]);
  }
  if (height < TALL) return one;
  const crossing = between(input, g);
  const depth = depths(input, g);
  for (let l = 0; l < g.layers; l++) crossing[l] += 2 * depth[l];
  let best = one;
  let most = scale(need, step, one);
  const guess = sqrt(((WIDE / HIGH) * height) / (widest + GUTTER));
  for (let i = 0; i < PARTS.length; i++) {
    const column = broken(step, crossing, height / max(1, guess * PARTS[i]));
    // a break inside a module is worth a somewhat smaller picture
    let inside = 0;
    for (let l = 0; l + 1 < g.layers; l++) if (column[l] !== column[l + 1] && depth[l] > 0) inside++;
    const size = scale(need, step, column) * (1 - (0.25 * inside) / max(1, column[g.layers - 1]));
    if (size <= 1.02 * most) continue;
    best = column;
    most = size;
  }
  const old = earlier(input.columns!, g);
  // what is there stays as long as it is not much smaller than it could be
  return old !== null && scale(need, step, old) > 0.6 * most ? old : best;
}

/** The columns that the items were in; null for one or none. */
function earlier(columns: Floats, g: Work): Ints | null {
  const column = filled(g.layers, NONE);
  for (let u = 0; u < g.n; u++) {
    const c = columns[u];
    if (!isNaN(c)) column[g.layer[u]] = max(column[g.layer[u]], <i32>c);
  }
  let now = 0;
  let was = NONE;
  for (let l = 0; l < g.layers; l++) {
    if (column[l] > was && was >= 0) now++; // columns of which nothing is left close up
    was = max(was, column[l]);
    column[l] = now;
  }
  return now ? column : null;
}
