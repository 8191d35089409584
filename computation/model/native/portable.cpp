// Vectors of 16 bytes, which every compiler turns into SSE2, NEON or plain code. ARM's 64-bit NEON has 32 registers.
#define TABLE meshnet_portable
#define TABLE_NAME "portable"
#define REAL float
#define VECTOR_BYTES 16
#if defined(__aarch64__)
#define ACCUMULATORS 24
#define MOST_OUT 8
#define PAIR 4
#else
#define ACCUMULATORS 12
#define MOST_OUT 6
#define PAIR 3
#endif
#define MOST_EDGE 4
#include "kernels.inc"
