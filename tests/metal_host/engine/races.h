// Who touched a byte last, and whether two touches are ordered by a barrier.
#pragma once
#include "schedule.h"

// An owner is a thread, or what several readers have in common. The top two bits say which, the rest is a number that
// counts on through the whole launch. 0 is no one.
enum : unsigned int { THREAD = 0u, SIMDGROUP = 1u << 30, THREADGROUP = 2u << 30, ANYONE = 3u << 30, KIND = 3u << 30 };

struct Touch {
  unsigned int writer, write_epoch, reader, read_epoch;
};

static unsigned int groups_before;  // threadgroups run before this one

static unsigned int me() { return THREAD | (groups_before * MAX_THREADS + current->place.index + 1); }
static unsigned int simdgroup_of(unsigned int thread) { return (thread - 1) / LANES; }
static unsigned int threadgroup_of(unsigned int owner) {
  const unsigned int number = owner & ~KIND;
  return (owner & KIND) == THREAD      ? (number - 1) / MAX_THREADS
         : (owner & KIND) == SIMDGROUP ? number / (MAX_THREADS / LANES)
                                       : number;
}
static bool same_simdgroup(unsigned int owner) {
  return (owner & KIND) == THREAD ? simdgroup_of(owner) == simdgroup_of(me())
                                  : (owner & KIND) == SIMDGROUP && (owner & ~KIND) == simdgroup_of(me());
}

static bool elsewhere(unsigned int owner) { return owner == ANYONE || threadgroup_of(owner) != groups_before; }

// May this thread's touch in `epoch` and the owner's in `then` happen in either order?
static bool unordered(unsigned int owner, unsigned int then, unsigned int epoch) {
  if (!owner || owner == me()) return false;
  if (elsewhere(owner)) return true;
  if (then >> 16 != epoch >> 16) return false;
  return !same_simdgroup(owner) || then == epoch;
}

static void add_reader(Touch& t, unsigned int epoch) {
  const unsigned int old = t.reader;
  if (old && elsewhere(old)) {
    t.reader = ANYONE;
  } else if (!old || old == me() || t.read_epoch >> 16 != epoch >> 16) {
    t.reader = me();
  } else if (same_simdgroup(old)) {
    t.reader = t.read_epoch == epoch ? SIMDGROUP | simdgroup_of(me()) : me();
  } else {
    t.reader = THREADGROUP | groups_before;
  }
  t.read_epoch = epoch;
}

enum Rule {
  MUST_BE_WRITTEN,  // before it is read
  MAY_BE_READ,      // before it is written
  MAY_BE_STALE,     // as that, and a thread may read what another writes: it gets the old value or the new
};

// What is wrong with touching these bytes, or nullptr; remembers the touch.
static const char* touch(Touch* bytes, unsigned int count, bool write, Rule rule, unsigned int epoch) {
  const char* wrong = nullptr;
  for (Touch* t = bytes; t < bytes + count; t++) {
    if (!write && rule == MUST_BE_WRITTEN && !t->writer) wrong = "read, and nothing has written it";
    if (!(rule == MAY_BE_STALE && !write) && unordered(t->writer, t->write_epoch, epoch))
      wrong = write ? "race: written, and written by another thread with no barrier between"
                    : "race: read, and written by another thread with no barrier between";
    if (rule != MAY_BE_STALE && write && unordered(t->reader, t->read_epoch, epoch))
      wrong = "race: written, and read by another thread with no barrier between";
    if (write) {
      t->writer = me(), t->write_epoch = epoch;
    } else {
      add_reader(*t, epoch);
    }
  }
  return wrong;
}
