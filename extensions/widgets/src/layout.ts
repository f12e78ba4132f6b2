// Layered layout (after Sugiyama) of a graph whose edges are tensors: one producer, many consumers.
//
// 1. edges that close a circle are set aside; 2. longest-path layers, then nodes are pulled towards their consumers;
// 3. a tensor that spans layers gets ONE lane (a chain of dummies) that all its consumers share, so that a mask read
// by every layer costs one dummy per layer; 4. barycentre sweeps reduce crossings; 5. segments are aligned into
// straight blocks, the longest path of the graph (the trunk) first, and blocks are moved towards their neighbours
// until they rest; 6. route.ts gives heights, columns and the pieces of the edges. Iterative throughout, typed arrays,
// no randomness.
import { narrowest } from "./align";
import { initial, reduceCrossings } from "./order";
import { route, talls } from "./route";
import { columnsOf } from "./wrap";

export interface LevelInput {
  n: number;
  w: Float32Array;
  h: Float32Array;
  src: Int32Array; // per tensor: producing item
  start: Int32Array; // per tensor: where its consumers start in dst
  dst: Int32Array;
  hint?: Float32Array; // earlier hint of each item (NaN: new), so that what did not change keeps its order
  crossings?: number; // of the earlier layout: with as few as that the order stays
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
export const GAP = 22; // between nodes
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

export function group(rows: Int32Array, values: Int32Array, count: number, length = rows.length): [Int32Array, Int32Array] {
  const start = offsets(rows, count, length);
  const at = start.slice(0, count);
  const out = new Int32Array(length);
  for (let i = 0; i < length; i++) out[at[rows[i]]++] = values[i];
  return [start, out];
}

/** Marks of the edges (indices of dst) that close a circle, and the items in topological order without them. */
export function acyclic(input: LevelInput): { back: Uint8Array; topo: Int32Array } {
  const { n, src, start, dst } = input;
  const from = new Int32Array(dst.length);
  const back = new Uint8Array(dst.length);
  let ordered = true; // as a file is: each is made before it is read
  for (let t = 0; t < src.length; t++)
    for (let e = start[t]; e < start[t + 1]; e++) {
      from[e] = src[t];
      ordered &&= src[t] < dst[e];
    }
  if (ordered) return { back, topo: Int32Array.from({ length: n }, (_, i) => i) };
  const ids = new Int32Array(dst.length);
  for (let e = 0; e < ids.length; e++) ids[e] = e;
  const [os, out] = group(from, ids, n);
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
  return { back, topo: done.reverse() };
}

/** Layer of each item, and the length of the longest path through it. */
export function layering(input: LevelInput, back: Uint8Array, topo: Int32Array) {
  const { n, src, start, dst } = input;
  const m = src.length;
  const tensors = new Int32Array(m);
  for (let t = 0; t < m; t++) tensors[t] = t;
  const [ts, outT] = group(src, tensors, n);
  const layer = new Int32Array(n);
  for (let k = 0; k < n; k++) {
    const u = topo[k];
    for (let i = ts[u]; i < ts[u + 1]; i++)
      for (let e = start[outT[i]]; e < start[outT[i] + 1]; e++)
        if (!back[e] && layer[dst[e]] <= layer[u]) layer[dst[e]] = layer[u] + 1;
  }
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
    if (layer[dst[e]] > far[t]) {
      far[t] = layer[dst[e]];
      farCount[t] = 0;
    }
    if (layer[dst[e]] === far[t]) farCount[t]++;
  }
  for (let k = n - 1; k >= 0; k--) {
    const u = topo[k];
    let least = 1 << 30;
    let gain = 0;
    for (let i = ts[u]; i < ts[u + 1]; i++) {
      let used = 0;
      for (let e = start[outT[i]]; e < start[outT[i] + 1]; e++)
        if (!back[e]) {
          least = Math.min(least, layer[dst[e]]);
          used = 1;
        }
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
      if (t < 0 || layer[u] <= far[t]) continue;
      far[t] = layer[u];
      farCount[t] = 1;
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
    if (span > 0) {
      first[t] = v;
      v += span;
    }
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
        a[s] = l === base ? u : d - 1;
        b[s++] = d;
      }
    for (let e = start[t]; e < start[t + 1]; e++) {
      const to = dst[e];
      if (back[e] || mark[to] === t) continue;
      mark[to] = t;
      const l = at[to];
      a[s] = l === base ? u : first[t] + l - 1 - base;
      b[s++] = to;
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

/** Width that each layer needs at least. */
function needs(g: Work): Float32Array {
  const need = new Float32Array(g.layers);
  for (let u = 0; u < g.v; u++) need[g.layer[u]] += g.w[u] + (u < g.n ? GAP : LANE);
  return need;
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
  const crossed = reduceCrossings(g, g.v < 6000 ? 32 : g.v < 60000 ? 8 : 4, input.crossings);
  const need = needs(g);
  const column = input.columns && n ? columnsOf(input, g, back, need, talls(g, input.h)) : new Int32Array(g.layers);
  const vx = n ? narrowest(g, column, need) : new Float32Array(0);
  return route(input, g, back, cut, vx, crossed, column);
}
