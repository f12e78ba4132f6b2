// What the view needs from where it lives: a kernel (widget) or nothing (a saved page).

export interface OverlayHeader {
  title: string;
  unit: string;
  scale: "linear" | "log" | "category";
  note: string;
  categories?: [name: string, color: string, mark: string][]; // numbers are places in it
  texts?: Record<number, string>; // more on some nodes
}

export interface State {
  overlay: string; // "op", "dtype", "bytes", "macs" or "values"
  values?: { header: OverlayHeader; numbers: Float64Array };
  hide: string[];
  selection: string[];
  height?: string;
}

export interface Host {
  page: boolean;
  load(): Promise<ArrayBuffer>;
  state(): State;
  /** Tells the other side; absent values stay. */
  set(change: Partial<Pick<State, "overlay" | "hide" | "selection">>): void;
  onChange(what: "data" | "state", act: () => void): void;
  /** Asks the kernel; rejects with what went wrong. Absent where there is no kernel. */
  call?(method: string, params: object, signal?: AbortSignal): Promise<{ result: unknown; buffers: ArrayBuffer[] }>;
}

export type Json = Record<string, unknown>;
