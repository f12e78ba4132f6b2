// Boxes around modules, in each column that a module is in.
import { OUTPUT, type Scene } from "./scene";

export interface Box {
  key: string;
  label: string;
  path: string;
  depth: number;
  x0: number;
  y0: number;
  x1: number;
  y1: number;
}

/** Outer boxes first; those that much else runs through are left out. */
export function scopeBoxes(scene: Scene): Box[] {
  const { data } = scene;
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
  const boxes: Box[] = [];
  for (const items of columns) {
    const found: number[] = [];
    for (const i of items ?? [])
      for (let s = scene.scopeOf(i); s > 0; s = scopes[s][0]) {
        if (!size[s]++) {
          found.push(s);
          [x0[s], y0[s], x1[s], y1[s]] = [Infinity, Infinity, -Infinity, -Infinity];
        }
        x0[s] = Math.min(x0[s], scene.x[i] - scene.w[i] / 2);
        x1[s] = Math.max(x1[s], scene.x[i] + scene.w[i] / 2);
        y0[s] = Math.min(y0[s], scene.y[i]);
        y1[s] = Math.max(y1[s], scene.y[i] + scene.h[i]);
      }
    items?.sort((a, b) => scene.y[a] - scene.y[b]);
    for (const s of found) {
      const most = size[s] * 0.25;
      if (size[s] < 2 || foreign(s, most) > most) continue;
      const pad = Math.max(4, 22 - 5 * depth[s]);
      boxes.push({
        key: `0:${s}`, label: scopes[s][1], path: data.path(s).join(" / "), depth: depth[s],
        x0: x0[s] - pad, y0: y0[s] - pad, x1: x1[s] + pad, y1: y1[s] + pad,
      });
    }
    for (const s of found) size[s] = 0;

    /** Items in the box that are not of the module, up to more than `most`. */
    function foreign(s: number, most: number): number {
      let [lo, hi] = [0, items.length];
      while (lo < hi) {
        const mid = (lo + hi) >> 1;
        if (scene.y[items[mid]] < y0[s]) lo = mid + 1;
        else hi = mid;
      }
      let others = 0;
      for (let j = lo; j < items.length && scene.y[items[j]] <= y1[s] && others <= most; j++) {
        const i = items[j];
        if (scene.x[i] < x0[s] || scene.x[i] > x1[s]) continue;
        let o = scene.scopeOf(i);
        while (o > s) o = scopes[o][0]; // a parent has a lower number than its children
        if (o !== s && scene.kind[i] !== OUTPUT) others++;
      }
      return others;
    }
  }
  return boxes.sort((a, b) => a.depth - b.depth);
}
