// The layout as a script of its own: a worker for large graphs; imported by the page, a function for small ones.
import { place } from "./place";
import type { Level } from "./scene";

const scope = self as unknown as {
  workbenchPlace: typeof place;
  onmessage: (event: MessageEvent<{ id: number; levels: Level[] }>) => void;
  postMessage(message: unknown, transfer?: Transferable[]): void;
};

if (typeof document !== "undefined") scope.workbenchPlace = place;
else
  scope.onmessage = ({ data: { id, levels } }) => {
    try {
      const placed = place(levels);
      const transfer = placed.out.flatMap((o) => [o.x.buffer, o.y.buffer, o.pieces.buffer, o.pieceEnd.buffer, o.pieceStart.buffer]);
      scope.postMessage({ id, placed }, transfer);
    } catch (error) {
      scope.postMessage({ id, error: String(error) });
    }
  };
