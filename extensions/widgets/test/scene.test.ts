// What is shown of a model: opened bodies, and scenes that follow one another.
import { expect, test } from "vitest";
import { Data, type Unpacked } from "../src/data";
import { place } from "../src/place";
import { Scene } from "../src/scene";
import { module } from "./compiled";

const LONG = 300;

/** An If whose branch is a chain of LONG nodes; each node makes one tensor of its number. */
function branch(extra = 0): Data {
  const nodes = ["if", ...Array.from({ length: LONG + extra }, (_, i) => `step ${i}`)];
  const count = nodes.length;
  const ints = (of: (n: number) => number, length = count) => Int32Array.from({ length }, (_, n) => of(n));
  const source: Unpacked = {
    header: {
      version: 1, name: "branch", nodes, tensors: nodes.map((name) => `${name} out`), ops: [["If", ""], ["Relu", ""]],
      attributes: [""], shapes: [""], dtypes: [""], scopes: [[-1, ""]],
      graphs: [{ scope: "", owner: -1, kind: "main", label: "", inputs: [], outputs: [0] },
        { scope: "if/then", owner: 0, kind: "body", label: "then_branch", inputs: [], outputs: [count - 1] }],
    },
    columns: {
      "node.op": ints((n) => Number(n > 0)), "node.graph": ints((n) => Number(n > 0)), "node.scope": ints(() => 0),
      "node.attributes": ints(() => 0), "node.in": ints((i) => i + 1, count - 2),
      "node.in.start": ints((n) => Math.max(0, n - 2), count + 1), "node.out": ints((n) => n), "node.out.start": ints((n) => n, count + 1),
      "tensor.kind": Uint8Array.from({ length: count }, () => 2), "tensor.producer": ints((t) => t),
      "tensor.graph": ints((t) => Number(t > 0)), "tensor.dtype": ints(() => 0), "tensor.shape": ints(() => 0),
    },
  };
  return new Data(source);
}

function shown(data: Data, opened: number[], before?: Scene, wrap = true): Scene {
  const scene = new Scene(data, { collapsed: new Set(), opened: new Set(opened), hide: [], wrap }, before && { scene: before });
  scene.finish(place(module, scene.levels));
  return scene;
}

test("a long body opened in place goes on in columns, inside its node", () => {
  const scene = shown(branch(), [0]);
  const owner = scene.itemOf[0];
  const inner = scene.kind.map((_, i) => i).filter((i) => scene.level[i] === 0);
  expect(inner.length).toBe(LONG + 1); // with its output
  expect(Math.max(...inner.map((i) => scene.column[i]))).toBeGreaterThan(2);
  expect(scene.h[owner]).toBeLessThan(0.5 * shown(branch(), [0], undefined, false).h[owner]);
  for (const i of inner) {
    expect(Math.abs(scene.x[i] - scene.x[owner]) + scene.w[i] / 2).toBeLessThanOrEqual(scene.w[owner] / 2);
    expect(scene.y[i]).toBeGreaterThanOrEqual(scene.y[owner]);
    expect(scene.y[i] + scene.h[i]).toBeLessThanOrEqual(scene.y[owner] + scene.h[owner]);
  }
});

test("what is in an opened body stays where it was when the body grows", () => {
  const before = shown(branch(), [0]);
  const after = shown(branch(1), [0], before);
  const far = (scene: Scene, n: number) => [scene.x[scene.itemOf[n]] - scene.x[scene.itemOf[1]], scene.y[scene.itemOf[n]] - scene.y[scene.itemOf[1]]];
  for (let n = 1; n <= LONG; n++) {
    expect(after.was[after.itemOf[n]]).toBe(before.itemOf[n]);
    expect(far(after, n)).toEqual(far(before, n));
  }
});

test("a node that is folded away, or new, was nowhere", () => {
  const before = shown(branch(), []);
  const after = shown(branch(), [0], before);
  expect(after.was[after.itemOf[0]]).toBe(before.itemOf[0]);
  expect(after.was[after.itemOf[1]]).toBe(-1);
});
