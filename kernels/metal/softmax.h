// Online softmax in powers of two: a weight is two to the power of score * factor + lift, and 0 where its token is not seen.
#define UNSEEN -3.0e38f  // two to this power is 0
#define MOST_POWER 4.0f  // of the largest weight

inline void take_powers(thread float* power, const thread float* score, const thread bool* visible,
                        const thread float* factor, const thread float* lift) {
  #pragma unroll
  for (int i = 0; i < 4; i++) power[i] = visible[i] ? fma(score[i], factor[i % 2], lift[i % 2]) : UNSEEN;
}

// Turns a tile's scores, in the order of `tile_scores`, into weights, and adds these up. The maximum, which `lift` stands for,
// follows only when a score exceeds it by 2, so that weights stay below 2^6; then weights and the SUMS sums so far fade.
// With FIRST there are none yet.
template <int SUMS, bool FIRST>
inline void weigh_scores(thread float* score, const thread bool* visible, const thread float* factor, thread float* lift,
                         thread float* weight, thread float4* sum) {
  float power[4];
  take_powers(power, score, visible, factor, lift);
  bool exceeds = FIRST;
  #pragma unroll
  for (int i = 0; i < 4; i++) exceeds = exceeds || power[i] > MOST_POWER + 2.0f;
  if (FIRST || simd_any(exceeds)) {
    float fade[2];
    #pragma unroll
    for (int e = 0; e < 2; e++) {
      const float upper = visible[e] ? score[e] * factor[e] : UNSEEN;
      const float lower = visible[2 + e] ? score[2 + e] * factor[e] : UNSEEN;
      float top = max(upper, lower);
      #pragma unroll
      for (int i = 0; i < 3; i++) top = max(top, simd_shuffle_xor(top, MATRIX_ROW_MASK(i)));
      const float risen = min(MOST_POWER - top, lift[e]);
      fade[e] = fast::exp2(risen - lift[e]);
      lift[e] = risen;
      weight[e] *= fade[e];
    }
    #pragma unroll
    for (int i = 0; i < (FIRST ? 0 : SUMS); i++) {
      sum[i].x *= fade[0];
      sum[i].y *= fade[1];
      sum[i].z *= fade[0];
      sum[i].w *= fade[1];
    }
    take_powers(power, score, visible, factor, lift);
  }
  #pragma unroll
  for (int i = 0; i < 4; i++) {
    score[i] = fast::exp2(power[i]);
    weight[i % 2] += score[i];
  }
}
