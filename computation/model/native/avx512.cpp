// AVX-512: 32 registers of 64 bytes.
#define TABLE meshnet_avx512
#define TABLE_NAME "avx512"
#if defined(__AVX512F__)
#define REAL float
#define VECTOR_BYTES 64
#define ACCUMULATORS 25
#define MOST_OUT 8
#define PAIR 5
#define MOST_EDGE 4
#include "kernels.inc"
#else
#include "kernels.h"
const MeshnetTable* TABLE() { return nullptr; }
#endif
