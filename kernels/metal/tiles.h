// A tile of 16 rows of the cache, as the fused step's lanes hold it, in units of 64 values, the last one filled up. A
// SIMD-group has U of them, from `first_unit` on: all, or half of the four of a row of 256 values.
#define ZERO_WORD 0x88888888u  // eight codes of value 0
template <int D> constexpr int units_of() { return (D + 63) / 64; }

// A lane's scales of the row that begins `at` there, on its side of each unit, two in a word: a word that is taken apart when
// it is loaded is waited for then.
template <int U> constexpr int pairs_of() { return (U + 1) / 2; }
inline float step_of(const thread uint* pairs, int unit) {
  const half2 two = as_type<half2>(pairs[unit / 2]);
  return (float)(unit % 2 == 0 ? two.x : two.y);
}
template <int D, int G, int U>
inline void load_steps(thread uint* pairs, const device half* scales, int at, int side, int first_unit) {
  constexpr int H = units_of<D>();
  constexpr int N = (D + G - 1) / G;
  if constexpr (D == 64) {
    pairs[0] = *(const device ushort*)(scales + (at + side * (N - H)));
  } else if constexpr (interleaved<D>()) {
    load_words<U / 2>(pairs, (const device uint*)(scales + (at + side * (N - H) + first_unit)));
  } else {
    half2 two[pairs_of<U>()];
    #pragma unroll
    for (int u = 0; u < 2 * pairs_of<U>(); u++) {
      const int group = (64 * u + 32 * side) / G;
      const half step = group < N ? scales[at + group] : (half)0.0f;
      if (u % 2 == 0) two[u / 2].x = step;
      else two[u / 2].y = step;
    }
    #pragma unroll
    for (int i = 0; i < pairs_of<U>(); i++) pairs[i] = as_type<uint>(two[i]);
  }
}

// A tile's keys, as the fused step's lanes hold them: of rows `row` and row + 8 each unit's words 2 pair and 2 pair + 1, and
// its scale. In rows whose units are interleaved they stand together.
template <int D, int G, int U>
inline void load_keys(thread uint (*words)[2 * U], thread uint (*steps)[pairs_of<U>()], const device uint* codes,
                      const device half* scales, int row, int pair, int first_unit) {
  constexpr int H = units_of<D>();
  constexpr int W = D / 8;
  constexpr int N = (D + G - 1) / G;
  #pragma unroll
  for (int i = 0; i < 2; i++) {
    const int at = (row + 8 * i) * W + 2 * pair;
    if constexpr (U < H) {
      load_words<U>(words[i], codes + (at + 2 * (H - 1) * pair + first_unit));
      load_words<U>(words[i] + U, codes + (at + 2 * (H - 1) * pair + H + first_unit));
    } else if constexpr (D == 64 || interleaved<D>()) {
      load_words<2 * H>(words[i], codes + (at + 2 * (H - 1) * pair));
    } else {
      #pragma unroll
      for (int u = 0; u < H; u++) {
        const bool there = D % 64 == 0 || 8 * u + 2 * pair < W;
        words[i][u] = there ? codes[at + 8 * u] : ZERO_WORD;
        words[i][H + u] = there ? codes[at + 8 * u + 1] : ZERO_WORD;
      }
    }
    load_steps<D, G, U>(steps[i], scales, (row + 8 * i) * N, pair / 2, first_unit);
  }
}

// Its values: of rows 2 pair, 2 pair + 1 and these + 8 from `row` on each unit's word `line`; scales of row + line and of
// that + 8.
template <int D, int G, int U>
inline void load_values(thread uint (*words)[U], thread uint (*steps)[pairs_of<U>()], const device uint* codes,
                        const device half* scales, int row, int line, int pair, int first_unit) {
  constexpr int H = units_of<D>();
  constexpr int W = D / 8;
  constexpr int N = (D + G - 1) / G;
  #pragma unroll
  for (int i = 0; i < 2; i++) {
    #pragma unroll
    for (int j = 0; j < 2; j++) {
      const int at = (row + 2 * pair + 8 * i + j) * W;
      if constexpr (D == 64 || interleaved<D>()) {
        load_words<U>(words[2 * i + j], codes + (at + H * line + first_unit));
      } else {
        #pragma unroll
        for (int u = 0; u < H; u++) {
          words[2 * i + j][u] = D % 64 == 0 || 8 * u + line < W ? codes[at + 8 * u + line] : ZERO_WORD;
        }
      }
    }
    load_steps<D, G, U>(steps[i], scales, (row + line + 8 * i) * N, pair / 2, first_unit);
  }
}

// Scores of the tile's tokens `line` (0, 1) and line + 8 (2, 3) for two query vectors of each QUAD, of the values on the
// lane's side and of the SIMD-group's units alone. `queries`: right-hand matrices, as `query_at` has them, from the first
// unit on.
template <int U, int QUADS>
inline void tile_scores(thread float (*score)[4], const thread uint (*words)[2 * U], const thread uint (*steps)[pairs_of<U>()],
                        SHARED_POINTER(uint4) queries, int lane) {
  #pragma unroll
  for (int u = 0; u < U; u++) {
    float4 dot[QUADS];
    #pragma unroll
    for (int q = 0; q < QUADS; q++) dot[q] = zeros4();
    #pragma unroll
    for (int n = 0; n < 2; n++) {
      // Of rows line and line + 8 the first word, then of both the second.
      uint even[4];
      uint odd[4];
      #pragma unroll
      for (int i = 0; i < 4; i++) {
        const uint word = words[i % 2][i / 2 * U + u] >> (8 * n);
        even[i] = as_type<uint>(codes_0_4(word));
        odd[i] = as_type<uint>(codes_1_5(word));
      }
      #pragma unroll
      for (int q = 0; q < QUADS; q++) {
        const uint4 query = queries[((2 * u + n) * QUADS + q) * 32 + lane];
        multiply_add(dot[q], even[0], even[1], even[2], even[3], query.x, query.y);
        multiply_add(dot[q], odd[0], odd[1], odd[2], odd[3], query.z, query.w);
      }
    }
    const float upper = step_of(steps[0], u);
    const float lower = step_of(steps[1], u);
    #pragma unroll
    for (int q = 0; q < QUADS; q++) {
      score[q][0] = u == 0 ? dot[q].x * upper : fma(dot[q].x, upper, score[q][0]);
      score[q][1] = u == 0 ? dot[q].y * upper : fma(dot[q].y, upper, score[q][1]);
      score[q][2] = u == 0 ? dot[q].z * lower : fma(dot[q].z, lower, score[q][2]);
      score[q][3] = u == 0 ? dot[q].w * lower : fma(dot[q].w, lower, score[q][3]);
    }
  }
}

// What a SIMD-group has of the scores of a tile that it shares, for the other one; and the other one's share added.
template <int QUADS>
inline void put_score_shares(SHARED_POINTER(float4) to, const thread float (*score)[4], int lane) {
  #pragma unroll
  for (int q = 0; q < QUADS; q++) {
    float4 four;
    four.x = score[q][0];
    four.y = score[q][1];
    four.z = score[q][2];
    four.w = score[q][3];
    to[q * 32 + lane] = four;
  }
}
template <int QUADS>
inline void add_score_shares(thread float (*score)[4], SHARED_POINTER(float4) from, int lane) {
  #pragma unroll
  for (int q = 0; q < QUADS; q++) {
    const float4 four = from[q * 32 + lane];
    score[q][0] += four.x;
    score[q][1] += four.y;
    score[q][2] += four.z;
    score[q][3] += four.w;
  }
}

// Adds the tile's values, weighted as `weight` says in the order of `tile_scores`, to the sums [U][4][QUADS]: of values
// `nibble` and `nibble` + 4 of each unit's word `line`, for two query vectors each.
template <int U, int QUADS>
inline void add_tile(thread float4* sum, const thread uint (*words)[U], const thread uint (*steps)[pairs_of<U>()],
                     const thread float (*weight)[4]) {
  #pragma unroll
  for (int u = 0; u < U; u++) {
    const float upper = step_of(steps[0], u);
    const float lower = step_of(steps[1], u);
    uint low[2];
    uint high[2];
    #pragma unroll
    for (int i = 0; i < 2; i++) {
      low[i] = low_halves(words[2 * i][u], words[2 * i + 1][u]);
      high[i] = high_halves(words[2 * i][u], words[2 * i + 1][u]);
    }
    uint weights[QUADS][2];
    #pragma unroll
    for (int q = 0; q < QUADS; q++) {
      weights[q][0] = as_right(as_type<uint>(half2((half)(weight[q][0] * upper), (half)(weight[q][1] * upper))));
      weights[q][1] = as_right(as_type<uint>(half2((half)(weight[q][2] * lower), (half)(weight[q][3] * lower))));
    }
    #pragma unroll
    for (int n = 0; n < 2; n++) {
      uint even[4];
      uint odd[4];
      #pragma unroll
      for (int i = 0; i < 2; i++) {
        even[2 * i] = as_type<uint>(codes_0_4(low[i] >> (8 * n)));
        even[2 * i + 1] = as_type<uint>(codes_0_4(high[i] >> (8 * n)));
        odd[2 * i] = as_type<uint>(codes_1_5(low[i] >> (8 * n)));
        odd[2 * i + 1] = as_type<uint>(codes_1_5(high[i] >> (8 * n)));
      }
      #pragma unroll
      for (int q = 0; q < QUADS; q++) {
        multiply_add(sum[(4 * u + 2 * n) * QUADS + q], even[0], even[1], even[2], even[3], weights[q][0], weights[q][1]);
        multiply_add(sum[(4 * u + 2 * n + 1) * QUADS + q], odd[0], odd[1], odd[2], odd[3], weights[q][0], weights[q][1]);
      }
    }
  }
}
