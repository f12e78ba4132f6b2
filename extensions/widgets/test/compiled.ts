// The layout as the tests run it: with bounds checked.
import { assembled } from "../assemble.mjs";
import { type LevelInput, layout as layoutWith, type LevelOutput } from "../src/layout";

export const module = await WebAssembly.compile(await assembled("layout/index.ts", true));

export const layout = (input: LevelInput): LevelOutput => layoutWith(module, input);
