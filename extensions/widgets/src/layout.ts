// Layered layout (after Sugiyama) of a graph whose edges are tensors: one producer, many consumers.
//
// 1. edges that close a circle are set aside; 2. longest-path layers, then nodes are pulled towards their consumers;
// 3. a tensor that spans layers gets ONE lane (a chain of dummies) that all its consumers share, so that a mask read
// by every layer costs one dummy per layer; 4. barycentre sweeps reduce crossings; 5. segments are aligned into
// straight blocks, the longest path of the graph (the trunk) first, and blocks are moved towards their neighbours
// until they rest; 6. route.ts gives heights, columns and the pieces of the edges. Iterative throughout, typed arrays,
// no randomness.
import { route, talls } from "./route";
import { bounds, columnsOf } from "./wrap";

export interface LevelInput {
  n: number;
  w: Float32Array;
  h: Float32Array;
  src: Int32Array; // per tensor: producing item
  start: Int32Array; // per tensor: where its consumers start in dst
  dst: Int32Array;
  hint?: Float32Array; // earlier hint of each item (NaN: new), so that what did not change keeps its order
  columns?: Float32Array; // earlier column of each item (NaN: new): given, a tall drawing goes on in further columns
  scope?: Int32Array; // with columns, per item: its module, for breaks between modules
  parents?: Int32Array; // of each module the one around it, which has a lower number
}

export interface LevelOutput {
  x: Float32Array; // centre
  hint: Float32Array; // x in its own column: the hint for a later layout
  y: Float32Array; // top
  column: Int32Array; // of each item, 0 where the drawing is in one piece
  width: number;
  height: number;
  pieceStart: Int32Array; // per tensor: where its pieces start
  pieces: Float32Array; // x0 y0 x1 y1: straight when x0 == x1, else a curve with upright ends
  pieceEnd: Int32Array; // the consumer (index into dst) that a piece leads into, or -1
  layers: number;
  dummies: number;
  crossings: number;
}

export const PAD = 18; // around what is inside an opened node
export const HEAD = 34; // room for its title
const GAP = 22; // between nodes
const MOST = 512; // neighbours that have a say in where a block goes
export const LANE = 12; // between lanes

export interface Work {
  n: number; // items
  v: number; // items and dummies
  layer: Int32Array;
  layers: number;
  w: Float32Array;
  first: Int32Array; // per tensor: first dummy, -1 none
  last: Int32Array; // per tensor: layer of the last dummy
  upStart: Int32Array;
  up: Int32Array;
  downStart: Int32Array;
  down: Int32Array;
  rank: Int32Array; // length of the longest path through an item (dummies: of their tensor)
  order: Int32Array; // vertices, layer by layer
  layerStart: Int32Array;
  pos: Int32Array;
}

/** Start offsets of `count` rows from the row of each entry. */
function offsets(rows: Int32Array, count: number, length = rows.length): Int32Array {
  const start = new Int32Array(count + 1);
  for (let i = 0; i < length; i++) start[rows[i] + 1]++;
  for (let i = 0; i < count; i++) start[i + 1] += start[i];
  return start;
}

function group(rows: Int32Array, values: Int32Array, count: number, length = rows.length): [Int32Array, Int32Array] {
  const start = offsets(rows, count, length);
  const at = start.slice(0, count);
  const out = new Int32Array(length);
  for (let i = 0; i < length; i++) out[at[rows[i]]++] = values[i];
  return [start, out];
}

/** Marks of the edges (indices of dst) that close a circle, and the items in topological order without them. */
export function acyclic(input: LevelInput): { back: Uint8Array; topo: Int32Array; from: Int32Array } {
  const { n, src, start, dst } = input;
  const from = new Int32Array(dst.length);
  const ids = new Int32Array(dst.length);
  for (let t = 0; t < src.length; t++) for (let e = start[t]; e < start[t + 1]; e++) from[e] = src[t];
  for (let e = 0; e < ids.length; e++) ids[e] = e;
  const [os, out] = group(from, ids, n);
  const back = new Uint8Array(dst.length);
  const state = new Uint8Array(n);
  const next = os.slice(0, n);
  const stack = new Int32Array(n);
  const done = new Int32Array(n);
  let count = 0;
  const indegree = new Int32Array(n);
  for (let e = 0; e < dst.length; e++) if (from[e] !== dst[e]) indegree[dst[e]]++;
  const roots: number[] = [];
  for (let i = 0; i < n; i++) if (!indegree[i]) roots.push(i);
  for (let i = 0; i < n; i++) if (indegree[i]) roots.push(i);
  for (const root of roots) {
    if (state[root]) continue;
    let top = 0;
    stack[top++] = root;
    state[root] = 1;
    while (top) {
      const u = stack[top - 1];
      if (next[u] < os[u + 1]) {
        const e = out[next[u]++];
        const t = dst[e];
        if (state[t] === 1) back[e] = 1;
        else if (!state[t]) {
          state[t] = 1;
          stack[top++] = t;
        }
      } else {
        state[u] = 2;
        done[count++] = u;
        top--;
      }
    }
  }
  return { back, topo: done.reverse(), from };
}

/** Layer of each item, and the length of the longest path through it. */
export function layering(input: LevelInput, back: Uint8Array, topo: Int32Array) {
  const { n, src, start, dst } = input;
  const m = src.length;
  const tensors = new Int32Array(m);
  for (let t = 0; t < m; t++) tensors[t] = t;
  const [ts, outT] = group(src, tensors, n);
  const layer = new Int32Array(n);
  for (const u of topo)
    for (let i = ts[u]; i < ts[u + 1]; i++)
      for (let e = start[outT[i]]; e < start[outT[i] + 1]; e++)
        if (!back[e] && layer[dst[e]] <= layer[u]) layer[dst[e]] = layer[u] + 1;
  const height = new Int32Array(n);
  for (let k = n - 1; k >= 0; k--) {
    const u = topo[k];
    for (let i = ts[u]; i < ts[u + 1]; i++)
      for (let e = start[outT[i]]; e < start[outT[i] + 1]; e++)
        if (!back[e]) height[u] = Math.max(height[u], height[dst[e]] + 1);
  }
  const rank = new Int32Array(n);
  for (let i = 0; i < n; i++) rank[i] = layer[i] + height[i];
  // pull down, where that makes lanes shorter: an in-lane grows only when this is its last consumer
  const owner = new Int32Array(dst.length);
  for (let t = 0; t < m; t++) for (let e = start[t]; e < start[t + 1]; e++) owner[e] = back[e] ? -1 : t;
  const [is, inT] = group(dst, owner, n);
  const far = new Int32Array(m);
  const farCount = new Int32Array(m);
  for (let t = 0; t < m; t++) for (let e = start[t]; e < start[t + 1]; e++) {
    if (back[e]) continue;
    if (layer[dst[e]] > far[t]) [far[t], farCount[t]] = [layer[dst[e]], 0];
    if (layer[dst[e]] === far[t]) farCount[t]++;
  }
  for (let k = n - 1; k >= 0; k--) {
    const u = topo[k];
    let least = 1 << 30;
    let gain = 0;
    for (let i = ts[u]; i < ts[u + 1]; i++) {
      let used = 0;
      for (let e = start[outT[i]]; e < start[outT[i] + 1]; e++)
        if (!back[e]) [least, used] = [Math.min(least, layer[dst[e]]), 1];
      gain += used;
    }
    if (least === 1 << 30 || least - 1 <= layer[u]) continue;
    for (let i = is[u]; i < is[u + 1]; i++) {
      const t = inT[i];
      if (t >= 0 && (least - 1 > far[t] || (far[t] === layer[u] && farCount[t] === 1))) gain--;
    }
    if (gain <= 0) continue;
    layer[u] = least - 1;
    for (let i = is[u]; i < is[u + 1]; i++) {
      const t = inT[i];
      if (t >= 0 && layer[u] > far[t]) [far[t], farCount[t]] = [layer[u], 1];
    }
  }
  return { layer, rank };
}

/** Adds the lanes and makes segments between neighbouring layers. Tensors of `cut` get no lane. */
function expand(input: LevelInput, back: Uint8Array, at: Int32Array, rank: Int32Array, cut: Uint8Array): Work {
  const { n, src, start, dst } = input;
  const m = src.length;
  const first = new Int32Array(m).fill(-1);
  const last = new Int32Array(m);
  let v = n;
  let segments = 0;
  for (let t = 0; t < m; t++) {
    let far = -1;
    for (let e = start[t]; e < start[t + 1]; e++) if (!back[e] && at[dst[e]] > far) far = at[dst[e]];
    last[t] = far - 1;
    if (cut[t] || far < 0) continue;
    const span = far - at[src[t]] - 1;
    if (span > 0) [first[t], v] = [v, v + span];
    segments += Math.max(0, span) + start[t + 1] - start[t];
  }
  const layer = new Int32Array(v);
  const w = new Float32Array(v);
  const long = new Int32Array(v);
  layer.set(at);
  w.set(input.w);
  long.set(rank);
  const a = new Int32Array(segments);
  const b = new Int32Array(segments);
  let s = 0;
  const mark = new Int32Array(n).fill(-1);
  for (let t = 0; t < m; t++) {
    if (cut[t]) continue;
    const u = src[t];
    const base = at[u] + 1;
    if (first[t] >= 0)
      for (let l = base; l <= last[t]; l++) {
        const d = first[t] + l - base;
        layer[d] = l;
        [a[s], b[s++]] = [l === base ? u : d - 1, d];
      }
    for (let e = start[t]; e < start[t + 1]; e++) {
      const to = dst[e];
      if (back[e] || mark[to] === t) continue;
      mark[to] = t;
      const l = at[to];
      [a[s], b[s++]] = [l === base ? u : first[t] + l - 1 - base, to];
      if (first[t] >= 0) long[first[t]] = Math.max(long[first[t]], Math.min(rank[u], rank[to]));
    }
    if (first[t] >= 0) for (let l = base + 1; l <= last[t]; l++) long[first[t] + l - base] = long[first[t]];
  }
  const [downStart, down] = group(a, b, v, s);
  const [upStart, up] = group(b, a, v, s);
  let layers = 0;
  for (let i = 0; i < v; i++) layers = Math.max(layers, layer[i] + 1);
  return {
    n, v, layer, layers, w, first, last, upStart, up, downStart, down, rank: long,
    layerStart: offsets(layer, layers), order: new Int32Array(v), pos: new Int32Array(v),
  };
}

/** First order: depth first along the tensors, or by the earlier x. */
function initial(g: Work, hint?: Float32Array) {
  const { v, order, pos, layer, layerStart, down, downStart, up, upStart } = g;
  const fill = layerStart.slice(0, g.layers);
  const seen = new Uint8Array(v);
  const next = downStart.slice(0, v);
  const stack = new Int32Array(v);
  const put = (u: number) => {
    seen[u] = 1;
    pos[u] = fill[layer[u]]++;
    order[pos[u]] = u;
    pos[u] -= layerStart[layer[u]];
  };
  for (let phase = 0; phase < 2; phase++)
    for (let root = 0; root < v; root++) {
      if (seen[root] || (!phase && upStart[root] < upStart[root + 1])) continue;
      let top = 0;
      stack[top++] = root;
      put(root);
      while (top) {
        const u = stack[top - 1];
        if (next[u] < downStart[u + 1]) {
          const t = down[next[u]++];
          if (!seen[t]) {
            put(t);
            stack[top++] = t;
          }
        } else top--;
      }
    }
  if (!hint) return;
  const x = new Float64Array(v).fill(NaN);
  for (let i = 0; i < g.n; i++) x[i] = hint[i];
  for (let l = 0; l < g.layers; l++)
    for (let i = layerStart[l]; i < layerStart[l + 1]; i++) {
      const u = order[i];
      if (Number.isNaN(x[u]) && upStart[u] < upStart[u + 1]) x[u] = x[up[upStart[u]]];
    }
  sortLayers(g, (u) => x[u]);
}

function sortLayers(g: Work, key: (u: number) => number) {
  const keys = new Float64Array(g.v);
  for (let l = 0; l < g.layers; l++) sortLayer(g, l, keys, key);
}

/** Sorts a layer by key; what has none (NaN) stays at its place. Stable. */
function sortLayer(g: Work, l: number, keys: Float64Array, key: (u: number) => number) {
  const { order, layerStart, pos } = g;
  const s = layerStart[l];
  const e = layerStart[l + 1];
  if (e - s < 2) return;
  const free: number[] = [];
  const slots: number[] = [];
  for (let i = s; i < e; i++) {
    const k = key(order[i]);
    if (Number.isNaN(k)) continue;
    keys[order[i]] = k;
    free.push(order[i]);
    slots.push(i);
  }
  if (free.length > 24) free.sort((p, q) => keys[p] - keys[q] || pos[p] - pos[q]);
  else
    for (let i = 1; i < free.length; i++) {
      const u = free[i];
      let j = i - 1;
      while (j >= 0 && keys[free[j]] > keys[u]) free[j + 1] = free[j--];
      free[j + 1] = u;
    }
  for (let i = 0; i < free.length; i++) order[slots[i]] = free[i];
  for (let i = s; i < e; i++) pos[order[i]] = i - s;
}

function crossingsOf(g: Work, tree: Int32Array, ends: number[], l: number): number {
  const { order, layerStart, downStart, down, pos } = g;
  const size = layerStart[l + 2] - layerStart[l + 1];
  if (size < 2 || layerStart[l + 1] - layerStart[l] < 2) return 0;
  let total = 0;
  let inserted = 0;
  for (let i = 1; i <= size; i++) tree[i] = 0;
  for (let i = layerStart[l]; i < layerStart[l + 1]; i++) {
    const u = order[i];
    ends.length = 0;
    for (let k = downStart[u]; k < downStart[u + 1]; k++) ends.push(pos[down[k]]);
    for (const end of ends) {
      let below = 0;
      for (let j = end + 1; j > 0; j -= j & -j) below += tree[j];
      total += inserted - below;
    }
    for (const end of ends) for (let j = end + 1; j <= size; j += j & -j) tree[j]++;
    inserted += ends.length;
  }
  return total;
}

export function crossings(g: Work): number {
  const tree = new Int32Array(g.v + 2);
  const ends: number[] = [];
  let total = 0;
  for (let l = 0; l + 1 < g.layers; l++) total += crossingsOf(g, tree, ends, l);
  return total;
}

function barycentre(start: Int32Array, list: Int32Array, pos: Int32Array, u: number, median: boolean): number {
  const s = start[u];
  const count = start[u + 1] - s;
  if (!count) return NaN;
  if (count === 1) return pos[list[s]];
  if (median && count > 2) {
    const sorted: number[] = [];
    for (let i = 0; i < count; i++) sorted.push(pos[list[s + i]]);
    sorted.sort((a, b) => a - b);
    return count & 1 ? sorted[count >> 1] : (sorted[(count >> 1) - 1] + sorted[count >> 1]) / 2;
  }
  let sum = 0;
  for (let i = s; i < s + count; i++) sum += pos[list[i]];
  return sum / count;
}

function reduceCrossings(g: Work, rounds: number): number {
  const keys = new Float64Array(g.v);
  let best = crossings(g);
  let kept = g.order.slice();
  for (let round = 0, stale = 0; round < rounds && best && stale < 5; round++, stale++) {
    const median = (round & 3) > 1;
    if (round & 1)
      for (let l = g.layers - 2; l >= 0; l--)
        sortLayer(g, l, keys, (u) => barycentre(g.downStart, g.down, g.pos, u, median));
    else
      for (let l = 1; l < g.layers; l++)
        sortLayer(g, l, keys, (u) => barycentre(g.upStart, g.up, g.pos, u, median));
    if (g.v < 60000) transpose(g, g.v < 6000 ? 6 : 1);
    const now = crossings(g);
    if (now < best) {
      best = now;
      kept = g.order.slice();
      stale = -1;
    }
  }
  g.order.set(kept);
  for (let l = 0; l < g.layers; l++)
    for (let i = g.layerStart[l]; i < g.layerStart[l + 1]; i++) g.pos[g.order[i]] = i - g.layerStart[l];
  return best;
}

/** Pairs of edges that cross with u before v, less those with v before u. */
function swapGain(start: Int32Array, list: Int32Array, pos: Int32Array, u: number, v: number): number {
  let gain = 0;
  for (let i = start[u]; i < start[u + 1]; i++)
    for (let j = start[v]; j < start[v + 1]; j++) gain += Math.sign(pos[list[i]] - pos[list[j]]);
  return gain;
}

function transpose(g: Work, rounds: number) {
  const { order, pos, layerStart } = g;
  for (let round = 0, moved = true; moved && round < rounds; round++) {
    moved = false;
    for (let l = 0; l < g.layers; l++)
      for (let i = layerStart[l]; i + 1 < layerStart[l + 1]; i++) {
        const u = order[i];
        const v = order[i + 1];
        const gain = swapGain(g.upStart, g.up, pos, u, v) + swapGain(g.downStart, g.down, pos, u, v);
        if (gain <= 0) continue;
        [order[i], order[i + 1]] = [v, u];
        [pos[u], pos[v]] = [pos[v], pos[u]];
        moved = true;
      }
  }
}

/** For each vertex the one below that it is aligned with, or -1: the trunk first, then lanes, then long paths (as far
 * as `straight` goes: 0 the trunk alone, 1 lanes too, 2 everything). Each column is for itself. */
function align(g: Work, straight: number, column: Int32Array): Int32Array {
  const { v, n, down, downStart, rank, pos, layer } = g;
  const below = new Int32Array(v).fill(-1);
  const above = new Int32Array(v).fill(-1);
  const uppers: number[][] = Array.from({ length: g.layers }, () => []);
  const lowers: number[][] = Array.from({ length: g.layers }, () => []);
  const tie = (a: number, b: number) => {
    if (below[a] >= 0 || above[b] >= 0 || column[layer[a]] !== column[layer[b]]) return;
    const up = uppers[layer[a]];
    const low = lowers[layer[a]];
    let lo = 0;
    let hi = up.length;
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (up[mid] < pos[a]) lo = mid + 1;
      else hi = mid;
    }
    if ((lo && low[lo - 1] > pos[b]) || (lo < low.length && low[lo] < pos[b])) return;
    up.splice(lo, 0, pos[a]);
    low.splice(lo, 0, pos[b]);
    below[a] = b;
    above[b] = a;
  };
  let longest = 0;
  for (let u = 0; u < n; u++) longest = Math.max(longest, rank[u]);
  for (let u = 0; u < n; u++) {
    if (rank[u] !== longest || layer[u] !== 0) continue;
    for (let at = u, next = -1; ; at = next, next = -1) {
      for (let k = downStart[at]; k < downStart[at + 1] && next < 0; k++)
        if (down[k] < n && rank[down[k]] === longest) next = down[k];
      if (next < 0) break;
      tie(at, next);
    }
    break;
  }
  if (straight < 1) return below;
  for (let u = n; u < v; u++)
    for (let k = downStart[u]; k < downStart[u + 1]; k++) if (down[k] >= n) tie(u, down[k]);
  if (straight < 2) {
    // chains stay straight in any case
    for (let u = 0; u < n; u++) {
      const to = downStart[u + 1] - downStart[u] === 1 ? down[downStart[u]] : n;
      if (to < n && g.upStart[to + 1] - g.upStart[to] === 1) tie(u, to);
    }
    return below;
  }
  const rest: number[] = [];
  const bySpan = new Int32Array(downStart[v]);
  const key = new Int32Array(downStart[v]);
  for (let u = 0, s = 0; u < v; u++)
    for (let k = downStart[u]; k < downStart[u + 1]; k++, s++) {
      bySpan[s] = u;
      key[s] = longest - Math.min(longest, rank[u], rank[down[k]]);
      rest.push(s);
    }
  const [, sorted] = group(key, Int32Array.from(rest), longest + 1);
  for (const s of sorted) tie(bySpan[s], down[s]);
  return below;
}

/** x of every vertex: blocks of aligned vertices, moved to the median of their neighbours as far as there is room. */
function place(g: Work, straight: number, column: Int32Array): Float32Array {
  const { v, order, layer, w, n, up, upStart, down, downStart } = g;
  const below = align(g, straight, column);
  const block = new Int32Array(v).fill(-1);
  const starts: number[] = [];
  const members = new Int32Array(v);
  let m = 0;
  for (let i = 0; i < v; i++) {
    const u = order[i];
    if (block[u] >= 0) continue;
    starts.push(m);
    for (let t = u; t >= 0; t = below[t]) {
      block[t] = starts.length - 1;
      members[m++] = t;
    }
  }
  const count = starts.length;
  starts.push(m);
  // neighbours in the layer, by block, and the distance to them
  const left = new Int32Array(v).fill(-1);
  const right = new Int32Array(v).fill(-1);
  const gap = new Float64Array(v); // to the left one
  for (let i = 1; i < v; i++) {
    const [a, b] = [order[i - 1], order[i]];
    if (layer[a] !== layer[b]) continue;
    [right[a], left[b]] = [b, a];
    gap[b] = (w[a] + w[b]) / 2 + (a >= n && b >= n ? LANE : a >= n || b >= n ? 16 : GAP);
  }
  // topological order of the blocks, left to right
  const waits = new Int32Array(count);
  for (let u = 0; u < v; u++) if (left[u] >= 0) waits[block[u]]++;
  const topo = new Int32Array(count);
  let tail = 0;
  for (let b = 0; b < count; b++) if (!waits[b]) topo[tail++] = b;
  for (let head = 0; head < tail; head++)
    for (let i = starts[topo[head]]; i < starts[topo[head] + 1]; i++) {
      const r = right[members[i]];
      if (r >= 0 && !--waits[block[r]]) topo[tail++] = block[r];
    }
  if (tail < count) throw new Error("layout: aligned blocks cross");
  const wish = new Float64Array(count).fill(-Infinity);
  const lo = new Float64Array(count);
  const hi = new Float64Array(count);
  const pack = () => {
    for (let k = 0; k < count; k++) {
      const b = topo[k];
      let x = wish[b];
      for (let i = starts[b]; i < starts[b + 1]; i++) {
        const a = left[members[i]];
        if (a >= 0) x = Math.max(x, lo[block[a]] + gap[members[i]]);
      }
      lo[b] = x === -Infinity ? 0 : x;
    }
    for (let k = count - 1; k >= 0; k--) {
      const b = topo[k];
      let x = wish[b] === -Infinity ? Infinity : wish[b];
      for (let i = starts[b]; i < starts[b + 1]; i++) {
        const a = right[members[i]];
        if (a >= 0) x = Math.min(x, hi[block[a]] - gap[a]);
      }
      hi[b] = x === Infinity ? lo[b] : x;
    }
  };
  pack();
  const x = new Float64Array(count);
  // at first everything leans on the trunk: left of it to the right, right of it to the left
  for (let b = 0; b < count; b++) x[b] = lo[b];
  const near = new Float64Array(MOST);
  const rounds = v < 4000 ? 40 : v < 60000 ? 14 : 8;
  for (let round = 0; round < rounds; round++) {
    for (let b = 0; b < count; b++) {
      let m = 0;
      const c = column[layer[members[starts[b]]]];
      for (let i = starts[b]; i < starts[b + 1] && m < MOST; i++) {
        const u = members[i];
        for (let k = upStart[u]; k < upStart[u + 1] && m < MOST; k++)
          if (block[up[k]] !== b && column[layer[up[k]]] === c) near[m++] = x[block[up[k]]];
        for (let k = downStart[u]; k < downStart[u + 1] && m < MOST; k++)
          if (block[down[k]] !== b && column[layer[down[k]]] === c) near[m++] = x[block[down[k]]];
      }
      wish[b] = m ? median(near, m) : x[b];
    }
    pack();
    const step = round < rounds - 2 ? 0.7 : 1;
    let moved = 0;
    for (let b = 0; b < count; b++) {
      const by = step * ((lo[b] + hi[b]) / 2 - x[b]);
      moved = Math.max(moved, Math.abs(by));
      x[b] += by;
    }
    if (moved < 0.5) round = Math.max(round, rounds - 3); // at rest: the two full steps, and done
  }
  const out = new Float32Array(v);
  for (let u = 0; u < v; u++) out[u] = x[block[u]];
  return out;
}

/** Width that each layer needs at least. */
function needs(g: Work): Float32Array {
  const need = new Float32Array(g.layers);
  for (let u = 0; u < g.v; u++) need[g.layer[u]] += g.w[u] + (u < g.n ? GAP : LANE);
  return need;
}

/** Straight blocks that interlock make a drawing wide: then, in that column, fewer are kept straight. */
function narrowest(g: Work, column: Int32Array, needed: Float32Array): Float32Array {
  const best = place(g, 2, column);
  let [least, most] = bounds(g, best, column);
  const need = least.map(() => 0);
  for (let l = 0; l < g.layers; l++) need[column[l]] = Math.max(need[column[l]], needed[l]);
  for (let straight = 1; straight >= 0 && least.some((x, c) => most[c] - x > 1.15 * need[c]); straight--) {
    const other = place(g, straight, column);
    const [low, high] = bounds(g, other, column);
    const better = least.map((x, c) => Number(most[c] - x > 1.15 * need[c] && high[c] - low[c] < 0.75 * (most[c] - x)));
    for (let u = 0; u < g.v; u++) if (better[column[g.layer[u]]]) best[u] = other[u];
    [least, most] = bounds(g, best, column);
  }
  return best;
}

/** Of the first `count` numbers of a list, which are sorted. */
function median(list: Float64Array, count: number): number {
  if (count < 3) return count === 1 ? list[0] : (list[0] + list[1]) / 2;
  if (count > 24) list.subarray(0, count).sort();
  else
    for (let i = 1; i < count; i++) {
      const x = list[i];
      let j = i - 1;
      for (; j >= 0 && list[j] > x; j--) list[j + 1] = list[j];
      list[j + 1] = x;
    }
  const k = count >> 1;
  return count & 1 ? list[k] : (list[k - 1] + list[k]) / 2;
}

/** Tensors whose lanes would be too many (thousands of long ones): they are drawn as stubs. */
function cuts(input: LevelInput, back: Uint8Array, layer: Int32Array): Uint8Array {
  const { src, start, dst, n } = input;
  const cut = new Uint8Array(src.length);
  const spans = new Int32Array(src.length);
  let total = 0;
  for (let t = 0; t < src.length; t++) {
    for (let e = start[t]; e < start[t + 1]; e++)
      if (!back[e]) spans[t] = Math.max(spans[t], layer[dst[e]] - layer[src[t]] - 1);
    total += spans[t];
  }
  const room = 12 * n + 300000;
  if (total <= room) return cut;
  const longest = Array.from(spans.keys()).sort((a, b) => spans[b] - spans[a]);
  for (const t of longest) {
    if (total <= room) break;
    cut[t] = 1;
    total -= spans[t];
  }
  return cut;
}

export function layout(input: LevelInput): LevelOutput {
  const { n } = input;
  const { back, topo } = acyclic(input);
  const { layer, rank } = layering(input, back, topo);
  const cut = cuts(input, back, layer);
  const g = expand(input, back, layer, rank, cut);
  initial(g, input.hint);
  const crossed = reduceCrossings(g, g.v < 6000 ? 32 : g.v < 60000 ? 8 : 4);
  const need = needs(g);
  const column = input.columns && n ? columnsOf(input, g, back, need, talls(g, input.h)) : new Int32Array(g.layers);
  const vx = n ? narrowest(g, column, need) : new Float32Array(0);
  return route(input, g, back, cut, vx, crossed, column);
}
