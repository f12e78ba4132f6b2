import dagre from "@dagrejs/dagre";
import { describe, expect, test, vi } from "vitest";
import type { LevelInput, LevelOutput } from "../src/layout";
import { layout } from "./compiled";
import { level, random, residual, transformer } from "./graphs";

vi.setConfig({ testTimeout: 60_000 }); // the machine may be busy

function overlaps(input: LevelInput, out: LevelOutput): number {
  const order = Array.from(out.x.keys()).sort((a, b) => out.y[a] - out.y[b] || out.x[a] - out.x[b]);
  let found = 0;
  for (let i = 0; i < order.length; i++)
    for (let j = i + 1; j < order.length && out.y[order[j]] < out.y[order[i]] + input.h[order[i]]; j++) {
      const [a, b] = [order[i], order[j]];
      if (Math.abs(out.x[a] - out.x[b]) < (input.w[a] + input.w[b]) / 2 - 0.01) found++;
    }
  return found;
}

/** Crossings of drawn edges of dagre: of its polylines, each shared source segment counted as drawn. */
function dagreOf(input: LevelInput) {
  const g = new dagre.graphlib.Graph({ multigraph: true });
  g.setGraph({ nodesep: 22, edgesep: 12, ranksep: 40 });
  g.setDefaultEdgeLabel(() => ({}));
  for (let i = 0; i < input.n; i++) g.setNode(String(i), { width: input.w[i], height: input.h[i] });
  for (let t = 0; t < input.src.length; t++)
    for (let e = input.start[t]; e < input.start[t + 1]; e++)
      g.setEdge(String(input.src[t]), String(input.dst[e]), {}, String(t));
  dagre.layout(g);
  const lines: [number, number, number, number, string, string][] = [];
  for (const e of g.edges()) {
    const points = g.edge(e).points as { x: number; y: number }[];
    const from = g.node(e.v);
    const to = g.node(e.w);
    const all = [{ x: from.x, y: from.y + from.height / 2 }, ...points.slice(1, -1), { x: to.x, y: to.y - to.height / 2 }];
    for (let i = 1; i < all.length; i++) lines.push([all[i - 1].x, all[i - 1].y, all[i].x, all[i].y, e.v, e.w]);
  }
  return { width: g.graph().width as number, crossings: cross(lines) };
}

function oursOf(input: LevelInput, out: LevelOutput) {
  const lines: [number, number, number, number, string, string][] = [];
  for (let t = 0; t < input.src.length; t++)
    for (let p = out.pieceStart[t]; p < out.pieceStart[t + 1]; p++) {
      const end = out.pieceEnd[p];
      lines.push([...out.pieces.slice(4 * p, 4 * p + 4), String(input.src[t]), end < 0 ? "" : String(input.dst[end])] as never);
    }
  return { width: out.width, crossings: cross(lines) };
}

function cross(lines: [number, number, number, number, string, string][]): number {
  let count = 0;
  const side = (ax: number, ay: number, bx: number, by: number, cx: number, cy: number) =>
    Math.sign((bx - ax) * (cy - ay) - (by - ay) * (cx - ax));
  for (let i = 0; i < lines.length; i++)
    for (let j = i + 1; j < lines.length; j++) {
      const [a, b] = [lines[i], lines[j]];
      if (a[4] === b[4] || (a[5] && a[5] === b[5])) continue;
      if (
        side(a[0], a[1], a[2], a[3], b[0], b[1]) * side(a[0], a[1], a[2], a[3], b[2], b[3]) < 0 &&
        side(b[0], b[1], b[2], b[3], a[0], a[1]) * side(b[0], b[1], b[2], b[3], a[2], a[3]) < 0
      ) count++;
    }
  return count;
}

describe("small graphs", () => {
  test("nothing, one node, two nodes without an edge", () => {
    expect(layout(level(0, [])).height).toBe(0);
    expect([...layout(level(1, [])).x]).toEqual([45]);
    const two = layout(level(2, []));
    expect(Math.abs(two.x[0] - two.x[1])).toBeGreaterThanOrEqual(90);
  });

  test("a consumer is below its producer, a circle does not hang", () => {
    const out = layout(level(3, [[0, [1]], [1, [2]], [2, [0, 2]]]));
    expect([...out.y]).toEqual([...out.y].sort((a, b) => a - b));
    expect(out.pieceEnd.filter((e) => e >= 0)).toHaveLength(4);
  });

  test("a residual trunk is one straight line, the skips beside it", () => {
    const out = layout(residual(30));
    expect(new Set(out.x).size).toBe(1);
    expect(out.crossings).toBe(0);
    expect(out.width).toBeLessThan(200);
  });

  test("what goes wrong inside is said", () => {
    expect(() => layout({ ...level(2, [[0, [1]]]), dst: Int32Array.of(7) })).toThrow("layout: Index out of range");
  });

  test("a source that is needed late stands near its consumer", () => {
    const out = layout(level(5, [[0, [1]], [1, [2]], [2, [3]], [4, [3]]]));
    expect(out.y[4]).toBe(out.y[2]);
  });
});

const cases: [string, LevelInput][] = [
  ["residual 20", residual(20)],
  ["transformer 6", transformer(6, false)],
  ["masked transformer 6", transformer(6)],
  ...[1, 2, 3, 4, 5, 6].map((seed): [string, LevelInput] => [`random ${seed}`, random(60 + 40 * seed, seed, 1.6)]),
];

describe("against dagre", () => {
  const rows: string[] = [];
  test.each(cases)("%s: no overlaps, crossings and width within 1.3 of dagre's", (name, input) => {
    const out = layout(input);
    const [ours, theirs] = [oursOf(input, out), dagreOf(input)];
    rows.push(`${name}: crossings ${ours.crossings} / ${theirs.crossings}, width ${ours.width | 0} / ${theirs.width | 0}`);
    console.log(rows.at(-1));
    expect(overlaps(input, out)).toBe(0);
    expect(ours.crossings).toBeLessThanOrEqual(1.3 * theirs.crossings + 1);
    expect(ours.width).toBeLessThanOrEqual(1.3 * theirs.width);
  });
});

describe("large graphs", () => {
  test.each([10000, 50000])("a masked transformer of %d nodes", (nodes) => {
    const input = transformer(Math.round(nodes / 29));
    const out = layout(input);
    console.log(`${input.n} nodes: width ${out.width | 0}, ${out.dummies} dummies, ${out.crossings} crossings`);
    expect(out.width).toBeLessThan(1200);
    expect(out.dummies).toBeLessThan(3 * input.n);
    expect(overlaps(input, out)).toBe(0);
  });

  test("an order with as few crossings as before stays", () => {
    const input = transformer(120);
    const first = layout(input);
    const again = layout({ ...input, hint: first.hint, crossings: first.crossings });
    expect(again.crossings).toBe(first.crossings);
    expect(again.x).toEqual(first.x);
    const worse = layout({ ...input, hint: first.hint.map((x) => -x), crossings: first.crossings - 1 });
    expect(worse.crossings).toBeLessThanOrEqual(first.crossings);
  });

  test("thousands of long tensors become stubs, not millions of dummies", () => {
    const n = 4000;
    const chain = Array.from({ length: n - 1 }, (_, i): [number, number[]] => [i, [i + 1, n - 1]]);
    const out = layout(level(n, chain));
    expect(out.dummies).toBeLessThan(400000);
  });
});

describe("columns", () => {
  const wrapped = (input: LevelInput, columns = new Float32Array(input.n).fill(NaN)) => ({ ...input, columns });
  const fit = (out: LevelOutput) => Math.min(1200 / out.width, 600 / out.height);
  const within = (out: LevelOutput, c: number, of: ArrayLike<number>) => Array.from(of).filter((_, i) => out.column[i] === c);

  test("what is not tall stays in one piece", () => {
    const input = residual(5);
    expect(layout(wrapped(input))).toEqual(layout(input));
  });

  test.each([["residual", residual(125)], ["residual", residual(500)], ["transformer", transformer(60)]])(
    "a tall %s can be read when all is in view", (name, input) => {
      const [one, out] = [layout(input), layout(wrapped(input))];
      const most = Math.max(...out.column);
      console.log(`${name} ${input.n}: fit ${fit(one).toFixed(3)} -> ${fit(out).toFixed(3)} in ${most + 1} columns`);
      expect(fit(out)).toBeGreaterThan(4 * fit(one));
      expect(overlaps(input, out)).toBe(0);
      for (let c = 1; c <= most; c++) // one beside the other
        expect(Math.min(...within(out, c, out.x))).toBeGreaterThan(Math.max(...within(out, c - 1, out.x)) + 90);
    });

  test("the trunk is a straight line in each column, and an edge leads on from each to the next", () => {
    const input = residual(125);
    const out = layout(wrapped(input));
    const most = Math.max(...out.column);
    for (let c = 0; c <= most; c++) expect(new Set(within(out, c, out.x)).size).toBe(1);
    expect(out.pieceEnd.filter((e) => e >= 0)).toHaveLength(input.dst.length); // every edge arrives
    for (let p = 0; p < out.pieceEnd.length; p++) {
      if (out.pieceEnd[p] < 0) continue;
      const to = input.dst[out.pieceEnd[p]];
      expect(Math.abs(out.pieces[4 * p + 2] - out.x[to])).toBeLessThanOrEqual(input.w[to] / 2);
      expect(out.pieces[4 * p + 3]).toBeCloseTo(out.y[to], 3);
    }
    // pieces of a tensor hang together: each begins where another of the same ends, or at its producer
    for (let t = 0; t < input.src.length; t++) {
      const ends = new Set([`${Math.fround(out.y[input.src[t]] + input.h[input.src[t]])}`]);
      for (let p = out.pieceStart[t]; p < out.pieceStart[t + 1]; p++) {
        const [, y0, x1, y1] = out.pieces.subarray(4 * p, 4 * p + 4);
        expect(ends.has(`${y0}`), `tensor ${t}`).toBe(true);
        ends.add(`${y1}`).add(`${x1} ${y1}`);
      }
    }
  });

  test("modules are not torn apart where that can be had", () => {
    const input = { ...wrapped(residual(100)), parents: Int32Array.from([-1, ...new Array(100).fill(0)]) };
    const scope = Int32Array.from({ length: input.n }, (_, i) => (i ? Math.ceil(i / 4) : 0));
    const out = layout({ ...input, scope });
    for (let i = 2; i < input.n; i++) if (scope[i] === scope[i - 1]) expect(out.column[i]).toBe(out.column[i - 1]);
  });

  test("after an item grew, the others are where they were: columns stay, and what is above it does not move", () => {
    const input = wrapped(transformer(40));
    const first = layout(input);
    const grown = { ...input, w: input.w.slice(), h: input.h.slice(), hint: first.hint, columns: Float32Array.from(first.column) };
    const at = 500;
    [grown.w[at], grown.h[at]] = [400, 700];
    const second = layout(grown);
    expect(second.column).toEqual(first.column);
    let moved = 0;
    const shifts = new Map<number, number>(); // of each column to the side
    for (let i = 0; i < input.n; i++) {
      const c = first.column[i];
      if (i === at || c === first.column[at]) continue;
      const dx = second.x[i] - first.x[i];
      if (!shifts.has(c)) shifts.set(c, dx);
      moved += Number(Math.abs(dx - shifts.get(c)!) > 1 || second.y[i] !== first.y[i]);
      if (c < first.column[at]) expect(dx).toBe(0);
    }
    expect(moved).toBe(0);
  });
});

test("the same graph gives the same picture", () => {
  expect(layout(random(500, 7))).toEqual(layout(random(500, 7)));
});

test("what did not change keeps its order when an item grows", () => {
  const input = random(200, 3);
  const first = layout(input);
  const grown = { ...input, w: input.w.slice(), h: input.h.slice(), hint: first.hint };
  [grown.w[100], grown.h[100]] = [600, 400];
  const second = layout(grown);
  let same = 0;
  let pairs = 0;
  for (let a = 0; a < 200; a++)
    for (let b = 0; b < a; b++)
      if (first.y[a] === first.y[b]) {
        pairs++;
        same += Number(Math.sign(first.x[a] - first.x[b]) === Math.sign(second.x[a] - second.x[b]));
      }
  expect(same / pairs).toBeGreaterThan(0.9);
});
