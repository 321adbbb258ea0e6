// Who runs next. SIMD-group operations and barriers are rendezvous with their place in the text: one that can never be
// complete is divergence, an error that names lanes and lines.
#pragma once
#include "fibers.h"
#include "report.h"

struct Waiting {  // what the scheduler knows of one SIMD-group; bit l is lane l
  unsigned int runnable, returned;
  unsigned int at_threadgroup_barrier, at_simdgroup_barrier;
  unsigned int operation, line, column;  // of the SIMD-group operation that lanes wait in
  unsigned int barrier_line, barrier_column;  // of the simdgroup_barrier
  // Barriers passed, by the memory they order: threadgroup barriers in the high half, simdgroup barriers in the low.
  unsigned int device_epoch, threadgroup_epoch;
};

static HostSimdgroup simdgroups[MAX_THREADS / LANES];
static Waiting waiting[MAX_THREADS / LANES];
static unsigned int thread_count, simdgroup_count, running, at_barrier;
static unsigned int barrier_line, barrier_column, barrier_flags;
static bool lanes_reversed, groups_reversed;  // the four schedules
static unsigned long simd_operations, barriers;

static const char* const OPERATIONS[] = {"", "reduction", "shuffle", "broadcast", "vote", "matrix product"};

static std::string current_thread_text() {
  if (current == &launcher) return "";
  const HostThread& t = current->place;
  char text[160];
  snprintf(text, sizeof text, " [threadgroup (%u, %u, %u), thread %u: simdgroup %u, lane %u]", t.group[0], t.group[1],
           t.group[2], t.index, t.simdgroup, t.lane);
  return text;
}

[[noreturn]] static void diagnose_divergence() {
  std::string text = "divergence: the threadgroup cannot go on.";
  for (unsigned int i = 0; i < simdgroup_count; i++) {
    const Waiting& w = waiting[i];
    char part[160];
    snprintf(part, sizeof part, " Simdgroup %u:", i);
    text += part;
    if (simdgroups[i].arrived) {
      snprintf(part, sizeof part, " lanes %08x wait in a %s at line %u:%u;", simdgroups[i].arrived,
               OPERATIONS[w.operation], w.line, w.column);
      text += part;
    }
    if (w.at_threadgroup_barrier) {
      snprintf(part, sizeof part, " lanes %08x wait at the threadgroup_barrier of line %u:%u;",
               w.at_threadgroup_barrier, barrier_line, barrier_column);
      text += part;
    }
    if (w.at_simdgroup_barrier) {
      snprintf(part, sizeof part, " lanes %08x wait at the simdgroup_barrier of line %u:%u;", w.at_simdgroup_barrier,
               w.barrier_line, w.barrier_column);
      text += part;
    }
    if (w.returned) {
      snprintf(part, sizeof part, " lanes %08x have returned;", w.returned);
      text += part;
    }
    if (i == 3 && simdgroup_count > 5) {
      text += " ...";
      i = simdgroup_count - 2;
    }
  }
  current = &launcher;
  report("%s", text.c_str());
  give_up();
}

static inline unsigned int first_lane(unsigned int mask) {
  return lanes_reversed ? 31 - __builtin_clz(mask) : __builtin_ctz(mask);
}

static inline unsigned int lane_after(unsigned int lane, unsigned int mask) {
  const unsigned int above = lane == 31 ? 0 : mask & (~0u << (lane + 1)), below = mask & ((1u << lane) - 1);
  const unsigned int next = lanes_reversed ? below : above;
  return first_lane(next ? next : mask);
}

static inline void continue_with_lane(unsigned int simdgroup, unsigned int lane) {
  simdgroups[simdgroup].lane = lane;
  continue_with(&fibers[simdgroup * LANES + lane]);
}

// Leaves the current thread for the next that can run: of its own SIMD-group first.
static void run_another() {
  const unsigned int mine = current->place.simdgroup;
  if (waiting[mine].runnable) return continue_with_lane(mine, lane_after(current->place.lane, waiting[mine].runnable));
  for (unsigned int k = 1; k <= simdgroup_count; k++) {
    const unsigned int other = (groups_reversed ? mine + simdgroup_count - k : mine + k) % simdgroup_count;
    if (waiting[other].runnable) return continue_with_lane(other, first_lane(waiting[other].runnable));
  }
  if (running) diagnose_divergence();
  continue_with(&launcher);
}

static void thread_returned() {
  Waiting& w = waiting[current->place.simdgroup];
  const unsigned int bit = 1u << current->place.lane;
  w.returned |= bit;
  w.runnable &= ~bit;
  running--;
  run_another();
}

extern "C" {
HostSimdgroup* host_simdgroup() { return &simdgroups[current->place.simdgroup]; }

bool host_arrive(unsigned int operation, unsigned int line, unsigned int column) {
  HostSimdgroup& g = simdgroups[current->place.simdgroup];
  Waiting& w = waiting[current->place.simdgroup];
  const unsigned int bit = 1u << current->place.lane;
  if (g.arrived && (w.line != line || w.column != column || w.operation != operation)) {
    report("divergence: lanes %08x wait in a %s at line %u:%u, this lane came to a %s at line %u:%u", g.arrived,
           OPERATIONS[w.operation], w.line, w.column, OPERATIONS[operation], line, column);
    give_up();
  }
  w.operation = operation, w.line = line, w.column = column;
  g.arrived |= bit;
  if (g.arrived == ~0u) return true;
  w.runnable &= ~bit;
  run_another();
  return false;
}

void host_release() {
  HostSimdgroup& g = simdgroups[current->place.simdgroup];
  waiting[current->place.simdgroup].runnable = ~0u;
  g.arrived = 0;
  g.parity ^= 1;
  simd_operations++;
}

void host_threadgroup_barrier(unsigned int flags, unsigned int line, unsigned int column) {
  if (at_barrier && (barrier_line != line || barrier_column != column)) {
    report("divergence: %u threads wait at the threadgroup_barrier of line %u:%u, this one came to that of line %u:%u",
           at_barrier, barrier_line, barrier_column, line, column);
    give_up();
  }
  barrier_line = line, barrier_column = column, barrier_flags = flags;
  Waiting& mine = waiting[current->place.simdgroup];
  const unsigned int bit = 1u << current->place.lane;
  mine.at_threadgroup_barrier |= bit;
  mine.runnable &= ~bit;
  if (++at_barrier == thread_count) {
    for (unsigned int i = 0; i < simdgroup_count; i++) {
      Waiting& w = waiting[i];
      w.runnable = ~0u;
      w.at_threadgroup_barrier = 0;
      if (barrier_flags & HOST_THREADGROUP_MEMORY) w.threadgroup_epoch += 1 << 16;
      if (barrier_flags & HOST_DEVICE_MEMORY) w.device_epoch += 1 << 16;
    }
    at_barrier = 0;
    barriers++;
  }
  run_another();
}

void host_simdgroup_barrier(unsigned int flags, unsigned int line, unsigned int column) {
  Waiting& w = waiting[current->place.simdgroup];
  const unsigned int bit = 1u << current->place.lane;
  if (w.at_simdgroup_barrier && (w.barrier_line != line || w.barrier_column != column)) {
    report("divergence: lanes %08x wait at the simdgroup_barrier of line %u:%u, this lane came to that of line %u:%u",
           w.at_simdgroup_barrier, w.barrier_line, w.barrier_column, line, column);
    give_up();
  }
  w.barrier_line = line, w.barrier_column = column;
  w.at_simdgroup_barrier |= bit;
  w.runnable &= ~bit;
  if (w.at_simdgroup_barrier == ~0u) {
    w.runnable = ~0u;
    w.at_simdgroup_barrier = 0;
    if (flags & HOST_THREADGROUP_MEMORY) w.threadgroup_epoch++;
    if (flags & HOST_DEVICE_MEMORY) w.device_epoch++;
  }
  run_another();
}

void host_bad_lane(unsigned int lane, unsigned int line, unsigned int column) {
  report("line %u:%u: asks for lane %u of a SIMD-group of 32", line, column, lane);
}
}
