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
  readonly page: boolean;
  readonly editable: boolean;
  load(): Promise<ArrayBuffer>;
  /** Everything again, as it is now. */
  again?(): Promise<ArrayBuffer>;
  state(): State;
  /** Tells the other side; absent values stay. */
  set(change: Partial<Pick<State, "overlay" | "hide" | "selection">>): void;
  onChange(what: "data" | "state", act: () => void): void;
  onPatch?(act: (from: number, to: number, buffer: ArrayBuffer) => void): void;
  /** Tells how the kernel is: "" when all is well. */
  onTrouble?(act: (text: string, gone: boolean) => void): void;
  /** Tells the kernel what is in view, as SVG. */
  see?(svg: string): void;
  /** Asks the kernel; rejects with what went wrong. Absent where there is no kernel. */
  call?<T>(method: string, params: object, signal?: AbortSignal, buffers?: ArrayBuffer[]): Promise<{ result: T; buffers: ArrayBuffer[] }>;
}
