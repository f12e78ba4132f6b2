import { describe, expect, it } from "vitest";
import { LIGHT } from "../src/colors";
import type { Data } from "../src/data";
import type { State } from "../src/host";
import { coloring } from "../src/overlay";
import { NODE, type Scene } from "../src/scene";

describe("numbers as colours", () => {
  const costs = Float64Array.of(NaN, 0, 10, 1000);
  const data = { macs: costs, bytes: costs, nodes: 4 } as unknown as Data;
  const scene = { kind: [NODE, NODE, NODE, NODE], nodesOf: (i: number) => [i], data } as unknown as Scene;
  const colors = (state: Partial<State>) => {
    const found = coloring(data, scene, state as State, LIGHT);
    return { of: [0, 1, 2, 3].map(found.color), targets: found.targets!() };
  };

  it.each(["macs", "bytes"])("no %s and none known are grey, and nothing to step through", (overlay) => {
    const { of, targets } = colors({ overlay });
    expect(of.slice(0, 2)).toEqual([LIGHT.missing, LIGHT.missing]);
    expect(new Set(of).size).toBe(3);
    expect(targets).toEqual([3, 2]);
  });

  it("zero of a value that Python gives is a value", () => {
    const header = { title: "error", unit: "noise/signal", scale: "log", note: "" };
    const { of, targets } = colors({ overlay: "values", values: { header, numbers: costs } as State["values"] });
    expect(of[0]).toBe(LIGHT.missing);
    expect(of[1]).not.toBe(LIGHT.missing);
    expect(targets).toEqual([3, 2, 1]);
  });
});
