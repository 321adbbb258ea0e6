// What the engine (C++) and the shim (C++ for OpenCL) share: the layouts and the calls between them.
#pragma once

struct HostThread {  // one thread's place in the launch; three numbers are x, y, z
  unsigned int grid[3], threadgroup[3], groups[3];  // how many threads, threads in a threadgroup, threadgroups
  unsigned int group[3], local_position[3], position[3];  // of the threadgroup; in the threadgroup; in the grid
  unsigned int index, lane, simdgroup, simdgroups;  // in the threadgroup; in the SIMD-group; which of how many
};

struct HostSimdgroup {  // the mailbox of one SIMD-group
  unsigned int lane;              // the lane that runs now
  unsigned int parity;            // the half that this operation uses: a fast lane may be in the next one already
  unsigned int arrived;           // lanes that wait in the current operation
  unsigned int unused;
  unsigned char slot[2][32][16];  // what each lane posted
  unsigned char result[2][16];    // what the last lane computed for all
};

enum { HOST_REDUCTION = 1, HOST_SHUFFLE = 2, HOST_BROADCAST = 3, HOST_VOTE = 4, HOST_MATRIX = 5 };
enum { HOST_DEVICE_MEMORY = 1, HOST_THREADGROUP_MEMORY = 2 };  // mem_flags

#ifdef __OPENCL_CPP_VERSION__
#define HOST_GLOBAL __global
#define HOST_LOCAL __local
#else
#define HOST_GLOBAL
#define HOST_LOCAL
#endif

extern "C" {
HOST_GLOBAL HostSimdgroup* host_simdgroup(void);
// Waits for all lanes. True for the last one: it computes the result, if any, then calls host_release.
bool host_arrive(unsigned int operation, unsigned int line, unsigned int column);
void host_release(void);
void host_threadgroup_barrier(unsigned int flags, unsigned int line, unsigned int column);
void host_simdgroup_barrier(unsigned int flags, unsigned int line, unsigned int column);
// The threadgroup variable `id`, which every thread of a threadgroup shares; aligned to `alignment` and no more.
HOST_LOCAL void* host_threadgroup_variable(unsigned int id, unsigned int bytes, unsigned int alignment,
                                           unsigned int line);
void host_bad_lane(unsigned int lane, unsigned int line, unsigned int column);
// The compiled kernel, called once for each thread.
void host_entry(HOST_GLOBAL void* HOST_GLOBAL* buffers, const HOST_GLOBAL HostThread* place);
}
