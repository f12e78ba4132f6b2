// What is on the picture: nodes, collapsed modules, graph inputs and outputs, opened bodies; and where they are.
import { Data, noise, WEIGHT } from "./data";
import { HEAD, type LevelInput, PAD } from "./layout";
import type { Placed } from "./place";

export const NODE = 0;
export const GROUP = 1;
export const INPUT = 2;
export const OUTPUT = 3;

const LARGE = 2000; // items

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

/** What was shown before, and of each node its number then (-1: it is new); absent: the same. */
export interface Earlier { scene: Scene; nodes?: Int32Array }

interface Part {
  first: number; // its items are first .. first + n
  tensors: number[]; // tensor of the model for each tensor of the level
  graph: number;
}

/** Items and levels (inner ones first) for a choice; `place` says where they are. */
export class Scene {
  kind: number[] = [];
  ref: number[] = [];
  level: number[] = [];
  members = new Map<number, number[]>(); // nodes of a collapsed module
  scopeKey = new Map<number, string>();
  itemOf: Int32Array;
  was: number[] = []; // of each item the one that it was before; empty for a first scene
  private others = new Map<string, number>(); // modules, inputs and outputs
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
  shown = 0; // nodes that are items
  crossings = 0;
  placed?: Placed;
  private parents: Int32Array;
  // room to work in, per tensor
  private maker: Int32Array;
  private last: Int32Array;
  private at: Int32Array;

  constructor(readonly data: Data, readonly choice: Choice, earlier?: Earlier) {
    this.itemOf = new Int32Array(data.nodes).fill(-1);
    this.parents = Int32Array.from(data.head.scopes, ([parent]) => parent);
    [this.maker, this.last, this.at] = [0, 1, 2].map(() => new Int32Array(data.head.tensors.length));
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
    graph: number, nodes: number[], hidden: Uint8Array, earlier: Earlier | undefined,
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
    const maker = this.maker; // the item that each tensor comes from, in this graph
    maker.fill(-1);
    const row = data.head.graphs[graph];
    for (const t of row.inputs) maker[t] = add(INPUT, t);
    for (let i = 0; i < nodes.length; i++) {
      const n = nodes[i];
      if (hidden[n]) continue;
      const key = this.collapsedAt(graph, data.scope[n]);
      if (!key) {
        this.itemOf[n] = add(NODE, n);
        this.shown++;
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
    const { ins, inStart, outs, outStart } = data;
    for (let i = 0; i < nodes.length; i++) {
      const n = nodes[i];
      if (!hidden[n]) for (let k = outStart[n]; k < outStart[n + 1]; k++) if (outs[k] >= 0) maker[outs[k]] = this.itemOf[n];
    }
    // a hidden node that passes its input on: its output comes from where its input does
    for (const n of this.choice.hide.length ? nodes : []) {
      const [from, to] = [data.inputs(n)[0], data.outputs(n)[0]];
      if (hidden[n] === 1 && from >= 0 && maker[from] >= 0) maker[to] = maker[from];
    }
    // what reads which tensor, in the order of the file
    const tensors: number[] = [];
    const size: number[] = [];
    const reads: number[] = []; // place in tensors and item, by turns
    const last = this.last.fill(-1); // item that read a tensor last
    const at = this.at;
    const read = (t: number, item: number) => {
      if (t < 0 || maker[t] < 0 || maker[t] === item || data.kind[t] === WEIGHT || last[t] === item) return;
      if (last[t] < 0) {
        at[t] = tensors.push(t) - 1;
        size.push(0);
      }
      last[t] = item;
      size[at[t]]++;
      reads.push(at[t], item);
    };
    for (let i = 0; i < nodes.length; i++) {
      const n = nodes[i];
      if (hidden[n]) continue;
      for (let k = inStart[n]; k < inStart[n + 1]; k++) read(ins[k], this.itemOf[n]);
      if (data.captures.size) for (const t of data.captures.get(n) ?? []) read(t, this.itemOf[n]);
    }
    for (const t of row.outputs) read(t, add(OUTPUT, t));
    const src = Int32Array.from(tensors, (t) => maker[t] - first);
    const start = new Int32Array(tensors.length + 1);
    for (let i = 0; i < tensors.length; i++) start[i + 1] = start[i] + size[i];
    const dst = new Int32Array(reads.length / 2);
    const next = start.slice();
    for (let k = 0; k < reads.length; k += 2) dst[next[reads[k]]++] = reads[k + 1] - first;
    const n = this.kind.length - first;
    const w = new Float32Array(n);
    const h = new Float32Array(n);
    for (let i = 0; i < n; i++) {
      const detail = this.detail(first + i);
      w[i] = this.wide(first + i, detail);
      h[i] = this.high(first + i, detail);
    }
    const columns = this.choice.wrap ? new Float32Array(n).fill(NaN) : undefined;
    const scope = Int32Array.from({ length: n }, (_, i) => this.scopeOf(first + i));
    let hint: Float32Array | undefined;
    let crossings: number | undefined;
    if (earlier) {
      const at = earlier.scene.parts.findIndex((part) => part.graph === graph);
      // a large graph of which little has changed: its order need not become better than it was
      if (at >= 0 && n > LARGE && Math.abs(earlier.scene.levels[at].input.n - n) < n / 100) crossings = earlier.scene.placed!.out[at].crossings;
      hint = new Float32Array(n).fill(NaN);
      for (let i = 0; i < n; i++) {
        const was = this.was[first + i] = this.before(first + i, earlier);
        if (was < 0) continue;
        hint[i] = earlier.scene.hint[was];
        if (columns) columns[i] = earlier.scene.column[was];
      }
    }
    this.levels.push({
      input: { n, w, h, src, start, dst, hint, crossings, columns, ...(columns && { scope, parents: this.parents }) },
      inside: inside.map(([node, places]) => [this.itemOf[node] - first, places]),
    });
    for (let i = first; i < this.kind.length; i++) if (this.kind[i] !== NODE) this.others.set(this.key(i), i);
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

  private wide(item: number, detail: string): number {
    const ref = this.ref[item];
    if (this.kind[item] === NODE) {
      const words = Math.max(6.1 * Math.min(this.data.tail(ref).length, 24), 6.7 * detail.length);
      return Math.max(84, Math.min(186, Math.max(7.6 * this.data.opName(ref).length + 26, words + 20)));
    }
    if (this.kind[item] === GROUP) return Math.max(130, Math.min(240, 7.6 * this.data.head.scopes[ref][1].length + 40));
    return Math.max(64, Math.min(200, 6.8 * this.data.tensor(ref).length + 28));
  }

  private high(item: number, detail: string): number {
    return this.kind[item] === NODE ? (detail ? 56 : 42) : this.kind[item] === GROUP ? 52 : 28;
  }

  /** Third line of a node: its largest weight, or the attributes that matter most. */
  detail(item: number): string {
    return this.kind[item] === NODE ? this.data.detail(this.ref[item]) : "";
  }

  /** The item that was it earlier, or -1. */
  private before(item: number, { scene, nodes }: Earlier): number {
    const ref = this.ref[item];
    if (this.kind[item] !== NODE) return scene.others.get(this.key(item)) ?? -1;
    const was = scene.itemOf[nodes ? nodes[ref] : ref] ?? -1;
    return was >= 0 && scene.kind[was] === NODE ? was : -1;
  }

  /** Of a module, an input or an output. */
  private key(item: number): string {
    return this.scopeKey.get(item) ?? `${this.kind[item]} ${this.data.tensor(this.ref[item])}`;
  }

  nodesOf(item: number): number[] {
    return this.kind[item] === NODE ? [this.ref[item]] : this.kind[item] === GROUP ? this.members.get(item)! : [];
  }

  /** Whether the drawing goes on in further columns. */
  get wrapped(): boolean {
    return this.column.some((c) => c > 0);
  }

  /** Where reading starts: the first input of the graph, else what is at the top. */
  beginning(): [x: number, y: number] {
    let least = this.parts[this.parts.length - 1].first;
    if (this.kind[least] !== INPUT) for (let i = least; i < this.kind.length; i++) if (this.y[i] < this.y[least]) least = i;
    return [this.x[least] ?? this.width / 2, this.y[least] ?? 0];
  }

  /** Takes where everything is. */
  finish(given: Placed) {
    this.placed = given;
    const { out: placed, sizes } = given;
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
}
