// Order within the layers: a first one, then barycentre sweeps and swaps that reduce crossings. What a step depends on
// are a layer and its neighbours, so it is done again only when one of them has changed since.
import type { Work } from "./layout";

/** First order: depth first along the tensors, or by the earlier x. */
export function initial(g: Work, hint?: Float32Array) {
  const { v, order, pos, layer, layerStart, down, downStart, up, upStart } = g;
  const fill = layerStart.slice(0, g.layers);
  const seen = new Uint8Array(v);
  const next = downStart.slice(0, v);
  const stack = new Int32Array(v);
  const put = (u: number) => {
    const l = layer[u];
    const at = fill[l]++;
    seen[u] = 1;
    order[at] = u;
    pos[u] = at - layerStart[l];
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
  const sorter = new Sorter(g);
  for (let l = 0; l < g.layers; l++) {
    for (let i = layerStart[l]; i < layerStart[l + 1]; i++) {
      const u = order[i];
      if (Number.isNaN(x[u]) && upStart[u] < upStart[u + 1]) x[u] = x[up[upStart[u]]];
    }
    sorter.sort(l, (u) => x[u]);
  }
}

class Sorter {
  private keys: Float64Array;
  private free: Int32Array;
  private slots: Int32Array;

  constructor(private g: Work) {
    this.keys = new Float64Array(g.v);
    this.free = new Int32Array(g.v);
    this.slots = new Int32Array(g.v);
  }

  /** Sorts a layer by key; what has none (NaN) stays at its place. Stable. Whether anything moved. */
  sort(l: number, key: (u: number) => number): boolean {
    const { order, layerStart, pos } = this.g;
    const { keys, free, slots } = this;
    const s = layerStart[l];
    const e = layerStart[l + 1];
    if (e - s < 2) return false;
    let count = 0;
    for (let i = s; i < e; i++) {
      const u = order[i];
      const k = key(u);
      if (Number.isNaN(k)) continue;
      keys[u] = k;
      free[count] = u;
      slots[count++] = i;
    }
    if (count > 24) free.subarray(0, count).sort((p, q) => keys[p] - keys[q] || pos[p] - pos[q]);
    else
      for (let i = 1; i < count; i++) {
        const u = free[i];
        let j = i - 1;
        while (j >= 0 && keys[free[j]] > keys[u]) free[j + 1] = free[j--];
        free[j + 1] = u;
      }
    let moved = false;
    for (let i = 0; i < count; i++) {
      if (order[slots[i]] === free[i]) continue;
      order[slots[i]] = free[i];
      pos[free[i]] = slots[i] - s;
      moved = true;
    }
    return moved;
  }
}

/** Crossings between each layer and the next; counted again where a layer has changed. */
class Crossings {
  private tree: Int32Array;
  private ends: number[] = [];
  private of: Int32Array;

  constructor(private g: Work) {
    this.tree = new Int32Array(g.v + 2);
    this.of = new Int32Array(g.layers).fill(-1);
  }

  changed(l: number) {
    this.of[l] = -1;
    if (l) this.of[l - 1] = -1;
  }

  count(): number {
    const { of } = this;
    let total = 0;
    for (let l = 0; l + 1 < of.length; l++) {
      if (of[l] < 0) of[l] = this.below(l);
      total += of[l];
    }
    return total;
  }

  private below(l: number): number {
    const { order, layerStart, downStart, down, pos } = this.g;
    const { tree, ends } = this;
    const size = layerStart[l + 2] - layerStart[l + 1];
    if (size < 2 || layerStart[l + 1] - layerStart[l] < 2) return 0;
    let total = 0;
    let inserted = 0;
    for (let i = 1; i <= size; i++) tree[i] = 0;
    for (let i = layerStart[l]; i < layerStart[l + 1]; i++) {
      const u = order[i];
      ends.length = 0;
      for (let k = downStart[u]; k < downStart[u + 1]; k++) ends.push(pos[down[k]]);
      for (let k = 0; k < ends.length; k++) {
        let below = 0;
        for (let j = ends[k] + 1; j > 0; j -= j & -j) below += tree[j];
        total += inserted - below;
      }
      for (let k = 0; k < ends.length; k++) for (let j = ends[k] + 1; j <= size; j += j & -j) tree[j]++;
      inserted += ends.length;
    }
    return total;
  }
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

/** Sweeps, until there are few enough crossings; the number that is left. */
export function reduceCrossings(g: Work, rounds: number, enough = 0): number {
  const { layers, layerStart, order, pos } = g;
  const counted = new Crossings(g);
  const sorter = new Sorter(g);
  let turn = 1;
  const changed = new Int32Array(layers).fill(turn); // when a layer last did
  const done = Array.from({ length: 4 }, () => new Int32Array(layers)); // when it was sorted, by each of four keys
  const still = new Int32Array(layers); // when nothing in it was worth swapping
  const note = (l: number) => {
    changed[l] = ++turn;
    counted.changed(l);
  };
  const sweep = (upwards: boolean, median: boolean) => {
    const seen = done[2 * Number(upwards) + Number(median)];
    const by = upwards ? 1 : -1;
    const start = upwards ? g.downStart : g.upStart;
    const list = upwards ? g.down : g.up;
    const key = (u: number) => barycentre(start, list, pos, u, median);
    for (let l = upwards ? layers - 2 : 1; l >= 0 && l < layers; l -= by) {
      if (seen[l] >= changed[l] && seen[l] >= changed[l + by]) continue;
      if (sorter.sort(l, key)) note(l);
      seen[l] = turn;
    }
  };
  const swap = (l: number): boolean => {
    let moved = false;
    for (let i = layerStart[l]; i + 1 < layerStart[l + 1]; i++) {
      const u = order[i];
      const v = order[i + 1];
      if (swapGain(g.upStart, g.up, pos, u, v) + swapGain(g.downStart, g.down, pos, u, v) <= 0) continue;
      order[i] = v;
      order[i + 1] = u;
      pos[v] = pos[u];
      pos[u]++;
      moved = true;
    }
    return moved;
  };
  const transpose = (times: number) => {
    for (let moved = true; moved && times; times--) {
      moved = false;
      for (let l = 0; l < layers; l++) {
        if (still[l] >= changed[l] && (!l || still[l] >= changed[l - 1]) && (l + 1 === layers || still[l] >= changed[l + 1])) continue;
        if (swap(l)) {
          note(l);
          moved = true;
        } else still[l] = turn;
      }
    }
  };
  const flat = g.v < 6000 ? 1 : 3; // in a large graph a round that changes nothing says more than one that makes it worse
  let best = counted.count();
  let kept = order.slice();
  for (let round = 0, stale = 0; round < rounds && best > enough && stale < 5; round++) {
    sweep((round & 1) === 1, (round & 3) > 1);
    if (g.v < 60000) transpose(g.v < 6000 ? 6 : 1);
    const now = counted.count();
    stale += now === best ? flat : 1;
    if (now < best) {
      best = now;
      kept = order.slice();
      stale = 0;
    }
  }
  order.set(kept);
  for (let l = 0; l < layers; l++) for (let i = layerStart[l]; i < layerStart[l + 1]; i++) pos[order[i]] = i - layerStart[l];
  return best;
}

/** Pairs of edges that cross with u before v, less those with v before u. */
function swapGain(start: Int32Array, list: Int32Array, pos: Int32Array, u: number, v: number): number {
  let gain = 0;
  for (let i = start[u]; i < start[u + 1]; i++)
    for (let j = start[v]; j < start[v + 1]; j++) gain += Math.sign(pos[list[i]] - pos[list[j]]);
  return gain;
}
