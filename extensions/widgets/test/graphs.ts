// Graphs for the tests of the layout: as lists of [producer, consumers].
import type { LevelInput } from "../src/layout";

export type Tensor = [number, number[]];

export function level(n: number, tensors: Tensor[], w = 90, h = 40): LevelInput {
  const start = [0];
  const dst: number[] = [];
  for (const [, to] of tensors) {
    dst.push(...to);
    start.push(dst.length);
  }
  return {
    n, w: new Float32Array(n).fill(w), h: new Float32Array(n).fill(h),
    src: Int32Array.from(tensors, (t) => t[0]), start: Int32Array.from(start), dst: Int32Array.from(dst),
  };
}

/** Blocks of conv, relu, conv, add with a skip: the trunk is everything but the skips. */
export function residual(blocks: number): LevelInput {
  const tensors: Tensor[] = [];
  let last = 0;
  for (let i = 0; i < blocks; i++) {
    const [conv, relu, conv2, add] = [last + 1, last + 2, last + 3, last + 4];
    tensors.push([last, [conv, add]], [conv, [relu]], [relu, [conv2]], [conv2, [add]]);
    last = add;
  }
  return level(last + 1, tensors);
}

/** Attention-like layers; with a mask that every layer reads. */
export function transformer(layers: number, masked = true): LevelInput {
  const to = new Map<number, number[]>();
  let n = 0;
  const make = (...from: number[]) => {
    for (const f of from) (to.get(f) ?? to.set(f, []).get(f)!).push(n);
    return n++;
  };
  let x = make();
  const mask = masked ? make() : -1;
  for (let i = 0; i < layers; i++) {
    const mean = make(x);
    const norm = make(make(x, mean));
    const [q, k, v] = [0, 1, 2].map(() => make(make(make(make(norm)))));
    const scores = make(make(q, k));
    const soft = make(masked ? make(scores, mask) : scores);
    const mixed = make(make(make(make(soft, v))));
    const after = make(x, mixed);
    const up = make(make(make(after)));
    x = make(after, make(make(up, make(up))));
  }
  return level(n, [...to].map(([f, list]) => [f, list]));
}

/** Seeded layered-ish random graph. */
export function random(n: number, seed: number, fan = 2): LevelInput {
  let s = seed * 2654435761 + 1;
  const next = () => ((s = (Math.imul(s, 1664525) + 1013904223) >>> 0) / 4294967296);
  const to = new Map<number, Set<number>>();
  for (let i = 1; i < n; i++)
    for (let k = 0; k < 1 + Math.floor(next() * fan); k++) {
      const f = Math.max(0, i - 1 - Math.floor(next() * next() * 12));
      (to.get(f) ?? to.set(f, new Set()).get(f)!).add(i);
    }
  return level(n, [...to].map(([f, set]) => [f, [...set]]));
}
