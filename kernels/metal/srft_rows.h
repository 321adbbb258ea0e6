// The packed unitary DFT of many rows at once, D = 64, 128 or 256: LANES = D / 32 lanes of a SIMD-group hold a row.
//
// A row x is taken as M = D / 2 complex numbers z_n = x_2n + i x_(2n+1), and their DFT Z is a two-step Cooley-Tukey,
// n = N2 j + l, k = k1 + N1 k2. Every lane holds 16 complex numbers and takes whole small DFTs of them in registers:
//   step 1, `residues`: those of l = C q + r, at [r N1 + j], then [r N1 + k1], q the lane within its row;
//   step 2, `classes`:  those of k1 = q + LANES c, at [c N2 + l], then [c N2 + k2];
//   `octets`: Z_k of k = 8 q + i at [i] and of k = M - 8 - 8 q + i at [8 + i], which are each other's partners in
//   X_k = (Z_k + conj Z_(M-k)) / 2 - i W^k (Z_k - conj Z_(M-k)) / 2, W = exp(-2 pi i / D), the row's own spectrum.
// Between them the numbers change lanes through a row's own threadgroup memory, ROW_ROOM float4, laid out so that all
// accesses are of 16 bytes and no two of a quarter SIMD-group meet in a bank. The caller sets the barriers.
//
// The inverse goes the same way back with real and imaginary parts exchanged, which turns a DFT into its inverse.

#define ROW_LANES (D / 32)
#define ROW_OCTETS (D / 16)
#define ROW_N1 (D == 64 ? 4 : 8)
#define ROW_N2 (D / 2 / ROW_N1)
#define ROW_RESIDUES (16 / ROW_N1)
#define ROW_CLASSES (16 / ROW_N2)
// How many values of a row stand together in a lane: its value i is d = 2 N2 (i / RUN) + RUN q + i % RUN.
#define ROW_RUN (2 * ROW_RESIDUES)
#define ROW_ROOM (D == 64 ? 26 : D == 128 ? 44 : 84)
#define ROW_NORM (D == 64 ? 0.088388348f : D == 128 ? 0.0625f : 0.044194174f)  // 1 / sqrt(2 D)

inline void dft4(thread float* re, thread float* im, int a, int b, int c, int d) {
  const float even_re = re[a] + re[c];
  const float even_im = im[a] + im[c];
  const float even_less_re = re[a] - re[c];
  const float even_less_im = im[a] - im[c];
  const float odd_re = re[b] + re[d];
  const float odd_im = im[b] + im[d];
  const float odd_less_re = re[b] - re[d];
  const float odd_less_im = im[b] - im[d];
  re[a] = even_re + odd_re;
  im[a] = even_im + odd_im;
  re[b] = even_less_re + odd_less_im;
  im[b] = even_less_im - odd_less_re;
  re[c] = even_re - odd_re;
  im[c] = even_im - odd_im;
  re[d] = even_less_re - odd_less_im;
  im[d] = even_less_im + odd_less_re;
}

// Multiply by c - i s.
inline void turn(thread float* re, thread float* im, int at, float c, float s) {
  const float x = re[at];
  const float y = im[at];
  re[at] = fma(x, c, y * s);
  im[at] = fma(y, c, -(x * s));
}

inline void dft8(thread float* re, thread float* im) {
  const float h = 0.70710678f;
  dft4(re, im, 0, 2, 4, 6);
  dft4(re, im, 1, 3, 5, 7);
  float out_re[8];
  float out_im[8];
  out_re[0] = re[0] + re[1];
  out_im[0] = im[0] + im[1];
  out_re[4] = re[0] - re[1];
  out_im[4] = im[0] - im[1];
  const float sum1 = re[3] + im[3];
  const float less1 = im[3] - re[3];
  out_re[1] = fma(h, sum1, re[2]);
  out_im[1] = fma(h, less1, im[2]);
  out_re[5] = fma(-h, sum1, re[2]);
  out_im[5] = fma(-h, less1, im[2]);
  out_re[2] = re[4] + im[5];
  out_im[2] = im[4] - re[5];
  out_re[6] = re[4] - im[5];
  out_im[6] = im[4] + re[5];
  const float sum3 = re[7] + im[7];
  const float less3 = im[7] - re[7];
  out_re[3] = fma(h, less3, re[6]);
  out_im[3] = fma(-h, sum3, im[6]);
  out_re[7] = fma(-h, less3, re[6]);
  out_im[7] = fma(h, sum3, im[6]);
  #pragma unroll
  for (int i = 0; i < 8; i++) {
    re[i] = out_re[i];
    im[i] = out_im[i];
  }
}

inline void dft16(thread float* re, thread float* im) {
  const float c = 0.92387953f;
  const float s = 0.38268343f;
  const float h = 0.70710678f;
  #pragma unroll
  for (int b = 0; b < 4; b++) dft4(re, im, b, 4 + b, 8 + b, 12 + b);
  turn(re, im, 5, c, s);
  turn(re, im, 6, h, h);
  turn(re, im, 7, s, c);
  turn(re, im, 9, h, h);
  turn(re, im, 11, -h, h);
  turn(re, im, 13, s, c);
  turn(re, im, 14, -h, h);
  turn(re, im, 15, -c, -s);
  const float least = re[10];
  re[10] = im[10];
  im[10] = -least;
  float out_re[16];
  float out_im[16];
  #pragma unroll
  for (int k = 0; k < 4; k++) {
    dft4(re, im, 4 * k, 4 * k + 1, 4 * k + 2, 4 * k + 3);
    #pragma unroll
    for (int d = 0; d < 4; d++) {
      out_re[k + 4 * d] = re[4 * k + d];
      out_im[k + 4 * d] = im[4 * k + d];
    }
  }
  #pragma unroll
  for (int i = 0; i < 16; i++) {
    re[i] = out_re[i];
    im[i] = out_im[i];
  }
}

// The DFTs of N that 16 complex numbers hold.
template <int N>
inline void dfts(thread float* re, thread float* im) {
  #pragma unroll
  for (int at = 0; at < 16; at += N) {
    if (N == 4) dft4(re, im, at, at + 1, at + 2, at + 3);
    if (N == 8) dft8(re + at, im + at);
    if (N == 16) dft16(re, im);
  }
}

// Cosines and sines between the two steps, at [r N1 + k1], of `table` as append has it.
template <int D>
inline void load_turns(thread float* turn_cos, thread float* turn_sin, const device float* table, int q) {
  #pragma unroll
  for (int r = 0; r < ROW_RESIDUES; r++) {
    #pragma unroll
    for (int k1 = 0; k1 < ROW_N1; k1++) {
      const int at = 2 * (ROW_RESIDUES * q + r) * k1;
      turn_cos[r * ROW_N1 + k1] = table[at];
      turn_sin[r * ROW_N1 + k1] = table[D + at];
    }
  }
}

inline float4 float4_of(float x, float y, float z, float w) {
  float4 four;
  four.x = x;
  four.y = y;
  four.z = z;
  four.w = w;
  return four;
}

inline float2 float2_of(float x, float y) {
  float2 two;
  two.x = x;
  two.y = y;
  return two;
}

template <int D>
inline void put_residues(SHARED_POINTER(float4) room, thread float* re, thread float* im, int q) {
  #pragma unroll
  for (int k1 = 0; k1 < ROW_N1; k1++) {
    #pragma unroll
    for (int i = 0; i < ROW_RESIDUES / 2; i++) {
      const int a = 2 * i * ROW_N1 + k1;
      const int b = a + ROW_N1;
      room[k1 * (ROW_N2 / 2 + 1) + i * ROW_LANES + q] = float4_of(re[a], im[a], re[b], im[b]);
    }
  }
}

template <int D>
inline void get_residues(SHARED_POINTER(float4) room, thread float* re, thread float* im, int q) {
  #pragma unroll
  for (int k1 = 0; k1 < ROW_N1; k1++) {
    #pragma unroll
    for (int i = 0; i < ROW_RESIDUES / 2; i++) {
      const int a = 2 * i * ROW_N1 + k1;
      const int b = a + ROW_N1;
      const float4 both = room[k1 * (ROW_N2 / 2 + 1) + i * ROW_LANES + q];
      re[a] = both.x;
      im[a] = both.y;
      re[b] = both.z;
      im[b] = both.w;
    }
  }
}

// The pair of residues at position p of a row of `put_residues`: the first one's place among a class's N2.
template <int D>
inline int residue_at(int p) {
  return ROW_RESIDUES * (p % ROW_LANES) + 2 * (p / ROW_LANES);
}

template <int D>
inline void get_classes(SHARED_POINTER(float4) room, thread float* re, thread float* im, int q) {
  #pragma unroll
  for (int c = 0; c < ROW_CLASSES; c++) {
    #pragma unroll
    for (int p = 0; p < ROW_N2 / 2; p++) {
      const float4 both = room[(q + ROW_LANES * c) * (ROW_N2 / 2 + 1) + p];
      const int at = c * ROW_N2 + residue_at<D>(p);
      re[at] = both.x;
      im[at] = both.y;
      re[at + 1] = both.z;
      im[at + 1] = both.w;
    }
  }
}

template <int D>
inline void put_classes(SHARED_POINTER(float4) room, thread float* re, thread float* im, int q) {
  #pragma unroll
  for (int c = 0; c < ROW_CLASSES; c++) {
    #pragma unroll
    for (int p = 0; p < ROW_N2 / 2; p++) {
      const int at = c * ROW_N2 + residue_at<D>(p);
      room[(q + ROW_LANES * c) * (ROW_N2 / 2 + 1) + p] = float4_of(re[at], im[at], re[at + 1], im[at + 1]);
    }
  }
}

// An octet, 8 consecutive Z, takes 5 float4: 4 and one of room. With two classes a lane they stand side by side.
template <int D>
inline void put_spectrum(SHARED_POINTER(float4) room, thread float* re, thread float* im, int q) {
  #pragma unroll
  for (int k2 = 0; k2 < ROW_N2; k2++) {
    if (ROW_CLASSES == 2) {
      const int b = ROW_CLASSES == 2 ? ROW_N2 + k2 : k2;
      room[ROW_N1 * k2 / 8 * 5 + ROW_N1 * k2 % 8 / 2 + q] = float4_of(re[k2], im[k2], re[b], im[b]);
    } else {
      ((SHARED_POINTER(float2))room)[k2 * 10 + q] = float2_of(re[k2], im[k2]);
    }
  }
}

template <int D>
inline void get_spectrum(SHARED_POINTER(float4) room, thread float* re, thread float* im, int q) {
  #pragma unroll
  for (int k2 = 0; k2 < ROW_N2; k2++) {
    if (ROW_CLASSES == 2) {
      const int b = ROW_CLASSES == 2 ? ROW_N2 + k2 : k2;
      const float4 both = room[ROW_N1 * k2 / 8 * 5 + ROW_N1 * k2 % 8 / 2 + q];
      re[k2] = both.x;
      im[k2] = both.y;
      re[b] = both.z;
      im[b] = both.w;
    } else {
      const float2 one = ((SHARED_POINTER(float2))room)[k2 * 10 + q];
      re[k2] = one.x;
      im[k2] = one.y;
    }
  }
}

// Where in an octet the first number of its float4 `f` belongs, and how far behind it the second one.
template <int D>
inline int octet_at(int f) {
  return ROW_CLASSES == 2 ? f / ROW_LANES * ROW_N1 + f % ROW_LANES : 2 * f;
}

template <int D>
inline void get_octets(SHARED_POINTER(float4) room, thread float* re, thread float* im, int q) {
  constexpr int APART = ROW_CLASSES == 2 ? ROW_LANES : 1;
  #pragma unroll
  for (int half_at = 0; half_at < 16; half_at += 8) {
    const int octet = half_at == 0 ? q : ROW_OCTETS - 1 - q;
    #pragma unroll
    for (int f = 0; f < 4; f++) {
      const float4 both = room[octet * 5 + f];
      const int at = half_at + octet_at<D>(f);
      re[at] = both.x;
      im[at] = both.y;
      re[at + APART] = both.z;
      im[at + APART] = both.w;
    }
  }
}

template <int D>
inline void put_octets(SHARED_POINTER(float4) room, thread float* re, thread float* im, int q) {
  constexpr int APART = ROW_CLASSES == 2 ? ROW_LANES : 1;
  #pragma unroll
  for (int half_at = 0; half_at < 16; half_at += 8) {
    const int octet = half_at == 0 ? q : ROW_OCTETS - 1 - q;
    #pragma unroll
    for (int f = 0; f < 4; f++) {
      const int at = half_at + octet_at<D>(f);
      room[octet * 5 + f] = float4_of(re[at], im[at], re[at + APART], im[at + APART]);
    }
  }
}

// Eight values, word `word` of the row, by way of the room: the lower four of all words first, then the higher ones. Between
// places there are gaps, so that no two lanes of a quarter SIMD-group meet in a bank.
template <int D>
inline int word_room(int place) {
  return place + place / (D == 256 ? 8 : 4);
}

template <int D>
inline void put_word(SHARED_POINTER(float4) room, const thread float* x, int word) {
  room[word_room<D>(word)] = float4_of(x[0], x[1], x[2], x[3]);
  room[word_room<D>(D / 8 + word)] = float4_of(x[4], x[5], x[6], x[7]);
}

template <int D>
inline void get_word(SHARED_POINTER(float4) room, thread float* x, int word) {
  #pragma unroll
  for (int i = 0; i < 8; i += 4) {
    const float4 four = room[word_room<D>(i / 4 * (D / 8) + word)];
    x[i] = four.x;
    x[i + 1] = four.y;
    x[i + 2] = four.z;
    x[i + 3] = four.w;
  }
}

// Two values of a 16-bit type from one word, and back.
template <typename T> inline float2 unpacked(uint word) {
  return float2_of(as_type<float>(word << 16), as_type<float>(word & 0xFFFF0000u));
}
template <> inline float2 unpacked<half>(uint word) {
  const half2 both = as_type<half2>(word);
  return float2_of((float)both.x, (float)both.y);
}
template <typename T> inline uint packed(float low, float high) {
  return (uint)as_type<unsigned short>((T)low) | (uint)as_type<unsigned short>((T)high) << 16;
}

// COUNT = 4 or 8 values from an address that is a multiple of 8 or 16 bytes; for float of 16.
template <typename T, int COUNT>
inline void load_dense(thread float* x, const device T* from) {
  if constexpr (sizeof(T) == 4) {
    #pragma unroll
    for (int i = 0; i < COUNT; i += 4) {
      const float4 four = *(const device float4*)(from + i);
      x[i] = four.x;
      x[i + 1] = four.y;
      x[i + 2] = four.z;
      x[i + 3] = four.w;
    }
  } else {
    uint words[COUNT / 2];
    if constexpr (COUNT == 8) {
      const uint4 four = *(const device uint4*)from;
      words[0] = four.x;
      words[1] = four.y;
      words[2] = four.z;
      words[3] = four.w;
    } else {
      const uint2 two = *(const device uint2*)from;
      words[0] = two.x;
      words[1] = two.y;
    }
    #pragma unroll
    for (int i = 0; i < COUNT / 2; i++) {
      const float2 both = unpacked<T>(words[i]);
      x[2 * i] = both.x;
      x[2 * i + 1] = both.y;
    }
  }
}

// The same, back.
template <typename T, int COUNT>
inline void store_dense(device T* to, thread float* x) {
  if constexpr (sizeof(T) == 4) {
    #pragma unroll
    for (int i = 0; i < COUNT; i += 4) *(device float4*)(to + i) = float4_of(x[i], x[i + 1], x[i + 2], x[i + 3]);
  } else {
    uint words[COUNT / 2];
    #pragma unroll
    for (int i = 0; i < COUNT / 2; i++) words[i] = packed<T>(x[2 * i], x[2 * i + 1]);
    if constexpr (COUNT == 8) {
      uint4 four;
      four.x = words[0];
      four.y = words[1];
      four.z = words[2];
      four.w = words[3];
      *(device uint4*)to = four;
    } else {
      uint2 two;
      two.x = words[0];
      two.y = words[1];
      *(device uint2*)to = two;
    }
  }
}
