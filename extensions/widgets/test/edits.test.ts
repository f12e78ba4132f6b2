// Patches of columns, and the places of versions in the history.
import { describe, expect, test } from "vitest";
import type { Unpacked } from "../src/data";
import { lanes } from "../src/history";
import { patched } from "../src/patch";

const columns = (): Unpacked => ({
  header: { name: "m", nodes: ["a", "b", "c"], tensors: ["x", "ta", "tb", "tc"], ops: [["Relu", ""]], attributes: [""], shapes: [""], dtypes: [""], scopes: [[-1, ""]], stamp: 0 },
  columns: {
    "node.op": Int32Array.of(0, 0, 0),
    "node.in": Int32Array.of(0, 1, 2), "node.in.start": Int32Array.of(0, 1, 2, 3),
    "tensor.producer": Int32Array.of(-1, 0, 1, 2), "node.macs": Float64Array.of(1, NaN, 3),
  },
});

describe("patches", () => {
  test("a node that is put between two others moves the numbers behind it", () => {
    // x -> a -> new -> b -> c, with the tensor of the new node behind that of a
    const { now, moved } = patched(columns(), {
      header: {
        name: "m", stamp: 1, gone: [], lists: { nodes: [1, 0, ["new"]], tensors: [2, 0, ["tn"]], ops: [["Cast", ""]] },
        spliced: { "node.op": [1, 0], "node.in": [1, 1], "node.in.start": [1, 0], "tensor.producer": [2, 0], "node.macs": [1, 0] },
      },
      columns: {
        "node.op": Int32Array.of(1), "node.in": Int32Array.of(1, 2), "node.in.start": Int32Array.of(1),
        "tensor.producer": Int32Array.of(1), "node.macs": Float64Array.of(0),
      },
    });
    expect(now.header.nodes).toEqual(["a", "new", "b", "c"]);
    expect(now.header.tensors).toEqual(["x", "ta", "tn", "tb", "tc"]);
    expect(now.header.ops).toEqual([["Relu", ""], ["Cast", ""]]);
    expect(now.header.stamp).toBe(1);
    expect([...now.columns["node.in"]]).toEqual([0, 1, 2, 3]);
    expect([...now.columns["node.in.start"]]).toEqual([0, 1, 2, 3, 4]);
    expect([...now.columns["tensor.producer"]]).toEqual([-1, 0, 1, 2, 3]);
    expect([...now.columns["node.macs"]]).toEqual([1, 0, NaN, 3]);
    expect([0, 1, 2].map(moved)).toEqual([0, 2, 3]);
  });

  test("a renamed node is the same one, a removed one is gone", () => {
    const none = { name: "m", gone: [], spliced: {} };
    const renamed = patched(columns(), { header: { ...none, lists: { nodes: [1, 1, ["other"]] } }, columns: {} });
    expect(renamed.now.header.nodes).toEqual(["a", "other", "c"]);
    expect([0, 1, 2].map(renamed.moved)).toEqual([0, 1, 2]);
    const removed = patched(columns(), { header: { ...none, lists: { nodes: [1, 1, []] } }, columns: {} });
    expect([0, 1, 2].map(removed.moved)).toEqual([0, -1, 1]);
    expect(columns().header.nodes).toEqual(["a", "b", "c"]); // what was there stays as it is
  });
});

describe("history", () => {
  const rows = (...parents: (number | null)[]) => parents.map((parent, number) => ({ number, parent }));

  test("one line goes straight on", () => {
    expect(lanes(rows(null, 0, 1, 2)).map((p) => p.lane)).toEqual([0, 0, 0, 0]);
  });

  test("a branch gets a lane of its own, and others pass beside it", () => {
    const places = lanes(rows(null, 0, 1, 1, 2));
    expect(places.map((p) => p.lane)).toEqual([0, 0, 0, 1, 0]);
    expect(places[1].to).toEqual([0, 1]);
    expect(places[2].through).toEqual([1]);
    expect(places[3].through).toEqual([0]);
  });

  test("lanes are used again, and no two lines share one", () => {
    const list = rows(null, 0, 0, 1, 3, 3, 4, 0, 7, 6);
    const places = lanes(list);
    list.forEach((_, i) => expect(places[i].through).not.toContain(places[i].lane));
    for (const place of places) expect(new Set(place.through).size).toBe(place.through.length);
    expect(Math.max(...lanes(rows(null, 0, 1, 1, 2, 4, 4)).map((p) => p.lane))).toBe(1);
  });
});
