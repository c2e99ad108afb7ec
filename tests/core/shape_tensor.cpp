// Shape, the layout formula, Tensor, Indices, Eigen maps, errors.
#include <deepstruct/core/eigen.hpp>
#include <deepstruct/core/nest.hpp>

#include "support/cases.hpp"

using namespace deepstruct;

TEST_CASE("leading stride: tight below 16, whole lines above, an odd number of them beyond a tile") {
  STATIC_REQUIRE(leading_stride(0) == 0);
  STATIC_REQUIRE(leading_stride(64) == 64);
  STATIC_REQUIRE(leading_stride(65) == 80);
  STATIC_REQUIRE(leading_stride(128) == 144);
  STATIC_REQUIRE(leading_stride(256) == 272);
  for (std::int64_t n = 1; n <= 300; ++n) {
    const std::int64_t ld = leading_stride(n);
    INFO("n " << n << ", ld " << ld);
    REQUIRE(ld >= n);
    if (n < 16) {
      REQUIRE(ld == n);
    } else {
      REQUIRE(ld % 16 == 0);
      REQUIRE(ld < n + (n > 64 ? 32 : 16));
      if (n > 64) REQUIRE(ld / 16 % 2 == 1);
    }
  }
}

TEST_CASE("offset is ((i1·d2 + i2)·d3 + i3)·ld + i0, and the strides say the same") {
  for (std::int64_t d0 : {1, 5, 16, 17, 65}) {
    const Shape s{d0, 3, 4, 2};
    REQUIRE(s.size() == d0 * 24);
    REQUIRE(s.rows() == 24);
    REQUIRE(s.storage() == 24 * leading_stride(d0));
    for (std::int64_t i0 = 0; i0 < d0; ++i0)
      for (std::int64_t i1 = 0; i1 < 3; ++i1)
        for (std::int64_t i2 = 0; i2 < 4; ++i2)
          for (std::int64_t i3 = 0; i3 < 2; ++i3) {
            const std::int64_t want = ((i1 * 4 + i2) * 2 + i3) * leading_stride(d0) + i0;
            REQUIRE(s.offset(i0, i1, i2, i3) == want);
            REQUIRE(i0 * s.stride(0) + i1 * s.stride(1) + i2 * s.stride(2) + i3 * s.stride(3) == want);
          }
  }
}

TEST_CASE("shapes: rank, equality, text, errors") {
  REQUIRE(Shape{}.rank() == 0);
  REQUIRE(Shape{}.size() == 1);
  REQUIRE(Shape{2, 3} != Shape{2, 3, 1});
  REQUIRE(Shape{0, 3}.size() == 0);
  std::ostringstream text;
  text << Shape{2, 0, 5} << Shape{};
  REQUIRE(text.str() == "[2, 0, 5][]");
  test::require_error([] { Shape{1, 2, 3, 4, 5}; }, {"Shape:", "4", "5"});
  test::require_error([] { Shape{2, -3}; }, {"Shape:", "-3"});
  const std::int64_t big = std::int64_t{1} << 39;
  test::require_error([&] { Shape{big, big}; }, {"Shape:", "too many elements"});
  test::require_error([&] { Shape{0, big, big}; }, {"Shape:", "too many elements"});
  REQUIRE(normalize_dim(-1, 3, "op") == 2);
  test::require_error([] { normalize_dim(3, 3, "op"); }, {"op:", "3"});
  test::require_error([] { normalize_dim(-4, 3, "op"); }, {"op:", "-4"});
}

TEST_CASE("tensors give back the values they were made from, in row-major order") {
  test::Poison poison;
  Rng rng(3);
  for (std::int64_t d0 : {0, 1, 2, 15, 16, 17, 65})
    for (const Shape& s : {Shape{d0}, Shape{d0, 3}, Shape{d0, 2, 3}, Shape{d0, 2, 1, 3}}) {
      std::vector<float> values;
      for (std::int64_t i = 0; i < s.size(); ++i) values.push_back(rng.normal());
      const Tensor t = Tensor::from(s, values);
      REQUIRE(t.to_vector() == values);
      std::size_t k = 0;
      for (std::int64_t i0 = 0; i0 < s[0]; ++i0)
        for (std::int64_t i1 = 0; i1 < s[1]; ++i1)
          for (std::int64_t i2 = 0; i2 < s[2]; ++i2)
            for (std::int64_t i3 = 0; i3 < s[3]; ++i3) REQUIRE(t.at(i0, i1, i2, i3) == values[k++]);
    }
}

TEST_CASE("tensors are values") {
  Tensor a = Tensor::from({2, 3}, {1, 2, 3, 4, 5, 6});
  Tensor b = a;
  b(1, 2) = 7;
  REQUIRE(a.at(1, 2) == 6);
  REQUIRE(a != b);
  b(1, 2) = 6;
  REQUIRE(a == b);
  const float* data = b.data();
  Tensor c = std::move(b);
  REQUIRE(c.data() == data);
  REQUIRE(b.size() == 0);  // NOLINT: a moved-from tensor is empty, not broken
  REQUIRE(b.to_vector().empty());
  b = c;
  REQUIRE(b == c);
  b = std::move(c);
  REQUIRE(b == a);
  REQUIRE(Tensor::from({6}, {1, 2, 3, 4, 5, 6}) != a);
  REQUIRE(reinterpret_cast<std::uintptr_t>(a.data()) % 64 == 0);
}

TEST_CASE("equality does not look at padding") {
  Tensor a = Tensor::full({17, 2}, 1), b = Tensor::full({17, 2}, 1);
  a.data()[20] = 5;
  REQUIRE(a == b);
  b(16, 1) = 2;
  REQUIRE_FALSE(a == b);
}

TEST_CASE("tensor errors name rule and values") {
  Tensor t = Tensor::zeros({2, 3});
  test::require_error([&] { t.at(2, 0); }, {"at:", "2 of extent 2"});
  test::require_error([&] { t.at(0, -1); }, {"at:", "-1"});
  test::require_error([&] { t.at(0, 0, 1); }, {"at:", "1 of extent 1"});
  test::require_error([&] { t.item(); }, {"item:", "[2, 3]"});
  test::require_error([] { Tensor::from({2, 3}, {1, 2}); }, {"[2, 3]", "6", "2"});
  test::require_error([] { Tensor::uniform({2}, 1, 0); }, {"uniform", "1 > 0"});
  test::require_error([] { Tensor::normal({2}, 0, -1); }, {"normal", "-1"});
  REQUIRE(Tensor::scalar(4).item() == 4);
}

TEST_CASE("with_shape keeps the storage or refuses") {
  Rng rng(1);
  const Tensor t = Tensor::normal({20, 6}, 0, 1, rng);
  Tensor u = t;
  const float* data = u.data();
  const Tensor v = std::move(u).with_shape({20, 2, 3});
  REQUIRE(v.data() == data);
  REQUIRE(v.to_vector() == t.to_vector());
  Tensor w = t;
  test::require_error([&] { std::move(w).with_shape({6, 20}); }, {"with_shape", "[20, 6]", "[6, 20]"});
  test::require_error([&] { std::move(w).with_shape({20, 7}); }, {"with_shape", "[20, 6]", "[20, 7]"});
  REQUIRE(w == t);
}

TEST_CASE("views address the matrix of a tensor") {
  const Tensor t = Tensor::from({2, 2, 2}, {1, 2, 3, 4, 5, 6, 7, 8});
  const auto m = t.view();
  REQUIRE(m.rows == 2);
  REQUIRE(m.cols == 4);
  REQUIRE(m.col(3)[1] == 8);
  REQUIRE(m.col(2)[0] == 3);
  const strided_view<const float> s = strided_view<const float>(m).transposed();
  REQUIRE(s.rows == 4);
  REQUIRE(s.data[3 * s.s0 + 1 * s.s1] == 8);
}

TEST_CASE("a loop nest visits what the shape holds, merging what is one run") {
  const auto offsets = [](const nest<1>& n) {
    std::vector<std::int64_t> all;
    for (std::int64_t d = 0; d < n.extent[3]; ++d)
      for (std::int64_t c = 0; c < n.extent[2]; ++c)
        for (std::int64_t b = 0; b < n.extent[1]; ++b)
          for (std::int64_t a = 0; a < n.extent[0]; ++a)
            all.push_back(a * n.stride[0][0] + b * n.stride[0][1] + c * n.stride[0][2] + d * n.stride[0][3]);
    std::sort(all.begin(), all.end());
    return all;
  };
  for (const Shape& s :
       {Shape{3, 2, 4, 5}, Shape{17, 1, 3}, Shape{1, 4, 1, 2}, Shape{16, 3}, Shape{}, Shape{2, 0, 3}}) {
    std::vector<std::int64_t> want;
    for (std::int64_t r = 0; r < s.rows(); ++r)
      for (std::int64_t i = 0; i < s[0]; ++i) want.push_back(r * s.ld() + i);
    REQUIRE(offsets(make_nest<1>(s, {strides_of(s)})) == want);
  }
  REQUIRE(make_nest<1>(Shape{16, 3, 2}, {strides_of(Shape{16, 3, 2})}).depth == 1);
  REQUIRE(make_nest<1>(Shape{17, 3, 2}, {strides_of(Shape{17, 3, 2})}).depth == 2);
  REQUIRE(broadcast_strides({3, 1}, {4, 3, 5}) == std::array<std::int64_t, 4>{0, 1, 0, 0});
}

TEST_CASE("Eigen reads and writes tensors without a copy") {
  for (std::int64_t rows : {1, 5, 17, 65}) {
    Rng rng(2);
    Tensor t = Tensor::normal({rows, 3}, 0, 1, rng);
    const Tensor before = t;
    auto m = as_eigen(t);
    REQUIRE(m.data() == t.data());
    REQUIRE((m.rows() == rows && m.cols() == 3 && m.outerStride() == t.ld()));
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < 3; ++j) REQUIRE(m(i, j) == t(i, j));
    m *= 2;
    REQUIRE(t(rows - 1, 2) == 2 * before(rows - 1, 2));
    REQUIRE(to_tensor(as_eigen(before).transpose()).shape() == Shape{3, rows});
    REQUIRE(to_tensor(as_eigen(before).transpose()).at(2, rows - 1) == before(rows - 1, 2));
    REQUIRE(to_tensor(as_eigen(before).cast<double>()) == before);
  }
}

TEST_CASE("errors join their parts; texts are made only on failure") {
  REQUIRE(test::error_of([] { fail("op: broken (", 3, " and ", Shape{2}, ")"); }) == "op: broken (3 and [2])");
  REQUIRE(test::error_of([] { fail("op: kinds (", 'c', ", ", true, ", ", 1.5f, ", ", std::size_t{7}, ")"); }) ==
          "op: kinds (c, 1, 1.5, 7)");
  REQUIRE_NOTHROW(check(true, "never"));
  REQUIRE(test::error_of([] { check(1 > 2, "op: rule (", 1, ")"); }) == "op: rule (1)");
}

TEST_CASE("a program without CUDA says so") {
  if constexpr (!has_cuda) {
    REQUIRE_FALSE(cuda_available());
    test::require_error([] { on(Device::cuda, [](auto) {}); }, {"on: this program is built without CUDA"});
    test::require_error([] { (void)Tensor::zeros({3}, Device::cuda); }, {"Buffer: this program is built without CUDA"});
    test::require_error([] { (void)to(Tensor::zeros({3}), Device::cuda); }, {"to: this program is built without CUDA"});
    test::require_error([] { finish(Device::cuda); }, {"finish: this program is built without CUDA"});
  }
  REQUIRE(on(Device::cpu, [](auto device) { return std::is_same_v<decltype(device), cpu>; }));
}
