// Text on a canvas, shortened to the room that it has; what was measured is remembered.
const FONT = '"Inter","Segoe UI",system-ui,-apple-system,"Helvetica Neue",Arial,sans-serif';

export class Pen {
  private widths = new Map<string, number>();
  private font = ""; // of the context

  constructor(public context: CanvasRenderingContext2D) {}

  /** Somebody else may have set the font. */
  forget() {
    this.font = "";
  }

  /** A text with a seam around it, over whatever is below. */
  seamed(text: string, x: number, y: number, seam: string, width: number, color: string) {
    const c = this.context;
    c.lineJoin = "round";
    c.strokeStyle = seam;
    c.lineWidth = width;
    c.strokeText(text, x, y);
    c.fillStyle = color;
    c.fillText(text, x, y);
  }

  text(text: string, x: number, y: number, room: number, size: number, weight: number, color: string) {
    const shown = this.fit(text, room, size, weight);
    this.face(weight, size);
    this.context.fillStyle = color;
    this.context.fillText(shown, x, y);
  }

  face(weight: number, size: number) {
    const font = `${weight} ${size}px ${FONT}`;
    if (this.font !== font) this.context.font = this.font = font; // setting it is slow
  }

  /** Size in which a text fits into its room, not below `least`. */
  largest(text: string, room: number, size: number, least: number): number {
    const fits = (size * room) / this.measure(text, size, 600);
    return fits >= size ? size : Math.max(least, Math.floor(fits));
  }

  /** Width of a text, in a weight and size. */
  measure(text: string, size: number, weight: number): number {
    const key = `${size} ${weight} ${text}`;
    let width = this.widths.get(key);
    if (width === undefined) {
      if (this.widths.size > 20000) this.widths.clear();
      this.face(weight, size);
      this.widths.set(key, (width = this.context.measureText(text).width));
    }
    return width;
  }

  /** The text, shortened in the middle to the room there is. */
  fit(text: string, room: number, size: number, weight: number): string {
    if (text.length > 200) text = `${text.slice(0, 100)}…${text.slice(-60)}`;
    const width = this.measure(text, size, weight);
    if (width <= room) return text;
    const letters = [...text];
    let keep = Math.max(1, Math.floor((letters.length * room) / width) - 1);
    const cut = () => {
      const tail = Math.floor(keep / 3);
      return `${letters.slice(0, keep - tail).join("")}…${tail ? letters.slice(-tail).join("") : ""}`;
    };
    while (keep > 1 && this.measure(cut(), size, weight) > room) keep--;
    return cut();
  }
}
