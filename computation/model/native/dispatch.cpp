// Chooses the instruction set once, at run time.
#include <cstdlib>
#include <cstring>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "kernels.h"

namespace {

bool runs(const MeshnetTable* table) {
  if (!table) return false;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!std::strcmp(table->name, "avx512"))
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma");
  if (!std::strcmp(table->name, "avx2")) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return true;
}

const MeshnetTable* choose(const char* name) {
  const MeshnetTable* const tables[] = {meshnet_avx512(), meshnet_avx2(), meshnet_portable()};
  for (const MeshnetTable* table : tables)
    if (runs(table) && (!name || !std::strcmp(table->name, name))) return table;
  return nullptr;
}

const MeshnetTable* chosen = choose(nullptr);

const MeshnetTable& table(int is_double) { return is_double ? *meshnet_double() : *chosen; }

}  // namespace

#define EXPORT __attribute__((visibility("default")))

extern "C" {

// The name of the instruction set in use.
EXPORT const char* meshnet_name() { return chosen->name; }

// Uses a named instruction set instead; returns 0, or 1 when this machine or this build does not have it.
EXPORT int meshnet_use(const char* name) {
  const MeshnetTable* table = choose(name);
  if (table) chosen = table;
  return table ? 0 : 1;
}

// Asks for huge pages under fresh memory: fewer page faults and address look-ups. Advice only, nothing can fail.
EXPORT void meshnet_advise(void* memory, std::size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  const std::uintptr_t page = 4096, begin = (reinterpret_cast<std::uintptr_t>(memory) + page - 1) / page * page;
  const std::uintptr_t end = (reinterpret_cast<std::uintptr_t>(memory) + bytes) / page * page;
  if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)memory, (void)bytes;
#endif
}

EXPORT int meshnet_forward(int is_double, const MeshnetForward* f) { return table(is_double).forward(*f); }
EXPORT int meshnet_backward(int is_double, const MeshnetBackward* f) { return table(is_double).backward(*f); }
EXPORT int meshnet_pointwise(int is_double, const MeshnetPointwise* p) { return table(is_double).pointwise(*p); }
EXPORT int meshnet_pointwise_backward(int is_double, const MeshnetPointwise* p) {
  return table(is_double).pointwise_backward(*p);
}
EXPORT int meshnet_scores(int is_double, const MeshnetScores* s) { return table(is_double).scores(*s); }
EXPORT int meshnet_scores_backward(int is_double, const MeshnetScores* s) {
  return table(is_double).scores_backward(*s);
}
EXPORT int meshnet_affine(int is_double, const MeshnetAffine* p) { return table(is_double).affine(*p); }

}
