// Float64, for gradient checks and probes of what depends on what: small rather than fast.
#define TABLE meshnet_double
#define TABLE_NAME "double"
#define REAL double
#define VECTOR_BYTES 16
#define ACCUMULATORS 4
#define MOST_OUT 4
#define PAIR 2
#define MOST_EDGE 2
#include "kernels.inc"
