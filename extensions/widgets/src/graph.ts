// Entry of the bundle: an anywidget (default export), and `open` for a page without a kernel.
import type { Host, State } from "./host";
import { View } from "./view";

interface Model {
  get(name: string): unknown;
  set(name: string, value: unknown): void;
  save_changes(): void;
  send(content: unknown): void;
  on(event: string, act: (...args: never[]) => void): void;
  off(event: string, act: (...args: never[]) => void): void;
}

const TIMEOUT = 120_000;

const bufferOf = (view: DataView | ArrayBuffer): ArrayBuffer =>
  view instanceof ArrayBuffer ? view : (view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength) as ArrayBuffer);

/** The kernel's side of the view, through the widget's model. */
class Kernel implements Host {
  readonly page = false;
  private calls = new Map<string, { done: (v: { result: unknown; buffers: ArrayBuffer[] }) => void; failed: (e: Error) => void; timer: number }>();
  private next = 0;
  private own = Math.random().toString(36).slice(2, 10);
  private setting = false;
  private ends: (() => void)[] = [];

  constructor(private model: Model) {
    this.on("msg:custom", ((message: { rpc?: string; result?: unknown; error?: string }, buffers: DataView[]) => {
      const call = message.rpc ? this.calls.get(message.rpc) : undefined;
      if (!call) return;
      this.calls.delete(message.rpc!);
      clearTimeout(call.timer);
      if (message.error !== undefined) call.failed(new Error(message.error));
      else call.done({ result: message.result, buffers: (buffers ?? []).map(bufferOf) });
    }) as never);
  }

  private on(event: string, act: (...args: never[]) => void) {
    this.model.on(event, act);
    this.ends.push(() => this.model.off(event, act));
  }

  async load() {
    const parts = [bufferOf(this.model.get("_data") as DataView)];
    const all = this.model.get("_parts") as number;
    for (let part = 1; part < all; part++) parts.push((await this.call("part", { part })).buffers[0]);
    return parts.length === 1 ? parts[0] : new Blob(parts).arrayBuffer();
  }

  state(): State {
    const header = this.model.get("_overlay") as State["values"] extends infer T ? T : never;
    const raw = this.model.get("_values") as DataView;
    const values = raw?.byteLength ? { header: header as never, numbers: new Float64Array(bufferOf(raw)) } : undefined;
    return {
      overlay: this.model.get("_color") as string, values, hide: [...(this.model.get("_hide") as string[])],
      selection: [...(this.model.get("selection") as string[])], height: this.model.get("height") as string,
    };
  }

  set(change: Partial<State>) {
    this.setting = true;
    if (change.overlay !== undefined) this.model.set("_color", change.overlay);
    if (change.hide !== undefined) this.model.set("_hide", [...change.hide]);
    if (change.selection !== undefined) this.model.set("selection", change.selection);
    this.model.save_changes();
    this.setting = false;
  }

  onChange(what: "data" | "state", act: () => void) {
    let due = false;
    const later = () => {
      if (this.setting || due) return;
      due = true; // several values of one update are taken together
      queueMicrotask(() => {
        due = false;
        act();
      });
    };
    for (const name of what === "data" ? ["_data"] : ["_color", "_values", "_hide", "selection"]) this.on(`change:${name}`, later);
  }

  call(method: string, params: object, signal?: AbortSignal) {
    const id = `${this.own}-${++this.next}`;
    return new Promise<{ result: unknown; buffers: ArrayBuffer[] }>((done, failed) => {
      const timer = window.setTimeout(() => {
        this.calls.delete(id);
        failed(new Error("the kernel gives no answer; is it busy, or was it restarted? Run the cell again."));
      }, TIMEOUT);
      this.calls.set(id, { done, failed, timer });
      signal?.addEventListener("abort", () => {
        clearTimeout(timer);
        if (this.calls.delete(id)) this.model.send({ cancel: id });
        failed(new Error("cancelled"));
      });
      this.model.send({ rpc: id, method, params });
    });
  }

  dispose() {
    for (const end of this.ends) end();
    for (const call of this.calls.values()) clearTimeout(call.timer);
  }
}

/** A page of its own: everything is in it. */
class Page implements Host {
  readonly page = true;
  constructor(private data: Promise<ArrayBuffer>, private given: State) {}
  load = () => this.data;
  state = () => this.given;
  set(change: Partial<State>) {
    Object.assign(this.given, change);
  }
  onChange() {}
}

async function inflate(id: string): Promise<ArrayBuffer> {
  const text = document.getElementById(id)!.textContent!.trim();
  const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

/** Shows the graph that a saved page carries. */
export async function open(parent: HTMLElement, given: Omit<State, "values"> & { header?: unknown }) {
  const values = given.header ? { header: given.header as never, numbers: new Float64Array(await inflate("values")) } : undefined;
  return new View(parent, new Page(inflate("data"), { ...given, values }));
}

export default {
  render({ model, el }: { model: Model; el: HTMLElement }) {
    const host = new Kernel(model);
    const view = new View(el, host);
    const height = host.state().height;
    if (height) view.root.style.height = height;
    return () => {
      view.dispose();
      host.dispose();
    };
  },
};
