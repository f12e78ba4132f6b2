// What is on the picture: nodes, collapsed modules, graph inputs and outputs, opened bodies; and where they are.
import { Data, noise, WEIGHT } from "./data";
import { HEAD, type LevelInput, type LevelOutput, PAD } from "./layout";

export const NODE = 0;
export const GROUP = 1;
export const INPUT = 2;
export const OUTPUT = 3;

export interface Level {
  input: LevelInput;
  inside: [number, number[]][]; // item of this level -> levels drawn inside it
}

export interface Choice {
  collapsed: ReadonlySet<string>; // "graph:scope"
  opened: ReadonlySet<number>; // nodes whose bodies are shown
  hide: readonly string[];
  wrap?: boolean; // in columns, where it is tall
}

/** Where items were, by their keys: hint and column. */
export type Places = Map<string, [number, number]>;


interface Part {
  first: number; // its items are first .. first + n
  tensors: number[]; // tensor of the model for each tensor of the level
  graph: number;
}

/** Items and levels (inner ones first) for a choice; the worker places them. */
export class Scene {
  kind: number[] = [];
  ref: number[] = [];
  level: number[] = [];
  members = new Map<number, number[]>(); // nodes of a collapsed module
  scopeKey = new Map<number, string>();
  itemOf: Int32Array;
  levels: Level[] = [];
  parts: Part[] = [];
  w!: Float32Array;
  h!: Float32Array;
  x!: Float32Array; // centre
  y!: Float32Array; // top
  column!: Int32Array;
  private hint!: Float32Array;
  width = 0;
  height = 0;
  pieces!: Float32Array;
  pieceTensor!: Int32Array;
  pieceItem!: Int32Array; // the item that a piece leads into, or -1
  pieceChange?: Uint8Array; // in a diff: 1 added, 2 removed
  crossings = 0;
  placed?: { out: LevelOutput[]; sizes: { w: Float32Array; h: Float32Array }[] };
  private parents: Int32Array;

  constructor(readonly data: Data, readonly choice: Choice, earlier?: Places) {
    this.itemOf = new Int32Array(data.nodes).fill(-1);
    this.parents = Int32Array.from(data.head.scopes, ([parent]) => parent);
    const hidden = noise(data, choice.hide);
    const byGraph: number[][] = data.head.graphs.map(() => []);
    for (let n = 0; n < data.nodes; n++) byGraph[data.home[n]].push(n);
    const order = this.opened(byGraph);
    for (const graph of order.reverse()) this.build(graph.graph, byGraph[graph.graph], hidden, earlier, graph.inside);
  }

  /** Graphs to draw, each before those inside it. */
  private opened(byGraph: number[][]) {
    const list: { graph: number; inside: [number, number[]][]; places: number[] }[] = [{ graph: 0, inside: [], places: [] }];
    for (let i = 0; i < list.length && list.length < 400; i++)
      for (const n of byGraph[list[i].graph]) {
        if (!this.choice.opened.has(n) || this.collapsedAt(list[i].graph, this.data.scope[n])) continue;
        const places = (this.data.bodies.get(n) ?? []).map((graph) => list.push({ graph, inside: [], places: [] }) - 1);
        if (places.length) list[i].inside.push([n, places]);
      }
    for (const row of list) for (const [, places] of row.inside) places.forEach((p, i) => (places[i] = list.length - 1 - p));
    return list;
  }

  private build(
    graph: number, nodes: number[], hidden: Uint8Array, earlier: Places | undefined,
    inside: [number, number[]][],
  ) {
    const { data } = this;
    const first = this.kind.length;
    const groups = new Map<string, number>();
    const add = (kind: number, ref: number) => {
      this.kind.push(kind);
      this.ref.push(ref);
      this.level.push(this.levels.length);
      return this.kind.length - 1;
    };
    const producer = new Map<number, number>();
    const row = data.head.graphs[graph];
    for (const t of row.inputs) producer.set(t, add(INPUT, t));
    for (const n of nodes) {
      if (hidden[n]) continue;
      const key = this.collapsedAt(graph, data.scope[n]);
      if (!key) {
        this.itemOf[n] = add(NODE, n);
        continue;
      }
      let item = groups.get(key);
      if (item === undefined) {
        groups.set(key, (item = add(GROUP, Number(key.slice(key.indexOf(":") + 1)))));
        this.members.set(item, []);
        this.scopeKey.set(item, key);
      }
      this.itemOf[n] = item;
      this.members.get(item)!.push(n);
    }
    for (const n of nodes) if (!hidden[n]) for (const t of data.outputs(n)) if (t >= 0) producer.set(t, this.itemOf[n]);
    // a hidden node that passes its input on: its output comes from where its input does
    for (const n of nodes) {
      const [from, to] = [data.inputs(n)[0], data.outputs(n)[0]];
      if (hidden[n] === 1 && from >= 0 && producer.has(from)) producer.set(to, producer.get(from)!);
    }
    const readers = new Map<number, number[]>();
    const read = (t: number, item: number) => {
      const from = producer.get(t);
      if (from === undefined || from === item || data.kind[t] === WEIGHT) return;
      const list = readers.get(t);
      if (!list) readers.set(t, [item]);
      else if (list[list.length - 1] !== item) list.push(item);
    };
    for (const n of nodes) {
      if (hidden[n]) continue;
      for (const t of data.inputs(n)) if (t >= 0) read(t, this.itemOf[n]);
      for (const t of data.captures.get(n) ?? []) read(t, this.itemOf[n]);
    }
    for (const t of row.outputs) read(t, add(OUTPUT, t));
    const src: number[] = [];
    const start = [0];
    const dst: number[] = [];
    const tensors = [...readers.keys()];
    for (const t of tensors) {
      src.push(producer.get(t)! - first);
      for (const item of readers.get(t)!) dst.push(item - first);
      start.push(dst.length);
    }
    const n = this.kind.length - first;
    const w = new Float32Array(n);
    const h = new Float32Array(n);
    for (let i = 0; i < n; i++) [w[i], h[i]] = this.size(first + i);
    let hint: Float32Array | undefined;
    const columns = graph === 0 && this.choice.wrap ? new Float32Array(n).fill(NaN) : undefined;
    const scope = Int32Array.from({ length: n }, (_, i) => this.scopeOf(first + i));
    if (earlier?.size) {
      hint = new Float32Array(n);
      for (let i = 0; i < n; i++) {
        const was = earlier.get(this.keyOf(first + i));
        hint[i] = was ? was[0] : NaN;
        if (columns && was) columns[i] = was[1];
      }
    }
    this.levels.push({
      input: { n, w, h, src: Int32Array.from(src), start: Int32Array.from(start), dst: Int32Array.from(dst), hint, columns, ...(columns && { scope, parents: this.parents }) },
      inside: inside.map(([node, places]) => [this.itemOf[node] - first, places]),
    });
    this.parts.push({ first, tensors, graph });
  }

  /** The module that an item is in. */
  scopeOf(item: number): number {
    const ref = this.ref[item];
    return this.kind[item] === NODE ? this.data.scope[ref] : this.kind[item] === GROUP ? this.data.head.scopes[ref][0] : 0;
  }

  /** The outermost collapsed module that a scope is in. */
  private collapsedAt(graph: number, scope: number): string {
    if (!this.choice.collapsed.size) return "";
    let key = "";
    for (let s = scope; s > 0; s = this.data.head.scopes[s][0])
      if (this.choice.collapsed.has(`${graph}:${s}`)) key = `${graph}:${s}`;
    return key;
  }

  private size(item: number): [number, number] {
    const ref = this.ref[item];
    if (this.kind[item] === NODE) {
      const op = this.data.opName(ref).length;
      const detail = this.detail(item);
      const wide = Math.max(7.6 * op + 26, 6.1 * Math.max(Math.min(this.data.tail(ref).length, 24), detail.length) + 20);
      return [Math.max(84, Math.min(186, wide)), detail ? 56 : 42];
    }
    if (this.kind[item] === GROUP)
      return [Math.max(130, Math.min(240, 7.6 * this.data.head.scopes[ref][1].length + 40)), 52];
    return [Math.max(64, Math.min(200, 6.8 * this.data.tensor(ref).length + 28)), 28];
  }

  /** Third line of a node: its largest weight, or the attributes that matter most. */
  detail(item: number): string {
    const { data } = this;
    if (this.kind[item] !== NODE) return "";
    const n = this.ref[item];
    let text = "";
    for (const t of data.weights(n)) {
      const shape = data.shapeOf(t);
      if (shape.includes("×") && shape.length > text.length) text = shape;
    }
    const words = data.attributes(n);
    const found = /(?:^| )(kernel_shape|perm|axis|axes|to|mode|group|equation|num_heads|alpha)=(\S+)/.exec(words);
    const stride = /(?:^| )strides=\[([2-9])/.exec(words);
    if (text) return stride ? `${text}  /${stride[1]}` : text;
    if (!found) return "";
    if (found[1] === "to") return `to ${data.dtypeOf(data.outputs(n)[0]) || found[2]}`;
    return `${found[1].replace("kernel_shape", "kernel")} ${found[2].replace(/^\[(.*)\]$/, "$1")}${stride ? `  /${stride[1]}` : ""}`;
  }

  keyOf(item: number): string {
    const ref = this.ref[item];
    if (this.kind[item] === NODE) return `n${this.data.name(ref)}`;
    if (this.kind[item] === GROUP) return `g${this.scopeKey.get(item)}`;
    return `${this.kind[item]}${this.data.tensor(ref)}`;
  }

  nodesOf(item: number): number[] {
    return this.kind[item] === NODE ? [this.ref[item]] : this.kind[item] === GROUP ? this.members.get(item)! : [];
  }

  /** Takes what the worker placed. */
  finish(placed: LevelOutput[], sizes: { w: Float32Array; h: Float32Array }[]) {
    this.placed = { out: placed, sizes };
    const n = this.kind.length;
    this.w = new Float32Array(n);
    this.h = new Float32Array(n);
    this.x = new Float32Array(n);
    this.y = new Float32Array(n);
    this.column = new Int32Array(n);
    this.hint = new Float32Array(n);
    const count = placed.reduce((sum, p) => sum + p.pieceEnd.length, 0);
    this.pieces = new Float32Array(4 * count);
    this.pieceTensor = new Int32Array(count);
    this.pieceItem = new Int32Array(count).fill(-1);
    const at: [number, number][] = placed.map(() => [0, 0]);
    const top = placed.length - 1;
    let p = 0;
    for (let l = top; l >= 0; l--) {
      const [{ first, tensors }, out, [dx, dy]] = [this.parts[l], placed[l], at[l]];
      const dst = this.levels[l].input.dst;
      for (let i = 0; i < out.x.length; i++) {
        this.x[first + i] = out.x[i] + dx;
        this.y[first + i] = out.y[i] + dy;
      }
      this.column.set(out.column, first);
      this.hint.set(out.hint, first);
      this.w.set(sizes[l].w, first);
      this.h.set(sizes[l].h, first);
      for (let t = 0; t < tensors.length; t++)
        for (let k = out.pieceStart[t]; k < out.pieceStart[t + 1]; k++, p++) {
          this.pieceTensor[p] = tensors[t];
          if (out.pieceEnd[k] >= 0) this.pieceItem[p] = first + dst[out.pieceEnd[k]];
          for (let c = 0; c < 4; c++) this.pieces[4 * p + c] = out.pieces[4 * k + c] + (c & 1 ? dy : dx);
        }
      for (const [item, places] of this.levels[l].inside) {
        let x = this.x[first + item] - sizes[l].w[item] / 2 + PAD;
        for (const place of places) {
          at[place] = [x, this.y[first + item] + HEAD + 16];
          x += placed[place].width + PAD;
        }
      }
      this.crossings += out.crossings;
    }
    this.width = placed[top].width;
    this.height = placed[top].height;
    if (this.data.change) this.changes(this.data.change);
  }

  /** Which pieces belong to edges that were added or removed; a lane, when all its edges were. */
  private changes(change: Uint8Array) {
    const { data } = this;
    const edges = new Map<string, number>(); // "tensor item", and "tensor" for its lane
    const note = (key: string, status: number) =>
      edges.set(key, edges.has(key) && edges.get(key) !== status ? 0 : status);
    for (let n = 0; n < data.nodes; n++)
      for (let i = data.inStart[n]; i < data.inStart[n + 1]; i++) {
        note(`${data.ins[i]} ${this.itemOf[n]}`, change[i]);
        note(String(data.ins[i]), change[i]);
      }
    this.pieceChange = new Uint8Array(this.pieceTensor.length);
    for (let p = 0; p < this.pieceTensor.length; p++)
      this.pieceChange[p] = edges.get(this.pieceItem[p] < 0 ? String(this.pieceTensor[p]) : `${this.pieceTensor[p]} ${this.pieceItem[p]}`) ?? 0;
  }

  /** The same boxes and edges as in another scene. */
  alike(other: Scene): boolean {
    const same = (a?: ArrayLike<number>, b?: ArrayLike<number>) => {
      if (a?.length !== b?.length) return false;
      for (let i = 0; i < (a?.length ?? 0); i++) if (a![i] !== b![i]) return false;
      return true;
    };
    return this.choice.wrap === other.choice.wrap && this.levels.length === other.levels.length && this.levels.every(({ input, inside }, l) => {
      const was = other.levels[l];
      return !inside.length && !was.inside.length && input.n === was.input.n && (["w", "h", "src", "start", "dst", "scope"] as const).every((key) => same(input[key], was.input[key]));
    });
  }

  where(): Places {
    const map: Places = new Map();
    for (let i = 0; i < this.kind.length; i++) map.set(this.keyOf(i), [this.hint[i], this.column[i]]);
    return map;
  }
}
