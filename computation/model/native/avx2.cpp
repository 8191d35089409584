// AVX2 with fused multiply-add: 16 registers of 32 bytes.
#define TABLE meshnet_avx2
#define TABLE_NAME "avx2"
#if defined(__AVX2__) && defined(__FMA__)
#define REAL float
#define VECTOR_BYTES 32
#define ACCUMULATORS 12
#define MOST_OUT 6
#define PAIR 3
#define MOST_EDGE 4
#include "kernels.inc"
#else
#include "kernels.h"
const MeshnetTable* TABLE() { return nullptr; }
#endif
