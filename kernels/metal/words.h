// N words, N halves (N = 1, 2 or 4; of words 8 too) that stand together, in as few loads as can be: their address is a
// multiple of their size, or of 16 bytes.
template <int N>
inline void load_words(thread uint* to, const device uint* from) {
  if constexpr (N == 1) {
    to[0] = from[0];
  } else if constexpr (N == 2) {
    const uint2 two = *(const device uint2*)from;
    to[0] = two.x;
    to[1] = two.y;
  } else {
    #pragma unroll
    for (int i = 0; i < N; i += 4) {
      const uint4 four = *(const device uint4*)(from + i);
      to[i] = four.x;
      to[i + 1] = four.y;
      to[i + 2] = four.z;
      to[i + 3] = four.w;
    }
  }
}

template <int N>
inline void load_halves(thread half* to, const device half* from) {
  if constexpr (N == 1) {
    to[0] = from[0];
  } else {
    uint words[N / 2];
    load_words<N / 2>(words, (const device uint*)from);
    #pragma unroll
    for (int i = 0; i < N / 2; i++) {
      const half2 two = as_type<half2>(words[i]);
      to[2 * i] = two.x;
      to[2 * i + 1] = two.y;
    }
  }
}

// A tile's keys, as the fused step's lanes hold them: rows t and t + 8, of each unit two words, and its scale.
template <int H, int W, int N>
inline void load_keys(thread uint (*words)[2 * H], thread half (*steps)[H], const device uint* codes,
                      const device half* scales, int t) {
  #pragma unroll
  for (int i = 0; i < 2; i++) {
    load_words<2 * H>(words[i], codes + (t + 8 * i) * W);
    load_halves<H>(steps[i], scales + (t + 8 * i) * N);
  }
}

// Its values: rows t, t + 1, t + 8 and t + 9 of the lane's codes, of each unit a word; rows t and t + 8 of its scales.
template <int H, int W, int N>
inline void load_values(thread uint (*words)[H], thread half (*steps)[H], const device uint* codes,
                        const device half* scales, int t) {
  #pragma unroll
  for (int i = 0; i < 2; i++) {
    load_words<H>(words[2 * i], codes + (t + 8 * i) * W);
    load_words<H>(words[2 * i + 1], codes + (t + 8 * i + 1) * W);
    load_halves<H>(steps[i], scales + (t + 8 * i) * N);
  }
}

// Where row r of those that a threadgroup rotates begins: the new tokens' keys and values in turns, then the queries.
template <int L, typename T>
inline const device T* row_to_rotate(int r, int new_rows, const device T* key, int key_stride, const device T* value,
                                     int value_stride, const device T* query, int head_stride, int query_stride,
                                     int first_vector) {
  if (r < new_rows) return r % 2 == 0 ? key + r / 2 * key_stride : value + r / 2 * value_stride;
  const int vector = first_vector + r - new_rows;
  return query + vector / L * head_stride + vector % L * query_stride;
}
