// What the GPU benchmarks share: time by graph replays over rotating data, errors against double, JSON.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "../../kernels/runtime.hpp"

namespace bench {

using deepstruct::runtime::Buffer;

inline void require(cudaError_t e, const char* what) {
  deepstruct::check(e == cudaSuccess, what, ": ", cudaGetErrorString(e));
}

/// Seconds since the program began.
inline double seconds() {
  static const auto begin = std::chrono::steady_clock::now();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

inline double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v.empty() ? 0 : v[v.size() / 2];
}

/// The geometric mean of ratios, and the worst one.
struct Geomean {
  double log_sum = 0, worst = 1e30;
  int count = 0;
  void add(double ratio) {
    log_sum += std::log(ratio);
    worst = std::min(worst, ratio);
    ++count;
  }
  double value() const { return count ? std::exp(log_sum / count) : 0; }
};

/// Takes time on a stream.
class Watch {
 public:
  explicit Watch(cudaStream_t stream) : stream_(stream) {
    require(cudaEventCreate(&begin_), "event");
    require(cudaEventCreate(&end_), "event");
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch() {
    (void)cudaEventDestroy(begin_);
    (void)cudaEventDestroy(end_);
  }
  /// Microseconds of what `work` asks of the stream.
  template <class Work>
  double time(Work&& work) {
    float ms = 0;
    require(cudaEventRecord(begin_, stream_), "record");
    work();
    require(cudaEventRecord(end_, stream_), "record");
    require(cudaEventSynchronize(end_), "run");
    require(cudaEventElapsedTime(&ms, begin_, end_), "elapsed");
    return 1e3 * static_cast<double>(ms);
  }

 private:
  cudaStream_t stream_;
  cudaEvent_t begin_{}, end_{};
};

/// Microseconds of call(set), median over replays of a graph that calls every set of data in turn, so that caches see
/// new data and launch gaps of the host do not count. Calls that cannot be captured are made one by one.
inline double time_us(cudaStream_t stream, int sets, const std::function<void(int)>& call, double budget_us = 5000) {
  Watch watch(stream);
  const auto round = [&] {
    for (int s = 0; s < sets; ++s) call(s);
  };
  round();
  const double warm = watch.time(round);
  const int rounds = std::clamp(static_cast<int>(300 / warm), 1, 8), calls = rounds * sets;
  const auto all_rounds = [&] {
    for (int i = 0; i < rounds; ++i) round();
  };
  cudaGraph_t graph{};
  cudaGraphExec_t exec{};
  if (cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess) {
    bool fine = true;
    try {
      all_rounds();
    } catch (const std::exception&) {
      fine = false;
    }
    if (cudaStreamEndCapture(stream, &graph) != cudaSuccess || !fine || !graph ||
        cudaGraphInstantiate(&exec, graph, 0) != cudaSuccess)
      exec = nullptr;
    (void)cudaGetLastError();
  }
  const auto once = [&] {
    if (exec)
      require(cudaGraphLaunch(exec, stream), "replay");
    else
      all_rounds();
  };
  const double first = watch.time(once);
  const int replays = static_cast<int>(std::clamp(budget_us / std::max(1.0, first), 3.0, 15.0));
  std::vector<double> all;
  for (int i = 0; i < replays; ++i) all.push_back(watch.time(once) / calls);
  if (exec) (void)cudaGraphExecDestroy(exec);
  if (graph) (void)cudaGraphDestroy(graph);
  return median(std::move(all));
}

/// One object of a JSON file, field by field.
class Row {
 public:
  Row& text(const char* key, const std::string& value) {
    begin(key) << '"' << value << '"';
    return *this;
  }
  template <class T>
  Row& number(const char* key, T value) {
    std::ostringstream s;
    s.precision(6);
    s << value;
    const std::string t = s.str();
    begin(key) << (t.find_first_of("ni") == std::string::npos ? t : "null");  // nan, inf
    return *this;
  }
  Row& raw(const char* key, const std::string& value) {
    begin(key) << value;
    return *this;
  }
  std::string str() const { return "{" + out_.str() + "}"; }

 private:
  std::ostringstream& begin(const char* key) {
    if (out_.tellp() > 0) out_ << ", ";
    out_ << '"' << key << "\": ";
    return out_;
  }
  std::ostringstream out_;
};

}  // namespace bench
