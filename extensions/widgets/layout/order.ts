// Order within the layers: a first one, then barycentre sweeps and swaps that reduce crossings. What a step depends on
// are a layer and its neighbours, so it is done again only when one of them has changed since.
import { copied, Doubles, filled, Floats, Ints, median, overwrite, sort, Work } from "./graph";

/** First order: depth first along the tensors, or by the earlier x. */
export function initial(g: Work, hint: Floats | null): void {
  const v = g.v;
  const order = g.order;
  const pos = g.pos;
  const layer = g.layer;
  const layerStart = g.layerStart;
  const down = g.down;
  const downStart = g.downStart;
  const upStart = g.upStart;
  const fill = copied(layerStart);
  const seen = new StaticArray<bool>(v);
  const next = copied(downStart);
  const stack = new StaticArray<i32>(v);
  for (let i = 0; i < 2 * v; i++) {
    const root = i < v ? i : i - v;
    if (seen[root] || (i < v && upStart[root] < upStart[root + 1])) continue; // at first what nothing leads to
    let top = 0;
    for (let u = root; ; ) {
      if (!seen[u]) {
        const at = fill[layer[u]]++;
        seen[u] = true;
        order[at] = u;
        pos[u] = at - layerStart[layer[u]];
        stack[top++] = u;
      }
      u = stack[top - 1];
      if (next[u] < downStart[u + 1]) u = down[next[u]++];
      else if (!--top) break;
    }
  }
  if (hint === null) return;
  const x = filled<f64>(v, NaN);
  for (let i = 0; i < g.n; i++) x[i] = hint[i];
  const sorter = new Sorter(g);
  for (let l = 0; l < g.layers; l++) {
    for (let i = layerStart[l]; i < layerStart[l + 1]; i++) {
      const u = order[i];
      if (isNaN(x[u]) && upStart[u] < upStart[u + 1]) x[u] = x[g.up[upStart[u]]];
    }
    sorter.sort(l, x);
  }
}

class Sorter {
  private free: Ints;
  private slots: Ints;

  constructor(private g: Work) {
    this.free = new StaticArray(g.v);
    this.slots = new StaticArray(g.v);
  }

  /** Sorts a layer by key; what has none (NaN) stays at its place. Stable. Whether anything moved. */
  sort(l: i32, keys: Doubles): bool {
    const order = this.g.order;
    const pos = this.g.pos;
    const free = this.free;
    const slots = this.slots;
    const s = this.g.layerStart[l];
    const e = this.g.layerStart[l + 1];
    let count = 0;
    for (let i = s; i < e; i++) {
      if (isNaN(keys[order[i]])) continue;
      free[count] = order[i];
      slots[count++] = i;
    }
    sort(free, count, keys);
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
  private tree: Ints;
  private known: Ints;

  constructor(private g: Work) {
    this.tree = new StaticArray(g.v + 2);
    this.known = filled(g.layers, -1);
  }

  changed(l: i32): void {
    this.known[l] = -1;
    if (l) this.known[l - 1] = -1;
  }

  count(): i32 {
    const known = this.known;
    let total = 0;
    for (let l = 0; l + 1 < known.length; l++) {
      if (known[l] < 0) known[l] = this.below(l);
      total += known[l];
    }
    return total;
  }

  private below(l: i32): i32 {
    const order = this.g.order;
    const layerStart = this.g.layerStart;
    const downStart = this.g.downStart;
    const down = this.g.down;
    const pos = this.g.pos;
    const tree = this.tree;
    const size = layerStart[l + 2] - layerStart[l + 1];
    if (size < 2 || layerStart[l + 1] - layerStart[l] < 2) return 0;
    let total = 0;
    let inserted = 0;
    for (let i = 1; i <= size; i++) tree[i] = 0;
    for (let i = layerStart[l]; i < layerStart[l + 1]; i++) {
      const u = order[i];
      for (let k = downStart[u]; k < downStart[u + 1]; k++) {
        let below = 0;
        for (let j = pos[down[k]] + 1; j > 0; j -= j & -j) below += tree[j];
        total += inserted - below;
      }
      for (let k = downStart[u]; k < downStart[u + 1]; k++) for (let j = pos[down[k]] + 1; j <= size; j += j & -j) tree[j]++;
      inserted += downStart[u + 1] - downStart[u];
    }
    return total;
  }
}

/** Sweeps, until there are few enough crossings. */
export class Sweeps {
  private counted: Crossings;
  private sorter: Sorter;
  private turn: i32 = 1;
  private changed: Ints; // when a layer last did
  private done: StaticArray<Ints>; // when it was sorted, by each of four keys
  private still: Ints = new StaticArray(0); // when nothing in it was worth swapping
  private keys: Doubles = new StaticArray(0);
  private ids: Ints = new StaticArray(0); // of a median's candidates, and what they are sorted by
  private values: Doubles = new StaticArray(0);

  constructor(private g: Work) {
    this.counted = new Crossings(g);
    this.sorter = new Sorter(g);
    this.changed = filled(g.layers, 1);
    this.done = new StaticArray(4);
    for (let i = 0; i < 4; i++) this.done[i] = new StaticArray(g.layers);
    this.still = new StaticArray(g.layers);
    this.keys = new StaticArray(g.v);
  }

  /** The number of crossings that is left. */
  reduce(rounds: i32, enough: i32): i32 {
    const g = this.g;
    const order = g.order;
    const flat = g.v < 6000 ? 1 : 3; // in a large graph a round that changes nothing says more than one that makes it worse
    let best = this.counted.count();
    const kept = copied(order);
    for (let round = 0, stale = 0; round < rounds && best > enough && stale < 5; round++) {
      this.sweep((round & 1) === 1, (round & 3) > 1);
      if (g.v < 60000) this.transpose(g.v < 6000 ? 6 : 1);
      const now = this.counted.count();
      stale += now === best ? flat : 1;
      if (now < best) {
        best = now;
        overwrite(kept, order);
        stale = 0;
      }
    }
    for (let l = 0; l < g.layers; l++)
      for (let i = g.layerStart[l]; i < g.layerStart[l + 1]; i++) {
        order[i] = kept[i];
        g.pos[kept[i]] = i - g.layerStart[l];
      }
    return best;
  }

  private note(l: i32): void {
    this.changed[l] = ++this.turn;
    this.counted.changed(l);
  }

  private sweep(upwards: bool, median: bool): void {
    const g = this.g;
    const changed = this.changed;
    const seen = this.done[2 * i32(upwards) + i32(median)];
    const by = upwards ? 1 : -1;
    const start = upwards ? g.downStart : g.upStart;
    const list = upwards ? g.down : g.up;
    for (let l = upwards ? g.layers - 2 : 1; l >= 0 && l < g.layers; l -= by) {
      if (seen[l] >= changed[l] && seen[l] >= changed[l + by]) continue;
      if (g.layerStart[l + 1] - g.layerStart[l] > 1) {
        for (let i = g.layerStart[l]; i < g.layerStart[l + 1]; i++) this.keys[g.order[i]] = this.barycentre(start, list, g.order[i], median);
        if (this.sorter.sort(l, this.keys)) this.note(l);
      }
      seen[l] = this.turn;
    }
  }

  private barycentre(start: Ints, list: Ints, u: i32, median: bool): f64 {
    const pos = this.g.pos;
    const s = start[u];
    const count = start[u + 1] - s;
    if (!count) return NaN;
    if (count === 1) return pos[list[s]];
    if (median && count > 2) return this.median(list, s, count);
    let sum: f64 = 0;
    for (let i = s; i < s + count; i++) sum += pos[list[i]];
    return sum / count;
  }

  private median(list: Ints, s: i32, count: i32): f64 {
    if (this.ids.length < count) {
      this.ids = new StaticArray(2 * count);
      this.values = new StaticArray(2 * count);
    }
    for (let i = 0; i < count; i++) this.values[i] = this.g.pos[list[s + i]];
    return median(this.values, this.ids, count);
  }

  private transpose(times: i32): void {
    const layers = this.g.layers;
    const still = this.still;
    const changed = this.changed;
    for (let moved = true; moved && times; times--) {
      moved = false;
      for (let l = 0; l < layers; l++) {
        if (still[l] >= changed[l] && (!l || still[l] >= changed[l - 1]) && (l + 1 === layers || still[l] >= changed[l + 1])) continue;
        if (this.swap(l)) {
          this.note(l);
          moved = true;
        } else still[l] = this.turn;
      }
    }
  }

  private swap(l: i32): bool {
    const g = this.g;
    const order = g.order;
    const pos = g.pos;
    let moved = false;
    for (let i = g.layerStart[l]; i + 1 < g.layerStart[l + 1]; i++) {
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
  }
}

/** Pairs of edges that cross with u before v, less those with v before u. */
function swapGain(start: Ints, list: Ints, pos: Ints, u: i32, v: i32): i32 {
  let gain = 0;
  for (let i = start[u]; i < start[u + 1]; i++)
    for (let j = start[v]; j < start[v + 1]; j++) gain += i32(pos[list[i]] > pos[list[j]]) - i32(pos[list[i]] < pos[list[j]]);
  return gain;
}
