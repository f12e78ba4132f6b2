// x of the layout: segments are aligned into straight blocks, the trunk first, and blocks are moved towards their
// neighbours until they rest.
import { Bounds } from "./columns";
import { Doubles, filled, Floats, GAP, group, Ints, LANE, median, NONE, offsets, overwrite, Work } from "./graph";

const MOST = 512; // neighbours that have a say in where a block goes

/** Ties vertices to the ones below them: the trunk first, then lanes, then long paths (as far as `straight` goes: 0 the
 * trunk alone, 1 lanes too, 2 everything). Each column is for itself. */
class Ties {
  below: Ints; // or -1
  private above: Ints;
  private uppers: Ints; // per layer, from layerStart: positions of tied ends, in order
  private lowers: Ints;
  private count: Ints;

  constructor(private g: Work, straight: i32, private column: Ints) {
    this.below = filled(g.v, NONE);
    this.above = filled(g.v, NONE);
    this.uppers = new StaticArray(g.v);
    this.lowers = new StaticArray(g.v);
    this.count = new StaticArray(g.layers);
    let longest = 0;
    for (let u = 0; u < g.n; u++) longest = max(longest, g.rank[u]);
    this.trunk(longest);
    if (straight > 0) this.lanes();
    if (straight === 1) this.chains();
    if (straight > 1) this.paths(longest);
  }

  private tie(a: i32, b: i32): void {
    const g = this.g;
    const l = g.layer[a];
    if (this.below[a] >= 0 || this.above[b] >= 0 || this.column[l] !== this.column[g.layer[b]]) return;
    const uppers = this.uppers;
    const lowers = this.lowers;
    const s = g.layerStart[l];
    const e = s + this.count[l];
    let lo = s;
    for (let hi = e; lo < hi; ) {
      const mid = (lo + hi) >> 1;
      if (uppers[mid] < g.pos[a]) lo = mid + 1;
      else hi = mid;
    }
    if ((lo > s && lowers[lo - 1] > g.pos[b]) || (lo < e && lowers[lo] < g.pos[b])) return;
    for (let i = e; i > lo; i--) {
      uppers[i] = uppers[i - 1];
      lowers[i] = lowers[i - 1];
    }
    uppers[lo] = g.pos[a];
    lowers[lo] = g.pos[b];
    this.count[l]++;
    this.below[a] = b;
    this.above[b] = a;
  }

  private trunk(longest: i32): void {
    const g = this.g;
    for (let u = 0; u < g.n; u++) {
      if (g.rank[u] !== longest || g.layer[u] !== 0) continue;
      for (let at = u; ; ) {
        let next = NONE;
        for (let k = g.downStart[at]; k < g.downStart[at + 1] && next < 0; k++)
          if (g.down[k] < g.n && g.rank[g.down[k]] === longest) next = g.down[k];
        if (next < 0) return;
        this.tie(at, next);
        at = next;
      }
    }
  }

  private lanes(): void {
    const g = this.g;
    for (let u = g.n; u < g.v; u++)
      for (let k = g.downStart[u]; k < g.downStart[u + 1]; k++) if (g.down[k] >= g.n) this.tie(u, g.down[k]);
  }

  /** Of items that only one leads to and that lead to one. */
  private chains(): void {
    const g = this.g;
    for (let u = 0; u < g.n; u++) {
      const to = g.downStart[u + 1] - g.downStart[u] === 1 ? g.down[g.downStart[u]] : g.n;
      if (to < g.n && g.upStart[to + 1] - g.upStart[to] === 1) this.tie(u, to);
    }
  }

  private paths(longest: i32): void {
    const g = this.g;
    const count = g.downStart[g.v];
    const from = new StaticArray<i32>(count);
    const short = new StaticArray<i32>(count);
    const ids = new StaticArray<i32>(count);
    for (let u = 0, s = 0; u < g.v; u++)
      for (let k = g.downStart[u]; k < g.downStart[u + 1]; k++, s++) {
        from[s] = u;
        short[s] = longest - min(longest, min(g.rank[u], g.rank[g.down[k]]));
        ids[s] = s;
      }
    const sorted = group(short, ids, offsets(short, longest + 1));
    for (let i = 0; i < count; i++) this.tie(from[sorted[i]], g.down[sorted[i]]);
  }
}

/** Rows of blocks: those of block b are blocks[start[b] .. start[b + 1]]. */
class Rows {
  start: Ints;
  blocks: Ints;
  gaps: Doubles; // the distance that each needs

  constructor(count: i32, length: i32, gaps: bool) {
    this.start = new StaticArray(count + 1);
    this.blocks = new StaticArray(length);
    this.gaps = new StaticArray(gaps ? length : 0);
  }
}

/** Blocks of aligned vertices, which are moved to the median of their neighbours as far as there is room. */
class Blocks {
  private block: Ints;
  private starts: Ints;
  private members: Ints;
  private count: i32 = 0;
  private lefts: Rows = new Rows(0, 0, false);
  private rights: Rows = new Rows(0, 0, false);
  private topo: Ints = new StaticArray(0);
  private wish: Doubles = new StaticArray(0);
  private lo: Doubles = new StaticArray(0);
  private hi: Doubles = new StaticArray(0);

  constructor(private g: Work, straight: i32, private column: Ints) {
    const v = g.v;
    const order = g.order;
    const below = new Ties(g, straight, column).below;
    const block = (this.block = filled(v, NONE));
    const starts = (this.starts = new StaticArray(v + 1));
    const members = (this.members = new StaticArray(v));
    let m = 0;
    for (let i = 0; i < v; i++) {
      if (block[order[i]] >= 0) continue;
      for (let t = order[i]; t >= 0; t = below[t]) {
        block[t] = this.count;
        members[m++] = t;
      }
      starts[++this.count] = m;
    }
    const left = filled(v, NONE);
    const right = filled(v, NONE);
    const gap = new StaticArray<f64>(v); // to the left one
    for (let i = 1; i < v; i++) {
      const a = order[i - 1];
      const b = order[i];
      if (g.layer[a] !== g.layer[b]) continue;
      right[a] = b;
      left[b] = a;
      gap[b] = (<f64>g.w[a] + <f64>g.w[b]) / 2 + (a >= g.n && b >= g.n ? LANE : a >= g.n || b >= g.n ? 16 : GAP);
    }
    this.lefts = this.beside(left, gap, true);
    this.rights = this.beside(right, gap, false);
    this.topo = this.sorted();
    this.wish = filled(this.count, -Infinity);
    this.lo = new StaticArray(this.count);
    this.hi = new StaticArray(this.count);
  }

  /** Blocks beside each other; a run of members beside the same block is one row. */
  private beside(side: Ints, gap: Doubles, own: bool): Rows {
    const rows = new Rows(this.count, this.g.v, true);
    const blocks = rows.blocks;
    const gaps = rows.gaps;
    let k = 0;
    for (let b = 0; b < this.count; b++) {
      for (let i = this.starts[b], last = NONE; i < this.starts[b + 1]; i++) {
        const u = this.members[i];
        const a = side[u] < 0 ? NONE : this.block[side[u]];
        if (a >= 0) {
          const wide = gap[own ? u : side[u]];
          if (a === last) gaps[k - 1] = max(gaps[k - 1], wide);
          else {
            blocks[k] = a;
            gaps[k++] = wide;
          }
        }
        last = a;
      }
      rows.start[b + 1] = k;
    }
    return rows;
  }

  /** Blocks in topological order, left to right. */
  private sorted(): Ints {
    const waits = new StaticArray<i32>(this.count);
    const topo = new StaticArray<i32>(this.count);
    const start = this.rights.start;
    let tail = 0;
    for (let b = 0; b < this.count; b++) if (!(waits[b] = this.lefts.start[b + 1] - this.lefts.start[b])) topo[tail++] = b;
    for (let head = 0; head < tail; head++)
      for (let i = start[topo[head]]; i < start[topo[head] + 1]; i++) if (!--waits[this.rights.blocks[i]]) topo[tail++] = this.rights.blocks[i];
    if (tail < this.count) throw new Error("aligned blocks cross");
    return topo;
  }

  /** For each block the blocks that its members are connected with in the same column, at most MOST. */
  private pulls(): Rows {
    const g = this.g;
    const block = this.block;
    const column = this.column;
    const rows = new Rows(this.count, 2 * g.down.length, false);
    const list = rows.blocks;
    for (let b = 0, m = 0; b < this.count; b++) {
      const c = this.columnOf(b);
      const most = m + MOST;
      for (let i = this.starts[b]; i < this.starts[b + 1] && m < most; i++) {
        const u = this.members[i];
        for (let k = g.upStart[u]; k < g.upStart[u + 1] && m < most; k++)
          if (block[g.up[k]] !== b && column[g.layer[g.up[k]]] === c) list[m++] = block[g.up[k]];
        for (let k = g.downStart[u]; k < g.downStart[u + 1] && m < most; k++)
          if (block[g.down[k]] !== b && column[g.layer[g.down[k]]] === c) list[m++] = block[g.down[k]];
      }
      rows.start[b + 1] = m;
    }
    return rows;
  }

  private columnOf(b: i32): i32 {
    return this.column[this.g.layer[this.members[this.starts[b]]]];
  }

  /** From the wishes the leftmost and the rightmost places. */
  private pack(): void {
    const topo = this.topo;
    const wish = this.wish;
    const lo = this.lo;
    const hi = this.hi;
    const left = this.lefts;
    const right = this.rights;
    for (let k = 0; k < this.count; k++) {
      const b = topo[k];
      let x = wish[b];
      for (let i = left.start[b], e = left.start[b + 1]; i < e; i++) x = max(x, lo[left.blocks[i]] + left.gaps[i]);
      lo[b] = x === -Infinity ? 0 : x;
    }
    for (let k = this.count - 1; k >= 0; k--) {
      const b = topo[k];
      let x = wish[b] === -Infinity ? Infinity : wish[b];
      for (let i = right.start[b], e = right.start[b + 1]; i < e; i++) x = min(x, hi[right.blocks[i]] - right.gaps[i]);
      hi[b] = x === Infinity ? lo[b] : x;
    }
  }

  /** x of every vertex. */
  place(): Floats {
    const g = this.g;
    const count = this.count;
    const lo = this.lo;
    const hi = this.hi;
    this.pack();
    // at first everything leans on the trunk: left of it to the right, right of it to the left
    const x = new StaticArray<f64>(count);
    overwrite(x, lo);
    const pulls = this.pulls();
    const near = new StaticArray<f64>(MOST);
    const ids = new StaticArray<i32>(MOST);
    const within = new StaticArray<i32>(count);
    for (let b = 0; b < count; b++) within[b] = this.columnOf(b);
    const columns = g.layers ? this.column[g.layers - 1] + 1 : 0;
    const least = new StaticArray<f64>(columns);
    const most = new StaticArray<f64>(columns);
    const rounds = filled(columns, g.v < 4000 ? 40 : g.v < 60000 ? 14 : 8); // each column for itself
    for (let more = columns; more > 0; ) {
      for (let b = 0; b < count; b++) {
        const s = pulls.start[b];
        const m = pulls.start[b + 1] - s;
        for (let i = 0; i < m; i++) near[i] = x[pulls.blocks[s + i]];
        this.wish[b] = m ? median(near, ids, m) : x[b];
      }
      this.pack();
      least.fill(Infinity);
      most.fill(-Infinity);
      for (let b = 0; b < count; b++) {
        const c = within[b];
        if (!rounds[c]) continue;
        const by = (rounds[c] > 2 ? 0.7 : 1) * ((lo[b] + hi[b]) / 2 - x[b]);
        least[c] = min(least[c], by);
        most[c] = max(most[c], by);
        x[b] += by;
      }
      // at rest, where at most all of it moves together: the two full steps, and done
      more = 0;
      for (let c = 0; c < columns; c++) {
        if (rounds[c]) rounds[c] = most[c] - least[c] < 0.5 ? min(rounds[c] - 1, 2) : rounds[c] - 1;
        if (rounds[c]) more++;
      }
    }
    const out = new StaticArray<f32>(g.v);
    for (let u = 0; u < g.v; u++) out[u] = <f32>x[this.block[u]];
    return out;
  }
}

/** Straight blocks that interlock make a drawing wide: then, in that column, fewer are kept straight. */
export function narrowest(g: Work, column: Ints, needed: Floats): Floats {
  const best = new Blocks(g, 2, column).place();
  let is = new Bounds(g, best, column);
  const count = is.least.length;
  const room = new StaticArray<f64>(count);
  for (let l = 0; l < g.layers; l++) room[column[l]] = max(room[column[l]], 1.15 * <f64>needed[l]);
  const better = new StaticArray<bool>(count);
  for (let straight = 1; straight >= 0; straight--) {
    let wide = false;
    for (let c = 0; c < count; c++) wide = wide || is.width(c) > room[c];
    if (!wide) break;
    const other = new Blocks(g, straight, column).place();
    const would = new Bounds(g, other, column);
    for (let c = 0; c < count; c++) better[c] = is.width(c) > room[c] && would.width(c) < 0.75 * is.width(c);
    for (let u = 0; u < g.v; u++) if (better[column[g.layer[u]]]) best[u] = other[u];
    is = new Bounds(g, best, column);
  }
  return best;
}
