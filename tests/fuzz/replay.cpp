// Replays the corpora without libFuzzer: every file, and cheap mutations of it that are the same on every machine.
// Usage: fuzz_replay CORPUS [MUTATIONS]          all targets; MUTATIONS of every target, 2000 by default
//        fuzz_replay CORPUS --target NAME FILE…  these files, without mutations
//        fuzz_replay CORPUS --models             writes the files of models that model_edit starts from
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <iostream>
#include <string>
#include <string_view>

#include <deepstruct/core/rng.hpp>
#include <deepstruct/train/bytes.hpp>

#include "targets.hpp"

namespace {

struct ReplayTarget {
  std::string_view name;
  void (*run)(fuzz::Bytes);
  int share = 1;  // of the mutations, one in so many
};
constexpr ReplayTarget replay_targets[] = {{"csv", fuzz::csv},
                                           {"edge_list", fuzz::edge_list},
                                           {"graphml", fuzz::graphml},
                                           {"gzip", fuzz::gzip, 2},
                                           {"idx", fuzz::idx},
                                           {"kernel_table", fuzz::kernel_table},
                                           {"model", fuzz::model, 4},
                                           {"model_edit", fuzz::model_edit, 4},
                                           {"network", fuzz::network, 2},
                                           {"npy", fuzz::npy},
                                           {"safetensors", fuzz::safetensors}};

using ReplayFile = std::vector<std::byte>;

struct ReplayInput {
  std::string name;
  ReplayFile bytes;
};

std::vector<ReplayInput> replay_inputs(const std::filesystem::path& folder) {
  std::vector<ReplayInput> all;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    all.push_back({entry.path().filename().string(), deepstruct::read_plain_file(entry.path())});
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return all;
}

/// A few changes of a file: bits, bytes that formats mean something by, pieces lost, doubled, or from another file.
ReplayFile replay_mutation(ReplayFile x, const ReplayFile& other, deepstruct::Rng& rng) {
  constexpr std::string_view telling("\0\xFF\x7F\x80\x01 \n\t,;:.-+<>/\"'&#[]{}()019eE", 32);
  const auto below = [&](std::size_t n) { return static_cast<std::ptrdiff_t>(rng.below(n)); };
  for (std::uint64_t left = 1 + rng.below(4); left > 0 && !x.empty(); --left) {
    const auto at = below(x.size());
    const auto most = std::min<std::size_t>(x.size() - static_cast<std::size_t>(at), 32);
    const auto length = 1 + below(most);
    switch (rng.below(7)) {
      case 0:
        x[static_cast<std::size_t>(at)] ^= static_cast<std::byte>(1 << rng.below(8));
        break;
      case 1:
        x[static_cast<std::size_t>(at)] =
            static_cast<std::byte>(telling[static_cast<std::size_t>(below(telling.size()))]);
        break;
      case 2:
        x.erase(x.begin() + at, x.begin() + at + length);
        break;
      case 3: {
        const ReplayFile piece(x.begin() + at, x.begin() + at + length);
        x.insert(x.begin() + below(x.size()), piece.begin(), piece.end());
        break;
      }
      case 4:
        x.insert(x.begin() + at, static_cast<std::byte>(telling[static_cast<std::size_t>(below(telling.size()))]));
        break;
      case 5:
        x.resize(static_cast<std::size_t>(at));
        break;
      default:
        if (other.empty()) break;
        x.resize(static_cast<std::size_t>(at));
        x.insert(x.end(), other.begin() + below(other.size()), other.end());
    }
  }
  return x;
}

/// Runs one input; false, with a line that says why, where it is a finding.
bool replay_one(const ReplayTarget& target, const std::string& name, fuzz::Bytes bytes) {
  try {
    target.run(bytes);
    return true;
  } catch (const std::exception& problem) {
    std::cerr << target.name << ": " << problem.what() << " (" << name << ")\n";
    return false;
  }
}

bool replay_target(const ReplayTarget& target, const std::filesystem::path& folder, std::int64_t mutations) {
  const std::vector<ReplayInput> all = replay_inputs(folder);
  bool good = !all.empty();
  if (!good) std::cerr << target.name << ": the corpus is empty\n";
  for (const ReplayInput& input : all) good &= replay_one(target, input.name, input.bytes);
  deepstruct::Rng rng(1);
  const std::int64_t runs = all.empty() ? 0 : mutations / target.share;
  for (std::int64_t k = 0; k < runs && good; ++k) {
    const ReplayInput& input = all[static_cast<std::size_t>(k) % all.size()];
    const ReplayInput& other = all[rng.below(all.size())];
    const ReplayFile changed = replay_mutation(input.bytes, other.bytes, rng);
    good &= replay_one(target, input.name + ", mutation " + std::to_string(k), changed);
  }
  std::cout << target.name << ": " << all.size() << " files, " << runs << " mutations\n";
  return good;
}

int replay(const std::vector<std::string>& arguments) {
  if (arguments.empty()) {
    std::cerr << "usage: fuzz_replay CORPUS [MUTATIONS | --target NAME FILE... | --models]\n";
    return 2;
  }
  const std::filesystem::path corpus = arguments[0];
  if (arguments.size() > 1 && arguments[1] == "--models") {
    const auto files = fuzz::model_files();
    for (std::size_t k = 0; k < files.size(); ++k) {
      std::ofstream out(corpus / ("base_" + std::to_string(k)), std::ios::binary);
      out.write(reinterpret_cast<const char*>(files[k].data()), static_cast<std::streamsize>(files[k].size()));
    }
    return 0;
  }
  bool good = true;
  if (arguments.size() > 2 && arguments[1] == "--target") {
    for (const ReplayTarget& target : replay_targets)
      for (std::size_t k = 3; k < arguments.size() && target.name == arguments[2]; ++k)
        good &= replay_one(target, arguments[k], deepstruct::read_plain_file(arguments[k]));
    return good ? 0 : 1;
  }
  std::int64_t mutations = 2000;
  if (arguments.size() > 1) {
    const std::string& text = arguments[1];
    std::from_chars(text.data(), text.data() + text.size(), mutations);
  }
  for (const ReplayTarget& target : replay_targets) good &= replay_target(target, corpus / target.name, mutations);
  return good ? 0 : 1;
}

}  // namespace

/// An allocation that no file of a few kilobytes should cause is a finding, where the address sanitizer watches.
extern "C" const char* __asan_default_options() { return "max_allocation_size_mb=128"; }

int main(int count, char** arguments) {
  try {
    return replay({arguments + 1, arguments + count});
  } catch (const std::exception& problem) {
    std::cerr << "fuzz_replay: " << problem.what() << "\n";
    return 1;
  }
}
