// The packed unitary DFT of a row of D = N1 * N2 floats in threadgroup memory, and its inverse, by one threadgroup.
//
// Cooley-Tukey in two steps of small dense transforms, n = N2 n1 + n2, k = k1 + N1 k2. The row is real: k1 runs to N1/2
// only, the rest is conjugate. `roots` holds cos(2 pi n / D) at [n] and sin at [D + n]. `spectrum` is room for
// (N1/2 + 1) * N2 complex numbers. All threads of the threadgroup must call; a barrier stands at the end.

template <int D, int N1, int THREADS>
inline void srft(SHARED_POINTER(float) row, SHARED_POINTER(float) spectrum, SHARED_POINTER(float) roots, int thread_id) {
  constexpr int N2 = D / N1;
  constexpr int TASKS = (N1 / 2 + 1) * N2;
  for (int task = thread_id; task < TASKS; task += THREADS) {
    const int k1 = task / N2;
    const int n2 = task % N2;
    float re = 0.0f;
    float im = 0.0f;
    int at = 0;  // n1 k1 mod N1, in units of D / N1
    for (int n1 = 0; n1 < N1; n1++) {
      const float x = row[N2 * n1 + n2];
      re += x * roots[at * N2];
      im -= x * roots[D + at * N2];
      at += k1;
      at -= at >= N1 ? N1 : 0;
    }
    const float c = roots[n2 * k1];
    const float s = roots[D + n2 * k1];
    spectrum[2 * task] = re * c + im * s;
    spectrum[2 * task + 1] = im * c - re * s;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const float root = rsqrt((float)D);
  const float root2 = rsqrt((float)D / 2.0f);
  for (int task = thread_id; task < TASKS; task += THREADS) {
    const int k1 = task / N2;
    const int k2 = task % N2;
    float re = 0.0f;
    float im = 0.0f;
    int at = 0;  // n2 k2 mod N2, in units of D / N2
    for (int n2 = 0; n2 < N2; n2++) {
      const float a = spectrum[2 * (k1 * N2 + n2)];
      const float b = spectrum[2 * (k1 * N2 + n2) + 1];
      const float c = roots[at * N1];
      const float s = roots[D + at * N1];
      re += a * c + b * s;
      im += b * c - a * s;
      at += k2;
      at -= at >= N2 ? N2 : 0;
    }
    const int k = k1 + N1 * k2;
    if (k == 0) {
      row[0] = re * root;
    } else if (k == D / 2) {
      row[D / 2] = re * root;
    } else if (k < D / 2) {
      row[k] = re * root2;
      row[D / 2 + k] = im * root2;
    } else if (k1 != 0 && k1 != N1 / 2) {
      // The columns 0 and N1/2 hold their own conjugates; those of the others are nobody else's.
      row[D - k] = re * root2;
      row[D / 2 + D - k] = -im * root2;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
}

template <int D, int N1, int THREADS>
inline void inverse_srft(SHARED_POINTER(float) row, SHARED_POINTER(float) spectrum, SHARED_POINTER(float) roots, int thread_id) {
  constexpr int N2 = D / N1;
  constexpr int TASKS = (N1 / 2 + 1) * N2;
  const float root = rsqrt((float)D);
  const float half_root2 = rsqrt(2.0f * (float)D);
  for (int task = thread_id; task < TASKS; task += THREADS) {
    const int k1 = task / N2;
    const int n2 = task % N2;
    float re = 0.0f;
    float im = 0.0f;
    int at = 0;
    for (int k2 = 0; k2 < N2; k2++) {
      const int k = k1 + N1 * k2;
      const int low = k <= D / 2 ? k : D - k;
      const bool edge = low == 0 || low == D / 2;
      const float a = row[low] * (edge ? root : half_root2);
      const float b = edge ? 0.0f : row[D / 2 + low] * (k < D / 2 ? half_root2 : -half_root2);
      const float c = roots[at * N1];
      const float s = roots[D + at * N1];
      re += a * c - b * s;
      im += a * s + b * c;
      at += n2;
      at -= at >= N2 ? N2 : 0;
    }
    const float c = roots[n2 * k1];
    const float s = roots[D + n2 * k1];
    spectrum[2 * task] = re * c - im * s;
    spectrum[2 * task + 1] = re * s + im * c;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int n = thread_id; n < D; n += THREADS) {
    const int n1 = n / N2;
    const int n2 = n % N2;
    // k1 = 0 and N1/2 stand alone; each other k1 stands for itself and its conjugate N1 - k1.
    float x = spectrum[2 * n2] + (n1 % 2 == 0 ? 1.0f : -1.0f) * spectrum[2 * (N1 / 2 * N2 + n2)];
    int at = 0;
    for (int k1 = 1; k1 < N1 / 2; k1++) {
      at += n1;
      at -= at >= N1 ? N1 : 0;
      const float a = spectrum[2 * (k1 * N2 + n2)];
      const float b = spectrum[2 * (k1 * N2 + n2) + 1];
      x += 2.0f * (a * roots[at * N2] - b * roots[D + at * N2]);
    }
    row[n] = x;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
}
