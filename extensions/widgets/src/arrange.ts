// Places the levels of a scene: small ones on the page, large ones in a worker.
import { place, type Placed } from "./place";
import type { Scene } from "./scene";
import code from "wasm:layout/index.ts";
import workerText from "worker:./worker.ts";

// compiled while the kernel is still at work
const compiled = WebAssembly.compile(code);
compiled.catch(() => {}); // told where it is used
const AT_ONCE = 12000; // items up to which the page itself is quicker than a worker: it is there, and nothing is copied
const KEPT = 3; // scenes, with where their items are

export class Arranger {
  private worker?: Worker;
  private jobs = new Map<number, { done: (p: Placed) => void; failed: (e: Error) => void }>();
  private job = 0;
  private past: (readonly [Scene, Placed])[] = []; // the latest first

  /** A rename or an attribute changes nothing of what is drawn, and an undo leads back to what was there. */
  async place(scene: Scene): Promise<Placed> {
    const at = this.past.findIndex(([other]) => scene.alike(other));
    const [found] = at < 0 ? [[scene, await this.layout(scene)] as const] : this.past.splice(at, 1);
    this.past = [found, ...this.past.slice(0, KEPT - 1)];
    return found[1];
  }

  private async layout({ kind, levels }: Scene): Promise<Placed> {
    const worker = kind.length < AT_ONCE ? undefined : this.begin();
    const module = await compiled;
    if (!worker) return place(module, levels);
    const id = ++this.job;
    return new Promise((done, failed) => {
      this.jobs.set(id, { done, failed });
      worker.postMessage({ id, module, levels });
    });
  }

  /** The worker; undefined on a page whose policy forbids it. */
  begin(): Worker | undefined {
    if (this.worker) return this.worker;
    try {
      this.worker = new Worker(URL.createObjectURL(new Blob([workerText], { type: "text/javascript" })));
    } catch {
      return undefined;
    }
    this.worker.onmessage = ({ data }) => {
      const job = this.jobs.get(data.id);
      this.jobs.delete(data.id);
      if (data.error) job?.failed(new Error(data.error));
      else job?.done(data.placed);
    };
    this.worker.onerror = () => {
      for (const job of this.jobs.values()) job.failed(new Error("the layout worker could not start"));
      this.jobs.clear();
    };
    return this.worker;
  }

  dispose() {
    this.worker?.terminate();
  }
}
