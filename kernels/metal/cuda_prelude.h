// The part of Metal that the bodies use, said in CUDA (after MLX's own prelude, compiled by NVRTC). Everything that a
// body may use beyond C++ stands here.
#define device
#define constant
#define thread
#define SHARED(T, name, n) __shared__ T name[n]
#define SHARED_POINTER(T) T*
#define IN_PLACE(T, name) ((T*)name)
#define thread_index_in_simdgroup (threadIdx.x & 31u)
// Said so that the compiler sees one value for all lanes.
#define simdgroup_index_in_threadgroup (__shfl_sync(0xffffffffu, threadIdx.x >> 5, 0))
#define thread_index_in_threadgroup (threadIdx.x)
#define threadgroup_position_in_grid blockIdx
#define threadgroups_per_grid gridDim
#define threadgroup_barrier(flags) __syncthreads()
#define simdgroup_barrier(flags) __syncwarp()
// Has a word worked out here, where there is time for it: NVRTC would put that off until the word is used.
#define WORK_OUT(word) asm volatile("" : "+r"(word))
// Brings the 128 bytes around an address into the L2 cache, and waits for nothing.
#define ASK_FOR(address) asm volatile("prefetch.global.L2 [%0];" : : "l"(__cvta_generic_to_global(address)))
// `index`, but not before `word` is there: no float is above infinity, which the compiler does not see.
#define KNOWN_AFTER(index, word) known_after(index, word)
typedef unsigned int uint;
typedef unsigned short ushort;
typedef __nv_bfloat16 bfloat;
template <typename T> inline T simd_shuffle_xor(T v, unsigned m) { return __shfl_xor_sync(0xffffffffu, v, m); }
template <typename T> inline T simd_shuffle(T v, unsigned lane) { return __shfl_sync(0xffffffffu, v, lane); }
inline bool simd_any(bool v) { return __any_sync(0xffffffffu, v); }
template <typename T> inline T simd_sum(T v) {
  for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
  return v;
}
template <typename T> inline T simd_max(T v) {
  for (int o = 16; o > 0; o >>= 1) v = max(v, __shfl_xor_sync(0xffffffffu, v, o));
  return v;
}
#if __CUDA_ARCH__ >= 800
// In one step: floats are in the order of these integers.
inline float simd_max(float v) {
  const int bits = __float_as_int(v);
  const int most = __reduce_max_sync(0xffffffffu, bits ^ (bits >> 31 & 0x7fffffff));
  return __int_as_float(most ^ (most >> 31 & 0x7fffffff));
}
#endif
template <typename T> inline T simd_min(T v) {
  for (int o = 16; o > 0; o >>= 1) v = min(v, __shfl_xor_sync(0xffffffffu, v, o));
  return v;
}
template <typename R, typename T> inline R as_type(T v) {
  static_assert(sizeof(R) == sizeof(T), "");
  R r;
  memcpy(&r, &v, sizeof(R));
  return r;
}
// A load that is asked for where it stands: NVRTC would put it off to the branch that uses it, as it does with one of .nc.
inline uint load_now(const uint* from) {
  uint one;
  asm volatile("ld.global.u32 %0, [%1];" : "=r"(one) : "l"(__cvta_generic_to_global(from)));
  return one;
}
inline float2 load_now(const float2* from) {
  float2 two;
  asm volatile("ld.global.v2.f32 {%0, %1}, [%2];" : "=f"(two.x), "=f"(two.y) : "l"(__cvta_generic_to_global(from)));
  return two;
}
inline float4 load_now(const float4* from) {
  float4 four;
  asm volatile("ld.global.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(four.x), "=f"(four.y), "=f"(four.z), "=f"(four.w) : "l"(__cvta_generic_to_global(from)));
  return four;
}
inline float saturate(float x) { return __saturatef(x); }
inline int known_after(int index, uint word) {
  int known;
  asm volatile("{\n.reg .pred above;\nsetp.gt.f32 above, %2, 0f7F800000;\nselp.b32 %0, 0, %1, above;\n}"
               : "=r"(known) : "r"(index), "f"(__uint_as_float(word)));
  return known;
}
inline half2 fma(half2 a, half2 b, half2 c) { return __hfma2(a, b, c); }
namespace fast {
inline float exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
}  // namespace fast
// To one unit in the last place, without the branches of a division.
inline float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// (a & mask) | b in one instruction: NVRTC makes two of the plain form.
inline uint and_or(uint a, uint mask, uint b) {
  uint r;
  asm("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=r"(r) : "r"(a), "r"(mask), "r"(b));
  return r;
}
#ifdef RESIDENT
// The kernel may take so many registers that RESIDENT threadgroups share a core: NVRTC alone takes more, and the core idles.
#undef __global__
#define __global__ __attribute__((global)) __launch_bounds__(LAUNCH_THREADS, RESIDENT)
#endif
