// What a graph of neurons computes, vertex by vertex in double precision: the meaning of its attributes.
#pragma once

#include <cmath>
#include <map>
#include <sstream>

#include <deepstruct/graph/layered_graph.hpp>

#include "support/close.hpp"

namespace test {

inline double activated(const std::string& text, double z) {
  const std::string name = text.substr(0, text.find('('));
  const double p = text.find('(') == std::string::npos ? 0 : std::stod(text.substr(text.find('(') + 1));
  if (name.empty() || name == "none" || name == "-") return z;
  if (name == "relu") return std::max(z, 0.0);
  if (name == "tanh") return std::tanh(z);
  if (name == "sigmoid") return 1 / (1 + std::exp(-z));
  if (name == "silu") return z / (1 + std::exp(-z));
  if (name == "leaky_relu") return z > 0 ? z : p * z;
  if (name == "elu") return z > 0 ? z : p * std::expm1(z);
  throw std::runtime_error("no such activation in the reference: " + text);
}

/// The outputs for one sample, as exact references: magnitudes are those of the sums, carried through the network.
inline std::vector<Exact> evaluate(const deepstruct::LayeredGraph& g, const std::vector<float>& inputs) {
  using namespace deepstruct;
  const AttributeTable &on_vertices = g.vertex_attributes(), &on_edges = g.edge_attributes();
  const auto n = g.vertex_count();
  std::vector<double> value(n), size(n);  // and what errors of it are relative to
  std::map<Vertex, std::vector<std::int32_t>> into;
  for (std::int64_t k = 0; k < g.edge_count(); ++k)
    into[g.graph().edges()[k].target].push_back(static_cast<std::int32_t>(k));
  const auto text = [&](const char* name, Vertex v) {
    return on_vertices.contains(name) ? on_vertices.get<std::string>(name, v).value_or("") : "";
  };
  const auto number = [&](const char* name, Vertex v, double otherwise) {
    return on_vertices.contains(name) ? double{on_vertices.get<float>(name, v).value_or(static_cast<float>(otherwise))}
                                      : otherwise;
  };
  std::vector<Exact> outputs;
  std::size_t next = 0;
  double terms = 0;
  for (std::int64_t l = 0; l < g.num_layers(); ++l) {
    std::map<std::int64_t, std::vector<Vertex>> groups;
    std::map<Vertex, std::vector<double>> branches, spreads;
    for (const Vertex v : g.index().vertices(l)) {
      if (text("role", v) == "input") {
        value[v] = double{inputs.at(next++)};
        size[v] = std::fabs(value[v]);
        continue;
      }
      std::istringstream biases(text("biases", v)), activations(text("activations", v));
      std::string word;
      std::vector<double> z, m;
      while (biases >> word) z.push_back(word == "-" ? 0 : std::stod(word));
      if (z.empty()) z.push_back(number("bias", v, 0));
      std::size_t count = 0;
      while (activations >> word) ++count;
      z.resize(std::max(z.size(), count), 0);
      const bool greatest = text("aggregate", v) == "max";
      for (const double x : z) m.push_back(std::fabs(x));
      bool first = true;
      for (const std::int32_t k : into[v]) {
        const auto b = on_edges.contains("branch")
                           ? static_cast<std::size_t>(on_edges.get<std::int64_t>("branch", k).value_or(0))
                           : 0;
        if (b >= z.size()) z.resize(b + 1, 0), m.resize(b + 1, 0);
        const double w = double{*on_edges.get<float>("weight", k)}, term = w * value[g.graph().edges()[k].source];
        z[b] = greatest ? (first ? term : std::max(z[b], term)) : z[b] + term;
        m[b] = greatest ? std::max(m[b], std::fabs(term)) : m[b] + std::fabs(w) * size[g.graph().edges()[k].source];
        first = false;
        ++terms;
      }
      branches[v] = z;
      spreads[v] = m;
      if (!text("norm", v).empty()) groups[*on_vertices.get<std::int64_t>("norm_group", v)].push_back(v);
    }
    for (const auto& [group, members] : groups) {
      const std::string norm = text("norm", members[0]);
      const double count = static_cast<double>(members.size()), eps = number("norm_eps", members[0], 0);
      double mean = 0, variance = 0, greatest = -1e300, total = 0;
      for (const Vertex v : members) mean += branches[v][0] / count, greatest = std::max(greatest, branches[v][0]);
      for (const Vertex v : members) {
        variance += (branches[v][0] - mean) * (branches[v][0] - mean) / count;
        total += std::exp(branches[v][0] - greatest);
      }
      for (const Vertex v : members) {
        double& z = branches[v][0];
        double scale = 1;
        if (norm == "layer") scale = 1 / std::sqrt(variance + eps), z = (z - mean) * scale;
        if (norm == "batch")
          scale = 1 / std::sqrt(number("norm_variance", v, 1) + eps), z = (z - number("norm_mean", v, 0)) * scale;
        if (norm == "softmax") z = std::exp(z - greatest) / total;
        if (norm == "log_softmax") z = z - greatest - std::log(total);
        z = z * number("norm_weight", v, 1) + number("norm_bias", v, 0);
        spreads[v][0] = (spreads[v][0] + std::fabs(mean) + std::fabs(number("norm_mean", v, 0))) * scale *
                            std::fabs(number("norm_weight", v, 1)) +
                        std::fabs(number("norm_bias", v, 0)) + 1;
      }
    }
    for (const auto& [v, z] : branches) {
      std::istringstream activations(text("activations", v));
      std::string name = text("activation", v);
      value[v] = size[v] = 0;
      for (std::size_t b = 0; b < z.size(); ++b) {
        if (z.size() > 1 && !(activations >> name)) name.clear();
        value[v] += activated(name, z[b]);
        size[v] += spreads[v][b];
      }
    }
    for (const Vertex v : g.index().vertices(l))
      if (text("role", v) == "output") outputs.emplace_back(value[v], size[v], terms);
  }
  return outputs;
}

}  // namespace test
