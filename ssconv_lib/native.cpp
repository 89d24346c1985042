// The fast path of SSConv2d for the CPU, compiled: what inplace.py does, without Python between the steps.
//
// Behind a convolution the caches hold its data, so each Python call there costs many times what it costs in a loop
// of its own. Here one call checks the input, saves the values that move, writes them in the order of the
// permutation, convolves and restores, and the backward is a node of its own. The results are those of the Python
// form, bit for bit.

#include <ATen/Parallel.h>
#include <ATen/TracerMode.h>
#include <ATen/autocast_mode.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/core/impl/TorchDispatchModeTLS.h>
#include <torch/extension.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <optional>
#include <tuple>
#include <vector>

namespace {

using at::IntArrayRef;
using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using Gradients = std::tuple<Tensor, Tensor, Tensor>;  // of input, weight and bias; undefined where not needed

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

// The transpose of the permutation, in place: the value at k goes back to order[k].
template <class T>
bool unshuffle_as(T* x, T* moved, const int64_t* order, const Places& p) {
  const int64_t m = p.moved();
  std::atomic<bool> outside{false};
  p.each(x, [&](T* image, int64_t n) {
    T* target = moved + n * m;
    bool wrong = false;
    p.each_row(image, [&](T* row, int64_t i) {
      for (int64_t j = 0; j < p.length; ++j) {
        const int64_t k = order[i * p.length + j];
        if (static_cast<uint64_t>(k) < static_cast<uint64_t>(m)) {
          target[k] = row[j * p.step];
        } else {
          wrong = true;
        }
      }
    });
    if (wrong) outside = true;
  });
  if (!outside) restore_as(x, moved, p);
  return !outside;
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

// The permutation, which counts in (c, h, w) order, for values in the order (h, w, c), that of channels_last.
Tensor memory_order(const Tensor& permutation, int64_t area) {
  const int64_t m = permutation.size(0), shuffled = m / area;
  const Tensor pi = permutation.contiguous();
  Tensor order = at::empty_like(pi);
  const int64_t* from = pi.const_data_ptr<int64_t>();
  int64_t* to = order.mutable_data_ptr<int64_t>();
  for (int64_t c = 0; c < shuffled; ++c) {
    for (int64_t p = 0; p < area; ++p) {
      const auto k = static_cast<uint32_t>(from[c * area + p]);  // of 32 bits, whose division is quicker
      const auto channel = k / static_cast<uint32_t>(area);
      const bool inside = static_cast<uint64_t>(from[c * area + p]) < static_cast<uint64_t>(m);
      to[p * shuffled + c] = inside ? (k - channel * static_cast<uint32_t>(area)) * shuffled + channel : -1;
    }
  }
  return order;
}

// Which values of an input move, and how: the channels start, start + step, … by a permutation.
struct Shuffle {
  Tensor permutation;  // counted in (c, h, w) order, that of contiguous tensors
  Tensor last;         // the same in the order of channels_last; undefined until it is asked for
  int64_t start, step;

  const Tensor& order_of(const Tensor& x) {
    if (x.is_contiguous()) return permutation;
    if (!last.defined()) last = memory_order(permutation, x.size(2) * x.size(3));
    return last;
  }

  // How many channels of x move; nothing is written to an x that the permutation wasn't drawn for.
  int64_t channels_of(const Tensor& x) const {
    TORCH_CHECK_VALUE(x.dim() == 4, "an ss convolution of an input of shape ", x.sizes(), ": expected (N, C, H, W)");
    const int64_t m = permutation.numel(), area = std::max<int64_t>(1, x.size(2) * x.size(3)), shuffled = m / area;
    const bool fits = m % area == 0 && start >= 0 && step > 0 && start + (shuffled - 1) * step < x.size(1);
    TORCH_CHECK_VALUE(fits, "an ss convolution of an input of shape ", x.sizes(), ": its permutation of ", m,
                      " values, of channels ", start, " and every ", step, " on, was drawn for another shape");
    return shuffled;
  }

  Places places_of(const Tensor& x) const { return places(x, channels_of(x), start, step); }

  static Tensor room(const Tensor& x, const Places& p) {
    return at::empty({p.images * p.moved()}, x.options().requires_grad(false));
  }

  static void expect(bool right, const Places& p) {
    TORCH_CHECK_INDEX(right, "the permutation of an ss convolution has a value outside 0 … ", p.moved() - 1);
  }

  void restore(const Tensor& x, const Tensor& saved) const {
    const Places p = places_of(x);
    by_width(x, [&](auto width) { restore_as(at_of<decltype(width)>(x), at_of<decltype(width)>(saved), p); });
  }

  // Shuffle x in place and return what it held; x is contiguous or channels_last.
  Tensor apply(const Tensor& x) {
    const Places p = places_of(x);
    const Tensor order = order_of(x).contiguous(), saved = room(x, p);
    const bool right = by_width(x, [&](auto width) {
      using T = decltype(width);
      return shuffle_as(at_of<T>(x), at_of<T>(saved), order.const_data_ptr<int64_t>(), p);
    });
    if (!right) restore(x, saved);
    expect(right, p);
    return saved;
  }

  // Undo it, which is its transpose.
  void undo(const Tensor& x) {
    const Places p = places_of(x);
    const Tensor order = order_of(x).contiguous(), moved = room(x, p);
    expect(by_width(x, [&](auto width) {
      using T = decltype(width);
      return unshuffle_as(at_of<T>(x), at_of<T>(moved), order.const_data_ptr<int64_t>(), p);
    }), p);
  }

  // The same as a new tensor, for what is differentiated once more or can't be written (shuffle.spatial_shuffle).
  Tensor functional(const Tensor& x, const Tensor& pi) const {
    const int64_t stop = start + (channels_of(x) - 1) * step + 1;
    const Tensor values = x.slice(1, start, stop, step), flat = values.reshape({x.size(0), pi.size(0)});
    return x.slice_scatter(flat.gather(1, pi.expand_as(flat)).reshape(values.sizes()), 1, start, stop, step);
  }
};

// x, shuffled while this lives.
class WhileShuffled {
 public:
  WhileShuffled(const Tensor& x, Shuffle& shuffle) : x_(x), shuffle_(shuffle), saved_(shuffle.apply(x)) {}
  ~WhileShuffled() { shuffle_.restore(x_, saved_); }
  WhileShuffled(const WhileShuffled&) = delete;
  WhileShuffled& operator=(const WhileShuffled&) = delete;

 private:
  const Tensor& x_;
  Shuffle& shuffle_;
  const Tensor saved_;
};

struct Geometry {
  IntArrayRef stride, padding, dilation;
  int64_t groups;
};

// conv(P(x)); x is as it was when this returns or throws.
Tensor convolve(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, Shuffle shuffle,
                const Geometry& g) {
  const WhileShuffled now(x, shuffle);
  return at::conv2d(x, weight, bias, g.stride, g.padding, g.dilation, g.groups);
}

bool is_dense(const Tensor& x) { return x.is_contiguous() || x.is_contiguous(at::MemoryFormat::ChannelsLast); }

// Values in memory, and nothing beside them: no subclass, no zero, no tangent.
bool is_plain(const Tensor& x) {
  const c10::DispatchKeySet special{c10::DispatchKey::Python, c10::DispatchKey::ZeroTensor};
  return x.has_storage() && !x.key_set().has_any(special) && !x._fw_grad(0).defined();
}

// As inplace.can_write; a second of the others may be missing.
bool can_write(const Tensor& x, const Tensor& other, const std::optional<Tensor>& second = std::nullopt) {
  const auto is_apart = [&](const Tensor& one) { return is_plain(one) && !x.is_alias_of(one); };
  const bool width = x.element_size() == 2 || x.element_size() == 4 || x.element_size() == 8;
  return x.device().is_cpu() && x.layout() == at::kStrided && x.dim() == 4 && width && is_plain(x) && is_dense(x) &&
         is_apart(other) && (!second || is_apart(*second)) &&
         !c10::impl::TorchDispatchModeTLS::any_modes_set() && !at::tracer::impl::is_dispatch_enabled() &&
         !c10::impl::tls_is_dispatch_key_included(c10::DispatchKey::FuncTorchDynamicLayerFrontMode) &&
         (!x.is_inference() || c10::InferenceMode::is_enabled());
}

// The gradients of conv(P(x)). They can be differentiated again, since then nothing is written.
Gradients gradients(const Tensor& grad, const Tensor& x, const Tensor& weight, bool has_bias, Shuffle shuffle,
                    const Geometry& g, std::array<bool, 3> needed) {
  const std::vector<int64_t> bias_sizes{weight.size(0)}, none{0, 0};
  const auto of = [&](const Tensor& shuffled) {
    return at::convolution_backward(grad, shuffled, weight,
                                    has_bias ? at::OptionalIntArrayRef(bias_sizes) : std::nullopt, g.stride, g.padding,
                                    g.dilation, false, none, g.groups, needed);
  };
  Gradients found;
  const bool once = !at::GradMode::is_enabled();
  if (once && can_write(x, weight, grad)) {
    const WhileShuffled now(x, shuffle);
    found = of(x);
  } else {
    found = of(shuffle.functional(x, shuffle.permutation));
  }
  Tensor& dx = std::get<0>(found);
  if (needed[0] && once && can_write(dx, grad)) {
    shuffle.undo(dx);
  } else if (needed[0]) {
    dx = shuffle.functional(dx, shuffle.permutation.argsort());
  }
  return found;
}

// conv(P(x)) for training, as inplace.ShuffledConv: it saves what the plain convolution saves, and P(x) nowhere.
struct ShuffledConv : torch::autograd::Function<ShuffledConv> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                        const Shuffle& shuffle, const Geometry& g) {
    // as inplace.ShuffledConv: checkpointing counts what is saved, and takes either; π, so that its version is looked at
    ctx->save_for_backward({x, weight, shuffle.permutation});
    ctx->saved_data["last"] = shuffle.last;
    ctx->saved_data["where"] = std::vector<int64_t>{shuffle.start, shuffle.step, bias.has_value(), g.groups};
    ctx->saved_data["stride"] = g.stride;
    ctx->saved_data["padding"] = g.padding;
    ctx->saved_data["dilation"] = g.dilation;
    return convolve(x, weight, bias, shuffle, g);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const auto where = ctx->saved_data["where"].toIntVector(), stride = ctx->saved_data["stride"].toIntVector(),
               padding = ctx->saved_data["padding"].toIntVector(),
               dilation = ctx->saved_data["dilation"].toIntVector();
    const Tensor last = ctx->saved_data["last"].toTensor();
    const bool has_bias = where[2] != 0;
    const std::array<bool, 3> needed{ctx->needs_input_grad(0), ctx->needs_input_grad(1),
                                     has_bias && ctx->needs_input_grad(2)};
    auto [dx, dw, db] = gradients(grads[0], saved[0], saved[1], has_bias, {saved[2], last, where[0], where[1]},
                                  {stride, padding, dilation, where[3]}, needed);
    return {dx, dw, db, Tensor(), Tensor()};
  }
};

// What autocast makes of an argument of a convolution.
Tensor as_autocast(const Tensor& x) {
  if (!at::autocast::is_autocast_enabled(at::kCPU)) return x;
  return at::autocast::cached_cast(at::autocast::get_autocast_dtype(at::kCPU), x, c10::DeviceType::CPU);
}

// For eager mode: nothing where the input can't be written, or π is not what was looked at.
std::optional<Tensor> conv2d(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                             const Tensor& permutation, int64_t version, const Tensor& last, int64_t channels,
                             int64_t height, int64_t width, int64_t start, int64_t step,
                             const std::vector<int64_t>& stride, const std::vector<int64_t>& padding,
                             const std::vector<int64_t>& dilation, int64_t groups) {
  if (!can_write(x, weight, bias) || x.size(1) != channels || x.size(2) != height || x.size(3) != width ||
      permutation._version() != version || last.numel() != permutation.numel() ||
      (x.requires_grad() && x.is_leaf())) {
    return std::nullopt;
  }
  pybind11::gil_scoped_release release;
  const Shuffle shuffle{permutation, last, start, step};
  const Geometry geometry{stride, padding, dilation, groups};
  const bool grad = at::GradMode::is_enabled() &&
                    (x.requires_grad() || weight.requires_grad() || (bias && bias->requires_grad()));
  if (!grad) return convolve(x, weight, bias, shuffle, geometry);
  const std::optional<Tensor> cast = bias ? std::optional<Tensor>(as_autocast(*bias)) : std::nullopt;
  return ShuffledConv::apply(as_autocast(x), as_autocast(weight), cast, shuffle, geometry);
}

// For torch.compile: the operators of compiled.py.
Tensor compiled_conv2d(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                       const Tensor& permutation, int64_t start, int64_t step, IntArrayRef stride, IntArrayRef padding,
                       IntArrayRef dilation, int64_t groups) {
  const Tensor own = can_write(x, weight, bias) ? x : x.clone(x.suggest_memory_format());
  return convolve(own, weight, bias, {permutation, Tensor(), start, step}, {stride, padding, dilation, groups});
}

Gradients compiled_conv2d_backward(const Tensor& grad, const Tensor& x, const Tensor& weight, bool has_bias,
                                   const Tensor& permutation, int64_t start, int64_t step, IntArrayRef stride,
                                   IntArrayRef padding, IntArrayRef dilation, int64_t groups,
                                   std::array<bool, 3> needed) {
  auto [dx, dw, db] = gradients(grad, x, weight, has_bias, {permutation, Tensor(), start, step},
                                {stride, padding, dilation, groups}, needed);
  // an operator returns tensors, and what isn't needed may be there or not
  const auto filled = [&](const Tensor& one, bool need) { return need ? one : at::empty({0}, grad.options()); };
  return {filled(dx, needed[0]), filled(dw, needed[1]), filled(db, needed[2])};
}

}  // namespace

TORCH_LIBRARY_IMPL(ssconv, CPU, library) {
  library.impl("conv2d", &compiled_conv2d);
  library.impl("conv2d_backward", &compiled_conv2d_backward);
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) { module.def("conv2d", &conv2d); }
