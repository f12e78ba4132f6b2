// What every kernel of a plugin may use: the element type T, 16-byte packs of it, reductions over a row's threads.
// It needs no CUDA header, so that kernels compile with NVRTC alone. T (and T_<name> for each input and output) is
// defined by the compilation: float, double, wb::half, wb::bfloat16 or an integer type.
#pragma once

namespace wb {

// 16-bit floats as storage: arithmetic is done in float, `float(value)` and `T(number)` convert (round to nearest even).
struct alignas(2) half {
  unsigned short bits;
  half() = default;
  __device__ explicit half(float value) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value)); }
  __device__ operator float() const {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
  }
};

struct alignas(2) bfloat16 {
  unsigned short bits;
  bfloat16() = default;
  __device__ explicit bfloat16(float value) { asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value)); }
  __device__ operator float() const { return __int_as_float(int(bits) << 16); }
};

// Elements in 16 bytes, the widest access of one thread.
template <class T> constexpr int width = 16 / sizeof(T);

// 16 bytes of elements. `load` and `store` take the number of the pack; the pointer must be 16-byte aligned.
template <class T> struct alignas(16) Pack { T at[width<T>]; };

template <class T> __device__ Pack<T> load(const T* from, long long pack) {
  union { uint4 bits; Pack<T> pack; } both;
  both.bits = __ldg(reinterpret_cast<const uint4*>(from) + pack);
  return both.pack;
}

template <class T> __device__ void store(T* to, long long pack, const Pack<T>& values) {
  union { Pack<T> pack; uint4 bits; } both;
  both.pack = values;
  __stcs(reinterpret_cast<uint4*>(to) + pack, both.bits);
}

template <class T> __device__ bool aligned(const T* pointer) {
  return reinterpret_cast<unsigned long long>(pointer) % 16 == 0;
}

struct Sum { static __device__ float of(float a, float b) { return a + b; } static __device__ float start() { return 0.f; } };
struct Max {  // a NaN is left out: what is computed from the maximum meets it again
  static __device__ float of(float a, float b) { return fmaxf(a, b); }
  static __device__ float start() { return __int_as_float(0xff800000); }  // -inf
};

// One value of all threads of a row, for every one of them. A row has blockDim.x threads: 32 (then a block holds
// blockDim.y rows), or a multiple of 32 (then it holds one row, and all of its threads must call).
template <class How> __device__ float over_row(float value) {
#pragma unroll
  for (int lane = 16; lane; lane /= 2) value = How::of(value, __shfl_xor_sync(~0u, value, lane));
  if (blockDim.x == 32) return value;
  __shared__ float parts[32];
  __syncthreads();  // an earlier call may still be reading
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
  __syncthreads();
  value = threadIdx.x % 32 < blockDim.x / 32 ? parts[threadIdx.x % 32] : How::start();
#pragma unroll
  for (int lane = 16; lane; lane /= 2) value = How::of(value, __shfl_xor_sync(~0u, value, lane));
  return value;
}

__device__ inline float row_sum(float value) { return over_row<Sum>(value); }
__device__ inline float row_max(float value) { return over_row<Max>(value); }

// Activations on float. The fast ones are as exact as a 16-bit result can show.
__device__ inline float silu(float v) { return __fdividef(v, 1.f + __expf(-v)); }

__device__ inline float gelu(float v) { return 0.5f * v * (1.f + erff(v * 0.70710678118654752f)); }

// 2^v and 1 / v in one instruction each (error below 2e-7).
__device__ inline float fast_exp2(float v) {
  asm("ex2.approx.ftz.f32 %0, %0;" : "+f"(v));
  return v;
}
__device__ inline float fast_inverse(float v) {
  asm("rcp.approx.ftz.f32 %0, %0;" : "+f"(v));
  return v;
}
constexpr float LOG2_E = 1.44269504088896341f;

// x Phi(x), Phi by erfc of Abramowitz & Stegun 7.1.26 (error below 1.5e-7); their constants with 1/2 and 1/sqrt(2) in.
__device__ inline float fast_gelu(float v) {
  const float t = fast_inverse(1.f + 0.231641888f * fabsf(v));
  const float series = t * (0.127414796f + t * (-0.142248368f + t * (0.710706871f + t * (-0.726576014f + t * 0.530702715f))));
  const float tail = series * fast_exp2(v * v * (-0.5f * LOG2_E));
  return v * (v > 0.f ? 1.f - tail : tail);
}

// As exact as a result of type T can show.
template <class T> __device__ float gelu_as(float v) {
  if constexpr (sizeof(T) == 2) return fast_gelu(v);
  else return gelu(v);
}

}  // namespace wb
