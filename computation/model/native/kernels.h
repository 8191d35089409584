// The C interface between Python (ctypes) and the kernels. Plain structures, no torch headers: the library is
// built by any C++17 compiler, once per instruction set, and works with every torch.
#pragma once
#include <cstdint>

extern "C" {

// One 3-D convolution, stride 1, padding = dilation * (kernel / 2), kernel 1 or 3. Volumes are contiguous NCDHW.
struct MeshnetConv {
  std::int64_t batch, in, out, depth, height, width, dilation, kernel;
  std::int64_t activation;  // of the input, see Activation
  std::int64_t threads;
};

// output = conv(activation(scale * input + shift)) + bias, and the statistics of the output.
struct MeshnetForward {
  MeshnetConv conv;
  const void* input;   // (batch, in, D, H, W)
  const void* scale;   // (batch, in), or null: the input is used as it is
  const void* shift;   // (batch, in)
  const void* weight;  // (out, in, k, k, k)
  const void* bias;    // (out) or null
  void* output;        // (batch, out, D, H, W)
  double* moments;     // (batch, out, 2): mean and sum of squared deviations, or null
};

// Given g = grad * of_grad + output * of_output + constant, the gradient at the convolution's output:
// grad_weight, grad_bias, and the gradient before the input's activation with its two normalisation sums.
struct MeshnetBackward {
  MeshnetConv conv;
  const void* grad;        // (batch, out, D, H, W)
  const void* output;      // (batch, out, D, H, W), or null: g = grad
  const void* of_grad;     // (batch, out) each
  const void* of_output;
  const void* constant;
  const void* input;       // as in MeshnetForward
  const void* scale;
  const void* shift;
  const void* weight;
  void* grad_input;        // d loss / d (scale * input + shift), or null
  const void* mean;        // (batch, in) of the input, with rstd; null: no sums
  const void* rstd;
  double* sums;            // (batch, in, 2): sum of grad_input and of grad_input * (input - mean) * rstd
  double* grad_weight;     // (out, in, k, k, k) or null
  double* grad_bias;       // (out) or null
};

// The elementwise layers alone: output = activation(scale * input + shift), and its backward.
struct MeshnetPointwise {
  std::int64_t batch, channels, voxels, activation, threads;
  const void* input;
  const void* scale;
  const void* shift;
  const void* grad;        // backward only: gradient at the activation's output
  void* output;            // forward: the activation; backward: gradient before the activation
  const void* mean;        // backward only, as above; null: no sums
  const void* rstd;
  double* sums;
};

// target = target * of_grad + other * of_output + constant, per (batch, channel); in place.
struct MeshnetAffine {
  std::int64_t batch, channels, voxels, threads;
  void* target;
  const void* other;
  const void* of_grad;
  const void* of_output;
  const void* constant;
};

// Per sample and class k, over the voxels with softmax probabilities p and label y: the sums of p_k, of p_k where
// y = k, of 1 where y = k, of -log p_k where y = k, and of -log p_k. Backward: the gradient of sum(of_sums * sums).
struct MeshnetScores {
  std::int64_t batch, classes, voxels, threads;
  const void* scores;          // (batch, classes, voxels)
  const std::int64_t* labels;  // (batch, voxels)
  double* sums;                // forward: (batch, classes, 5)
  const void* of_sums;         // backward: (batch, classes, 5)
  void* grad;                  // backward: like scores
};

}

enum class Activation : std::int64_t { none = 0, relu = 1, elu = 2, gelu = 3 };

// What one instruction set offers. Every function returns 0, or 1 when memory ran out.
struct MeshnetTable {
  const char* name;
  int (*forward)(const MeshnetForward&);
  int (*backward)(const MeshnetBackward&);
  int (*pointwise)(const MeshnetPointwise&);
  int (*pointwise_backward)(const MeshnetPointwise&);
  int (*affine)(const MeshnetAffine&);
  int (*scores)(const MeshnetScores&);
  int (*scores_backward)(const MeshnetScores&);
};

const MeshnetTable* meshnet_avx512();
const MeshnetTable* meshnet_avx2();
const MeshnetTable* meshnet_portable();
const MeshnetTable* meshnet_double();
