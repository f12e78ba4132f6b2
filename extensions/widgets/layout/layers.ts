// Layers: edges that close a circle are set aside, each item goes into a layer, and tensors that span layers get lanes.
import { copied, filled, Floats, GAP, group, Input, Ints, LANE, NONE, offsets, sort, Work } from "./graph";

/** Marks of the edges (indices of dst) that close a circle, and the items in topological order without them. */
export class Acyclic {
  back: StaticArray<bool>;
  topo: Ints;

  constructor(input: Input) {
    const n = input.n;
    const src = input.src;
    const start = input.start;
    const dst = input.dst;
    const edges = dst.length;
    const from = new StaticArray<i32>(edges);
    const ids = new StaticArray<i32>(edges);
    this.back = new StaticArray(edges);
    this.topo = new StaticArray(n);
    let ordered = true; // as a file is: each is made before it is read
    for (let t = 0; t < src.length; t++)
      for (let e = start[t]; e < start[t + 1]; e++) {
        from[e] = src[t];
        ids[e] = e;
        if (src[t] >= dst[e]) ordered = false;
      }
    if (ordered) for (let i = 0; i < n; i++) this.topo[i] = i;
    else this.search(n, from, ids, dst);
  }

  private search(n: i32, from: Ints, ids: Ints, dst: Ints): void {
    const os = offsets(from, n);
    const out = group(from, ids, os);
    const state = new StaticArray<u8>(n);
    const next = copied(os);
    const stack = new StaticArray<i32>(n);
    let count = n;
    const indegree = new StaticArray<i32>(n);
    for (let e = 0; e < dst.length; e++) if (from[e] !== dst[e]) indegree[dst[e]]++;
    for (let i = 0; i < 2 * n; i++) {
      const root = i < n ? i : i - n;
      if (state[root] || (indegree[root] > 0) === i < n) continue; // at first those that nothing leads to
      let top = 0;
      stack[top++] = root;
      state[root] = 1;
      while (top) {
        const u = stack[top - 1];
        if (next[u] < os[u + 1]) {
          const e = out[next[u]++];
          const t = dst[e];
          if (state[t] === 1) this.back[e] = true;
          else if (!state[t]) {
            state[t] = 1;
            stack[top++] = t;
          }
        } else {
          state[u] = 2;
          this.topo[--count] = u;
          top--;
        }
      }
    }
  }
}

/** Layer of each item, and the length of the longest path through it. */
export class Layering {
  layer: Ints;
  rank: Ints;
  private ts: Ints; // tensors that an item makes
  private outT: Ints;

  constructor(private input: Input, private back: StaticArray<bool>, private topo: Ints) {
    const n = input.n;
    const src = input.src;
    const start = input.start;
    const dst = input.dst;
    const m = src.length;
    const tensors = new StaticArray<i32>(m);
    for (let t = 0; t < m; t++) tensors[t] = t;
    const ts = (this.ts = offsets(src, n));
    const outT = (this.outT = group(src, tensors, ts));
    const layer = (this.layer = new StaticArray(n));
    for (let k = 0; k < n; k++) {
      const u = topo[k];
      for (let i = ts[u]; i < ts[u + 1]; i++)
        for (let e = start[outT[i]]; e < start[outT[i] + 1]; e++)
          if (!back[e] && layer[dst[e]] <= layer[u]) layer[dst[e]] = layer[u] + 1;
    }
    const height = new StaticArray<i32>(n);
    for (let k = n - 1; k >= 0; k--) {
      const u = topo[k];
      for (let i = ts[u]; i < ts[u + 1]; i++)
        for (let e = start[outT[i]]; e < start[outT[i] + 1]; e++)
          if (!back[e]) height[u] = max(height[u], height[dst[e]] + 1);
    }
    const rank = (this.rank = new StaticArray(n));
    for (let i = 0; i < n; i++) rank[i] = layer[i] + height[i];
    this.pull();
  }

  /** Down, where that makes lanes shorter: an in-lane grows only when this is its last consumer. */
  private pull(): void {
    const n = this.input.n;
    const start = this.input.start;
    const dst = this.input.dst;
    const back = this.back;
    const layer = this.layer;
    const ts = this.ts;
    const outT = this.outT;
    const m = start.length - 1;
    const owner = new StaticArray<i32>(dst.length);
    const far = new StaticArray<i32>(m);
    const farCount = new StaticArray<i32>(m);
    for (let t = 0; t < m; t++)
      for (let e = start[t]; e < start[t + 1]; e++) {
        owner[e] = back[e] ? NONE : t;
        if (back[e]) continue;
        if (layer[dst[e]] > far[t]) {
          far[t] = layer[dst[e]];
          farCount[t] = 0;
        }
        if (layer[dst[e]] === far[t]) farCount[t]++;
      }
    const is = offsets(dst, n);
    const inT = group(dst, owner, is);
    for (let k = n - 1; k >= 0; k--) {
      const u = this.topo[k];
      let least = i32.MAX_VALUE;
      let gain = 0;
      for (let i = ts[u]; i < ts[u + 1]; i++) {
        let used = 0;
        for (let e = start[outT[i]]; e < start[outT[i] + 1]; e++)
          if (!back[e]) {
            least = min(least, layer[dst[e]]);
            used = 1;
          }
        gain += used;
      }
      if (least === i32.MAX_VALUE || least - 1 <= layer[u]) continue;
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
  }
}

/** Of each tensor the layer before its last consumer, which its lane ends in; -2 where there is none. */
export function lasts(input: Input, back: StaticArray<bool>, layer: Ints): Ints {
  const last = filled(input.src.length, -2);
  for (let t = 0; t < last.length; t++)
    for (let e = input.start[t]; e < input.start[t + 1]; e++) if (!back[e]) last[t] = max(last[t], layer[input.dst[e]] - 1);
  return last;
}

/** Tensors whose lanes would be too many (thousands of long ones): they are drawn as stubs. */
export function cuts(input: Input, layer: Ints, last: Ints): StaticArray<bool> {
  const m = input.src.length;
  const cut = new StaticArray<bool>(m);
  const spans = new StaticArray<f64>(m);
  const longest = new StaticArray<i32>(m);
  let total: f64 = 0;
  for (let t = 0; t < m; t++) {
    longest[t] = t;
    spans[t] = -max(0, last[t] - layer[input.src[t]]);
    total -= spans[t];
  }
  const room = 12 * <f64>input.n + 300000;
  if (total <= room) return cut;
  sort(longest, m, spans);
  for (let k = 0; k < m && total > room; k++) {
    cut[longest[k]] = true;
    total += spans[longest[k]];
  }
  return cut;
}

/** Adds the lanes and makes segments between neighbouring layers. Tensors of `cut` get no lane. */
export function expand(input: Input, back: StaticArray<bool>, at: Ints, rank: Ints, last: Ints, cut: StaticArray<bool>): Work {
  const n = input.n;
  const src = input.src;
  const start = input.start;
  const dst = input.dst;
  const m = src.length;
  const g = new Work();
  const first = (g.first = filled(m, NONE));
  g.last = last;
  let v = n;
  let segments = 0;
  for (let t = 0; t < m; t++) {
    if (cut[t] || last[t] < -1) continue;
    const span = last[t] - at[src[t]];
    if (span > 0) {
      first[t] = v;
      v += span;
    }
    segments += max(0, span) + start[t + 1] - start[t];
  }
  const layer = copied(at, v);
  const long = copied(rank, v);
  const a = new StaticArray<i32>(segments);
  const b = new StaticArray<i32>(segments);
  let s = 0;
  const mark = filled(n, NONE);
  for (let t = 0; t < m; t++) {
    if (cut[t]) continue;
    const u = src[t];
    const base = at[u] + 1;
    const f = first[t];
    if (f >= 0)
      for (let l = base; l <= last[t]; l++) {
        const d = f + l - base;
        layer[d] = l;
        a[s] = l === base ? u : d - 1;
        b[s++] = d;
      }
    for (let e = start[t]; e < start[t + 1]; e++) {
      const to = dst[e];
      if (back[e] || mark[to] === t) continue;
      mark[to] = t;
      const l = at[to];
      a[s] = l === base ? u : f + l - 1 - base;
      b[s++] = to;
      if (f >= 0) long[f] = max(long[f], min(rank[u], rank[to]));
    }
    if (f >= 0) for (let l = base + 1; l <= last[t]; l++) long[f + l - base] = long[f];
  }
  g.n = n;
  g.v = v;
  g.layer = layer;
  g.rank = long;
  g.w = copied(input.w, v);
  g.downStart = offsets(a, v, s);
  g.down = group(a, b, g.downStart, s);
  g.upStart = offsets(b, v, s);
  g.up = group(b, a, g.upStart, s);
  for (let i = 0; i < v; i++) g.layers = max(g.layers, layer[i] + 1);
  g.layerStart = offsets(layer, g.layers);
  g.order = new StaticArray(v);
  g.pos = new StaticArray(v);
  return g;
}

/** Width that each layer needs at least. */
export function needs(g: Work): Floats {
  const need = new StaticArray<f32>(g.layers);
  for (let u = 0; u < g.v; u++) need[g.layer[u]] = <f32>(need[g.layer[u]] + (g.w[u] + (u < g.n ? GAP : LANE)));
  return need;
}
