// A tile of 16 rows of the cache, as the fused step's lanes hold it, in units of 64 values, the last one filled up. A
// SIMD-group has U of them, from `first_unit` on: all, or half of the four of a row of 256 values. A unit has a lower and an
// upper SIDE of 32 values, four words, with a scale each; groups of 64 values have one for both.
//
// Matrices have a row a token for keys and scores, and sum over tokens for values: `token_of` says which token that is, of
// eight, so that the lanes that load values at a time have rows that stand together. They have eight columns. A WIDE
// threadgroup has a query vector for each of them. Another one has up to four vectors twice: a weight then stands once by the
// scales of the lower side and once by those of the upper one.
#define ZERO_WORD 0x88888888u  // eight codes of value 0
template <int D> constexpr int units_of() { return (D + 63) / 64; }
template <int G> constexpr int sides_of() { return 64 / G; }  // that have a scale of their own
// Of a lane's values: words of each row, and sides whose scales it needs.
template <int U, bool WIDE> constexpr int words_of() { return WIDE ? 2 * U : U; }
template <int G, bool WIDE> constexpr int value_sides() { return WIDE ? sides_of<G>() : 1; }
inline int token_of(int line) { return line / 2 + line % 2 * 4; }
// The query vector of the first of a lane's two columns; of the other one it is the next.
template <bool WIDE> inline int first_vector_of(int pair) { return WIDE ? 2 * pair : 2 * (pair & 1); }

// A lane's scales of a row: of SIDES sides the units' one after the other, two in a word. A word that is taken apart when it
// is loaded is waited for then.
template <int U, int SIDES> constexpr int pairs_of() { return (SIDES * U + 1) / 2; }
inline float step_of(const thread uint* pairs, int i) {
  const half2 two = as_type<half2>(pairs[i / 2]);
  return (float)(i % 2 == 0 ? two.x : two.y);
}
// Of the row that begins `at` there; a single side is the lane's.
template <int D, int G, int U, int SIDES>
inline void load_steps(thread uint* pairs, const device half* scales, int at, int own_side, int first_unit) {
  constexpr int H = units_of<D>();
  constexpr int N = (D + G - 1) / G;
  const int from = at + (SIDES == 1 ? own_side * (N - H) : 0);
  if constexpr (D == 64 && SIDES == 1) {
    pairs[0] = *(const device ushort*)(scales + from);
  } else if constexpr (U == H && (D == 64 || interleaved<D>())) {
    load_words<SIDES * U / 2>(pairs, (const device uint*)(scales + from));
  } else if constexpr (interleaved<D>()) {
    #pragma unroll
    for (int side = 0; side < SIDES; side++) {
      load_words<U / 2>(pairs + U / 2 * side, (const device uint*)(scales + (from + H * side + first_unit)));
    }
  } else {
    half2 two[pairs_of<U, SIDES>()];
    #pragma unroll
    for (int i = 0; i < 2 * pairs_of<U, SIDES>(); i++) {
      const int group = (64 * (i % U) + 32 * (SIDES == 1 ? own_side : i / U)) / G;
      const half step = i < SIDES * U && group < N ? scales[at + group] : (half)0.0f;
      if (i % 2 == 0) two[i / 2].x = step;
      else two[i / 2].y = step;
    }
    #pragma unroll
    for (int i = 0; i < pairs_of<U, SIDES>(); i++) pairs[i] = as_type<uint>(two[i]);
  }
}

// Word `word` of each unit of the row that begins `at` there. In rows whose units are interleaved they stand together.
template <int D, int U>
inline void load_unit_words(thread uint* words, const device uint* codes, int at, int word, int first_unit) {
  constexpr int H = units_of<D>();
  if constexpr (D == 64 || interleaved<D>()) {
    load_words<U>(words, codes + (at + H * word + first_unit));
  } else {
    #pragma unroll
    for (int u = 0; u < H; u++) words[u] = D % 64 == 0 || 8 * u + word < D / 8 ? codes[at + 8 * u + word] : ZERO_WORD;
  }
}

// A tile's keys, as the fused step's lanes hold them: of rows `row`, which the lane's token_of(line) is part of, and row + 8
// each unit's words `pair` and pair + 4, and the scales.
template <int D, int G, int U>
inline void load_keys(thread uint (*words)[2 * U], thread uint (*steps)[pairs_of<U, sides_of<G>()>()],
                      const device uint* codes, const device half* scales, int row, int pair, int first_unit) {
  #pragma unroll
  for (int i = 0; i < 2; i++) {
    load_unit_words<D, U>(words[i], codes, (row + 8 * i) * (D / 8), pair, first_unit);
    load_unit_words<D, U>(words[i] + U, codes, (row + 8 * i) * (D / 8), pair + 4, first_unit);
    load_steps<D, G, U, sides_of<G>()>(steps[i], scales, (row + 8 * i) * ((D + G - 1) / G), 0, first_unit);
  }
}

// Its values: of rows pair, pair + 4 and these + 8 from `row` on each unit's word `line`, or where WIDE its words line % 4 and
// line % 4 + 4; scales of row + token_of(line) and of that + 8.
template <int D, int G, int U, bool WIDE>
inline void load_values(thread uint (*words)[words_of<U, WIDE>()], thread uint (*steps)[pairs_of<U, value_sides<G, WIDE>()>()],
                        const device uint* codes, const device half* scales, int row, int line, int pair, int first_unit) {
  #pragma unroll
  for (int i = 0; i < 2; i++) {
    #pragma unroll
    for (int j = 0; j < 2; j++) {
      const int at = (row + pair + 4 * j + 8 * i) * (D / 8);
      load_unit_words<D, U>(words[2 * i + j], codes, at, WIDE ? line % 4 : line, first_unit);
      if constexpr (WIDE) load_unit_words<D, U>(words[2 * i + j] + U, codes, at, line % 4 + 4, first_unit);
    }
    load_steps<D, G, U, value_sides<G, WIDE>()>(steps[i], scales, (row + token_of(line) + 8 * i) * ((D + G - 1) / G), pair / 2,
                                                first_unit);
  }
}

// Scores of the tile's tokens token_of(line) (0, 1) and that + 8 (2, 3) for the query vectors of two columns, of the
// SIMD-group's units alone. `queries`: the lane's right-hand matrices, as `query_at` has them, from the first unit on, 32
// packs apart.
template <int U, int SIDES>
inline void tile_scores(thread float* score, const thread uint (*words)[2 * U],
                        const thread uint (*steps)[pairs_of<U, SIDES>()], SHARED_POINTER(uint4) queries) {
  #pragma unroll
  for (int u = 0; u < U; u++) {
    float4 dot;
    #pragma unroll
    for (int side = 0; side < 2; side++) {
      if (side == 0 || SIDES == 2) dot = zeros4();
      const uint4 query = queries[(2 * u + side) * 32];
      #pragma unroll
      for (int n = 0; n < 2; n++) {
        const uint upper = words[0][U * side + u] >> (8 * n);
        const uint lower = words[1][U * side + u] >> (8 * n);
        multiply_add(dot, as_type<uint>(codes_0_4(upper)), as_type<uint>(codes_0_4(lower)), as_type<uint>(codes_1_5(upper)),
                     as_type<uint>(codes_1_5(lower)), n == 0 ? query.x : query.z, n == 0 ? query.y : query.w);
      }
      if (side == 1 || SIDES == 2) {
        const int at = U * (SIDES == 2 ? side : 0) + u;
        const float upper_step = step_of(steps[0], at);
        const float lower_step = step_of(steps[1], at);
        const bool first = u == 0 && (side == 0 || SIDES == 1);
        score[0] = first ? dot.x * upper_step : fma(dot.x, upper_step, score[0]);
        score[1] = first ? dot.y * upper_step : fma(dot.y, upper_step, score[1]);
        score[2] = first ? dot.z * lower_step : fma(dot.z, lower_step, score[2]);
        score[3] = first ? dot.w * lower_step : fma(dot.w, lower_step, score[3]);
      }
    }
  }
}

// What a SIMD-group has of the scores of a tile that it shares, for the other one; and the other one's share added.
inline void put_score_share(SHARED_POINTER(float4) to, const thread float* score) {
  float4 four;
  four.x = score[0];
  four.y = score[1];
  four.z = score[2];
  four.w = score[3];
  *to = four;
}
inline void add_score_share(thread float* score, SHARED_POINTER(float4) from) {
  const float4 four = *from;
  score[0] += four.x;
  score[1] += four.y;
  score[2] += four.z;
  score[3] += four.w;
}

// Adds the tile's values, weighted as `weight` says in the order of `tile_scores`, to the sums [U][4], for the query vectors
// of two columns each: of values n and n + 4 of each unit's word `line`; where WIDE of values 4 (line / 4) and that + 2, then
// of these + 1, of its word line % 4, then the same of word line % 4 + 4.
template <int U, int SIDES, bool WIDE>
inline void add_tile(thread float4* sum, const thread uint (*words)[words_of<U, WIDE>()],
                     const thread uint (*steps)[pairs_of<U, SIDES>()], const thread float* weight, int line) {
  #pragma unroll
  for (int u = 0; u < U; u++) {
    uint weights[2];
    #pragma unroll
    for (int n = 0; n < 2; n++) {
      if (n == 0 || SIDES == 2) {
        const float upper = step_of(steps[0], U * (SIDES == 2 ? n : 0) + u);
        const float lower = step_of(steps[1], U * (SIDES == 2 ? n : 0) + u);
        weights[0] = as_right(as_type<uint>(half2((half)(weight[0] * upper), (half)(weight[1] * upper))));
        weights[1] = as_right(as_type<uint>(half2((half)(weight[2] * lower), (half)(weight[3] * lower))));
      }
      uint even[4];
      uint odd[4];
      #pragma unroll
      for (int i = 0; i < 4; i++) {
        const uint a = words[i / 2 * 2][WIDE ? U * n + u : u];
        const uint b = words[i / 2 * 2 + 1][WIDE ? U * n + u : u];
        // Unless WIDE both bytes of a half are needed: words put together once are free for the next tile's.
        const uint bytes = WIDE ? same_bytes(a, b, line / 4 * 2 + i % 2)
                                : (i % 2 == 0 ? low_halves(a, b) : high_halves(a, b)) >> (8 * n);
        even[i] = as_type<uint>(codes_0_4(bytes));
        odd[i] = as_type<uint>(codes_1_5(bytes));
      }
      multiply_add(sum[4 * u + 2 * n], even[0], even[1], even[2], even[3], weights[0], weights[1]);
      multiply_add(sum[4 * u + 2 * n + 1], odd[0], odd[1], odd[2], odd[3], weights[0], weights[1]);
    }
  }
}
