// The last step of the layout: heights of layers, columns for what is tall, and the pieces that edges are drawn from.
import { LANE, type LevelInput, type LevelOutput, type Work } from "./layout";
import { bounds, GUTTER } from "./wrap";

const RISE = 40; // between layers

/** Height of each layer with the room below it. */
export function talls(g: Work, h: Float32Array): Float32Array {
  const tall = new Float32Array(g.layers);
  for (let u = 0; u < g.n; u++) tall[g.layer[u]] = Math.max(tall[g.layer[u]], h[u] + RISE);
  return tall;
}

/** The same, with more room where edges run far to the side. */
function steps(g: Work, tall: Float32Array, vx: Float32Array, column: Int32Array): Float32Array {
  const reach = new Float32Array(g.layers);
  for (let u = 0; u < g.v; u++)
    for (let k = g.downStart[u]; k < g.downStart[u + 1]; k++)
      if (column[g.layer[u]] === column[g.layer[g.down[k]]]) reach[g.layer[u]] = Math.max(reach[g.layer[u]], Math.abs(vx[u] - vx[g.down[k]]));
  return tall.map((height, l) => height + Math.min(80, reach[l] * 0.06));
}

/** The tensors that go on from each column to the next, the rightmost first: their turns then do not cross. */
function turns(input: LevelInput, g: Work, back: Uint8Array, cut: Uint8Array, vx: Float32Array, column: Int32Array, ends: number[]) {
  const { src, start, dst } = input;
  const slots = ends.map(() => new Map<number, number>());
  if (!ends.length) return slots;
  const found: [number, number][][] = ends.map(() => []);
  for (let t = 0; t < src.length; t++) {
    if (cut[t]) continue;
    const from = g.layer[src[t]];
    let far = -1;
    for (let e = start[t]; e < start[t + 1]; e++) if (!back[e]) far = Math.max(far, g.layer[dst[e]]);
    for (let c = column[from]; far >= 0 && c < column[far]; c++)
      found[c].push([t, vx[from === ends[c] ? src[t] : g.first[t] + ends[c] - from - 1]]);
  }
  found.forEach((list, c) => list.sort((a, b) => b[1] - a[1] || a[0] - b[0]).forEach(([t], k) => slots[c].set(t, k)));
  return slots;
}

export function route(
  input: LevelInput, g: Work, back: Uint8Array, cut: Uint8Array, vx: Float32Array, crossed: number,
  column: Int32Array,
): LevelOutput {
  const { n, w, h, src, start, dst } = input;
  const tall = talls(g, h);
  const step = steps(g, tall, vx, column);
  const ends: number[] = []; // the last layer of each column but the last
  for (let l = 0; l + 1 < g.layers; l++) if (column[l] !== column[l + 1]) ends.push(l);
  const slots = turns(input, g, back, cut, vx, column, ends);
  const most = slots.map((slot) => slot.size);
  const [least, right] = bounds(g, vx, column);
  const shift = least.slice(); // of each column, to its place
  let width = 0;
  for (let c = 0; c < least.length; c++) {
    shift[c] = width - least[c];
    width += right[c] - least[c];
    if (c < ends.length) width += GUTTER + LANE * most[c];
  }
  const hint = vx.slice(0, n);
  for (let u = 0; u < g.v; u++) vx[u] += shift[column[g.layer[u]]];
  const rim = ends.length ? GUTTER / 2 + LANE * Math.max(...most) : 0;
  const top = new Float32Array(g.layers);
  for (let l = 0; l < g.layers; l++) top[l] = l && column[l] === column[l - 1] ? top[l - 1] + step[l - 1] : rim;
  const bottom = (l: number) => top[l] + tall[l] - RISE;
  const y = new Float32Array(n);
  const columns = new Int32Array(n);
  for (let u = 0; u < n; u++) {
    y[u] = top[g.layer[u]];
    columns[u] = column[g.layer[u]];
  }
  let height = 0;
  for (let l = 0; l < g.layers; l++) height = Math.max(height, bottom(l));
  let pieces = new Float32Array(4 * (dst.length + g.v));
  let leads = new Int32Array(pieces.length / 4);
  let count = 0;
  const pieceStart = new Int32Array(src.length + 1);
  const piece = (x0: number, y0: number, x1: number, y1: number, end: number) => {
    if (count === leads.length) {
      const [old, ends] = [pieces, leads];
      (pieces = new Float32Array(8 * count + 64)).set(old);
      (leads = new Int32Array(2 * count + 16)).set(ends);
    }
    pieces[4 * count] = x0;
    pieces[4 * count + 1] = y0;
    pieces[4 * count + 2] = x1;
    pieces[4 * count + 3] = y1;
    leads[count++] = end;
  };
  const port = (u: number, x: number) => {
    const half = Math.max(0, w[u] / 2 - 10);
    return Math.max(vx[u] - half, Math.min(vx[u] + half, x));
  };
  const closes = (l: number) => l + 1 < g.layers && column[l] !== column[l + 1];
  // of the tensor at hand
  let [t, u, base, low, f, turned, next] = [0, 0, 0, 0, 0, -1, 0];
  const ahead: number[] = []; // its edges, by the layers that they lead to
  /** From the end of the column that layer l closes to a place in the next one. */
  const turn = (l: number, x1: number, y1: number, end: number) => {
    const c = column[l];
    const k = slots[c].get(t)!;
    const gx = shift[c] + right[c] + GUTTER / 2 + LANE * k;
    const high = rim - GUTTER / 4 - LANE * (most[c] - 1 - k);
    if (turned !== c) {
      const [x0, y0] = l < base ? [vx[u], low] : [vx[f + l - base], bottom(l)];
      const deep = bottom(l) + GUTTER / 4 + LANE * k;
      piece(x0, y0, x0, deep, -1);
      piece(x0, deep, gx, deep, -1);
      piece(gx, deep, gx, high, -1);
      height = Math.max(height, deep);
      turned = c;
    }
    piece(gx, high, x1, high, -1);
    piece(x1, high, x1, y1, end);
  };
  /** Consumers in layer l, which is the next that has any. */
  const into = (l: number) => {
    for (; next < ahead.length && g.layer[dst[ahead[next]]] === l; next++) {
      const e = ahead[next];
      const to = dst[e];
      if (closes(l - 1)) turn(l - 1, vx[to], y[to], e);
      else if (l === base || f < 0) {
        const tx = port(to, vx[u]);
        piece(port(u, tx), low, tx, y[to], e);
      } else {
        const d = f + l - 1 - base;
        piece(vx[d], bottom(l - 1), port(to, vx[d]), y[to], e);
      }
    }
  };
  for (; t < src.length; t++) {
    u = src[t];
    base = g.layer[u] + 1;
    low = y[u] + h[u];
    f = g.first[t];
    turned = -1;
    next = 0;
    ahead.length = 0;
    if (!cut[t]) for (let e = start[t]; e < start[t + 1]; e++) if (!back[e]) ahead.push(e);
    if (ahead.length > 1) ahead.sort((a, b) => g.layer[dst[a]] - g.layer[dst[b]]);
    if (f >= 0) {
      if (closes(base - 1)) turn(base - 1, vx[f], top[base], -1);
      else piece(port(u, vx[f]), low, vx[f], top[base], -1);
      into(base);
      for (let l = base, from = base; l <= g.last[t]; l++) {
        const d = f + l - base;
        if (l === g.last[t] || vx[d + 1] !== vx[d] || closes(l)) {
          piece(vx[d], top[from], vx[d], bottom(l), -1);
          if (l < g.last[t]) {
            if (closes(l)) turn(l, vx[d + 1], top[l + 1], -1);
            else piece(vx[d], bottom(l), vx[d + 1], top[l + 1], -1);
          }
          from = l + 1;
        }
        into(l + 1);
      }
    } else into(base);
    for (let e = start[t]; e < start[t + 1]; e++) {
      const to = dst[e];
      if (!back[e] && !cut[t]) continue;
      if (!back[e] && g.layer[to] === base && !closes(base - 1)) {
        const tx = port(to, vx[u]);
        piece(port(u, tx), low, tx, y[to], e);
        continue;
      }
      const px = port(u, vx[to]);
      piece(px, low, px, low + 14, -1);
      piece(port(to, vx[u]), y[to] - 14, port(to, vx[u]), y[to], e);
    }
    pieceStart[t + 1] = count;
  }
  return {
    x: vx.slice(0, n), hint, y, column: columns, width, height, pieceStart,
    pieces: pieces.slice(0, 4 * count), pieceEnd: leads.slice(0, count), layers: g.layers, dummies: g.v - n, crossings: crossed,
  };
}
