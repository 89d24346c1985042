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

  // Call f(image's first value, number of the image), on all threads: an image's rows stay in one core's cache.
  template <class T, class F>
  void each(T* x, F f) const {
    const int64_t grain = std::max<int64_t>(1, 8192 / std::max<int64_t>(1, moved()));
    at::parallel_for(0, images, grain, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) f(x + n * image + start, n);
    });
  }
};

// The shuffled channels start, start + step, … of x, which is contiguous in either memory format.
Places places(const Tensor& x, int64_t shuffled, int64_t start, int64_t step) {
  const int64_t channels = x.size(1), area = x.size(2) * x.size(3);
  if (x.is_contiguous()) return {x.size(0), channels * area, start * area, shuffled, step * area, area, 1};
  return {x.size(0), channels * area, start, area, channels, shuffled, step};
}

// While it lives, the values are in the order of the permutation.
template <class T>
class Shuffled {
 public:
  Shuffled(Tensor& x, const Tensor& order, const Places& p)
      : saved_(at::empty({p.images * p.moved()}, x.options().requires_grad(false))),
        x_(static_cast<T*>(x.data_ptr())),
        from_(static_cast<T*>(saved_.data_ptr())),
        places_(p) {
    const int64_t m = p.moved();
    const int64_t* pi = order.const_data_ptr<int64_t>();
    std::atomic<bool> outside{false};
    p.each(x_, [&](T* x, int64_t n) {
      T* saved = from_ + n * m;
      for (int64_t i = 0; i < p.rows; ++i) {
        const T* row = x + i * p.row;
        __builtin_prefetch(row + AHEAD * p.row, 1);
        for (int64_t j = 0; j < p.length; ++j) saved[i * p.length + j] = row[j * p.step];
      }
      bool wrong = false;
      for (int64_t i = 0; i < p.rows; ++i) {
        T* row = x + i * p.row;
        const int64_t* of_row = pi + i * p.length;
        for (int64_t j = 0; j < p.length; ++j) {
          const int64_t k = of_row[j];
          if (static_cast<uint64_t>(k) < static_cast<uint64_t>(m)) row[j * p.step] = saved[k];
          else wrong = true;
        }
      }
      if (wrong) outside = true;
    });
    if (outside) {
      restore();
      TORCH_CHECK_INDEX(false, "the permutation of an ss convolution has a value outside 0 … ", m - 1);
    }
  }
  ~Shuffled() { restore(); }
  Shuffled(const Shuffled&) = delete;

 private:
  void restore() {
    const Places& p = places_;
    p.each(x_, [&](T* x, int64_t n) {
      const T* saved = from_ + n * p.moved();
      for (int64_t i = 0; i < p.rows; ++i) {
        T* row = x + i * p.row;
        __builtin_prefetch(row + AHEAD * p.row, 1);
        for (int64_t j = 0; j < p.length; ++j) row[j * p.step] = saved[i * p.length + j];
      }
    });
  }
  Tensor saved_;
  T* x_;
  T* from_;
  Places places_;
};

template <class T>
Tensor convolve_as(Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, const Tensor& order,
                   const Places& p, IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation, int64_t groups) {
  Shuffled<T> shuffled(x, order, p);
  return at::conv2d(x, weight, bias, stride, padding, dilation, groups);
}

// conv(P(x)), by elements of the same width, whatever their type is.
Tensor convolve(Tensor x, const Tensor& weight, const std::optional<Tensor>& bias, const Tensor& order, int64_t start,
                int64_t step, IntArrayRef stride, IntArrayRef padding, IntArrayRef dilation, int64_t groups) {
  const int64_t area = x.size(2) * x.size(3);
  const Places p = places(x, area ? order.size(0) / area : 0, start, step);
  const auto with = x.element_size() == 2   ? convolve_as<uint16_t>
                    : x.element_size() == 4 ? convolve_as<uint32_t>
                                            : convolve_as<uint64_t>;
  return with(x, weight, bias, order.contiguous(), p, stride, padding, dilation, groups);
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

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) { module.def("conv2d", &conv2d); }
