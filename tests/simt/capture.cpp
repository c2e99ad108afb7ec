// Work that is captured, and repeated by launches: nothing happens before, all of it each time, with memory of its own;
// and copies that pass through pinned memory.
#include <cstring>
#include <memory>
#include <optional>

#include <deepstruct/kernels/cuda.hpp>

#include "../../kernels/staging.hpp"
#include "cases.hpp"

using namespace deepstruct;
using runtime::Buffer;
using runtime::Capture;

namespace {

constexpr std::int64_t size = 70;

std::vector<float> numbers(float first) {
  std::vector<float> v(size);
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = first + static_cast<float>(i);
  return v;
}
Buffer<float> on_device(const std::vector<float>& v) { return Buffer<float>(std::span<const float>(v)); }
cuda here() { return cuda{runtime::current_stream}; }
/// y += x, of whole buffers.
void add(const Buffer<float>& x, const Buffer<float>& y) {
  kernels::add_into(here(), x.data(), y.data(), static_cast<std::int64_t>(x.size()));
}
void expect(const Buffer<float>& got, float factor, const char* what) {
  const std::vector<float> v = got.to_host();
  for (std::size_t i = 0; i < v.size(); ++i)
    check(v[i] == factor * (1 + static_cast<float>(i)), what, ": got ", v[i], ", want ",
          factor * (1 + static_cast<float>(i)), " at ", i);
}
template <class F>
void expect_error(F&& f, const char* words) {
  try {
    f();
  } catch (const Error& e) {
    check(std::strstr(e.what(), words) != nullptr, "the error is: ", e.what());
    return;
  }
  fail("no error: ", words);
}

const test::Register repeated("capture: is done by launches only, and by each", [] {
  const Buffer<float> one = on_device(numbers(1)), sum(size);
  Capture work([&] {
    runtime::fill(sum.data(), 0, size * sizeof(float), runtime::current_stream, "test");
    add(one, sum);
    Buffer<float> other(size, runtime::current_stream);
    runtime::copy_on_device(other.data(), sum.data(), size * sizeof(float), runtime::current_stream, "test");
    add(other, sum);  // twice
    const std::vector<float> gone = numbers(1);
    runtime::copy_to_device(other.data(), gone.data(), size * sizeof(float), runtime::current_stream, "test");
    add(other, sum);  // three times
  });
  add(one, one);
  runtime::fill(sum.data(), 0xFF, size * sizeof(float), nullptr, "test");
  const float first = sum.to_host()[0];
  check(first != first, "something was done while it was captured (", first, ")");
  for (int k = 0; k < 3; ++k) {
    work.launch(nullptr);
    expect(sum, 5, "2 + 2 + 1");
    runtime::fill(sum.data(), 0xFF, size * sizeof(float), nullptr, "test");
  }
  Capture moved = std::move(work);
  expect_error([&] { work.launch(nullptr); }, "nothing is captured");
  moved.launch(nullptr);
  expect(sum, 5, "moved");
});

const test::Register memory("capture: its memory is its own, and kept while it may be read", [] {
  std::optional<Buffer<float>> before = on_device(numbers(1)), result;
  float *inner = nullptr, *again = nullptr;
  std::optional<Capture> work(std::in_place, [&] {
    {
      const Buffer<float> scratch(size, runtime::current_stream);
      inner = scratch.data();
    }
    result.emplace(size);    // read in the default stream later
    again = result->data();  // the block that was given back
    runtime::fill(result->data(), 0, size * sizeof(float), runtime::current_stream, "test");
    add(*before, *result);
    before.reset();  // but what is captured reads it
    const Buffer<float> more(size, runtime::current_stream);
    check(more.data() != again, "a block was given to two");
  });
  check(inner == again, "a block that was given back did not serve again");
  for (int k = 0; k < 2; ++k) {
    const Buffer<float> a = on_device(numbers(7)), b = on_device(numbers(7)), c = on_device(numbers(7));
    check(a.data() != inner && b.data() != inner && c.data() != inner, "a block of the capture serves another");
    work->launch(nullptr);
    expect(*result, 1, "result");
  }
  work.reset();
  expect(*result, 1, "what outlives the capture");
  // Given back while the capture lives, it is nobody's.
  work.emplace([&] {
    result.emplace(size);
    runtime::fill(result->data(), 0, size * sizeof(float), runtime::current_stream, "test");
  });
  work->launch(nullptr);
  runtime::synchronize(nullptr);
  const float* was = result->data();
  result.reset();
  const Buffer<float> next = on_device(numbers(1));
  check(next.data() != was, "a block that launches write was given away");
  work->launch(nullptr);
  expect(next, 1, "not overwritten");
});

const test::Register refused("capture: what waits for the device is refused, and all is as before", [] {
  const Buffer<float> one = on_device(numbers(1));
  std::vector<float> host(size);
  const auto stream = [] { return runtime::current_stream; };
  expect_error([&] { Capture([&] { runtime::synchronize(stream()); }); }, "must not wait");
  expect_error([&] { Capture([&] { runtime::copy_to_host(host.data(), one.data(), 4, stream(), "copy"); }); },
               "copy: captured work must not wait");
  expect_error([&] { Capture([&] { Capture([] {}); }); }, "captures already");
  expect_error(
      [&] {
        Capture([&] {
          const Buffer<float> lost(size, stream());
          add(one, lost);
          fail("of its own");
        });
      },
      "of its own");
  check(runtime::capturing == nullptr, "this thread still captures");
  check(runtime::current_stream == nullptr, "this thread is still in the capture's stream");
  expect(one, 1, "after refusals");
  Capture nothing([] {});
  nothing.launch(nullptr);
});

const test::Register drawn("capture: draws anew with every launch, as the kernels do", [] {
  const std::int64_t rows = 9, cols = 5, ld = 9;
  const std::vector<float> ones(static_cast<std::size_t>(ld * cols), 1.0f);
  const Buffer<float> x = on_device(ones), y(ones.size()), z(ones.size()), want(ones.size());
  const auto drop = [&](const Buffer<float>& to, Draw draw) {
    kernels::dropout(here(), {x.data(), rows, cols, ld}, {to.data(), rows, cols, ld}, 0.5f, draw);
  };
  const Draw first{5, 3};
  Capture work([&] { drop(y, {5, 3}), drop(z, {5, 4}); }, first);
  for (const Draw begin : {Draw{5, 3}, Draw{5, 100}, Draw{77, 0}}) {
    work.launch(nullptr, begin);
    for (const auto& [got, number] : {std::pair{&y, begin.number}, std::pair{&z, begin.number + 1}}) {
      drop(want, {begin.seed, number});
      check(got->to_host() == want.to_host(), "other numbers than those of the draw (", number, ")");
    }
  }
  check(work.draws() == 2 && Capture([] {}).draws() == 0, "other numbers of draws (", work.draws(), ")");
  expect_error([&] { Capture([&] { drop(y, {6, 3}); }, first); }, "draws from one generator");
  expect_error([&] { Capture([&] { drop(y, {5, 2}); }, first); }, "draws from one generator");
});

/// A device that copies only when it is waited for, or asked to run.
struct LazyDevice {
  struct State {
    struct Copy {
      char* to;
      const char* from;
      std::size_t bytes;
    };
    std::vector<std::unique_ptr<char[]>> pinned;
    std::vector<Copy> copies;
    std::size_t done = 0;
    int waits = 0;
    void run(std::size_t until) {
      for (; done < until; ++done) std::memcpy(copies[done].to, copies[done].from, copies[done].bytes);
    }
  };
  using Mark = std::size_t;
  State* state;

  char* pin(std::size_t bytes) const { return state->pinned.emplace_back(new char[bytes]).get(); }
  void copy(void* to, const void* from, std::size_t bytes, void*) const {
    state->copies.push_back({static_cast<char*>(to), static_cast<const char*>(from), bytes});
  }
  Mark mark(void*, Mark) const { return state->copies.size(); }
  void wait(Mark mark) const {
    ++state->waits;
    state->run(mark);
  }
};

const test::Register staged("capture: copies through pinned memory arrive, however late the device is", [] {
  for (const std::size_t total : {1, 15, 16, 17, 48, 100, 1000}) {
    LazyDevice::State state;
    runtime::Staging<LazyDevice> staging(16, 3, LazyDevice{&state});
    std::vector<char> to(3 * total);
    std::vector<char> want(3 * total);
    for (std::size_t part = 0; part < 3; ++part) {
      std::vector<char> from(total);
      for (std::size_t i = 0; i < total; ++i)
        from[i] = want[part * total + i] = static_cast<char>(i * 7 + part * 31 + total);
      staging.copy(to.data() + part * total, from.data(), total, nullptr);
      from.assign(total, '?');  // it has been read
    }
    state.run(state.copies.size());
    check(to == want, "bytes differ (", total, ")");
    check(state.pinned.size() == std::min<std::size_t>(3, (total + 15) / 16 * 3), "other blocks than needed (",
          state.pinned.size(), " for ", total, " bytes)");
    check(total > 16 || state.waits == 0, "waited without need (", state.waits, ")");
  }
});

}  // namespace
