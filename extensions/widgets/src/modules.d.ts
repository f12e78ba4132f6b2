declare module "*.css" {
  const text: string;
  export default text;
}
declare module "wasm:*" {
  const code: Uint8Array<ArrayBuffer>;
  export default code;
}
declare module "*/assemble.mjs" {
  export function assembled(path: string, checked?: boolean): Promise<Uint8Array<ArrayBuffer>>;
}
