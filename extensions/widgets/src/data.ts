// The packed columns of workbench/view.py, decoded, with the relations that the view asks for.

export interface GraphRow {
  scope: string;
  owner: number;
  kind: "main" | "body" | "function";
  label: string;
  inputs: number[];
  outputs: number[];
  op?: [string, string];
}

export interface Header {
  version: number;
  name: string;
  nodes: string[];
  tensors: string[];
  ops: [string, string][];
  attributes: string[];
  shapes: string[];
  dtypes: string[];
  scopes: [number, string][];
  graphs: GraphRow[];
  made?: string[];
  stamp?: number; // counts the changes of the columns
  rough?: boolean; // costs of what an edit changed are not known yet
}

export type Column = Int32Array | Uint8Array | Float64Array;
export interface Unpacked { header: Record<string, unknown>; columns: Record<string, Column> }
const TYPES: Record<string, new (b: ArrayBuffer, o: number, n: number) => Column> = {
  int32: Int32Array, uint8: Uint8Array, float64: Float64Array,
};

export function unpack(buffer: ArrayBuffer): Unpacked {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const columns: Record<string, Column> = {};
  for (const [name, [dtype, offset, count]] of Object.entries(header.columns as Record<string, [string, number, number]>))
    columns[name] = new TYPES[dtype](buffer, 4 + length + offset, count);
  delete header.columns;
  return { header, columns };
}

export const WEIGHT = 1;

export class Data {
  readonly head: Header;
  readonly nodes: number;
  readonly op: Int32Array;
  readonly home: Int32Array;
  readonly scope: Int32Array;
  readonly words: Int32Array;
  readonly inStart: Int32Array;
  readonly ins: Int32Array;
  readonly outStart: Int32Array;
  readonly outs: Int32Array;
  readonly kind: Uint8Array;
  readonly producer: Int32Array;
  readonly dtype: Int32Array;
  readonly shape: Int32Array;
  readonly macs?: Float64Array;
  readonly bytes?: Float64Array;
  /** where a node comes from (a fusion, a plugin): a place in head.made; there if any node does */
  readonly made?: Int32Array;
  /** of each entry of `ins`, in a diff: 1 added, 2 removed */
  readonly change?: Uint8Array;
  /** nodes that read a tensor */
  readonly useStart: Int32Array;
  readonly uses: Int32Array;
  /** graphs that a node holds, or that it calls */
  readonly bodies = new Map<number, number[]>();
  /** tensors that bodies of a node read from around them */
  readonly captures = new Map<number, number[]>();
  private functions = new Map<string, number>();

  constructor(readonly source: Unpacked) {
    const { header, columns } = source;
    const c = columns as Record<string, Int32Array>;
    this.head = header as unknown as Header;
    this.nodes = this.head.nodes.length;
    [this.op, this.home, this.scope, this.words] = [c["node.op"], c["node.graph"], c["node.scope"], c["node.attributes"]];
    [this.inStart, this.ins, this.outStart, this.outs] = [c["node.in.start"], c["node.in"], c["node.out.start"], c["node.out"]];
    this.kind = columns["tensor.kind"] as Uint8Array;
    [this.producer, this.dtype, this.shape] = [c["tensor.producer"], c["tensor.dtype"], c["tensor.shape"]];
    this.macs = columns["node.macs"] as Float64Array | undefined;
    this.bytes = columns["node.bytes"] as Float64Array | undefined;
    this.made = c["node.made"];
    this.change = columns["edge.change"] as Uint8Array | undefined;
    const start = new Int32Array(this.head.tensors.length + 1);
    for (let i = 0; i < this.ins.length; i++) if (this.ins[i] >= 0) start[this.ins[i] + 1]++;
    for (let t = 0; t < start.length - 1; t++) start[t + 1] += start[t];
    this.useStart = start;
    this.uses = new Int32Array(start[start.length - 1]);
    const at = start.slice();
    for (let n = 0; n < this.nodes; n++)
      for (let i = this.inStart[n]; i < this.inStart[n + 1]; i++) if (this.ins[i] >= 0) this.uses[at[this.ins[i]]++] = n;
    this.head.graphs.forEach((g, index) => {
      if (g.owner >= 0) this.bodies.set(g.owner, [...(this.bodies.get(g.owner) ?? []), index]);
      if (g.op) this.functions.set(g.op.join("\0"), index);
    });
    this.capture(c["tensor.graph"]);
    if (this.functions.size)
      for (let n = 0; n < this.nodes; n++) {
        const called = this.functions.get(this.head.ops[this.op[n]].join("\0"));
        if (called !== undefined) this.bodies.set(n, [called]);
      }
  }

  private capture(around: Int32Array) {
    if (this.head.graphs.length < 2) return;
    for (let n = 0; n < this.nodes; n++)
      for (const t of this.inputs(n)) {
        if (t < 0 || this.kind[t] === WEIGHT) continue;
        for (let at = n; this.home[at] !== around[t]; ) {
          at = this.head.graphs[this.home[at]].owner;
          if (at < 0) break;
          const list = this.captures.get(at) ?? [];
          if (!list.includes(t)) this.captures.set(at, [...list, t]);
        }
      }
  }

  name = (n: number) => this.head.nodes[n];
  opName = (n: number) => this.head.ops[this.op[n]][0];
  domain = (n: number) => this.head.ops[this.op[n]][1];
  attributes = (n: number) => this.head.attributes[this.words[n]];
  tensor = (t: number) => this.head.tensors[t];
  dtypeOf = (t: number) => this.head.dtypes[this.dtype[t]];
  shapeOf = (t: number) => this.head.shapes[this.shape[t]];
  /** "float32 1×8×16" as far as known */
  type = (t: number) => [this.dtypeOf(t), this.shapeOf(t)].filter(Boolean).join(" ");
  inputs = (n: number) => this.ins.subarray(this.inStart[n], this.inStart[n + 1]);
  outputs = (n: number) => this.outs.subarray(this.outStart[n], this.outStart[n + 1]);
  consumers = (t: number) => this.uses.subarray(this.useStart[t], this.useStart[t + 1]);
  weights = (n: number) => Array.from(this.inputs(n)).filter((t) => t >= 0 && this.kind[t] === WEIGHT);

  /** Labels of the modules around a node, outermost first. */
  path(scope: number): string[] {
    const labels: string[] = [];
    for (let s = scope; s > 0; s = this.head.scopes[s][0]) labels.unshift(this.head.scopes[s][1]);
    return labels;
  }

  /** The name of a node without its modules. */
  tail(n: number): string {
    const name = this.name(n);
    return name.slice(name.lastIndexOf("/") + 1) || name;
  }

  private told = new Map<number, Told>(); // of the attributes' texts, by their number

  /** What matters most of a node: its largest weight, or some attribute. */
  detail(n: number): string {
    let most = "";
    for (let k = this.inStart[n]; k < this.inStart[n + 1]; k++) {
      const t = this.ins[k];
      if (t < 0 || this.kind[t] !== WEIGHT) continue;
      const shape = this.shapeOf(t);
      if (shape.length > most.length && shape.includes("×")) most = shape;
    }
    let told = this.told.get(this.words[n]);
    if (!told) this.told.set(this.words[n], (told = telling(this.attributes(n))));
    if (!most && told.cast) return `to ${this.dtypeOf(this.outputs(n)[0]) || told.words}`;
    return most || told.words ? (most || told.words) + told.stride : "";
  }

  /** Nodes that a node reads from (or is read by), bodies' nodes counting as their owner's. */
  private step(n: number, up: boolean): number[] {
    const found: number[] = [];
    if (up) for (const t of [...this.inputs(n), ...(this.captures.get(n) ?? [])]) { if (t >= 0 && this.producer[t] >= 0) found.push(this.producer[t]); }
    else for (const t of this.outputs(n)) { if (t >= 0) found.push(...this.consumers(t)); }
    return found;
  }

  reach(from: Iterable<number>, up: boolean): Set<number> {
    const seen = new Set<number>(from);
    const stack = [...seen];
    while (stack.length)
      for (const n of this.step(stack.pop()!, up)) if (!seen.has(n)) {
        seen.add(n);
        stack.push(n);
      }
    return seen;
  }

  /** Every node on a path from one to the other, in either direction. */
  between(a: number, b: number): Set<number> {
    const both = (from: number, to: number) => {
      const down = this.reach([from], false);
      return down.has(to) ? new Set([...this.reach([to], true)].filter((n) => down.has(n))) : undefined;
    };
    return both(a, b) ?? both(b, a) ?? new Set([a, b]);
  }

  /** Nodes in the order of the file that match all words: in name, operator, attributes, tensors, shapes, dtypes. */
  search(query: string): number[] {
    const words = query.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) return [];
    const found: number[] = [];
    const table = (rows: readonly string[], word: string) => rows.map((row) => row.toLowerCase().includes(word));
    const masks = words.map((word) => ({
      word, op: table(this.head.ops.map((o) => o.join(" ")), word), words: table(this.head.attributes, word),
      dtype: table(this.head.dtypes, word), shape: table(this.head.shapes, word.replace(/(\d)[x,*](?=\d)/g, "$1×")), tensor: table(this.head.tensors, word),
    }));
    for (let n = 0; n < this.nodes; n++) {
      const name = this.name(n).toLowerCase();
      const hit = masks.every((m) => {
        if (name.includes(m.word) || m.op[this.op[n]] || m.words[this.words[n]]) return true;
        const tensors = (list: Int32Array) =>
          list.some((t) => t >= 0 && (m.tensor[t] || m.dtype[this.dtype[t]] || m.shape[this.shape[t]]));
        return tensors(this.outputs(n)) || this.weights(n).some((t) => m.tensor[t] || m.shape[this.shape[t]]);
      });
      if (hit) found.push(n);
    }
    // operators and names that are the query itself come first
    const exact = (n: number) => Number(this.opName(n).toLowerCase() === query.trim().toLowerCase());
    return found.some(exact) ? [...found.filter(exact), ...found.filter((n) => !exact(n))] : found;
  }
}

interface Told { words: string; stride: string; cast: boolean }

/** The attribute that matters most, and the stride. */
function telling(attributes: string): Told {
  const [, name, value] = /(?:^| )(kernel_shape|perm|axis|axes|to|mode|group|equation|num_heads|alpha)=(\S+)/.exec(attributes) ?? [];
  const stride = /(?:^| )strides=\[([2-9])/.exec(attributes);
  const cast = name === "to";
  const words = cast ? value : name ? `${name.replace("kernel_shape", "kernel")} ${value.replace(/^\[(.*)\]$/, "$1")}` : "";
  return { words, cast, stride: stride ? `  /${stride[1]}` : "" };
}

const SHAPE_OPS = new Set(
  ("Shape Size Gather Unsqueeze Squeeze Concat Slice Cast Add Sub Mul Div Floor Ceil Min Max Range Reshape Mod " +
    "ConstantOfShape Equal Where Expand ReduceProd Split Not And Or Greater Less").split(" "),
);
const PASSING = new Set(["Identity", "Dropout"]);

/** Nodes that are noise: "identity" (they pass their input on) and "shape" (arithmetic on shapes alone). */
export function noise(data: Data, hide: readonly string[]): Uint8Array {
  const hidden = new Uint8Array(data.nodes);
  if (!hide.length) return hidden;
  const outputs = new Set(data.head.graphs.flatMap((g) => g.outputs));
  for (let n = 0; n < data.nodes; n++) {
    const op = data.opName(n);
    if (hide.includes("identity") && PASSING.has(op) && !data.outputs(n).some((t) => outputs.has(t))) hidden[n] = 1;
    if (!hide.includes("shape") || !SHAPE_OPS.has(op) || data.bodies.has(n)) continue;
    if (data.outputs(n).some((t) => outputs.has(t))) continue;
    const made = Array.from(data.inputs(n)).filter((t) => t >= 0 && data.kind[t] !== WEIGHT);
    const shapes = made.every((t) => data.producer[t] >= 0 && hidden[data.producer[t]] === 2);
    if (op === "Shape" || op === "Size" || (made.length && shapes)) hidden[n] = 2;
  }
  return hidden;
}
