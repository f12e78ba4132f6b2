// Where the items of a scene are; the last placements are kept.
import { place, type Placed } from "./place";
import type { Scene } from "./scene";
import code from "wasm:layout/index.ts";

// on the page: 50,000 nodes take it 0.1 s, and a worker would have to start, and everything to be copied
const compiled = WebAssembly.compile(code); // while the kernel is still at work
compiled.catch(() => {}); // told where it is used
const KEPT = 3; // scenes, with where their items are

export class Arranger {
  private past: (readonly [Scene, Placed])[] = []; // the latest first

  /** A rename or an attribute changes nothing of what is drawn, and an undo leads back to what was there. */
  async place(scene: Scene): Promise<Placed> {
    const at = this.past.findIndex(([other]) => scene.alike(other));
    const [found] = at < 0 ? [[scene, place(await compiled, scene.levels)] as const] : this.past.splice(at, 1);
    this.past = [found, ...this.past.slice(0, KEPT - 1)];
    return found[1];
  }
}
