// Modules: a box around each in every column that it is in, with its name.
import { MIDDLE, NEAR } from "./camera";
import type { Renderer } from "./render";
import { OUTPUT, type Scene } from "./scene";

const GAP = 40; // between layers, see ../layout/route.ts

interface Box {
  key: string;
  label: string;
  path: string;
  depth: number;
  first: number; // y of its first node
  x0: number;
  y0: number;
  x1: number;
  y1: number;
}

export class Modules {
  private boxes: Box[] = [];

  constructor(private renderer: Renderer) {}

  take(scene: Scene) {
    this.boxes = scopeBoxes(scene);
  }

  /** Boxes, outer ones first. */
  draw(x0: number, y0: number, x1: number, y1: number) {
    const { camera: { k }, theme, width, height, pen: { context: c }, far } = this.renderer;
    for (const box of this.boxes) {
      if (box.y1 < y0 || box.y0 > y1 || box.x1 < x0 || box.x0 > x1 || (box.y1 - box.y0) * k < 10) continue;
      if (far && box.depth > 1) continue; // hundreds of boxes within boxes of a few pixels
      const [left, top] = this.renderer.toScreen(box.x0, box.y0);
      const [right, bottom] = this.renderer.toScreen(box.x1, box.y1);
      // far outside the canvas the corners cannot be seen, and huge rounded rectangles are slow
      const [a, b] = [Math.max(top, -20), Math.min(bottom, height + 20)];
      const [l, r] = [Math.max(left, -20), Math.min(right, width + 20)];
      c.beginPath();
      c.roundRect(l, a, r - l, b - a, Math.min(8, (b - a) / 3, (r - l) / 3));
      c.fillStyle = theme.box;
      c.fill();
      c.lineWidth = 1;
      c.strokeStyle = theme.boxLine;
      c.stroke();
    }
  }

  /** Names of modules: in the corner of their box, or beside it when it is too narrow. */
  labels(x0: number, y0: number, x1: number, y1: number) {
    const { camera: { k }, theme, height, pen } = this.renderer;
    pen.context.textBaseline = "middle";
    pen.context.textAlign = "left";
    const taken: [y: number, from: number, to: number][] = [];
    const near = k >= MIDDLE;
    // the innermost box has the say where several begin at one place
    for (let j = this.boxes.length - 1; j >= 0; j--) {
      const box = this.boxes[near ? j : this.boxes.length - 1 - j];
      const tall = (box.y1 - box.y0) * k;
      if (box.y1 < y0 || box.y0 > y1 || box.x1 < x0 || box.x0 > x1 || tall < 13) continue;
      const wide = (box.x1 - box.x0) * k;
      if (near && (wide < (k < NEAR ? 30 : 60) || (k < NEAR && box.depth > 1 && tall < 100))) continue;
      const [left, top] = this.renderer.toScreen(box.x0, box.y0);
      const inside = near || (wide > 30 && tall > 44);
      if (!inside && box.depth > 1) continue;
      const above = k < NEAR ? (box.first - box.y0 - GAP / 2) * k : -8; // in the gap, where that is narrow
      const y = near ? top + above : inside ? top + 7 : Math.max(8, Math.min(height - 8, top + tall / 2));
      const x = near ? Math.max(left, 4) : inside ? left + 3 : left + wide + 8;
      if (y < 0 || y > height) continue;
      const size = !inside ? 12 : near ? Math.min(11, 0.7 * GAP * k) : wide > 110 ? 11 : 10;
      const room = wide + 40 * k;
      const tail = box.label.slice(box.label.search(/[^._]*$/));
      const far = inside && pen.measure(box.label, size, 600) > room ? tail || box.label : box.label;
      const label = pen.fit(near ? box.path : far, near ? Math.max(wide, 190) : inside ? room : 260, size, 600);
      const end = x + (near ? pen.measure(label, size, 600) + 6 : inside ? wide : 170); // from afar a few will do
      if (taken.some(([row, from, to]) => Math.abs(row - y) < (near ? 26 : 15) && from < end && x < to)) continue;
      taken.push([y, x, end]);
      pen.face(600, size);
      pen.seamed(label, x, y, theme.halo, 3.5, theme.muted);
    }
  }
}

/** Outer boxes first; those that much else runs through are left out. */
function scopeBoxes(scene: Scene): Box[] {
  const { data, x, y, w, h } = scene;
  const scopes = data.head.scopes;
  const top = scene.parts.length - 1;
  if (scopes.length < 2 || top < 0) return [];
  const { first } = scene.parts[top];
  const columns: number[][] = [];
  for (let i = first; i < first + scene.levels[top].input.n; i++) (columns[scene.column[i]] ??= []).push(i);
  const depth = new Int32Array(scopes.length);
  for (let s = 1; s < scopes.length; s++) depth[s] = depth[scopes[s][0]] + 1;
  const [x0, y0, x1, y1] = [0, 1, 2, 3].map(() => new Float32Array(scopes.length));
  const size = new Int32Array(scopes.length);
  const extend = (s: number, count: number, l: number, t: number, r: number, b: number) => {
    const fresh = !size[s];
    size[s] += count;
    x0[s] = fresh ? l : Math.min(x0[s], l);
    y0[s] = fresh ? t : Math.min(y0[s], t);
    x1[s] = fresh ? r : Math.max(x1[s], r);
    y1[s] = fresh ? b : Math.max(y1[s], b);
  };
  const boxes: Box[] = [];
  for (const items of columns) {
    size.fill(0);
    for (const i of items ?? []) extend(scene.scopeOf(i), 1, x[i] - w[i] / 2, y[i], x[i] + w[i] / 2, y[i] + h[i]);
    // a module has a lower number than those inside it
    for (let s = scopes.length - 1; s > 0; s--) if (size[s]) extend(scopes[s][0], size[s], x0[s], y0[s], x1[s], y1[s]);
    const rows = byHeight(items ?? [], y);
    for (let s = 1; s < scopes.length; s++) {
      const most = size[s] * 0.25;
      if (size[s] < 2 || foreign(s, rows, most) > most) continue;
      const pad = Math.max(4, 22 - 5 * depth[s]);
      boxes.push({
        key: `0:${s}`, label: scopes[s][1], path: data.path(s).join(" / "), depth: depth[s], first: y0[s],
        x0: x0[s] - pad, y0: y0[s] - pad, x1: x1[s] + pad, y1: y1[s] + pad,
      });
    }
  }
  return boxes.sort((a, b) => a.depth - b.depth);

  /** Items in the box that are not of the module, up to more than `most`. */
  function foreign(s: number, rows: [number, number[]][], most: number): number {
    let [lo, hi] = [0, rows.length];
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (rows[mid][0] < y0[s]) lo = mid + 1;
      else hi = mid;
    }
    let others = 0;
    for (let r = lo; r < rows.length && rows[r][0] <= y1[s] && others <= most; r++)
      for (const i of rows[r][1]) {
        if (x[i] < x0[s] || x[i] > x1[s] || scene.kind[i] === OUTPUT) continue;
        let o = scene.scopeOf(i);
        while (o > s) o = scopes[o][0];
        if (o !== s) others++;
      }
    return others;
  }
}

/** Items by their y, from the top. */
function byHeight(items: number[], y: Float32Array): [number, number[]][] {
  const rows = new Map<number, number[]>();
  for (const i of items) {
    const row = rows.get(y[i]);
    if (row) row.push(i);
    else rows.set(y[i], [i]);
  }
  return [...rows].sort((a, b) => a[0] - b[0]);
}
