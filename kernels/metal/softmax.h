// Online softmax in powers of two: a weight is two to the power of score * factor + lift, and 0 where its token is not seen.
#define UNSEEN -3.0e38f  // two to this power is 0
#define MOST_POWER 4.0f  // of the largest weight

template <int QUADS>
inline void take_powers(thread float (*power)[4], const thread float (*score)[4], const thread bool (*visible)[4],
                        const thread float (*factor)[2], const thread float (*lift)[2]) {
  #pragma unroll
  for (int q = 0; q < QUADS; q++) {
    #pragma unroll
    for (int i = 0; i < 4; i++) {
      power[q][i] = visible[q][i] ? fma(score[q][i], factor[q][i % 2], lift[q][i % 2]) : UNSEEN;
    }
  }
}

// Turns a tile's scores, in the order of `tile_scores`, into weights, and adds these up. The maximum, which `lift` stands for,
// follows only when a score exceeds it by 2, so that weights stay below 2^6; then weights and sums [U][4][QUADS] so far fade.
// With FIRST there are none yet.
template <int QUADS, int U, bool FIRST>
inline void weigh_scores(thread float (*score)[4], const thread bool (*visible)[4], const thread float (*factor)[2],
                         thread float (*lift)[2], thread float (*weight)[2], thread float4* sum) {
  float power[QUADS][4];
  take_powers<QUADS>(power, score, visible, factor, lift);
  bool exceeds = FIRST;
  #pragma unroll
  for (int q = 0; q < QUADS; q++) {
    #pragma unroll
    for (int i = 0; i < 4; i++) exceeds = exceeds || power[q][i] > MOST_POWER + 2.0f;
  }
  if (FIRST || simd_any(exceeds)) {
    #pragma unroll
    for (int q = 0; q < QUADS; q++) {
      float fade[2];
      #pragma unroll
      for (int e = 0; e < 2; e++) {
        const float upper = visible[q][e] ? score[q][e] * factor[q][e] : UNSEEN;
        const float lower = visible[q][2 + e] ? score[q][2 + e] * factor[q][e] : UNSEEN;
        float top = max(upper, lower);
        #pragma unroll
        for (int i = 0; i < 3; i++) top = max(top, simd_shuffle_xor(top, MATRIX_ROW_MASK(i)));
        const float risen = min(MOST_POWER - top, lift[q][e]);
        fade[e] = fast::exp2(risen - lift[q][e]);
        lift[q][e] = risen;
        weight[q][e] *= fade[e];
      }
      #pragma unroll
      for (int i = 0; i < (FIRST ? 0 : 4 * U); i++) {
        sum[i * QUADS + q].x *= fade[0];
        sum[i * QUADS + q].y *= fade[1];
        sum[i * QUADS + q].z *= fade[0];
        sum[i * QUADS + q].w *= fade[1];
      }
    }
    take_powers<QUADS>(power, score, visible, factor, lift);
  }
  #pragma unroll
  for (int q = 0; q < QUADS; q++) {
    #pragma unroll
    for (int i = 0; i < 4; i++) {
      score[q][i] = fast::exp2(power[q][i]);
      weight[q][i % 2] += score[q][i];
    }
  }
}
