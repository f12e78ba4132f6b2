// x of the layout: segments are aligned into straight blocks, the trunk first, and blocks are moved towards their
// neighbours until they rest.
import { GAP, group, LANE, type Work } from "./layout";
import { bounds } from "./wrap";

const MOST = 512; // neighbours that have a say in where a block goes

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
  for (let i = 0; i < sorted.length; i++) tie(bySpan[sorted[i]], down[sorted[i]]);
  return below;
}

/** For each block the blocks that its members are connected with in the same column, at most MOST. */
function pulls(g: Work, column: Int32Array, block: Int32Array, starts: number[], members: Int32Array) {
  const { up, upStart, down, downStart, layer } = g;
  const start = new Int32Array(starts.length);
  const list = new Int32Array(2 * down.length);
  for (let b = 0, m = 0; b + 1 < starts.length; b++) {
    const c = column[layer[members[starts[b]]]];
    const most = m + MOST;
    for (let i = starts[b]; i < starts[b + 1] && m < most; i++) {
      const u = members[i];
      for (let k = upStart[u]; k < upStart[u + 1] && m < most; k++)
        if (block[up[k]] !== b && column[layer[up[k]]] === c) list[m++] = block[up[k]];
      for (let k = downStart[u]; k < downStart[u + 1] && m < most; k++)
        if (block[down[k]] !== b && column[layer[down[k]]] === c) list[m++] = block[down[k]];
    }
    start[b + 1] = m;
  }
  return [start, list];
}

/** x of every vertex: blocks of aligned vertices, moved to the median of their neighbours as far as there is room. */
function place(g: Work, straight: number, column: Int32Array): Float32Array {
  const { v, order, layer, w, n } = g;
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
  // blocks beside each other, with the distance that they need; a run of members beside the same block is one row
  const left = new Int32Array(v).fill(-1);
  const right = new Int32Array(v).fill(-1);
  const gap = new Float64Array(v); // to the left one
  for (let i = 1; i < v; i++) {
    const a = order[i - 1];
    const b = order[i];
    if (layer[a] !== layer[b]) continue;
    right[a] = b;
    left[b] = a;
    gap[b] = (w[a] + w[b]) / 2 + (a >= n && b >= n ? LANE : a >= n || b >= n ? 16 : GAP);
  }
  const beside = (side: Int32Array, own: boolean) => {
    const start = new Int32Array(count + 1);
    const blocks = new Int32Array(v);
    const gaps = new Float64Array(v);
    let k = 0;
    for (let b = 0; b < count; b++) {
      for (let i = starts[b], last = -1; i < starts[b + 1]; i++) {
        const u = members[i];
        const a = side[u] < 0 ? -1 : block[side[u]];
        const wide = a < 0 ? 0 : gap[own ? u : side[u]];
        if (a >= 0 && a === last) gaps[k - 1] = Math.max(gaps[k - 1], wide);
        else if (a >= 0) {
          blocks[k] = a;
          gaps[k++] = wide;
        }
        last = a;
      }
      start[b + 1] = k;
    }
    return [start, blocks, gaps] as const;
  };
  const [ls, lb, lg] = beside(left, true);
  const [rs, rb, rg] = beside(right, false);
  // topological order of the blocks, left to right
  const waits = new Int32Array(count);
  const topo = new Int32Array(count);
  let tail = 0;
  for (let b = 0; b < count; b++) if (!(waits[b] = ls[b + 1] - ls[b])) topo[tail++] = b;
  for (let head = 0; head < tail; head++)
    for (let i = rs[topo[head]]; i < rs[topo[head] + 1]; i++) if (!--waits[rb[i]]) topo[tail++] = rb[i];
  if (tail < count) throw new Error("layout: aligned blocks cross");
  const wish = new Float64Array(count).fill(-Infinity);
  const lo = new Float64Array(count);
  const hi = new Float64Array(count);
  const pack = () => {
    for (let k = 0; k < count; k++) {
      const b = topo[k];
      let x = wish[b];
      for (let i = ls[b]; i < ls[b + 1]; i++) x = Math.max(x, lo[lb[i]] + lg[i]);
      lo[b] = x === -Infinity ? 0 : x;
    }
    for (let k = count - 1; k >= 0; k--) {
      const b = topo[k];
      let x = wish[b] === -Infinity ? Infinity : wish[b];
      for (let i = rs[b]; i < rs[b + 1]; i++) x = Math.min(x, hi[rb[i]] - rg[i]);
      hi[b] = x === Infinity ? lo[b] : x;
    }
  };
  pack();
  // at first everything leans on the trunk: left of it to the right, right of it to the left
  const x = lo.slice();
  const [ns, nb] = pulls(g, column, block, starts, members);
  const near = new Float64Array(MOST);
  const within = Int32Array.from({ length: count }, (_, b) => column[layer[members[starts[b]]]]);
  const columns = g.layers ? column[g.layers - 1] + 1 : 0;
  const [least, most] = [0, 1].map(() => new Float64Array(columns));
  const rounds = new Int32Array(columns).fill(v < 4000 ? 40 : v < 60000 ? 14 : 8); // each column for itself
  while (rounds.some((more) => more > 0)) {
    for (let b = 0; b < count; b++) {
      const m = ns[b + 1] - ns[b];
      for (let i = 0; i < m; i++) near[i] = x[nb[ns[b] + i]];
      wish[b] = m ? median(near, m) : x[b];
    }
    pack();
    least.fill(Infinity);
    most.fill(-Infinity);
    for (let b = 0; b < count; b++) {
      const c = within[b];
      if (!rounds[c]) continue;
      const by = (rounds[c] > 2 ? 0.7 : 1) * ((lo[b] + hi[b]) / 2 - x[b]);
      if (by < least[c]) least[c] = by;
      if (by > most[c]) most[c] = by;
      x[b] += by;
    }
    // at rest, where at most all of it moves together: the two full steps, and done
    for (let c = 0; c < columns; c++) if (rounds[c]) rounds[c] = most[c] - least[c] < 0.5 ? Math.min(rounds[c] - 1, 2) : rounds[c] - 1;
  }
  const out = new Float32Array(v);
  for (let u = 0; u < v; u++) out[u] = x[block[u]];
  return out;
}

/** Straight blocks that interlock make a drawing wide: then, in that column, fewer are kept straight. */
export function narrowest(g: Work, column: Int32Array, needed: Float32Array): Float32Array {
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
