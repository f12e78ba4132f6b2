// The last step of the layout: heights of layers, columns for what is tall, and the pieces that edges are drawn from.
import { Bounds, GUTTER } from "./columns";
import { copied, Doubles, Floats, Input, Ints, LANE, sort, Work } from "./graph";

const RISE: f64 = 40; // between layers

/** Height of each layer with the room below it. */
export function talls(g: Work, h: Floats): Floats {
  const tall = new StaticArray<f32>(g.layers);
  for (let u = 0; u < g.n; u++) tall[g.layer[u]] = max(tall[g.layer[u]], <f32>(<f64>h[u] + RISE));
  return tall;
}

/** The same, with more room where edges run far to the side. */
function steps(g: Work, tall: Floats, vx: Floats, column: Ints): Floats {
  const reach = new StaticArray<f32>(g.layers);
  for (let u = 0; u < g.v; u++) {
    const l = g.layer[u];
    for (let k = g.downStart[u]; k < g.downStart[u + 1]; k++)
      if (column[l] === column[g.layer[g.down[k]]]) reach[l] = max(reach[l], <f32>abs(<f64>vx[u] - <f64>vx[g.down[k]]));
  }
  const step = new StaticArray<f32>(g.layers);
  for (let l = 0; l < g.layers; l++) step[l] = <f32>(<f64>tall[l] + min(80, <f64>reach[l] * 0.06));
  return step;
}

/** For what goes on from one column to the next: places in the turn, the rightmost first, so that they do not cross. */
class Turns {
  most: Ints; // of each column: how many tensors go on to the next
  private first: Ints; // per tensor: the column that it begins in
  private start: Ints; // per tensor: where its places stand, one for each column that it leaves
  private places: Ints;

  constructor(input: Input, g: Work, cut: StaticArray<bool>, vx: Floats, column: Ints, columns: i32) {
    const m = input.src.length;
    const first = (this.first = new StaticArray(m));
    const start = (this.start = new StaticArray(m + 1));
    this.most = new StaticArray(columns);
    for (let t = 0; t < m; t++) {
      const from = g.layer[input.src[t]];
      const far = cut[t] ? from : max(from, g.last[t] + 1);
      first[t] = column[from];
      start[t + 1] = start[t] + column[far] - column[from];
    }
    const places = (this.places = new StaticArray(start[m]));
    const found = new StaticArray<i32>(m);
    const left = new StaticArray<f64>(m);
    for (let c = 0, end = 0; c + 1 < columns; c++) {
      while (column[end + 1] === c) end++; // its last layer
      let count = 0;
      for (let t = 0; t < m; t++) {
        if (c < first[t] || c >= first[t] + start[t + 1] - start[t]) continue;
        const from = g.layer[input.src[t]];
        left[t] = -(<f64>vx[from === end ? input.src[t] : g.first[t] + end - from - 1]);
        found[count++] = t;
      }
      sort(found, count, left);
      for (let k = 0; k < count; k++) places[start[found[k]] + c - first[found[k]]] = k;
      this.most[c] = count;
    }
  }

  /** Of a tensor that leaves column c. */
  place(t: i32, c: i32): i32 {
    return this.places[this.start[t] + c - this.first[t]];
  }
}

/** Places of everything, and for each tensor the pieces that it is drawn from. */
export class Route {
  hint: Floats; // x in its own column
  width: f64 = 0;
  height: f64 = 0;
  y: Floats; // top
  column: Ints; // of each item
  pieceStart: Ints;
  pieces: Floats; // x0 y0 x1 y1: straight when x0 == x1, else a curve with upright ends
  leads: Ints; // the edge (index of dst) that a piece leads into, or -1
  count: i32 = 0;
  private top: Floats;
  private bounds: Bounds;
  private shift: Floats; // of each column, to its place
  private turns: Turns;
  private rim: f64 = 0;
  private ahead: Ints; // edges of the tensor at hand, by the layers that they lead to
  private aheadCount: i32 = 0;
  private keys: Doubles; // of edges: the layer
  // of the tensor at hand
  private t: i32 = 0;
  private u: i32 = 0;
  private base: i32 = 0;
  private f: i32 = 0;
  private turned: i32 = 0;
  private next: i32 = 0;
  private low: f64 = 0;

  constructor(
    private input: Input, private g: Work, private back: StaticArray<bool>, private cut: StaticArray<bool>,
    private vx: Floats, private layerColumn: Ints, private tall: Floats,
  ) {
    const edges = input.dst.length;
    const columns = g.layers ? layerColumn[g.layers - 1] + 1 : 0;
    this.top = new StaticArray(g.layers);
    this.turns = new Turns(input, g, cut, vx, layerColumn, columns);
    this.bounds = new Bounds(g, vx, layerColumn);
    this.shift = new StaticArray(columns);
    this.hint = copied(vx, g.n);
    this.y = new StaticArray(g.n);
    this.column = new StaticArray(g.n);
    this.ahead = new StaticArray(edges);
    this.keys = new StaticArray(edges);
    this.pieces = new StaticArray(4 * (edges + g.v));
    this.leads = new StaticArray(edges + g.v);
    this.pieceStart = new StaticArray(input.src.length + 1);
    this.settle(steps(g, tall, vx, layerColumn));
    for (let t = 0; t < input.src.length; t++) {
      this.tensor(t);
      this.pieceStart[t + 1] = this.count;
    }
  }

  /** Columns beside each other, layers below each other. */
  private settle(step: Floats): void {
    const g = this.g;
    const column = this.layerColumn;
    const columns = this.shift.length;
    let most = 0;
    for (let c = 0; c < columns; c++) {
      this.shift[c] = <f32>(this.width - <f64>this.bounds.least[c]);
      this.width += this.bounds.width(c);
      if (c + 1 < columns) this.width += GUTTER + LANE * this.turns.most[c];
      most = max(most, this.turns.most[c]);
    }
    for (let u = 0; u < g.v; u++) this.vx[u] = <f32>(<f64>this.vx[u] + <f64>this.shift[column[g.layer[u]]]);
    if (columns > 1) this.rim = GUTTER / 2 + LANE * most;
    const top = this.top;
    for (let l = 0; l < g.layers; l++) {
      top[l] = l && column[l] === column[l - 1] ? <f32>(<f64>top[l - 1] + <f64>step[l - 1]) : <f32>this.rim;
      this.height = max(this.height, this.bottom(l));
    }
    for (let u = 0; u < g.n; u++) {
      this.y[u] = top[g.layer[u]];
      this.column[u] = column[g.layer[u]];
    }
  }

  private bottom(l: i32): f64 {
    return <f64>this.top[l] + <f64>this.tall[l] - RISE;
  }

  private piece(x0: f64, y0: f64, x1: f64, y1: f64, end: i32): void {
    if (this.count === this.leads.length) {
      this.pieces = copied(this.pieces, 8 * this.count + 64);
      this.leads = copied(this.leads, 2 * this.count + 16);
    }
    const at = 4 * this.count;
    this.pieces[at] = <f32>x0;
    this.pieces[at + 1] = <f32>y0;
    this.pieces[at + 2] = <f32>x1;
    this.pieces[at + 3] = <f32>y1;
    this.leads[this.count++] = end;
  }

  private port(u: i32, x: f64): f64 {
    const half = max(0, <f64>this.input.w[u] / 2 - 10);
    return max(<f64>this.vx[u] - half, min(<f64>this.vx[u] + half, x));
  }

  private closes(l: i32): bool {
    return l + 1 < this.g.layers && this.layerColumn[l] !== this.layerColumn[l + 1];
  }

  /** From the end of the column that layer l closes to a place in the next one. */
  private turn(l: i32, x1: f64, y1: f64, end: i32): void {
    const c = this.layerColumn[l];
    const k = this.turns.place(this.t, c);
    const gx = <f64>this.shift[c] + <f64>this.bounds.most[c] + GUTTER / 2 + LANE * k;
    const high = this.rim - GUTTER / 4 - LANE * (this.turns.most[c] - 1 - k);
    if (this.turned !== c) {
      const x0: f64 = l < this.base ? this.vx[this.u] : this.vx[this.f + l - this.base];
      const y0 = l < this.base ? this.low : this.bottom(l);
      const deep = this.bottom(l) + GUTTER / 4 + LANE * k;
      this.piece(x0, y0, x0, deep, -1);
      this.piece(x0, deep, gx, deep, -1);
      this.piece(gx, deep, gx, high, -1);
      this.height = max(this.height, deep);
      this.turned = c;
    }
    this.piece(gx, high, x1, high, -1);
    this.piece(x1, high, x1, y1, end);
  }

  /** To the consumers in layer l, which is the next that has any. */
  private into(l: i32): void {
    const dst = this.input.dst;
    const vx = this.vx;
    for (; this.next < this.aheadCount && this.g.layer[dst[this.ahead[this.next]]] === l; this.next++) {
      const e = this.ahead[this.next];
      const to = dst[e];
      if (this.closes(l - 1)) this.turn(l - 1, vx[to], this.y[to], e);
      else if (l === this.base || this.f < 0) {
        const tx = this.port(to, vx[this.u]);
        this.piece(this.port(this.u, tx), this.low, tx, this.y[to], e);
      } else {
        const x = vx[this.f + l - 1 - this.base];
        this.piece(x, this.bottom(l - 1), this.port(to, x), this.y[to], e);
      }
    }
  }

  private tensor(t: i32): void {
    const start = this.input.start;
    const dst = this.input.dst;
    const layer = this.g.layer;
    const u = this.input.src[t];
    this.t = t;
    this.u = u;
    this.base = layer[u] + 1;
    this.low = <f64>this.y[u] + <f64>this.input.h[u];
    this.f = this.g.first[t];
    this.turned = -1;
    this.next = 0;
    this.aheadCount = 0;
    if (!this.cut[t])
      for (let e = start[t]; e < start[t + 1]; e++) {
        if (this.back[e]) continue;
        this.keys[e] = layer[dst[e]];
        this.ahead[this.aheadCount++] = e;
      }
    sort(this.ahead, this.aheadCount, this.keys);
    if (this.f >= 0) this.lane();
    else this.into(this.base);
    for (let e = start[t]; e < start[t + 1]; e++) if (this.back[e] || this.cut[t]) this.stub(e);
  }

  private lane(): void {
    const vx = this.vx;
    const base = this.base;
    const last = this.g.last[this.t];
    const x = vx[this.f];
    if (this.closes(base - 1)) this.turn(base - 1, x, this.top[base], -1);
    else this.piece(this.port(this.u, x), this.low, x, this.top[base], -1);
    this.into(base);
    for (let l = base, from = base; l <= last; l++) {
      const d = this.f + l - base;
      if (l === last || vx[d + 1] !== vx[d] || this.closes(l)) {
        this.piece(vx[d], this.top[from], vx[d], this.bottom(l), -1);
        if (l < last && this.closes(l)) this.turn(l, vx[d + 1], this.top[l + 1], -1);
        else if (l < last) this.piece(vx[d], this.bottom(l), vx[d + 1], this.top[l + 1], -1);
        from = l + 1;
      }
      this.into(l + 1);
    }
  }

  /** Of an edge that has no lane: its two ends, or all of it where the consumer is in the next layer. */
  private stub(e: i32): void {
    const u = this.u;
    const to = this.input.dst[e];
    const tx = this.port(to, this.vx[u]);
    if (!this.back[e] && this.g.layer[to] === this.base && !this.closes(this.base - 1)) {
      this.piece(this.port(u, tx), this.low, tx, this.y[to], e);
      return;
    }
    const px = this.port(u, this.vx[to]);
    this.piece(px, this.low, px, this.low + 14, -1);
    this.piece(tx, <f64>this.y[to] - 14, tx, this.y[to], e);
  }
}
