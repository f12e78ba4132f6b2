// Layered layout (after Sugiyama) of a graph whose edges are tensors: one producer, many consumers. AssemblyScript, which
// WebAssembly is made of: unlike JavaScript it is quick when it runs for the first time, as the layout of a page does.
//
// 1. edges that close a circle are set aside; 2. longest-path layers, then nodes are pulled towards their consumers;
// 3. a tensor that spans layers gets ONE lane (a chain of dummies) that all its consumers share, so that a mask read
// by every layer costs one dummy per layer; 4. barycentre sweeps reduce crossings; 5. segments are aligned into
// straight blocks, the longest path of the graph (the trunk) first, and blocks are moved towards their neighbours
// until they rest; 6. route.ts gives heights, columns and the pieces of the edges. Iterative throughout, no randomness.
//
// One instance does one layout: `room`, the arrays filled in, `layout`, the arrays read. Memory is never given back, it
// goes with the instance.
import { narrowest } from "./align";
import { columnsOf } from "./columns";
import { Floats, Input, Ints } from "./graph";
import { Acyclic, cuts, expand, lasts, Layering, needs } from "./layers";
import { initial, Sweeps } from "./order";
import { Route, talls } from "./route";

const input = new Input();

// what is given
export let w: Floats = input.w;
export let h: Floats = input.h;
export let src: Ints = input.src;
export let start: Ints = input.start;
export let dst: Ints = input.dst;
export let hint: Floats = input.w; // with earlier: what comes out is here too
export let columns: Floats = input.w; // with wrap
export let scope: Ints = input.src; // with modules > 0
export let parents: Ints = input.src;
// what comes out, beside hint
export let x: Floats = input.w; // centre
export let y: Floats = input.w; // top
export let column: Ints = input.src;
export let pieceStart: Ints = input.src;
export let pieces: Floats = input.w;
export let pieceEnd: Ints = input.src;
export let pieceCount: i32 = 0;
export let width: f64 = 0;
export let height: f64 = 0;
export let layers: i32 = 0;
export let dummies: i32 = 0;
export let crossings: i32 = 0;

/** Makes the arrays for n items, m tensors with so many consumers, and modules. */
export function room(n: i32, m: i32, consumers: i32, modules: i32, earlier: bool, wrap: bool): void {
  input.n = n;
  input.w = w = new StaticArray(n);
  input.h = h = new StaticArray(n);
  input.src = src = new StaticArray(m);
  input.start = start = new StaticArray(m + 1);
  input.dst = dst = new StaticArray(consumers);
  if (earlier) input.hint = hint = new StaticArray(n);
  if (wrap) input.columns = columns = new StaticArray(n);
  if (!modules) return;
  input.scope = scope = new StaticArray(n);
  input.parents = parents = new StaticArray(modules);
}

/** Lays out; `enough` crossings are as few as there need be. */
export function layout(enough: i32): void {
  const free = new Acyclic(input);
  const back = free.back;
  const layered = new Layering(input, back, free.topo);
  const last = lasts(input, back, layered.layer);
  const cut = cuts(input, layered.layer, last);
  const g = expand(input, back, layered.layer, layered.rank, last, cut);
  initial(g, input.hint);
  crossings = new Sweeps(g).reduce(g.v < 6000 ? 32 : g.v < 60000 ? 8 : 4, enough);
  const need = needs(g);
  const tall = talls(g, input.h);
  const at = input.columns !== null && g.n ? columnsOf(input, g, need, tall) : new StaticArray<i32>(g.layers);
  x = g.n ? narrowest(g, at, need) : new StaticArray<f32>(0);
  const route = new Route(input, g, back, cut, x, at, tall);
  hint = route.hint;
  y = route.y;
  column = route.column;
  pieceStart = route.pieceStart;
  pieces = route.pieces;
  pieceEnd = route.leads;
  pieceCount = route.count;
  width = route.width;
  height = route.height;
  layers = g.layers;
  dummies = g.v - g.n;
}
