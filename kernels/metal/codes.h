// Where word w of a row is stored, of W, and scale g of N: in rows of 128 and 256 values units of 64 stand interleaved
// (kernels/layout.py).
template <int D> constexpr bool interleaved() { return D == 128 || D == 256; }
template <int D> inline int word_at(int w) { return interleaved<D>() ? w % 8 * (D / 64) + w / 8 : w; }
template <int D, int G> inline int scale_at(int g) {
  constexpr int EACH = 64 / G;
  return interleaved<D>() ? g % EACH * (D / 64) + g / EACH : g;
}
// The scales that coding tries for a group, in this order, as shares of the one by which the value of largest magnitude
// gets the code -8: kernels/layout.py has the same.
#define SCALE_CHOICES 4
inline float scale_choice(int i) { return i == 0 ? 1.0f : i == 1 ? 0.953125f : i == 2 ? 0.90625f : 1.09375f; }
// Below this (kernels/layout.py) only the first is taken.
#define SMALLEST_TRIED 0.0001220703125f
// One of them, of which `whole` is the first before it is rounded to half.
inline float scale_tried(float whole, int i) { return (float)((half)(whole * scale_choice(i))); }
// 1 / (15 step): what a value is multiplied by to be a share of the way from the least code to the largest.
inline float share_of(float step) { return fabs(step) > 0.0f ? reciprocal(15.0f * step) : 0.0f; }
// The code of x from 0 for -8 to 15 for 7, as a float whose lowest bits it is: what is added leaves no bits but those of whole
// numbers. Limits to 0 and 1 cost nothing, min and max of floats twice as much as a product on NVIDIA, and rint eight times.
inline float place_of(float x, float share) { return fma(saturate(fma(x, share, 8.0f / 15.0f)), 15.0f, 12582912.0f); }
inline float code_of(float x, float share) { return place_of(x, share) - 12582920.0f; }
// The code of one that no limit is needed for, which is a product less.
inline float code_within(float x, float share) { return fma(x, 15.0f * share, 12582912.0f) - 12582912.0f; }
// A code as it is stored, from 1 / step: for the few values of a step, so that edges are as sharp as floats can tell.
inline float inverse_of(float step) { return fabs(step) > 0.0f ? reciprocal(step) : 0.0f; }
inline uint nibble_of(float x, float inverse) {
  return as_type<uint>(min(max(fma(x, inverse, 12582920.0f), 12582912.0f), 12582927.0f)) & 15u;
}
// The squared error of a group in codes of `scale`; NaN where half cannot hold it, which is less than no other. A lane holds
// COUNT of the group's values, LANES lanes that differ in the low bits of their number hold the group. Values are x * norm.
// Codes are `limited` where they have to be.
template <int COUNT, int LANES>
inline float group_error(const thread float* x, float scale, float norm, bool limited) {
  const float step = scale * (1.0f / norm);
  const float share = share_of(step);
  float error = 0.0f;
  #pragma unroll
  for (int j = 0; j < COUNT; j++) {
    const float gap = fma(-(limited ? code_of(x[j], share) : code_within(x[j], share)), step, x[j]);
    error += gap * gap;
  }
  #pragma unroll
  for (int apart = 1; apart < LANES; apart *= 2) error += simd_shuffle_xor(error, apart);
  return error;
}
// The tried scale of least squared error, the first of equals, or of small ones.
template <int COUNT, int LANES>
inline float best_scale(const thread float* x, float whole, float norm) {
  const float first = scale_tried(whole, 0);
  float best = first;
  float least = group_error<COUNT, LANES>(x, first, norm, true);
  #pragma unroll
  for (int i = 1; i < SCALE_CHOICES; i++) {
    const float scale = scale_tried(whole, i);
    // The largest value's code is -8 / scale_choice: of the last scale it is within -7.5, and so are all others.
    const float error = group_error<COUNT, LANES>(x, scale, norm, scale_choice(i) < 16.0f / 15.0f);
    if (error < least) {
      best = scale;
      least = error;
    }
  }
  return fabs(first) < SMALLEST_TRIED ? first : best;
}
// Nibbles to half2 without an integer-to-float conversion: a nibble put into the mantissa of 1024 is 1024 + nibble.
// codes_0_4 gives the codes of the word's values 0 and 4, codes_1_5 those of 1 and 5; of `word >> 8`: 2 and 6, 3 and 7.
inline half2 codes_0_4(uint word) {
  return as_type<half2>(and_or(word, 0x000F000Fu, 0x64006400u)) - as_type<half2>(0x64086408u);
}
inline half2 codes_1_5(uint word) {
  // 1024 + 16 nibble, times 1/16, less 64 + 8.
  return fma(as_type<half2>(and_or(word, 0x00F000F0u, 0x64006400u)), as_type<half2>(0x2C002C00u),
             as_type<half2>(0xD480D480u));
}
