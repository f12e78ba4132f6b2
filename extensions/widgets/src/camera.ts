// Where the picture is seen from; the zooms from which on more of it is drawn.
export const TINY = 0.045;
export const NEAR = 0.52;
export const MIDDLE = 0.3;

export interface Camera {
  x: number; // world coordinates of the middle of the canvas
  y: number;
  k: number; // pixels per unit
}
