// One convolution and its gradients through the kernels' C interface: numbers in on stdin, numbers out on stdout.
// In: 8 int64 (batch, in, out, depth, height, width, dilation, kernel), then float32 input, weight, bias, gradient.
// Out: float32 output and input gradient, float64 weight and bias gradients.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "kernels.h"

extern "C" int meshnet_forward(int, const MeshnetForward*);
extern "C" int meshnet_backward(int, const MeshnetBackward*);

template <class T> void transfer(std::size_t done, const std::vector<T>& values) {
  if (done != values.size()) std::exit(2);
}
template <class T> std::vector<T> take(std::size_t count) {
  std::vector<T> values(count);
  transfer(std::fread(values.data(), sizeof(T), count, stdin), values);
  return values;
}
template <class T> void give(const std::vector<T>& values) {
  transfer(std::fwrite(values.data(), sizeof(T), values.size(), stdout), values);
}

int main() {
  const std::vector<std::int64_t> n = take<std::int64_t>(8);
  MeshnetConv conv{n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], 0, 2};
  const std::size_t voxels = n[0] * n[3] * n[4] * n[5], taps = n[7] * n[7] * n[7];
  const std::vector<float> input = take<float>(voxels * n[1]), weight = take<float>(n[1] * n[2] * taps);
  const std::vector<float> bias = take<float>(n[2]), grad = take<float>(voxels * n[2]);
  std::vector<float> output(voxels * n[2]), grad_input(input.size());
  std::vector<double> grad_weight(weight.size()), grad_bias(bias.size());

  MeshnetForward forward{};
  forward.conv = conv, forward.input = input.data(), forward.weight = weight.data(), forward.bias = bias.data();
  forward.output = output.data();
  MeshnetBackward backward{};
  backward.conv = conv, backward.grad = grad.data(), backward.input = input.data(), backward.weight = weight.data();
  backward.grad_input = grad_input.data(), backward.grad_weight = grad_weight.data();
  backward.grad_bias = grad_bias.data();
  if (meshnet_forward(0, &forward) || meshnet_backward(0, &backward)) return 1;
  give(output), give(grad_input), give(grad_weight), give(grad_bias);
}
