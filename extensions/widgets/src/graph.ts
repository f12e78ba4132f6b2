// Entry of the bundle: an anywidget (default export), and `open` for a page without a kernel.
import type { Host, State } from "./host";
import { View } from "./view";

interface Model {
  get(name: string): unknown;
  set(name: string, value: unknown): void;
  save_changes(): void;
  send(content: unknown, callbacks?: unknown, buffers?: ArrayBuffer[]): void;
  on(event: string, act: (...args: never[]) => void): void;
  off(event: string, act: (...args: never[]) => void): void;
  /** in JupyterLab and Voila; other front ends may have none */
  widget_manager?: { kernel?: KernelConnection | null };
}

interface KernelConnection {
  status: string;
  connectionStatus?: string;
  statusChanged?: Signal;
  connectionStatusChanged?: Signal;
}
interface Signal { connect(act: () => void): void; disconnect(act: () => void): void }
interface Call { method: string; done: (v: { result: never; buffers: ArrayBuffer[] }) => void; failed: (e: Error) => void }

const PATIENCE = 2500; // ms without an answer after which the view says that it waits
const GONE = "The kernel of this view is gone (restarted, or ended). You can look on; to edit, run its cell again.";
const ENDED = ["restarting", "autorestarting", "terminating", "dead"];

const bufferOf = (view: DataView | ArrayBuffer): ArrayBuffer =>
  view instanceof ArrayBuffer ? view : (view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength) as ArrayBuffer);

/** The kernel's side of the view, through the widget's model. */
class Kernel implements Host {
  readonly page = false;
  private calls = new Map<string, Call>();
  private next = 0;
  private own = Math.random().toString(36).slice(2, 10);
  private setting = false;
  private gone = false;
  private waiting = false;
  private watch = 0;
  private trouble?: (text: string, gone: boolean) => void;
  private patch?: (from: number, to: number, buffer: ArrayBuffer) => void;
  private ends: (() => void)[] = [];

  constructor(private model: Model) {
    this.on("msg:custom", ((message: { rpc?: string; patch?: [number, number]; result?: never; error?: string }, buffers: DataView[]) => {
      if (message.patch) this.patch?.(...message.patch, bufferOf(buffers[0]));
      const call = message.rpc ? this.calls.get(message.rpc) : undefined;
      if (!call) return;
      this.calls.delete(message.rpc!);
      this.wait();
      if (message.error !== undefined) call.failed(new Error(message.error));
      else call.done({ result: message.result!, buffers: (buffers ?? []).map(bufferOf) });
    }) as never);
    this.on("comm_live_update", () => this.lose());
    const kernel = model.widget_manager?.kernel;
    const look = () => {
      if (ENDED.includes(kernel!.status)) this.lose();
    };
    for (const signal of [kernel?.statusChanged, kernel?.connectionStatusChanged]) {
      signal?.connect(look);
      this.ends.push(() => signal?.disconnect(look));
    }
  }

  get editable() {
    return this.model.get("_editable") as boolean;
  }

  onPatch(act: (from: number, to: number, buffer: ArrayBuffer) => void) {
    this.patch = act;
  }

  onTrouble(act: (text: string, gone: boolean) => void) {
    this.trouble = act;
    if (this.gone) act(GONE, true);
  }

  /** What was asked is never answered: the kernel is another one. */
  private lose() {
    if (this.gone) return;
    this.gone = true;
    clearTimeout(this.watch);
    for (const call of this.calls.values()) call.failed(new Error(GONE));
    this.calls.clear();
    this.trouble?.(GONE, true);
  }

  /** Says so when an answer does not come. */
  private wait() {
    clearTimeout(this.watch);
    if (this.waiting) this.trouble?.("", false);
    this.waiting = false;
    if (this.gone || ![...this.calls.values()].some(({ method }) => method !== "shapes")) return; // which takes its time
    this.watch = window.setTimeout(() => {
      this.waiting = true;
      const kernel = this.model.widget_manager?.kernel;
      const lost = kernel?.connectionStatus && kernel.connectionStatus !== "connected";
      this.trouble?.(lost ? "There is no connection to the kernel; waiting for it …"
        : kernel ? "The kernel is busy; waiting for it …"
          : "The kernel gives no answer: it is busy, or was restarted (then run the cell again) …", false);
    }, PATIENCE);
  }

  private on(event: string, act: (...args: never[]) => void) {
    this.model.on(event, act);
    this.ends.push(() => this.model.off(event, act));
  }

  private async parts(all: number, first: ArrayBuffer) {
    const parts = [first];
    for (let part = 1; part < all; part++) parts.push((await this.call("part", { part })).buffers[0]);
    return parts.length === 1 ? first : new Blob(parts).arrayBuffer();
  }

  load() {
    return this.parts(this.model.get("_parts") as number, bufferOf(this.model.get("_data") as DataView));
  }

  async again() {
    const { result, buffers } = await this.call<number>("columns", {});
    return this.parts(result, buffers[0]);
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

  call<T>(method: string, params: object, signal?: AbortSignal, buffers?: ArrayBuffer[]) {
    const id = `${this.own}-${++this.next}`;
    return new Promise<{ result: T; buffers: ArrayBuffer[] }>((done, failed) => {
      if (this.gone) return failed(new Error(GONE));
      this.calls.set(id, { method, done, failed });
      signal?.addEventListener("abort", () => {
        if (this.calls.delete(id)) this.model.send({ cancel: id });
        this.wait();
        failed(new Error("cancelled"));
      });
      this.model.send({ rpc: id, method, params: method === "hello" ? { id: this.own } : params }, undefined, buffers);
      this.wait();
    });
  }

  see(svg: string) {
    if (!this.gone) this.model.send({ visible: svg });
  }

  dispose() {
    if (!this.gone) this.model.send({ bye: this.own });
    for (const end of this.ends) end();
    clearTimeout(this.watch);
  }
}

/** A page of its own: everything is in it. */
class Page implements Host {
  readonly page = true;
  readonly editable = false;
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
    view.root.dataset.still = model.get("_still") as string; // which hides the picture that stands for it
    const height = host.state().height;
    if (height) view.root.style.height = height;
    return () => {
      view.dispose();
      host.dispose();
    };
  },
};
