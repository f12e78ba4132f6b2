// Places large graphs beside the page.
import { place } from "./place";
import type { Level } from "./scene";

const scope = self as unknown as {
  onmessage: (event: MessageEvent<{ id: number; module: WebAssembly.Module; levels: Level[] }>) => void;
  postMessage(message: unknown, transfer?: Transferable[]): void;
};

scope.onmessage = ({ data: { id, module, levels } }) => {
  try {
    const placed = place(module, levels);
    const transfer = placed.out.flatMap((o) => [o.x.buffer, o.y.buffer, o.pieces.buffer, o.pieceEnd.buffer, o.pieceStart.buffer]);
    scope.postMessage({ id, placed }, transfer);
  } catch (error) {
    scope.postMessage({ id, error: String(error) });
  }
};
