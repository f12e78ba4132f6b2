// What the layout works on: the items and tensors that it is given, then the layered graph made of them.

export type Ints = StaticArray<i32>;
export type Floats = StaticArray<f32>;
export type Doubles = StaticArray<f64>;

export const GAP: f64 = 22; // between nodes
export const LANE: f64 = 12; // between lanes
export const NONE: i32 = -1;

/** A graph whose edges are tensors: one producer, many consumers. */
export class Input {
  n: i32 = 0;
  w: Floats = new StaticArray(0);
  h: Floats = new StaticArray(0);
  src: Ints = new StaticArray(0); // per tensor: producing item
  start: Ints = new StaticArray(0); // per tensor: where its consumers start in dst
  dst: Ints = new StaticArray(0);
  hint: Floats | null = null; // earlier hint of each item (NaN: new), so that what did not change keeps its order
  columns: Floats | null = null; // earlier column of each item (NaN: new): given, a tall drawing goes on in further columns
  scope: Ints | null = null; // with columns, per item: its module, for breaks between modules
  parents: Ints | null = null; // of each module the one around it, which has a lower number
}

/** Items and dummies in layers, with segments between neighbouring layers. */
export class Work {
  n: i32 = 0; // items
  v: i32 = 0; // items and dummies
  layers: i32 = 0;
  layer: Ints = new StaticArray(0);
  w: Floats = new StaticArray(0);
  first: Ints = new StaticArray(0); // per tensor: first dummy, -1 none
  last: Ints = new StaticArray(0); // per tensor: layer of the last dummy
  upStart: Ints = new StaticArray(0);
  up: Ints = new StaticArray(0);
  downStart: Ints = new StaticArray(0);
  down: Ints = new StaticArray(0);
  rank: Ints = new StaticArray(0); // length of the longest path through an item (dummies: of their tensor)
  order: Ints = new StaticArray(0); // vertices, layer by layer
  layerStart: Ints = new StaticArray(0);
  pos: Ints = new StaticArray(0);
}

export function filled<T>(length: i32, value: T): StaticArray<T> {
  return new StaticArray<T>(length).fill(value);
}

export function copied<T>(list: StaticArray<T>, length: i32 = list.length): StaticArray<T> {
  const out = new StaticArray<T>(length);
  memory.copy(changetype<usize>(out), changetype<usize>(list), <usize>min(length, list.length) * sizeof<T>());
  return out;
}

export function overwrite<T>(to: StaticArray<T>, from: StaticArray<T>): void {
  memory.copy(changetype<usize>(to), changetype<usize>(from), <usize>from.length * sizeof<T>());
}

/** Start offsets of `count` rows from the row of each entry. */
export function offsets(rows: Ints, count: i32, length: i32 = rows.length): Ints {
  const start = new StaticArray<i32>(count + 1);
  for (let i = 0; i < length; i++) start[rows[i] + 1]++;
  for (let i = 0; i < count; i++) start[i + 1] += start[i];
  return start;
}

/** Values by their rows, which start at `start` (offsets). */
export function group(rows: Ints, values: Ints, start: Ints, length: i32 = rows.length): Ints {
  const at = copied(start);
  const out = new StaticArray<i32>(length);
  for (let i = 0; i < length; i++) out[at[rows[i]]++] = values[i];
  return out;
}

let scratch: Ints = new StaticArray(0);

/** Sorts the first `count` ids by keys[id]; stable. */
export function sort(ids: Ints, count: i32, keys: Doubles): void {
  const FEW = 12;
  for (let s = 0; s < count; s += FEW)
    for (let i = s + 1, e = min(s + FEW, count); i < e; i++) {
      const u = ids[i];
      const key = keys[u];
      let j = i - 1;
      for (; j >= s && keys[ids[j]] > key; j--) ids[j + 1] = ids[j];
      ids[j + 1] = u;
    }
  if (count <= FEW) return;
  if (scratch.length < count) scratch = new StaticArray(2 * count);
  for (let run = FEW; run < count; run *= 2) {
    for (let s = 0; s < count; s += 2 * run) {
      const middle = min(s + run, count);
      const end = min(s + 2 * run, count);
      for (let a = s, b = middle, k = s; k < end; k++)
        scratch[k] = a < middle && (b === end || keys[ids[a]] <= keys[ids[b]]) ? ids[a++] : ids[b++];
    }
    for (let k = 0; k < count; k++) ids[k] = scratch[k];
  }
}

/** Of the first `count` values (not none), whose places `ids` then has in order. */
export function median(values: Doubles, ids: Ints, count: i32): f64 {
  if (count < 3) return count === 1 ? values[0] : (values[0] + values[1]) / 2;
  for (let i = 0; i < count; i++) ids[i] = i;
  sort(ids, count, values);
  const k = count >> 1;
  return count & 1 ? values[ids[k]] : (values[ids[k - 1]] + values[ids[k]]) / 2;
}
