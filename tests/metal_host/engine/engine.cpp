// Runs one launch of a compiled Metal kernel: threadgroup after threadgroup, each thread a fiber.
#include <csignal>
#include <ctime>
#include <sys/syscall.h>
#include <unistd.h>

#include "memory.h"
#include "schedule.h"
#ifdef CHECKED
#include "checks.h"
#endif

const int TIME_LIMIT_S = 120;

struct HostLaunch {  // as launch.py lays it out
  unsigned int grid[3], threadgroup[3];
  unsigned int schedule;  // bit 0: lanes from the last to the first; bit 1: SIMD-groups and threadgroups likewise
  unsigned int buffer_count;
  const char* findings;  // results
  unsigned long switches, simd_operations, barriers, threadgroup_bytes;
};

// float to bfloat, to nearest even: clang calls it and libgcc 12 has none. The caller takes the register's low half.
extern "C" float __truncsfbf2(float x) {
  unsigned int bits;
  memcpy(&bits, &x, 4);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  bits = nan ? bits >> 16 | 0x40 : (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
  memcpy(&x, &bits, 4);
  return x;
}

static void on_signal(int signal, siginfo_t* info, void*) {
  char text[200] = "";
  if (signal == SIGUSR2)
    snprintf(text, sizeof text, "still running after %d s: a loop that does not end?", TIME_LIMIT_S);
  else if (signal == SIGFPE)
    snprintf(text, sizeof text, "integer division by zero");
  else if (signal == SIGILL)
    snprintf(text, sizeof text, "undefined behaviour was reached");
  else if (info->si_code == SI_KERNEL)
    snprintf(text, sizeof text, "misaligned access, or a wild address");  // which one is not told
  else
    describe_fault((char*)info->si_addr, text, sizeof text);
  report("%s", text);
  give_up();
}

class Signals {  // caught while a kernel runs, on a stack of their own
  static constexpr int CAUGHT[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGUSR2};
  struct sigaction before[5];
  stack_t stack_before;
  timer_t watchdog;

 public:
  Signals() {
    static char space[65536];
    stack_t stack = {};
    stack.ss_sp = space, stack.ss_size = sizeof space;
    sigaltstack(&stack, &stack_before);
    struct sigaction action = {};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (int i = 0; i < 5; i++) sigaction(CAUGHT[i], &action, &before[i]);
    struct sigevent event = {};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGUSR2;
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    timer_create(CLOCK_MONOTONIC, &event, &watchdog);
    const itimerspec limit = {{0, 0}, {TIME_LIMIT_S, 0}};
    timer_settime(watchdog, 0, &limit, nullptr);
  }
  ~Signals() {
    timer_delete(watchdog);
    for (int i = 0; i < 5; i++) sigaction(CAUGHT[i], &before[i], nullptr);
    sigaltstack(&stack_before, nullptr);
  }
};

static void run_threadgroup(const HostLaunch& launch, const unsigned int groups[3], const unsigned int group[3]) {
  const unsigned int* size = launch.threadgroup;
  thread_count = running = size[0] * size[1] * size[2];
  simdgroup_count = thread_count / LANES;
  at_barrier = 0;
#ifdef CHECKED
  start_threadgroup_checks();
#endif
  forget_variables();
  for (unsigned int i = 0; i < thread_count; i++) {
    HostThread& t = fibers[i].place;
    const unsigned int position[3] = {i % size[0], i / size[0] % size[1], i / (size[0] * size[1])};
    for (int k = 0; k < 3; k++) {
      t.grid[k] = launch.grid[k], t.threadgroup[k] = size[k], t.groups[k] = groups[k], t.group[k] = group[k];
      t.local_position[k] = position[k], t.position[k] = group[k] * size[k] + position[k];
    }
    t.index = i, t.lane = i % LANES, t.simdgroup = i / LANES, t.simdgroups = simdgroup_count;
    prepare(fibers[i]);
  }
  for (unsigned int i = 0; i < simdgroup_count; i++) {
    simdgroups[i] = HostSimdgroup{};
    waiting[i] = Waiting{};
    waiting[i].runnable = ~0u;
  }
  continue_with_lane(groups_reversed ? simdgroup_count - 1 : 0, first_lane(~0u));
}

static void run_threadgroups(const HostLaunch& launch) {
  unsigned int groups[3];
  for (int k = 0; k < 3; k++) groups[k] = launch.grid[k] / launch.threadgroup[k];
  const unsigned int count = groups[0] * groups[1] * groups[2];
  for (unsigned int i = 0; i < count; i++) {
    const unsigned int n = groups_reversed ? count - 1 - i : i;
    const unsigned int group[3] = {n % groups[0], n / groups[0] % groups[1], n / (groups[0] * groups[1])};
#ifdef CHECKED
    groups_before = i;
#endif
    run_threadgroup(launch, groups, group);
  }
}

// Runs the kernel on copies of the buffers and copies back what may be written. Returns the number of findings.
extern "C" __attribute__((visibility("default"))) unsigned int host_run(HostLaunch* launch, HostBuffer* buffers) {
  findings.clear();
  finding_count = 0;
  switches = simd_operations = barriers = variable_bytes_max = 0;
  lanes_reversed = launch->schedule & 1;
  groups_reversed = launch->schedule & 2;
  allocate_stacks();
  mappings.clear();
  std::vector<void*> pointers;
  for (unsigned int i = 0; i < launch->buffer_count; i++) {
    map_buffer(buffers[i]);
    pointers.push_back(mappings.back().begin);
  }
  kernel_buffers = pointers.data();
#ifdef CHECKED
  start_checks(buffers, launch->buffer_count);
#endif
  {
    Signals caught;
    if (sigsetjmp(abandon_launch, 1) == 0) run_threadgroups(*launch);
    current = &launcher;
  }
  for (unsigned int i = 0; i < launch->buffer_count; i++) unmap_buffer(mappings[i], buffers[i], i);
  mappings.clear();
  launch->findings = findings.c_str();
  launch->switches = switches, launch->simd_operations = simd_operations, launch->barriers = barriers;
  launch->threadgroup_bytes = variable_bytes_max;
  return finding_count;
}
