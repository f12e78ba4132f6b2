// The layered layout of a graph whose edges are tensors; it is WebAssembly, made of ../layout.
export interface LevelInput {
  n: number;
  w: Float32Array;
  h: Float32Array;
  src: Int32Array; // per tensor: producing item
  start: Int32Array; // per tensor: where its consumers start in dst
  dst: Int32Array;
  hint?: Float32Array; // earlier hint of each item (NaN: new), so that what did not change keeps its order
  crossings?: number; // of the earlier layout: with as few as that the order stays
  columns?: Float32Array; // earlier column of each item (NaN: new): given, a tall drawing goes on in further columns
  scope?: Int32Array; // with columns, per item: its module, for breaks between modules
  parents?: Int32Array; // of each module the one around it, which has a lower number
}

export interface LevelOutput {
  x: Float32Array; // centre
  hint: Float32Array; // x in its own column: the hint for a later layout
  y: Float32Array; // top
  column: Int32Array; // of each item, 0 where the drawing is in one piece
  width: number;
  height: number;
  pieceStart: Int32Array; // per tensor: where its pieces start
  pieces: Float32Array; // x0 y0 x1 y1: straight when x0 == x1, else a curve with upright ends
  pieceEnd: Int32Array; // the consumer (index into dst) that a piece leads into, or -1
  layers: number;
  dummies: number;
  crossings: number;
}

export const PAD = 18; // around what is inside an opened node
export const HEAD = 34; // room for its title

/** What ../layout/index.ts exports; arrays as their addresses. */
interface Exports {
  memory: WebAssembly.Memory;
  room(n: number, tensors: number, consumers: number, modules: number, earlier: boolean, wrap: boolean): void;
  layout(enough: number): void;
  [global: string]: unknown;
}

/** Lays out one level with the compiled module. */
export function layout(module: WebAssembly.Module, input: LevelInput): LevelOutput {
  const { n, src, dst } = input;
  const modules = input.parents?.length ?? 0;
  const abort = (text: number) => {
    const { buffer } = made.memory;
    const bytes = new DataView(buffer, text - 4).getUint32(0, true); // before each string
    throw new Error(`layout: ${String.fromCharCode(...new Uint16Array(buffer, text, bytes / 2))}`);
  };
  // an instance for each: it never gives memory back
  const made = new WebAssembly.Instance(module, { env: { abort } }).exports as unknown as Exports;
  const of = (name: string) => (made[name] as WebAssembly.Global<"i32">).value;
  const floats = (name: string, count = n) => new Float32Array(made.memory.buffer, of(name), count);
  const ints = (name: string, count = n) => new Int32Array(made.memory.buffer, of(name), count);
  made.room(n, src.length, dst.length, modules, !!input.hint, !!input.columns);
  for (const name of ["w", "h", "hint", "columns"] as const) if (input[name]) floats(name).set(input[name]);
  for (const name of ["src", "start", "dst"] as const) ints(name, input[name].length).set(input[name]);
  for (const name of modules ? (["scope", "parents"] as const) : []) ints(name, input[name]!.length).set(input[name]!);
  made.layout(input.crossings ?? 0);
  const pieces = of("pieceCount");
  return {
    x: floats("x").slice(), hint: floats("hint").slice(), y: floats("y").slice(), column: ints("column").slice(),
    width: of("width"), height: of("height"), pieceStart: ints("pieceStart", src.length + 1).slice(),
    pieces: floats("pieces", 4 * pieces).slice(), pieceEnd: ints("pieceEnd", pieces).slice(),
    layers: of("layers"), dummies: of("dummies"), crossings: of("crossings"),
  };
}
