// The packed unitary DFT of one real row of D values, in the registers of SIMD-groups: D = 64, 80, 96, 128, 192 or 256.
//
// LANES lanes, 32, 16 or 8, have the row, as R complex numbers each, x[2 n] + i x[2 n + 1], and transform it as D/2 of them:
// a small transform in each lane, twiddles, LANES points across the lanes by decimation in frequency, then the two halves
// are told apart. Lane l starts with n = LANES j + l at [j]; what comes of the small transform's result j ends in
// k = R * mirrored(l) + j, whose packed values are k and D/2 + k. Lanes beyond LANES do the same as those before them.
//
// Behind the small transform its results have nothing to do with each other, but for j and R - j once the halves are
// told apart. So PARTS SIMD-groups may share a row: each has all of it, and goes on with C = R / PARTS results, of which
// c is j = part + PARTS c. A forward transform of 2 or 4 can be shared by two, an inverse one by R.

template <int D> constexpr int lanes_of() { return D % 64 == 0 ? 32 : D % 32 == 0 ? 16 : 8; }
template <int D> constexpr int points_of() { return D / 2 / lanes_of<D>(); }  // R
template <int D> constexpr int forward_parts() { return points_of<D>() % 2 == 0 ? 2 : 1; }
template <int D> constexpr int inverse_parts() { return points_of<D>() % 2 == 0 ? points_of<D>() : 1; }

template <int D>
inline int mirrored(int at) {
  if constexpr (lanes_of<D>() == 32) {
    return (at & 1) << 4 | (at & 2) << 2 | (at & 4) | (at & 8) >> 2 | (at & 16) >> 4;
  } else if constexpr (lanes_of<D>() == 16) {
    return (at & 1) << 3 | (at & 2) << 1 | (at & 4) >> 1 | (at & 8) >> 3;
  } else {
    return (at & 1) << 2 | (at & 2) | (at & 4) >> 2;
  }
}

// Where result c of a packed row lies: [c] is k, [C + c] is D/2 + k.
template <int D, int PARTS>
inline int packed_at(int c, int part, int lane) {
  constexpr int R = points_of<D>();
  constexpr int C = R / PARTS;
  return c / C * (D / 2) + R * mirrored<D>(lane % lanes_of<D>()) + part + PARTS * (c % C);
}

// What a lane needs for that stands in the table ready to be read, 16 bytes at a time (kernels/lanes.py). Forward: cosines, C
// of the small transform, one for each of the masks LANES / 2, .., 4, 2, and C that tell the halves apart; as many sines with a
// minus sign; the signs of the 2 R values it starts with. Inverse: cosines, C of the small transform and one for each mask; as
// many sines with a minus sign; R cosines and R sines that tell the halves apart; the signs of its 2 C results.
template <int D, int PARTS>
constexpr int twiddles() {
  return points_of<D>() / PARTS + (lanes_of<D>() == 32 ? 4 : lanes_of<D>() == 16 ? 3 : 2);
}
template <int D>
constexpr int forward_twiddles() {
  return twiddles<D, forward_parts<D>()>() + points_of<D>() / forward_parts<D>();
}
template <int D>
constexpr int forward_floats() {
  return (2 * forward_twiddles<D>() + 2 * points_of<D>() + 3) / 4 * 4;
}
template <int D>
constexpr int inverse_floats() {
  return (2 * twiddles<D, inverse_parts<D>()>() + 2 * points_of<D>() + 2 * points_of<D>() / inverse_parts<D>() + 3) / 4 * 4;
}

// Where the table has them: behind what else there is, the sizes of which kernels/codec.py tells.
template <int D, int HK, bool MU, bool LAMBDA, bool SMOOTH>
constexpr int forward_at() {
  return (3 * D + ((MU ? 2 : 0) + (LAMBDA ? 2 : 0) + (SMOOTH ? 1 : 0)) * HK * D + (LAMBDA ? HK : 0) + 1 + 3) / 4 * 4;
}
template <int D, int HK, bool MU, bool LAMBDA, bool SMOOTH>
constexpr int inverse_at() {
  return forward_at<D, HK, MU, LAMBDA, SMOOTH>() + forward_parts<D>() * 32 * forward_floats<D>();
}

// A lane's FLOATS of a table of `threads` lanes.
template <int FLOATS>
inline void load_lane(thread float* to, const device float* from, int at, int threads) {
  #pragma unroll
  for (int i = 0; i < FLOATS; i += 4) {
    const float4 four = load_now((const device float4*)(from + i * threads + 4 * at));
    to[i] = four.x;
    to[i + 1] = four.y;
    to[i + 2] = four.z;
    to[i + 3] = four.w;
  }
}

// Cosine and sine of 2 pi i / R, R = 3 or 5.
template <int R> inline float root_cos(int i) {
  if (R == 3) return i == 0 ? 1.0f : -0.5f;
  return i == 0 ? 1.0f : i == 1 || i == 4 ? 0.30901699f : -0.80901699f;
}
template <int R> inline float root_sin(int i) {
  if (R == 3) return i == 0 ? 0.0f : i == 1 ? 0.86602540f : -0.86602540f;
  return i == 0 ? 0.0f : i == 1 ? 0.95105652f : i == 2 ? 0.58778525f : i == 3 ? -0.58778525f : -0.95105652f;
}

// The results of the transform over [0], .., [R - 1] that are `part`'s.
template <int R, int PARTS>
inline void small_dft(const thread float* x_re, const thread float* x_im, int part, thread float* re, thread float* im) {
  constexpr int C = R / PARTS;
  if constexpr (R == 1) {
    re[0] = x_re[0];
    im[0] = x_im[0];
  } else if constexpr (R == 2) {
    #pragma unroll
    for (int c = 0; c < C; c++) {
      const float sign = part + c == 0 ? 1.0f : -1.0f;
      re[c] = x_re[0] + sign * x_re[1];
      im[c] = x_im[0] + sign * x_im[1];
    }
  } else if constexpr (R == 4) {
    #pragma unroll
    for (int c = 0; c < C; c++) {
      const int j = part + PARTS * c;
      const float sign = (j & 1) == 0 ? 1.0f : -1.0f;
      const float even_re = x_re[0] + sign * x_re[2];
      const float even_im = x_im[0] + sign * x_im[2];
      const float odd_re = x_re[1] + sign * x_re[3];
      const float odd_im = x_im[1] + sign * x_im[3];
      // The odd ones turn by -i for each j.
      const float turn = j < 2 ? 1.0f : -1.0f;
      re[c] = even_re + turn * ((j & 1) == 0 ? odd_re : odd_im);
      im[c] = even_im + turn * ((j & 1) == 0 ? odd_im : -odd_re);
    }
  } else {
    static_assert(PARTS == 1, "3 and 5 are not shared");
    #pragma unroll
    for (int j = 0; j < R; j++) {
      re[j] = x_re[0];
      im[j] = x_im[0];
      #pragma unroll
      for (int n = 1; n < R; n++) {
        const float cosine = root_cos<R>(n * j % R);
        const float sine = root_sin<R>(n * j % R);
        re[j] += x_re[n] * cosine + x_im[n] * sine;
        im[j] += x_im[n] * cosine - x_re[n] * sine;
      }
    }
  }
}

// C transforms of LANES points across the lanes, twiddles first.
template <int LANES, int C>
inline void fft_lanes(thread float* re, thread float* im, const thread float* cosines, const thread float* sines, int lane) {
  constexpr int STEPS = LANES == 32 ? 5 : LANES == 16 ? 4 : 3;
  #pragma unroll
  for (int c = 0; c < C; c++) {
    const float a = re[c];
    re[c] = a * cosines[c] - im[c] * sines[c];
    im[c] = a * sines[c] + im[c] * cosines[c];
  }
  #pragma unroll
  for (int i = 0; i < STEPS; i++) {
    const int mask = LANES / 2 >> i;
    const float sign = (lane & mask) != 0 ? -1.0f : 1.0f;
    #pragma unroll
    for (int c = 0; c < C; c++) {
      const float a = sign * re[c] + simd_shuffle_xor(re[c], mask);
      const float b = sign * im[c] + simd_shuffle_xor(im[c], mask);
      const float cosine = i < STEPS - 1 ? cosines[C + i % (STEPS - 1)] : 1.0f;
      const float sine = i < STEPS - 1 ? sines[C + i % (STEPS - 1)] : 0.0f;
      re[c] = i < STEPS - 1 ? a * cosine - b * sine : a;
      im[c] = i < STEPS - 1 ? a * sine + b * cosine : b;
    }
  }
}

// The 2 R values of a row that a lane starts with: value i is d = row_value<D>(i, lane).
template <int D>
inline int row_value(int i, int lane) {
  return 2 * lanes_of<D>() * (i / 2) + 2 * (lane % lanes_of<D>()) + i % 2;
}
// These of a row of 2-byte values, two in a word.
template <int D, typename T>
inline void load_row(thread uint* to, const device T* from, int lane) {
  static_assert(sizeof(T) == 2, "two values are a word");
  #pragma unroll
  for (int j = 0; j < points_of<D>(); j++) to[j] = load_now((const device uint*)(from + row_value<D>(2 * j, lane)));
}

// Of a row of constants what belongs to these values, two and two; nothing where it is not THERE.
template <int D, bool THERE>
inline void load_pairs(thread float2* to, const device float* from, int lane) {
  #pragma unroll
  for (int j = 0; j < points_of<D>(); j++) {
    if (THERE) to[j] = load_now((const device float2*)(from + row_value<D>(2 * j, lane)));
  }
}

// A row to its packed transform: in as x[2 n] and x[2 n + 1], out as `part`'s packed values (`packed_at`). `constants`: as
// `load_lane` gives them; the row has been multiplied by the signs.
template <int D>
inline void srft_lanes(const thread float* x_re, const thread float* x_im, thread float* packed,
                       const thread float* constants, int part, int lane) {
  constexpr int LANES = lanes_of<D>();
  constexpr int R = points_of<D>();
  constexpr int PARTS = forward_parts<D>();
  constexpr int C = R / PARTS;
  const thread float* cosines = constants;
  const thread float* sines = constants + forward_twiddles<D>();
  const thread float* half_cosines = cosines + twiddles<D, PARTS>();
  const thread float* half_sines = sines + twiddles<D, PARTS>();
  thread float* re = packed;
  thread float* im = packed + C;
  small_dft<R, PARTS>(x_re, x_im, part, re, im);
  fft_lanes<LANES, C>(re, im, cosines, sines, lane);
  const int at = lane % LANES;
  const int opposite = lane - at + mirrored<D>((LANES - mirrored<D>(at)) & (LANES - 1));
  float other_re[C];
  float other_im[C];
  #pragma unroll
  for (int c = 0; c < C; c++) {
    const int j = part + PARTS * c;
    const int from = j == 0 ? opposite : lane ^ (LANES - 1);
    // Result R - j, of which 1 and 3 are each other's.
    const bool crossed = R == 4 && (j & 1) != 0;
    const int other = PARTS == 1 ? (R - j) % R : c;
    // Values to choose from, not places: an array with an index that is chosen when it runs leaves the registers.
    const float own_re = re[other];
    const float own_im = im[other];
    const float crossed_re = re[C - 1 - c];
    const float crossed_im = im[C - 1 - c];
    other_re[c] = simd_shuffle(PARTS == 2 && crossed ? crossed_re : own_re, from);
    other_im[c] = simd_shuffle(PARTS == 2 && crossed ? crossed_im : own_im, from);
  }
  const float root = rsqrt((float)D);
  const float half_root2 = rsqrt(2.0f * (float)D);  // sqrt 2 / 2 / sqrt D
  #pragma unroll
  for (int c = 0; c < C; c++) {
    // Twice the transforms of the even and, up to -i, the odd elements.
    const float even_re = re[c] + other_re[c];
    const float even_im = im[c] - other_im[c];
    const float odd_re = im[c] + other_im[c];
    const float odd_im = other_re[c] - re[c];
    const float cosine = half_cosines[c];
    const float sine = half_sines[c];
    const bool first = part == 0 && c == 0 && at == 0;  // k = 0, and k = D/2 in place of its imaginary part
    const float a = re[c] + im[c];
    const float b = re[c] - im[c];
    re[c] = first ? a * root : (even_re + odd_re * cosine - odd_im * sine) * half_root2;
    im[c] = first ? b * root : (even_im + odd_re * sine + odd_im * cosine) * half_root2;
  }
}

// Means of the values that a lane has in the end, and these values into a row of the result.
template <int D, bool CENTRED>
inline void load_means(thread float2* means, const device float* from, int part, int lane) {
  #pragma unroll
  for (int c = 0; c < points_of<D>() / inverse_parts<D>(); c++) {
    means[c].x = means[c].y = 0.0f;
    if (CENTRED) means[c] = *(const device float2*)(from + 2 * packed_at<D, inverse_parts<D>()>(c, part, lane));
  }
}
template <int D, typename T>
inline void put_row(device T* to, const thread float2* two, const thread float2* means, int part, int lane) {
  if (lanes_of<D>() < 32 && lane >= lanes_of<D>()) return;
  #pragma unroll
  for (int c = 0; c < points_of<D>() / inverse_parts<D>(); c++) {
    const int d = 2 * packed_at<D, inverse_parts<D>()>(c, part, lane);
    to[d] = (T)(two[c].x + means[c].x);
    to[d + 1] = (T)(two[c].y + means[c].y);
  }
}

// The inverse of a packed row, shared by inverse_parts<D>() SIMD-groups: values 2 n and 2 n + 1 of
// n = packed_at<D, PARTS>(c, part, lane), times their signs, at two[c].
template <int D>
inline void inverse_srft_lanes(SHARED_POINTER(float) row, thread float2* two, const thread float* constants, int part,
                               int lane) {
  constexpr int LANES = lanes_of<D>();
  constexpr int R = points_of<D>();
  constexpr int PARTS = inverse_parts<D>();
  constexpr int C = R / PARTS;
  const thread float* cosines = constants;
  const thread float* sines = constants + twiddles<D, PARTS>();
  const thread float* half_cosines = constants + 2 * twiddles<D, PARTS>();
  const thread float* half_sines = half_cosines + R;
  const thread float* signs = half_sines + R;
  const float root = rsqrt((float)D);
  const float root2 = rsqrt(0.5f * (float)D);
  const int at = lane % LANES;
  float x_re[R];
  float x_im[R];
  #pragma unroll
  for (int j = 0; j < R; j++) {
    const int k = LANES * j + at;
    const int opposite = k == 0 ? 0 : D / 2 - k;
    const float a_re = row[k];
    const float a_im = row[D / 2 + k];
    const float b_re = row[opposite];
    const float b_im = row[D / 2 + opposite];
    const float odd_re = a_re - b_re;
    const float odd_im = a_im + b_im;
    const float c = half_cosines[j];
    const float s = half_sines[j];
    // E + i O, conjugated, so that the forward transform serves; O = (odd_re + i odd_im) (c + i s).
    const float o_re = odd_re * c - odd_im * s;
    const float o_im = odd_re * s + odd_im * c;
    const bool first = j == 0 && at == 0;
    x_re[j] = first ? (a_re + a_im) * root : 0.5f * root2 * (a_re + b_re - o_im);
    x_im[j] = first ? (a_im - a_re) * root : -0.5f * root2 * (a_im - b_im + o_re);
  }
  float re[C];
  float im[C];
  small_dft<R, PARTS>(x_re, x_im, part, re, im);
  fft_lanes<LANES, C>(re, im, cosines, sines, lane);
  #pragma unroll
  for (int c = 0; c < C; c++) {
    two[c].x = re[c] * signs[2 * c];
    two[c].y = -im[c] * signs[2 * c + 1];
  }
}
