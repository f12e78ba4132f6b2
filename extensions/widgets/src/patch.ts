// Columns after an edit, from those before and the patch that workbench/view/patch.py made.
import type { Column, Unpacked } from "./data";

type Splice = [start: number, removed: number, rows: unknown[]];
const MOVES: Record<string, string> = { "node.in": "tensors", "node.out": "tensors", "tensor.producer": "nodes" };
const TABLES = ["ops", "attributes", "shapes", "dtypes", "scopes", "made"];

export type Move = (row: number) => number;

const move = ([start, removed, rows]: Splice): Move => (row) =>
  row < start ? row : row >= start + removed ? row + rows.length - removed
    : removed === rows.length ? row : -1; // as many as before: the same ones, with other names

/** The new columns; where each node that was there is now, -1 when it is gone. */
export function patched(old: Unpacked, change: Unpacked): { now: Unpacked; moved: Move } {
  const { lists, spliced, gone, ...rest } = change.header as {
    lists: Record<string, unknown>; spliced: Record<string, [number, number]>; gone: string[];
  };
  const header: Record<string, unknown> = { ...old.header, rough: undefined, ...rest };
  const splice = (name: string) => (lists[name] as Splice | undefined) ?? [0, 0, []];
  for (const name of TABLES)
    if (lists[name]) header[name] = [...((old.header[name] as unknown[]) ?? []), ...(lists[name] as unknown[])];
  for (const name of ["nodes", "tensors"]) {
    const [start, removed, rows] = splice(name);
    const was = old.header[name] as string[];
    if (removed || rows.length) header[name] = was.slice(0, start).concat(rows as string[], was.slice(start + removed));
  }
  const columns: Record<string, Column> = {};
  for (const name of new Set([...Object.keys(old.columns), ...Object.keys(spliced)])) {
    if (gone.includes(name)) continue;
    const [start, removed] = spliced[name] ?? [0, 0];
    const values = change.columns[name] ?? [];
    const was = old.columns[name] ?? new (change.columns[name].constructor as Int32ArrayConstructor)(name.endsWith(".start") ? 1 : 0);
    columns[name] = name.endsWith(".start") ? offsets(was, start, removed, values) : joined(was, start, removed, values);
    if (MOVES[name] && !name.endsWith(".start")) renumber(columns[name], splice(MOVES[name]), start, values.length);
  }
  return { now: { header, columns }, moved: move(splice("nodes")) };
}

function joined(was: Column, start: number, removed: number, values: ArrayLike<number>): Column {
  const made = new (was.constructor as Int32ArrayConstructor)(was.length - removed + values.length) as Column;
  made.set(was.subarray(0, start));
  made.set(values, start);
  made.set(was.subarray(start + removed), start + values.length);
  return made;
}

/** Numbers outside of what was put in, moved as their list is. */
function renumber(column: Column, [from, removed, rows]: Splice, start: number, fresh: number) {
  const by = rows.length - removed;
  if (!by && !removed) return;
  for (let i = 0; i < column.length; i++) {
    if (i >= start && i < start + fresh) continue;
    if (column[i] >= from + removed) column[i] += by;
    else if (column[i] >= from) column[i] = -2;
  }
}

/** Offsets, by their lengths. */
function offsets(was: Column, start: number, removed: number, values: ArrayLike<number>): Int32Array {
  const made = new Int32Array(was.length - removed + values.length);
  for (let i = 0; i + 1 < made.length; i++) {
    const before = i < start ? i : i - values.length + removed;
    made[i + 1] = made[i] + (i >= start && i < start + values.length ? values[i - start] : was[before + 1] - was[before]);
  }
  return made;
}
