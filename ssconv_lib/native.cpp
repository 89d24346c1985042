// The fast path of SSConv2d for the CPU, compiled: what inplace.py does, without Python between the steps.
//
// Behind a convolution the caches hold its data, so each Python call there costs many times what it costs in a loop
// of its own. Here one call checks the input, saves the values that move, writes them in the order of the
// permutation, convolves and restores. The results are those of the Python form, bit for bit.

#include <ATen/Parallel.h>
#include <ATen/TracerMode.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/core/impl/TorchDispatchModeTLS.h>
#include <torch/extension.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <vector>

namespace {

using at::IntArrayRef;
using at::Tensor;

constexpr int64_t AHEAD = 16;  // rows to ask memory for: in channels_last each lies in cache lines of its own

// Where the values that move lie in memory: rows of `length` values for each image; strides in elements.
struct Places {
  int64_t images, image, start, rows, row, length, step;

  int64_t moved() const { return rows * length; }  // m, an image's values

  // Call f(an image's first value, its number), on all threads.
  template <class T, class F>
  void each(T* x, F f) const {
    const int64_t grain = std::max<int64_t>(1, 8192 / std::max<int64_t>(1, moved()));
    at::parallel_for(0, images, grain, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) f(x + n * image + start, n);
    });
  }

  // Call f(a row's first value, its number), having asked memory for rows to come.
  template <class T, class F>
  void each_row(T* image, F f) const {
    for (int64_t i = 0; i < rows; ++i) {
      __builtin_prefetch(image + (i + AHEAD) * row, 1);
      f(image + i * row, i);
    }
  }
};

// The shuffled channels start, start + step, … of x, which is contiguous in either memory format.
Places places(const Tensor& x, int64_t shuffled, int64_t start, int64_t step) {
  const int64_t channels = x.size(1), area = x.size(2) * x.size(3);
  if (x.is_contiguous()) return {x.size(0), channels * area, start * area, shuffled, step * area, area, 1};
  return {x.size(0), channels * area, start, area, channels, shuffled, step};
}

// Save the values that move and write them in the order of the permutation; an image at a time, so that its rows are
// still in the cache when they are written.
template <class T>
bool shuffle_as(T* x, T* saved, const int64_t* order, const Places& p) {
  const int64_t m = p.moved();
  std::atomic<bool> outside{false};
  p.each(x, [&](T* image, int64_t n) {
    T* kept = saved + n * m;
    p.each_row(image, [&](T* row, int64_t i) {
      for (int64_t j = 0; j < p.length; ++j) kept[i * p.length + j] = row[j * p.step];
    });
    bool wrong = false;
    p.each_row(image, [&](T* row, int64_t i) {
      for (int64_t j = 0; j < p.length; ++j) {
        const int64_t k = order[i * p.length + j];
        if (static_cast<uint64_t>(k) < static_cast<uint64_t>(m)) {
          row[j * p.step] = kept[k];
        } else {
          wrong = true;  // and memory outside is not read
        }
      }
    });
    if (wrong) outside = true;
  });
  return !outside;
}

template <class T>
void restore_as(T* x, const T* saved, const Places& p) {
  p.each(x, [&](T* image, int64_t n) {
    const T* kept = saved + n * p.moved();
    p.each_row(image, [&](T* row, int64_t i) {
      for (int64_t j = 0; j < p.length; ++j) row[j * p.step] = kept[i * p.length + j];
    });
  });
}

// Do something with memory by elements of x's width, whatever their type is.
template <class F>
auto by_width(const Tensor& x, F f) {
  if (x.element_size() == 2) return f(uint16_t{});
  if (x.element_size() == 4) return f(uint32_t{});
  TORCH_CHECK(x.element_size() == 8, "an ss convolution of ", x.dtype(), ": expected elements of 2, 4 or 8 bytes");
  return f(uint64_t{});
}

template <class T>
T* at_of(const Tensor& tensor) {
  return static_cast<T*>(tensor.data_ptr());
}

void restore(const Tensor& x, const Tensor& saved, int64_t start, int64_t step) {
  const int64_t images = std::max<int64_t>(1, x.size(0)), area = std::max<int64_t>(1, x.size(2) * x.size(3));
  const Places p = places(x, saved.size(0) / images / area, start, step);
  by_width(x, [&](auto width) { restore_as(at_of<decltype(width)>(x), at_of<decltype(width)>(saved), p); });
}

// Shuffle x in place, and return what it held; x is in a memory format of its own, contiguous or channels_last.
Tensor shuffle(const Tensor& x, const Tensor& order, int64_t start, int64_t step) {
  const int64_t area = std::max<int64_t>(1, x.size(2) * x.size(3));
  const Places p = places(x, order.size(0) / area, start, step);
  const Tensor pi = order.contiguous();
  Tensor saved = at::empty({p.images * p.moved()}, x.options().requires_grad(false));
  const bool right = by_width(x, [&](auto width) {
    using T = decltype(width);
    return shuffle_as(at_of<T>(x), at_of<T>(saved), pi.const_data_ptr<int64_t>(), p);
  });
  if (!right) restore(x, saved, start, step);
  TORCH_CHECK_INDEX(right, "the permutation of an ss convolution has a value outside 0 … ", p.moved() - 1);
  return saved;
}

// Undo π in place, which is its transpose: the value at k goes back to π[k].
void unshuffle(const Tensor& x, const Tensor& order, int64_t start, int64_t step) {
  const int64_t area = std::max<int64_t>(1, x.size(2) * x.size(3));
  const Places p = places(x, order.size(0) / area, start, step);
  const int64_t m = p.moved();
  Tensor inverse = at::empty_like(order, at::MemoryFormat::Contiguous);
  inverse.scatter_(0, order, at::arange(m, order.options()));
  shuffle(x, inverse, start, step);
}

// conv(P(x)); x is as it was when this returns or throws.
Tensor convolve(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, const Tensor& order,
                int64_t start, int64_t step, IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation,
                int64_t groups) {
  struct Shuffled {
    const Tensor &x, saved;
    int64_t start, step;
    ~Shuffled() { restore(x, saved, start, step); }
  } shuffled{x, shuffle(x, order, start, step), start, step};
  return at::conv2d(x, weight, bias, stride, padding, dilation, groups);
}

bool is_dense(const Tensor& x) { return x.is_contiguous() || x.is_contiguous(at::MemoryFormat::ChannelsLast); }

// As inplace.can_write; the types of the tensors and forward-mode differentiation are the caller's to look at.
bool can_write(const Tensor& x, const Tensor& weight) {
  const bool width = x.element_size() == 2 || x.element_size() == 4 || x.element_size() == 8;
  return x.device().is_cpu() && x.layout() == at::kStrided && x.dim() == 4 && width && is_dense(x) &&
         !c10::impl::TorchDispatchModeTLS::any_modes_set() && !at::tracer::impl::is_dispatch_enabled() &&
         !c10::impl::tls_is_dispatch_key_included(c10::DispatchKey::FuncTorchDynamicLayerFrontMode) &&
         (!x.is_inference() || c10::InferenceMode::is_enabled()) && !x.is_alias_of(weight);
}

// For eager mode: nothing where the input can't be written, or a gradient is wanted, or π is not what was looked at.
std::optional<Tensor> conv2d(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                             const Tensor& permutation, int64_t version, const Tensor& memory_order, int64_t channels,
                             int64_t height, int64_t width, int64_t start, int64_t step,
                             const std::vector<int64_t>& stride, const std::vector<int64_t>& padding,
                             const std::vector<int64_t>& dilation, int64_t groups) {
  const bool grad = at::GradMode::is_enabled() &&
                    (x.requires_grad() || weight.requires_grad() || (bias && bias->requires_grad()));
  if (grad || !can_write(x, weight) || x.size(1) != channels || x.size(2) != height || x.size(3) != width ||
      permutation._version() != version || (x.requires_grad() && x.is_leaf())) {
    return std::nullopt;
  }
  pybind11::gil_scoped_release release;
  const Tensor& order = x.is_contiguous() ? permutation : memory_order;
  return convolve(x, weight, bias, order, start, step, stride, padding, dilation, groups);
}

// For torch.compile: the operator of compiled.py.
Tensor compiled_conv2d(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, const Tensor& order,
                       bool channels_last, int64_t start, int64_t step, IntArrayRef stride, IntArrayRef padding,
                       IntArrayRef dilation, int64_t groups) {
  const bool ready = can_write(x, weight) && channels_last != x.is_contiguous();
  const auto format = channels_last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
  return convolve(ready ? x : x.clone(format), weight, bias, order, start, step, stride, padding, dilation, groups);
}

}  // namespace

TORCH_LIBRARY_IMPL(ssconv, CPU, library) { library.impl("conv2d", &compiled_conv2d); }

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  const auto free = pybind11::call_guard<pybind11::gil_scoped_release>();
  module.def("conv2d", &conv2d);
  module.def("shuffle", &shuffle, free);
  module.def("restore", &restore, free);
  module.def("unshuffle", &unshuffle, free);
}
