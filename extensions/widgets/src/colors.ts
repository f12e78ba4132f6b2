// Colours: families of operators, scales for numbers, light and dark. White on every family colour has a contrast of
// at least 4.5 : 1; the hues follow Okabe and Ito's palette for colour-blind readers, darkened.

export const FAMILIES: [string, string, string][] = [
  ["matrix", "#2C69AE", "Conv ConvTranspose ConvInteger QLinearConv MatMul MatMulInteger QLinearMatMul Gemm Einsum LSTM GRU RNN Attention MultiHeadAttention GroupQueryAttention FusedConv FusedMatMul FusedGemm MatMulNBits QAttention"],
  ["activation", "#B24A12", "Relu LeakyRelu PRelu Elu Selu Celu Gelu FastGelu BiasGelu QuickGelu Sigmoid HardSigmoid HardSwish Swish Tanh Softmax LogSoftmax Softplus Softsign Erf Clip ThresholdedRelu Mish"],
  ["normalisation", "#17745A", "BatchNormalization LayerNormalization InstanceNormalization GroupNormalization RMSNormalization LRN LpNormalization SkipLayerNormalization SimplifiedLayerNormalization MeanVarianceNormalization"],
  ["reduction", "#84489B", "MaxPool AveragePool GlobalAveragePool GlobalMaxPool LpPool ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSumExp ArgMax ArgMin TopK CumSum"],
  ["arithmetic", "#80620F", "Add Sub Mul Div Pow Sqrt Exp Log Neg Abs Reciprocal Sum Mean Max Min Mod Floor Ceil Round Sin Cos Sign"],
  ["layout", "#56626F", "Reshape Transpose Concat Split Slice Squeeze Unsqueeze Flatten Gather GatherElements GatherND Scatter ScatterElements ScatterND Expand Tile Pad Shape Size Identity Cast CastLike DepthToSpace SpaceToDepth Resize Upsample Range ConstantOfShape OneHot Trilu Constant"],
  ["quantisation", "#0F7480", "QuantizeLinear DequantizeLinear DynamicQuantizeLinear"],
  ["control", "#A03563", "If Loop Scan Where Equal Greater GreaterOrEqual Less LessOrEqual Not And Or Xor NonZero NonMaxSuppression SequenceAt SequenceConstruct SequenceInsert"],
  ["other", "#666666", ""],
];
const family = new Map(FAMILIES.flatMap(([name, , ops]) => ops.split(" ").map((op) => [op, name] as const)));
const fill = new Map(FAMILIES.map(([name, color]) => [name, color]));
export const familyOf = (op: string) => family.get(op) ?? "other";
export const familyColor = (name: string) => fill.get(name)!;

/** For categories that are not known beforehand (dtypes). */
export const LIST = ["#2C69AE", "#B24A12", "#17745A", "#84489B", "#80620F", "#0F7480", "#A03563", "#56626F"];

// cividis (Nuñez, Anderton, Renslow 2018): reads the same with and without colour blindness
const CIVIDIS = ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"];

export function ramp(t: number): string {
  const at = Math.max(0, Math.min(1, t)) * (CIVIDIS.length - 1);
  const i = Math.min(CIVIDIS.length - 2, Math.floor(at));
  const part = (hex: string, k: number) => parseInt(hex.slice(1 + 2 * k, 3 + 2 * k), 16);
  const mix = [0, 1, 2].map((k) => Math.round(part(CIVIDIS[i], k) + (at - i) * (part(CIVIDIS[i + 1], k) - part(CIVIDIS[i], k))));
  return `#${mix.map((c) => c.toString(16).padStart(2, "0")).join("")}`;
}

export function luminance(hex: string): number {
  const [r, g, b] = [1, 3, 5].map((i) => {
    const c = parseInt(hex.slice(i, i + 2), 16) / 255;
    return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

export const contrast = (a: string, b: string) => {
  const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p);
  return (x + 0.05) / (y + 0.05);
};
export const inkOn = (hex: string) => (luminance(hex) > 0.2 ? "#14181d" : "#ffffff");

export interface Theme {
  dark: boolean;
  back: string;
  surface: string;
  ink: string;
  muted: string;
  edge: string;
  halo: string;
  box: string;
  boxLine: string;
  accent: string;
  into: string;
  out: string; // also edges that a diff has removed
  added: string;
  missing: string;
}

export const LIGHT: Theme = {
  dark: false, back: "#ffffff", surface: "#ffffff", ink: "#1d2329", muted: "#59636e", edge: "#a3adb8", halo: "#ffffff",
  box: "rgba(40,70,110,0.045)", boxLine: "rgba(40,70,110,0.20)", accent: "#0a66d0", into: "#0a66d0", out: "#b24a12", added: "#17745a",
  missing: "#b9c0c8",
};
export const DARK: Theme = {
  dark: true, back: "#111418", surface: "#1c2128", ink: "#e8ecf1", muted: "#a0abb7", edge: "#59646f", halo: "#111418",
  box: "rgba(150,185,230,0.055)", boxLine: "rgba(150,185,230,0.22)", accent: "#62a8ff", into: "#62a8ff", out: "#f0925a", added: "#4cc9a0",
  missing: "#3a424b",
};

/** The theme of the page: JupyterLab's, VS Code's, what a page states, else what the system prefers. */
export function themeOf({ body, documentElement }: Document): Theme {
  const stated = documentElement.dataset.theme;
  const jupyter = body.dataset.jpThemeLight;
  const kind = body.dataset.vscodeThemeKind ?? "";
  const dark = stated ? stated === "dark" : jupyter ? jupyter === "false" : kind ? kind.includes("dark") : matchMedia("(prefers-color-scheme: dark)").matches;
  const base = dark ? DARK : LIGHT;
  const own = getComputedStyle(body).getPropertyValue("--jp-layout-color0").trim();
  const full = /^#[0-9a-f]{3}$/i.test(own) ? `#${[...own.slice(1)].map((c) => c + c).join("")}` : own;
  const back = /^#[0-9a-f]{6}$/i.test(full) ? full : base.back;
  return { ...base, back, halo: back };
}
