// Layout and pictures of layered graphs: orders against brute force, texts by what a reader of SVG would find.
#include <deepstruct/graph/svg.hpp>

#include <functional>
#include <locale>
#include <map>
#include <set>
#include <sstream>

#include "support/catch.hpp"

using namespace deepstruct;

namespace {

/// The places of `part` in `text`.
std::int64_t svg_occurrences(const std::string& text, const std::string& part) {
  std::int64_t n = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++n;
  return n;
}
/// The group of a class, from its opening to its closing tag (groups within it are skipped); empty if there is none.
std::string svg_group(const std::string& text, const std::string& name) {
  const auto first = text.find("<g class=\"" + name + "\"");
  if (first == std::string::npos) return {};
  int depth = 0;
  for (auto at = first; at < text.size(); ++at) {
    if (text.compare(at, 3, "<g ") == 0) ++depth;
    if (text.compare(at, 4, "</g>") == 0 && --depth == 0) return text.substr(first, at - first);
  }
  return {};
}
/// Values of an attribute, in order.
std::vector<std::string> svg_values(const std::string& text, const std::string& attribute) {
  std::vector<std::string> all;
  const std::string start = " " + attribute + "=\"";
  for (auto at = text.find(start); at != std::string::npos; at = text.find(start, at)) {
    at += start.size();
    all.push_back(text.substr(at, text.find('"', at) - at));
  }
  return all;
}
/// Are tags balanced, attributes quoted and special characters escaped? What is wrong, or nothing.
std::string svg_fault(const std::string& text) {
  std::vector<std::string> open;
  const std::string declaration = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
  if (text.compare(0, declaration.size(), declaration) != 0) return "declaration";
  std::int64_t roots = 0;
  for (std::size_t at = declaration.size(); at < text.size(); ++at) {
    if (text[at] == '>') return "> at " + std::to_string(at);
    if (text[at] == '&') {
      const std::string name = text.substr(at, text.find(';', at) - at + 1);
      if (name != "&amp;" && name != "&lt;" && name != "&gt;" && name != "&quot;") return "entity " + name;
    }
    if (static_cast<unsigned char>(text[at]) < 32 && text[at] != '\n') return "control character";
    if (text[at] != '<') {
      if (open.empty() && text[at] != '\n') return "text outside";
      continue;
    }
    const auto end = text.find('>', at);
    if (end == std::string::npos) return "open tag";
    const std::string tag = text.substr(at + 1, end - at - 1);
    if (tag.find('<') != std::string::npos) return "< in a tag";
    if (svg_occurrences(tag, "\"") % 2 != 0 || svg_occurrences(tag, "\"") != 2 * svg_occurrences(tag, "=\""))
      return "quotes in " + tag;
    if (tag[0] == '/') {
      if (open.empty() || open.back() != tag.substr(1)) return "closes " + tag;
      open.pop_back();
    } else if (tag.back() != '/') {
      if (open.empty() && ++roots > 1) return "two roots";
      open.push_back(tag.substr(0, tag.find(' ')));
    }
    at = end;
  }
  return open.empty() && roots == 1 ? "" : "not closed";
}
/// First and last point of every path, sorted.
std::vector<std::array<double, 4>> svg_path_ends(const std::string& text) {
  std::vector<std::array<double, 4>> all;
  for (std::string d : svg_values(text, "d")) {
    std::vector<double> numbers;
    for (char& c : d)
      if (c == 'M' || c == 'C' || c == 'L') c = ' ';
    std::istringstream in(d);
    for (double x = 0; in >> x;) numbers.push_back(x);
    const auto n = numbers.size();
    all.push_back({numbers[0], numbers[1], numbers[n - 2], numbers[n - 1]});
  }
  std::sort(all.begin(), all.end());
  return all;
}
double svg_size(const std::string& text, const std::string& name) { return std::stod(svg_values(text, name).at(0)); }

/// Layers of random widths with edges of density p forward, and a few over more than one layer.
LayeredGraph svg_random(std::uint64_t seed, std::int64_t layers, std::uint64_t widest, float p, float skip) {
  Rng rng(seed);
  std::vector<std::int32_t> layer;
  for (std::int64_t l = 0; l < layers; ++l)
    for (std::uint64_t k = 1 + rng.below(widest); k > 0; --k) layer.push_back(static_cast<std::int32_t>(l));
  std::vector<Edge> edges;
  for (Vertex u = 0; u < static_cast<Vertex>(layer.size()); ++u)
    for (Vertex v = 0; v < static_cast<Vertex>(layer.size()); ++v)
      if (layer[u] < layer[v] && rng.uniform() < (layer[u] + 1 == layer[v] ? p : skip)) edges.push_back({u, v});
  return LayeredGraph::with_layers(Graph(static_cast<std::int64_t>(layer.size()), edges, true), layer);
}
LayeredGraph svg_path(std::int64_t n) {
  std::vector<Edge> edges;
  for (Vertex v = 1; v < n; ++v) edges.push_back({v - 1, v});
  return Graph(n, edges, true);
}
/// Every pair of edges.
std::int64_t svg_naive_crossings(const LayeredGraph& g, const std::vector<std::int32_t>& place) {
  std::int64_t n = 0;
  const auto& layer = g.index().layer;
  const auto edges = g.graph().edges();
  for (const Edge& e : edges)
    for (const Edge& f : edges) {
      if (layer[e.source] + 1 != layer[e.target] || layer[f.source] + 1 != layer[f.target]) continue;
      if (layer[e.source] != layer[f.source]) continue;
      n += place[e.source] < place[f.source] && place[e.target] > place[f.target];
    }
  return n;
}
std::vector<std::int32_t> svg_shuffled_places(const LayeredGraph& g, Rng& rng) {
  std::vector<std::int32_t> place = g.index().place;
  for (std::int64_t l = 0; l < g.num_layers(); ++l) {
    const auto order = rng.permutation(g.layer_size(l));
    for (const Vertex v : g.index().vertices(l)) place[v] = order[static_cast<std::size_t>(g.index().place[v])];
  }
  return place;
}
void svg_require_error(const std::function<void()>& f, const std::string& start) {
  std::string text = "no error";
  try {
    f();
  } catch (const Error& e) {
    text = e.what();
  }
  INFO("text: " << text);
  REQUIRE(text.substr(0, start.size()) == start);
}
SvgOptions svg_show(SvgDetail detail) {
  SvgOptions options;
  options.detail = detail;
  return options;
}

}  // namespace

TEST_CASE("crossings counts what brute force counts") {
  Rng rng(1);
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const LayeredGraph g = svg_random(seed, 1 + static_cast<std::int64_t>(seed % 6), 9, 0.4f, 0.1f);
    REQUIRE(crossings(g) == svg_naive_crossings(g, g.index().place));
    const auto place = svg_shuffled_places(g, rng);
    REQUIRE(crossings(g, place) == svg_naive_crossings(g, place));
  }
  // Complete: every pair of sources with every pair of targets.
  const LayeredGraph complete = svg_random(1, 2, 1, 1, 0);
  REQUIRE(crossings(complete) == 0);
  Graph g(7,
          std::vector<Edge>{
              {0, 3}, {0, 4}, {0, 5}, {0, 6}, {1, 3}, {1, 4}, {1, 5}, {1, 6}, {2, 3}, {2, 4}, {2, 5}, {2, 6}, {2, 2}},
          true);
  REQUIRE(crossings(g) == 3 * 6);
  REQUIRE(crossings(LayeredGraph()) == 0);
}

TEST_CASE("crossings checks the places") {
  const LayeredGraph g = svg_path(3);
  using Places = std::vector<std::int32_t>;
  svg_require_error([&] { crossings(g, Places{0, 0}); }, "crossings: needs a place for every vertex (2 for 3)");
  svg_require_error([&] { crossings(g, Places{0, 1, 0}); }, "crossings: no such place in the layer (1 of 1)");
  svg_require_error([&] { crossings(g, Places{0, -1, 0}); }, "crossings: no such place in the layer (-1 of 1)");
  svg_require_error(
      [&] {
        crossings(LayeredGraph(Graph(2, true)), Places{1, 1});
      },
      "crossings: two vertices have the same place (0 and 1 in layer 0)");
}

TEST_CASE("layered_order never has more crossings than the given order, and often far fewer") {
  std::int64_t given = 0, found = 0;
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    const LayeredGraph g = svg_random(seed, 2 + static_cast<std::int64_t>(seed % 7), 12, 0.2f, 0.03f);
    const auto place = layered_order(g);
    const auto now = crossings(g, place);  // throws unless places are a permutation in every layer
    REQUIRE(now <= crossings(g));
    REQUIRE(layered_order(g) == place);
    REQUIRE(layered_order(g, {.sweeps = 0}) == g.index().place);
    given += crossings(g);
    found += now;
  }
  REQUIRE(4 * found < 3 * given);
}

TEST_CASE("layered_order keeps a good order") {
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    const LayeredGraph g = svg_random(seed, 5, 10, 0.25f, 0.03f);
    // The same graph, its vertices numbered as they were placed.
    const auto place = layered_order(g);
    std::vector<Vertex> name(place.size());
    for (std::size_t v = 0; v < place.size(); ++v)
      name[v] = g.index().start[static_cast<std::size_t>(g.index().layer[v])] + place[v];
    std::vector<Edge> edges;
    for (const Edge& e : g.graph().edges()) edges.push_back({name[e.source], name[e.target]});
    std::vector<std::int32_t> layer(place.size());
    for (std::size_t v = 0; v < place.size(); ++v) layer[name[v]] = g.index().layer[v];
    const auto again = LayeredGraph::with_layers(Graph(g.vertex_count(), edges, true), layer);
    REQUIRE(crossings(again) == crossings(g, place));
    REQUIRE(crossings(again, layered_order(again)) <= crossings(again));
    REQUIRE(crossings(again, layered_order(again, {.sweeps = 1})) <= crossings(again));
  }
}

TEST_CASE("layered_order draws trees and grids flat whatever their numbering") {
  Rng rng(3);
  for (int trial = 0; trial < 5; ++trial) {
    const auto name = rng.permutation(127);
    std::vector<Edge> edges;
    for (Vertex v = 1; v < 127; ++v) edges.push_back({name[static_cast<std::size_t>((v - 1) / 2)], name[v]});
    const LayeredGraph tree = Graph(127, edges, true);
    REQUIRE(crossings(tree) > 0);
    REQUIRE(crossings(tree, layered_order(tree)) == 0);
  }
  const auto name = rng.permutation(90);
  std::vector<Edge> edges;
  for (std::size_t v = 0; v < 90; ++v) {
    if (v + 3 < 90) edges.push_back({name[v], name[v + 3]});
    if (v % 3 < 2) edges.push_back({name[v], name[v + 1]});
  }
  const LayeredGraph grid = Graph(90, edges, true);
  REQUIRE(crossings(grid, layered_order(grid)) == 0);
}

TEST_CASE("skip edges choose among orders with equal crossings") {
  // 0 and 1 lead to 2 and 3 over a layer that only 4 is in; nothing else orders them.
  Graph g(5, std::vector<Edge>{{0, 3}, {1, 2}, {0, 4}, {1, 4}, {4, 2}, {4, 3}}, true);
  const auto place = layered_order(LayeredGraph::with_layers(g, {0, 0, 2, 2, 1}));
  REQUIRE((place[0] < place[1]) == (place[3] < place[2]));
}

TEST_CASE("layered_layout keeps distances, the order and the height of the widest layer") {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const LayeredGraph g = svg_random(seed, 1 + static_cast<std::int64_t>(seed % 8), 15, 0.2f, 0.05f);
    const Layout layout = layered_layout(g);
    const auto place = layered_order(g);
    REQUIRE(layout.x.size() == place.size());
    REQUIRE(layout.y.size() == place.size());
    std::int64_t widest = 0;
    for (std::int64_t l = 0; l < g.num_layers(); ++l) widest = std::max(widest, g.layer_size(l));
    for (std::int64_t l = 0; l < g.num_layers(); ++l) {
      std::map<std::int32_t, float> column;
      for (const Vertex v : g.index().vertices(l)) {
        REQUIRE(layout.x[v] == static_cast<float>(l));
        REQUIRE(std::abs(layout.y[v]) <= static_cast<float>(widest - 1) / 2 + 1e-4f);
        column[place[v]] = layout.y[v];
      }
      for (auto at = column.begin(); std::next(at) != column.end(); ++at)
        REQUIRE(std::next(at)->second - at->second >= 1 - 1e-4f);
    }
  }
  REQUIRE(layered_layout(LayeredGraph()).x.empty());
  const Layout path = layered_layout(svg_path(50));
  REQUIRE(std::all_of(path.y.begin(), path.y.end(), [](float y) { return y == 0; }));
}

TEST_CASE("layered_layout puts the parents of a tree in the middle of their children") {
  std::vector<Edge> edges;
  for (Vertex v = 1; v < 40; ++v) edges.push_back({(v - 1) / 3, v});
  const LayeredGraph tree = Graph(40, edges, true);
  const Layout layout = layered_layout(tree);
  for (std::size_t v = 0; 3 * v + 3 < 40; ++v) {
    REQUIRE(layout.y[v] == Approx(layout.y[3 * v + 2]).margin(1e-4));
    REQUIRE(layout.y[v] == Approx((layout.y[3 * v + 1] + layout.y[3 * v + 3]) / 2).margin(1e-4));
  }
}

TEST_CASE("settle solves its least squares problem") {
  // Against projected coordinate search: no small move of any block of neighbours is better.
  Rng rng(8);
  std::vector<std::pair<double, double>> pools;
  for (int trial = 0; trial < 50; ++trial) {
    const std::size_t n = 1 + rng.below(8);
    std::vector<double> target(n), y;
    for (double& t : target) t = rng.uniform(-4, 4);
    y = target;
    const double gap = 1, half = 3.6;
    detail::settle(y, gap, half, pools);
    const auto feasible = [&](const std::vector<double>& z) {
      for (std::size_t k = 0; k < n; ++k)
        if (std::abs(z[k]) > half + 1e-9 || (k > 0 && z[k] - z[k - 1] < gap - 1e-9)) return false;
      return true;
    };
    const auto cost = [&](const std::vector<double>& z) {
      double sum = 0;
      for (std::size_t k = 0; k < n; ++k) sum += (z[k] - target[k]) * (z[k] - target[k]);
      return sum;
    };
    REQUIRE(feasible(y));
    for (std::size_t first = 0; first < n; ++first)
      for (std::size_t last = first; last < n; ++last)
        for (const double move : {-0.01, 0.01}) {
          auto moved = y;
          for (std::size_t k = first; k <= last; ++k) moved[k] += move;
          if (feasible(moved)) REQUIRE(cost(moved) >= cost(y) - 1e-9);
        }
  }
}

TEST_CASE("a full picture has every vertex and every edge once") {
  for (std::uint64_t seed = 0; seed < 15; ++seed) {
    LayeredGraph g = svg_random(seed, 1 + static_cast<std::int64_t>(seed % 8), 12, 0.3f, 0.05f);
    SvgOptions options = svg_show(SvgDetail::full);
    if (seed % 2 == 1) options.title = "A title";
    const std::string text = write_svg(g, options);
    REQUIRE(svg_fault(text) == "");
    REQUIRE(write_svg(g, options) == text);
    const std::string vertices = svg_group(text, "vertices"), edges = svg_group(text, "edges"),
                      skips = svg_group(text, "skips");
    const auto x = svg_values(vertices, "cx"), y = svg_values(vertices, "cy");
    REQUIRE(static_cast<std::int64_t>(x.size()) == g.vertex_count());
    REQUIRE(y.size() == x.size());
    std::set<std::pair<std::string, std::string>> positions;
    for (std::size_t v = 0; v < x.size(); ++v) positions.insert({x[v], y[v]});
    REQUIRE(positions.size() == x.size());

    std::vector<std::array<double, 4>> near, far;
    for (const Edge& e : g.graph().edges())
      (g.index().layer[e.target] - g.index().layer[e.source] > 1 ? far : near)
          .push_back({std::stod(x[e.source]), std::stod(y[e.source]), std::stod(x[e.target]), std::stod(y[e.target])});
    std::sort(near.begin(), near.end());
    std::sort(far.begin(), far.end());
    REQUIRE(svg_path_ends(edges) == near);
    REQUIRE(svg_path_ends(skips) == far);
    // All on a page of at most the wanted size.
    const double width = svg_size(text, "width"), height = svg_size(text, "height");
    REQUIRE(width <= options.width);
    REQUIRE(height <= options.height);
    const std::string move = svg_values(text, "transform").at(0);
    std::istringstream in(move.substr(std::string("translate(").size()));
    double right = 0, down = 0;
    in >> right >> down;
    const double radius = svg_size(vertices, "r");
    for (std::size_t v = 0; v < x.size(); ++v) {
      REQUIRE(std::stod(x[v]) + right >= radius);
      REQUIRE(std::stod(x[v]) + right + radius <= width);
      REQUIRE(std::stod(y[v]) + down >= radius);
      REQUIRE(std::stod(y[v]) + down + radius <= height);
    }
  }
}

TEST_CASE("pictures stay on small and large pages") {
  for (const double side : {300.0, 500.0, 3000.0})
    for (const auto& g : {svg_random(3, 9, 20, 0.3f, 0.1f), svg_path(120), svg_random(5, 1, 90, 0, 0), svg_path(2)})
      for (const SvgDetail detail : {SvgDetail::full, SvgDetail::summary}) {
        SvgOptions options = svg_show(detail);
        options.width = options.height = side;
        options.title = "Some title";
        const std::string text = write_svg(g, options);
        REQUIRE(svg_fault(text) == "");
        INFO("side " << side << " detail " << static_cast<int>(detail) << " vertices " << g.vertex_count());
        REQUIRE(svg_size(text, "width") <= side);
        REQUIRE(svg_size(text, "height") <= side);
      }
}

TEST_CASE("roles of vertices become colours") {
  // 0 -> 1 -> 2 -> 3, a dead end 0 -> 4, a vertex alone, a self loop.
  const LayeredGraph g = Graph(6, std::vector<Edge>{{0, 1}, {1, 2}, {2, 3}, {0, 4}, {1, 1}}, true);
  const std::string text = write_svg(g);
  const std::string input = "#009e73", hidden = "#4a5560", output = "#e69f00", dead = "#ffffff";
  REQUIRE(svg_values(svg_group(text, "vertices"), "fill") ==
          std::vector<std::string>{input, hidden, hidden, output, dead, dead});
  REQUIRE(svg_occurrences(svg_group(text, "edges"), "<path") == 5);
  REQUIRE(svg_occurrences(svg_group(text, "skips"), "<path") == 0);
  const std::string legend = svg_group(text, "legend");
  for (const char* name : {">input<", ">hidden<", ">output<", ">dead<"}) REQUIRE(svg_occurrences(legend, name) == 1);
  REQUIRE(svg_occurrences(legend, ">skip<") == 0);
  // Given layers: what layer 0 does not reach is dead, too.
  const std::string given = write_svg(LayeredGraph::with_layers(Graph(3, {{0, 2}, {1, 2}}, true), {0, 1, 2}));
  REQUIRE(svg_values(svg_group(given, "vertices"), "fill") == std::vector<std::string>{input, dead, output});
  REQUIRE(svg_occurrences(svg_group(given, "legend"), ">skip<") == 1);
}

TEST_CASE("labels are ids, and layers have numbers and widths") {
  LayeredGraph g;
  g.add_edges_from({{7, 40}, {7, 41}});
  const std::string text = write_svg(g);
  const std::string labels = svg_group(text, "labels"), axis = svg_group(text, "axis");
  for (const char* id : {">7<", ">40<", ">41<"}) REQUIRE(svg_occurrences(labels, id) == 1);
  REQUIRE(svg_occurrences(axis, "<text") == 6);
  REQUIRE(svg_occurrences(axis, ">1<") == 2);  // layer 1, width 1
  REQUIRE(svg_occurrences(axis, ">2<") == 1);  // width 2
  SvgOptions plain;
  plain.labels = plain.axis = plain.legend = false;
  const std::string bare = write_svg(g, plain);
  REQUIRE(svg_fault(bare) == "");
  REQUIRE(svg_occurrences(bare, "<text") == 0);
  REQUIRE(svg_occurrences(bare, "<circle") == 3);
  // No space for the ids of so many.
  REQUIRE(svg_group(write_svg(svg_path(200)), "labels").empty());
  // Of the numbers of 100 layers, as many as fit: every fifth.
  REQUIRE(svg_occurrences(svg_group(write_svg(svg_path(100)), "axis"), "<text") == 2 + 2 * 20);
}

TEST_CASE("weights become widths and colours") {
  const auto picture = [](auto... weights) {
    Graph g(4, std::vector<Edge>{{0, 1}, {1, 2}, {2, 3}}, true);
    std::int32_t k = 0;
    (g.edge_attributes().set("weight", k++, weights), ...);
    return write_svg(g);
  };
  const std::string text = picture(2.0f, -4.0f, 0.0f);
  REQUIRE(svg_fault(text) == "");
  const std::string edges = svg_group(text, "edges");
  // In ascending order of |w|: 0 grey, 2 blue, -4 the full red.
  REQUIRE(svg_values(edges, "stroke") == std::vector<std::string>{"#d6d6d6", detail::svg_colour(0.5), "#b2182b"});
  auto widths = svg_values(edges, "stroke-width");
  REQUIRE(widths.size() == 4);  // the group has one, too
  REQUIRE(std::stod(widths[1]) < std::stod(widths[2]));
  REQUIRE(std::stod(widths[2]) < std::stod(widths[3]));
  REQUIRE(svg_occurrences(text, ">weight −4<") == 1);
  REQUIRE(svg_occurrences(text, ">4</text>") == 1);

  REQUIRE(picture(2.0, -4.0, 0.0) == text);
  REQUIRE(picture(std::int64_t{2}, std::int64_t{-4}, std::int64_t{0}) == text);
  // Without numbers there is nothing to show.
  const std::string without = picture();
  REQUIRE(without != text);
  REQUIRE(picture(std::string("a"), std::string("b"), std::string("c")) == without);
  REQUIRE(picture(0.0f, 0.0f, 0.0f) == without);
  // An edge without a weight, or with none that is finite, is thin and grey.
  const double infinity = std::numeric_limits<double>::infinity();
  REQUIRE(picture(1.0, -2.0) == picture(1.0, -2.0, std::nan("")));
  REQUIRE(picture(1.0, -2.0, infinity) == picture(1.0, -2.0, std::nan("")));
  REQUIRE(svg_values(svg_group(picture(1.0, -2.0), "edges"), "stroke").at(0) == "#c4c9ce");

  SvgOptions other;
  other.weight = "a<b";
  Graph g(2, std::vector<Edge>{{0, 1}}, true);
  g.edge_attributes().set("a<b", 0, 1.5);
  const std::string named = write_svg(g, other);
  REQUIRE(svg_fault(named) == "");
  REQUIRE(svg_occurrences(named, ">a&lt;b −1.5<") == 1);
}

TEST_CASE("colours of weights are symmetric in strength") {
  REQUIRE(detail::svg_colour(1) == "#2166ac");
  REQUIRE(detail::svg_colour(-1) == "#b2182b");
  REQUIRE(detail::svg_colour(0) == "#d6d6d6");
  REQUIRE(detail::svg_colour(7) == detail::svg_colour(1));
}

TEST_CASE("a summary has a box per layer and a line per connected pair") {
  const LayeredGraph g = svg_random(4, 12, 40, 0.2f, 0.02f);
  const std::string text = write_svg(g, svg_show(SvgDetail::summary));
  REQUIRE(svg_fault(text) == "");
  REQUIRE(svg_occurrences(svg_group(text, "boxes"), "<rect") == 12);
  std::int64_t near = 0, far = 0;
  for (const LayerConnection& c : g.index().connections) (c.target_layer == c.source_layer + 1 ? near : far) += 1;
  REQUIRE(near == 11);
  REQUIRE(far > 12);
  REQUIRE(svg_occurrences(svg_group(text, "edges"), "<path") == near);
  REQUIRE(svg_occurrences(svg_group(text, "skips"), "<path") == far);
  REQUIRE(svg_occurrences(text, "<circle") == 3);  // of the legend
  // Height grows with width, and the text says it.
  const auto heights = svg_values(svg_group(text, "boxes"), "height");
  const std::string axis = svg_group(text, "axis");
  for (std::int64_t a = 0; a < 12; ++a) {
    REQUIRE(svg_occurrences(axis, ">" + std::to_string(g.layer_size(a)) + "<") >= 1);
    for (std::int64_t b = 0; b < 12; ++b)
      if (g.layer_size(a) > g.layer_size(b) + 1)
        REQUIRE(std::stod(heights[static_cast<std::size_t>(a)]) > std::stod(heights[static_cast<std::size_t>(b)]));
  }
  // Few lines carry their number of edges.
  const LayeredGraph few = Graph(5, std::vector<Edge>{{0, 1}, {0, 2}, {1, 3}, {2, 3}, {0, 3}, {3, 4}}, true);
  const std::string counts = svg_group(write_svg(few, svg_show(SvgDetail::summary)), "counts");
  REQUIRE(svg_occurrences(counts, ">2<") == 2);
  REQUIRE(svg_occurrences(counts, ">1<") == 2);
}

TEST_CASE("a summary groups the layers of a deep graph") {
  for (const std::int64_t layers : {80, 81, 200, 1001}) {
    const LayeredGraph g = svg_random(6, layers, 2, 0.7f, 0);
    const std::int64_t per = (layers + 79) / 80, columns = (layers + per - 1) / per;
    std::set<std::pair<std::int64_t, std::int64_t>> near;
    for (const LayerConnection& c : g.index().connections)
      if (c.source_layer / per != c.target_layer / per) near.insert({c.source_layer / per, c.target_layer / per});
    const std::string text = write_svg(g, svg_show(SvgDetail::summary));
    REQUIRE(svg_fault(text) == "");
    REQUIRE(svg_occurrences(svg_group(text, "boxes"), "<rect") == columns);
    REQUIRE(svg_occurrences(svg_group(text, "edges"), "<path") == static_cast<std::int64_t>(near.size()));
    const std::string axis = svg_group(text, "axis");
    REQUIRE(svg_occurrences(axis, "–") == (per == 1 ? 0 : columns - (layers % per == 1)));
  }
}

TEST_CASE("automatic pictures are summaries beyond the limits") {
  const LayeredGraph g = svg_random(9, 4, 12, 0.5f, 0);
  const auto summarised = [&](std::int64_t edges, std::int64_t side) {
    SvgOptions options;
    options.edge_limit = edges;
    options.side_limit = side;
    return !svg_group(write_svg(g, options), "boxes").empty();
  };
  std::int64_t side = g.num_layers();
  for (std::int64_t l = 0; l < 4; ++l) side = std::max(side, g.layer_size(l));
  REQUIRE(!summarised(g.edge_count(), side));
  REQUIRE(summarised(g.edge_count() - 1, side));
  REQUIRE(summarised(g.edge_count(), side - 1));
  SvgOptions layers;
  layers.side_limit = 9;
  REQUIRE(svg_group(write_svg(svg_path(9), layers), "boxes").empty());
  REQUIRE(!svg_group(write_svg(svg_path(10), layers), "boxes").empty());
  // As deep as it gets, without recursion.
  const std::string deep = write_svg(svg_path(200000));
  REQUIRE(svg_occurrences(svg_group(deep, "boxes"), "<rect") == 80);
  REQUIRE(svg_occurrences(svg_group(deep, "edges"), "<path") == 79);
}

TEST_CASE("pictures of nothing and of one vertex") {
  for (const SvgDetail detail : {SvgDetail::automatic, SvgDetail::full, SvgDetail::summary}) {
    const std::string none = write_svg(LayeredGraph(), svg_show(detail));
    REQUIRE(svg_fault(none) == "");
    REQUIRE(svg_occurrences(none, "<circle") == 0);
    const std::string one = write_svg(LayeredGraph(Graph(1, true)), svg_show(detail));
    REQUIRE(svg_fault(one) == "");
    REQUIRE(svg_occurrences(one, "nan") == 0);
    REQUIRE(svg_occurrences(one, "inf") == 0);
  }
  const std::string one = write_svg(LayeredGraph(Graph(1, true)));
  REQUIRE(svg_occurrences(svg_group(one, "vertices"), "<circle") == 1);
  const std::string alone = write_svg(LayeredGraph(Graph(12, true)));
  REQUIRE(svg_occurrences(svg_group(alone, "vertices"), "<circle") == 12);
  REQUIRE(svg_occurrences(alone, ">12<") == 1);  // the width; labels are 0 … 11
}

TEST_CASE("titles are escaped, made smaller and cut") {
  const auto titled = [](const std::string& title) {
    SvgOptions options;
    options.title = title;
    return write_svg(svg_path(3), options);
  };
  const std::string text = titled("a < b & \"c\" > d");
  REQUIRE(svg_fault(text) == "");
  REQUIRE(svg_occurrences(text, ">a &lt; b &amp; &quot;c&quot; &gt; d<") == 2);  // drawn, and the name of the document
  REQUIRE(detail::svg_text("\x01tab\there\x7F") == "\xEF\xBF\xBDtab here\xEF\xBF\xBD");
  REQUIRE(detail::svg_text("gr\xC3\xB6\xC3\x9F"
                           "e \xE2\x86\x92 \xF0\x9F\x8E\x89") ==
          "gr\xC3\xB6\xC3\x9F"
          "e \xE2\x86\x92 \xF0\x9F\x8E\x89");
  // Not UTF-8: a lone continuation, an overlong slash, a surrogate, a cut character, U+FFFE.
  for (const char* bad : {"\x80", "\xC3", "\xFF"}) REQUIRE(detail::svg_text(bad) == "\xEF\xBF\xBD");
  REQUIRE(svg_occurrences(detail::svg_text("\xC0\xAF"), "\xEF\xBF\xBD") == 2);
  REQUIRE(svg_occurrences(detail::svg_text("\xE0\x80\xAF"), "\xEF\xBF\xBD") == 3);
  REQUIRE(svg_occurrences(detail::svg_text("\xED\xA0\x80"), "\xEF\xBF\xBD") == 3);
  REQUIRE(svg_occurrences(detail::svg_text("\xEF\xBF\xBE"), "\xEF\xBF\xBD") == 3);
  REQUIRE(detail::svg_text("abcdef", 6) == "abcdef");
  REQUIRE(detail::svg_text("abcdef", 3) == "ab…");
  REQUIRE(detail::svg_text("a&&&", 3) == "a&amp;…");
  const std::string longer = titled(std::string(1000, 'w'));
  REQUIRE(svg_fault(longer) == "");
  REQUIRE(svg_size(longer, "width") == 1200);
  REQUIRE(svg_occurrences(longer, "…") == 1);
  REQUIRE(svg_occurrences(titled(std::string(100, 'w')), "…") == 0);
}

TEST_CASE("numbers have few decimals and a point in every locale") {
  const auto number = [](double x) {
    std::string out;
    detail::svg_part(out, x);
    return out;
  };
  REQUIRE(number(0) == "0");
  REQUIRE(number(-0.001) == "0");
  REQUIRE(number(1.5) == "1.5");
  REQUIRE(number(-1.25) == "-1.25");
  REQUIRE(number(-0.05) == "-0.05");
  REQUIRE(number(99.999) == "100");
  REQUIRE(number(1234567) == "1234567");
  REQUIRE(number(0.125) == "0.13");
  REQUIRE(detail::svg_count(9999) == "9999");
  REQUIRE(detail::svg_count(12345) == "12.3k");
  REQUIRE(detail::svg_count(999999) == "999k");
  REQUIRE(detail::svg_count(1000000) == "1M");
  REQUIRE(detail::svg_count(4567890) == "4.57M");
  REQUIRE(detail::svg_count(2147483647) == "2.15G");

  struct Comma : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\1"; }
  };
  LayeredGraph g = svg_random(2, 5, 9, 0.5f, 0.1f);
  for (std::int64_t k = 0; k < g.edge_count(); ++k)
    g.edge_attributes().set("weight", k, 0.37 * static_cast<double>(k) - 3);
  const auto both = [&] { return write_svg(g) + write_svg(g, svg_show(SvgDetail::summary)); };
  const std::string before = both();
  const std::locale old = std::locale::global(std::locale(std::locale::classic(), new Comma));
  const std::string after = both();
  std::locale::global(old);
  REQUIRE(after == before);
}

TEST_CASE("a picture is the same under every compiler") {
  const LayeredGraph g = Graph(4, std::vector<Edge>{{0, 1}, {0, 2}, {1, 3}, {2, 3}, {0, 3}}, true);
  const std::string text = write_svg(g);
  REQUIRE(svg_values(svg_group(text, "edges"), "d") ==
          std::vector<std::string>{"M0 0C34.2 0 55.8 -27 90 -27", "M0 0C34.2 0 55.8 27 90 27",
                                   "M90 -27C124.2 -27 145.8 0 180 0", "M90 27C124.2 27 145.8 0 180 0"});
  REQUIRE(svg_values(svg_group(text, "skips"), "d").size() == 1);
}

TEST_CASE("write_svg checks its options") {
  const LayeredGraph g = svg_path(2);
  const auto with = [&](auto&& change) {
    return [&g, change] {
      SvgOptions options;
      change(options);
      write_svg(g, options);
    };
  };
  svg_require_error(with([](SvgOptions& o) { o.width = 299; }),
                    "write_svg: width and height are 300 to 20000 (299 and");
  svg_require_error(with([](SvgOptions& o) { o.height = 20001; }), "write_svg: width and height are 300 to 20000 (");
  svg_require_error(with([](SvgOptions& o) { o.height = std::nan(""); }), "write_svg: width and height are");
  svg_require_error(with([](SvgOptions& o) { o.edge_limit = -1; }),
                    "write_svg: limits cannot be negative (-1 and 250)");
  svg_require_error(with([](SvgOptions& o) { o.side_limit = -2; }),
                    "write_svg: limits cannot be negative (4000 and -2)");
  svg_require_error(with([](SvgOptions& o) { o.layout.sweeps = -1; }),
                    "write_svg: cannot make fewer than 0 sweeps (-1)");
  svg_require_error([&] { layered_order(g, {.sweeps = -3}); }, "layered_order: cannot make fewer than 0 sweeps (-3)");
  svg_require_error([&] { layered_layout(g, {.sweeps = -3}); }, "layered_order: cannot make fewer than 0 sweeps (-3)");
  svg_require_error(
      [] {
        write_svg(Graph(2, std::vector<Edge>{{0, 1}, {1, 0}}, true));
      },
      "LayeredGraph: the graph has a cycle");
}
