// What the canvas shows, as SVG: a context that takes the calls of the renderer and writes elements instead of pixels.

const escaped = (text: string) =>
  text.replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, "").replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
const n = (value: number) => String(Math.round(value * 100) / 100);

export class SvgContext {
  fillStyle = "#000";
  strokeStyle = "#000";
  lineWidth = 1;
  globalAlpha = 1;
  font = "";
  textAlign = "left";
  textBaseline = "";
  lineJoin = "miter";
  private parts: string[] = [];
  private path: string[] = [];
  private dash: number[] = [];
  private matrix = "";

  /** `measure` is a real context: text is measured as it is drawn. */
  constructor(private measure: CanvasRenderingContext2D) {}

  setTransform(a: number, b: number, c: number, d: number, e: number, f: number) {
    this.matrix = [a, b, c, d, e, f].map((x) => String(Math.round(x * 1e5) / 1e5)).join(" ");
  }
  setLineDash(dash: number[]) {
    this.dash = dash;
  }
  measureText(text: string) {
    this.measure.font = this.font;
    return this.measure.measureText(text);
  }
  beginPath() {
    this.path = [];
  }
  moveTo(x: number, y: number) {
    this.path.push(`M${n(x)} ${n(y)}`);
  }
  lineTo(x: number, y: number) {
    this.path.push(`L${n(x)} ${n(y)}`);
  }
  bezierCurveTo(...places: number[]) {
    this.path.push(`C${places.map(n).join(" ")}`);
  }
  roundRect(x: number, y: number, w: number, h: number, radius: number | number[]) {
    const [a, b, c, d] = typeof radius === "number" ? [radius, radius, radius, radius] : radius;
    const corner = (r: number, dx: number, dy: number) => (r ? `a${n(r)} ${n(r)} 0 0 1 ${n(dx * r)} ${n(dy * r)}` : "");
    this.path.push(`M${n(x + a)} ${n(y)}H${n(x + w - b)}${corner(b, 1, 1)}V${n(y + h - c)}${corner(c, -1, 1)}H${n(x + d)}${corner(d, -1, -1)}V${n(y + a)}${corner(a, 1, -1)}Z`);
  }
  fillRect(x: number, y: number, w: number, h: number) {
    this.add("rect", `x="${n(x)}" y="${n(y)}" width="${n(w)}" height="${n(h)}"${this.paint(true)}`);
  }
  fill() {
    if (this.path.length) this.add("path", `d="${this.path.join("")}"${this.paint(true)}`);
  }
  stroke() {
    if (this.path.length) this.add("path", `d="${this.path.join("")}"${this.paint(false)}`);
  }
  fillText(text: string, x: number, y: number) {
    this.text(text, x, y, this.paint(true));
  }
  strokeText(text: string, x: number, y: number) {
    this.text(text, x, y, this.paint(false));
  }

  private text(text: string, x: number, y: number, paint: string) {
    const [, weight, size] = /^(\S+) ([\d.]+)px/.exec(this.font) ?? [];
    const anchor = this.textAlign === "center" ? ' text-anchor="middle"' : "";
    const base = this.textBaseline === "middle" ? n(y + 0.35 * Number(size)) : n(y);
    this.add("text", `x="${n(x)}" y="${base}" font-size="${size}" font-weight="${weight}"${anchor}${paint}`, escaped(text));
  }
  private paint(fill: boolean) {
    const alpha = this.globalAlpha < 1 ? ` opacity="${this.globalAlpha}"` : "";
    if (fill) return ` fill="${this.fillStyle}"${alpha}`;
    const dash = this.dash.length ? ` stroke-dasharray="${this.dash.map(n).join(" ")}"` : "";
    return ` fill="none" stroke="${this.strokeStyle}" stroke-width="${n(this.lineWidth)}" stroke-linejoin="${this.lineJoin}"${dash}${alpha}`;
  }
  private add(tag: string, attributes: string, inside = "") {
    this.parts.push(`<${tag} transform="matrix(${this.matrix})" ${attributes}${inside ? `>${inside}</${tag}>` : "/>"}`);
  }

  document(width: number, height: number, title: string) {
    return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" ` +
      `font-family="system-ui,-apple-system,Segoe UI,sans-serif" role="img"><title>${escaped(title)}</title>${this.parts.join("\n")}</svg>`;
  }
}
