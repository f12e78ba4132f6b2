// Places the levels of a scene, inner ones first.
import { HEAD, layout, type LevelOutput, PAD } from "./layout";
import type { Level } from "./scene";

export interface Placed {
  out: LevelOutput[];
  sizes: { w: Float32Array; h: Float32Array }[];
}

export function place(module: WebAssembly.Module, levels: Level[]): Placed {
  const out: LevelOutput[] = [];
  const sizes: Placed["sizes"] = [];
  for (const { input, inside } of levels) {
    for (const [item, places] of inside) {
      const sum = places.reduce((total, p) => total + out[p].width + PAD, PAD);
      input.w[item] = Math.max(input.w[item], sum);
      input.h[item] = Math.max(...places.map((p) => out[p].height)) + HEAD + 16 + PAD;
    }
    out.push(layout(module, input));
    sizes.push({ w: input.w, h: input.h });
  }
  return { out, sizes };
}
