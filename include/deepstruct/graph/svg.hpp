// Pictures of layered graphs as SVG text: every vertex and edge of a small graph, a summary by layers of a large one.
#pragma once

#include "layout.hpp"
#include "svg_parts.hpp"

namespace deepstruct {

/// What write_svg shows.
enum class SvgDetail {
  automatic,  ///< everything, or a summary where that would be too much for the page
  full,       ///< every vertex and every edge, however many
  summary     ///< a box per layer, a line per pair of connected layers
};

/// How write_svg draws.
struct SvgOptions {
  std::string title;                        ///< above the picture; made smaller, then cut, where it is too long
  double width = 1200, height = 800;        ///< the picture is at most so large, 300 to 20000
  SvgDetail detail = SvgDetail::automatic;  ///< what is shown
  std::int64_t edge_limit = 4000;           ///< automatic: with more edges a summary
  std::int64_t side_limit = 250;            ///< automatic: with more layers, or more vertices in one, a summary
  std::string weight = "weight";            ///< edge attribute (a number) that becomes width and colour
  bool labels = true;                       ///< ids in the vertices, where there is space
  bool axis = true;                         ///< numbers and widths of the layers below them
  bool legend = true;                       ///< what the colours mean
  LayoutOptions layout = {};                ///< of the full picture
};

namespace detail {

/// Weights of the edges, nothing if there is no such attribute or it is no number; NaN where one is missing.
inline std::vector<double> svg_weights(const Graph& g, const std::string& name) {
  const auto& values = g.edge_attributes();
  std::vector<double> weights;
  const auto take = [&]<class T>(T) {
    if (!values.holds<T>(name)) return;
    weights.resize(static_cast<std::size_t>(g.edge_count()));
    for (std::size_t k = 0; k < weights.size(); ++k) {
      const auto value = values.get<T>(name, static_cast<std::int64_t>(k));
      weights[k] = value ? static_cast<double>(*value) : std::numeric_limits<double>::quiet_NaN();
      if (!std::isfinite(weights[k])) weights[k] = std::numeric_limits<double>::quiet_NaN();
    }
  };
  take(float{});
  take(double{});
  take(std::int64_t{});
  return weights;
}

/// First layer, last layer, and between them what lies on a path from the one to the other, or not. O(V + E).
inline std::vector<SvgRole> svg_roles_of(const Graph& g, const LayerIndex& index) {
  const auto n = static_cast<std::size_t>(g.vertex_count());
  const auto last = static_cast<std::int32_t>(index.layer_count()) - 1;
  std::vector<char> reached(n, 0), reaches(n, 0);
  for (std::size_t v = 0; v < n; ++v) {
    reached[v] = index.layer[v] == 0;
    reaches[v] = index.layer[v] == last;
  }
  const Adjacency before = predecessors(g), after = successors(g);
  for (const Vertex v : index.order)
    for (const Vertex u : before.of(v)) reached[static_cast<std::size_t>(v)] |= reached[static_cast<std::size_t>(u)];
  for (std::size_t k = n; k-- > 0;) {
    const Vertex v = index.order[k];
    for (const Vertex w : after.of(v)) reaches[static_cast<std::size_t>(v)] |= reaches[static_cast<std::size_t>(w)];
  }
  std::vector<SvgRole> roles(n);
  for (std::size_t v = 0; v < n; ++v)
    roles[v] = !reached[v] || !reaches[v] ? SvgRole::dead
               : index.layer[v] == 0      ? SvgRole::input
               : index.layer[v] == last   ? SvgRole::output
                                          : SvgRole::hidden;
  return roles;
}

// ---- Every vertex and edge.

inline std::string svg_full(const LayeredGraph& g, const SvgOptions& options) {
  const Graph& graph = g.graph();
  const LayerIndex& index = g.index();
  const auto n = static_cast<std::size_t>(graph.vertex_count());
  const auto edges = graph.edges();
  const Layout layout = layered_layout(g, options.layout);
  const std::vector<SvgRole> roles = svg_roles_of(graph, index);
  const std::vector<double> weights = svg_weights(graph, options.weight);
  double greatest = 0;
  for (const double w : weights)
    if (!std::isnan(w)) greatest = std::max(greatest, std::abs(w));

  const auto layer = [&](Vertex v) { return index.layer[static_cast<std::size_t>(v)]; };
  std::int32_t longest = 1;
  bool loops = false;
  for (const Edge& e : edges) {
    longest = std::max(longest, layer(e.target) - layer(e.source));
    loops = loops || e.source == e.target;
  }
  const auto bow_of = [](double span) { return std::sqrt(span) * std::sqrt(std::sqrt(span)); };  // span^0.75

  // Distances of columns and rows, from the number of layers and the widest of them.
  const auto columns = static_cast<double>(index.layer_count() - 1);
  double rows = 0;
  for (std::int64_t l = 0; l < index.layer_count(); ++l) rows = std::max(rows, static_cast<double>(index.size(l) - 1));
  const double room_x = options.width - 2 * svg_margin - (options.axis ? 50 : 0) - 24;
  const double room_y = options.height - 2 * svg_margin - (options.title.empty() ? 0 : svg_title_height) -
                        (options.axis ? 40 : 0) - (options.legend ? 30 : 0) - (loops ? 45 : 28);
  const double widest_dx = room_x / std::max(columns, 1.0);
  const double most_bow = longest > 1 ? 0.2 * room_y : 0;
  const double dy = std::min(
      {columns > 0 ? 54.0 : 32.0, std::max(1.5 * widest_dx, 12.0), (room_y - 2 * most_bow) / std::max(rows, 1.0)});
  const double dx = std::min(
      {widest_dx, std::clamp(0.6 * dy * rows, 90.0, 340.0), std::max(110.0, 2 * dy * rows / std::max(columns, 1.0))});
  const double radius = std::clamp(std::min(0.3 * dx, 0.36 * dy), 0.6, 12.0);
  std::vector<double> x(n), y(n);
  SvgDrawing d;
  d.left = d.top = std::numeric_limits<double>::max();
  d.right = d.bottom = -d.left;
  for (std::size_t v = 0; v < n; ++v) {
    x[v] = dx * static_cast<double>(layout.x[v]);
    y[v] = dy * static_cast<double>(layout.y[v]);
    d.include(x[v], y[v], radius + 1);
  }

  // Edges: dead ones first, then by weight, so that what matters lies on top; those that pass layers last.
  const auto alive = [&](const Edge& e) {
    return roles[static_cast<std::size_t>(e.source)] != SvgRole::dead &&
           roles[static_cast<std::size_t>(e.target)] != SvgRole::dead;
  };
  std::vector<std::size_t> drawn(edges.size());
  std::iota(drawn.begin(), drawn.end(), std::size_t{0});
  const auto rank = [&](std::size_t k) {
    const double w = weights.empty() || std::isnan(weights[k]) ? -1 : std::abs(weights[k]);
    return std::pair(alive(edges[k]), w);
  };
  std::stable_sort(drawn.begin(), drawn.end(), [&](std::size_t a, std::size_t b) { return rank(a) < rank(b); });
  const double line = std::clamp(0.13 * radius, edges.size() <= 300 ? 0.8 : 0.45, 1.3);
  // Curves for few edges; many form a better texture as straight lines.
  const double reach = dx * std::min(0.38, 0.9 * static_cast<double>(n) / static_cast<double>(edges.size() + 1));
  const double bow_unit = longest > 1 ? std::min(0.34 * dx, most_bow / bow_of(longest)) : 0;
  bool any_skip = false;
  const auto style = [&](std::size_t k, std::string_view plain) {
    if (greatest > 0) {
      const bool known = !std::isnan(weights[k]);
      svg_put(d.body, "\" stroke=\"", known ? std::string_view(svg_colour(weights[k] / greatest)) : svg_dead_edge,
              "\" stroke-width=\"",
              known ? std::fma(2.2 * line, std::abs(weights[k]) / greatest, 0.6 * line) : 0.6 * line);
    } else if (!alive(edges[k])) {
      svg_put(d.body, "\" stroke=\"", svg_dead_edge);
    } else {
      svg_put(d.body, "\" stroke=\"", plain);
    }
    d.body += "\"/>\n";
  };
  const double opacity = std::clamp(20 / std::sqrt(static_cast<double>(edges.size()) + 1), 0.45, 0.9);
  svg_put(d.body, "<g class=\"edges\" fill=\"none\" stroke-width=\"", line, "\" stroke-opacity=\"", opacity, "\">\n");
  for (const std::size_t k : drawn) {
    const auto s = static_cast<std::size_t>(edges[k].source), t = static_cast<std::size_t>(edges[k].target);
    const std::int32_t span = index.layer[t] - index.layer[s];
    if (span > 1) {
      any_skip = true;
      continue;
    }
    if (span == 0) {  // a self loop
      svg_put(d.body, "<path d=\"M", x[s], " ", y[s], "C", x[s] - 2.6 * radius, " ", y[s] - 3 * radius, " ",
              x[s] + 2.6 * radius, " ", y[s] - 3 * radius, " ", x[s], " ", y[s]);
      d.include(x[s], y[s], 2.4 * radius);
    } else {
      svg_put(d.body, "<path d=\"M", x[s], " ", y[s], "C", x[s] + reach, " ", y[s], " ", x[t] - reach, " ", y[t], " ",
              x[t], " ", y[t]);
    }
    style(k, svg_edge);
  }
  svg_put(d.body, "</g>\n<g class=\"skips\" fill=\"none\" stroke-width=\"", line, "\" stroke-opacity=\"",
          std::min(opacity + 0.1, 0.9), "\">\n");
  for (const std::size_t k : drawn) {
    const auto s = static_cast<std::size_t>(edges[k].source), t = static_cast<std::size_t>(edges[k].target);
    const std::int32_t span = index.layer[t] - index.layer[s];
    if (span < 2) continue;
    // Away from the middle line; on it, up and down by turns.
    const double middle = (y[s] + y[t]) / 2;
    const bool up = std::abs(middle) > 0.05 * dy ? middle < 0 : (index.layer[s] + index.place[s]) % 2 == 0;
    const double bow = (up ? -1 : 1) * bow_unit * bow_of(span);
    const double quarter = (x[t] - x[s]) / 4, climb = (y[t] - y[s]) / 4;
    svg_put(d.body, "<path d=\"M", x[s], " ", y[s], "C", x[s] + quarter, " ", y[s] + climb + 4 * bow / 3, " ",
            x[t] - quarter, " ", y[t] - climb + 4 * bow / 3, " ", x[t], " ", y[t]);
    d.include((x[s] + x[t]) / 2, middle + bow, 2);
    style(k, svg_skip);
  }
  d.body += "</g>\n";

  std::string last_id = std::to_string(n == 0 ? 0 : g.id(static_cast<Vertex>(n) - 1));
  for (std::size_t v = 0; v < n; ++v) {
    const std::string id = std::to_string(g.id(static_cast<Vertex>(v)));
    if (id.size() > last_id.size()) last_id = id;
  }
  const double label = std::min(1.1 * radius, 1.7 * radius / (0.6 * static_cast<double>(last_id.size())));
  const bool labelled = options.labels && label >= 5.5;
  svg_put(d.body, "<g class=\"vertices\" stroke-width=\"", std::clamp(0.12 * radius, 0.2, 1.2), "\">\n");
  for (std::size_t v = 0; v < n; ++v) {
    const SvgStyle& role = svg_roles[static_cast<std::size_t>(roles[v])];
    svg_put(d.body, "<circle cx=\"", x[v], "\" cy=\"", y[v], "\" r=\"", radius, "\" fill=\"", role.fill, "\" stroke=\"",
            role.stroke, "\"/>\n");
  }
  d.body += "</g>\n";
  if (labelled) {
    svg_put(d.body, "<g class=\"labels\">\n");
    for (std::size_t v = 0; v < n; ++v)
      svg_write(d.body, x[v], y[v] + 0.36 * label, label, "middle",
                roles[v] == SvgRole::dead || roles[v] == SvgRole::output ? svg_ink : "#ffffff",
                std::to_string(g.id(static_cast<Vertex>(v))));
    d.body += "</g>\n";
  }

  if (options.axis) {
    std::vector<double> at;
    std::vector<std::string> numbers, widths;
    for (std::int64_t l = 0; l < index.layer_count(); ++l) {
      at.push_back(dx * static_cast<double>(l));
      numbers.push_back(std::to_string(l));
      widths.push_back(svg_count(index.size(l)));
    }
    const std::array<std::pair<std::string_view, std::vector<std::string>>, 2> texts{
        {{"layer", numbers}, {"width", widths}}};
    svg_axis(d, at, texts, true);
  }
  if (options.legend) {
    std::vector<SvgLegendEntry> entries;
    for (const SvgRole role : {SvgRole::input, SvgRole::hidden, SvgRole::output, SvgRole::dead})
      if (std::find(roles.begin(), roles.end(), role) != roles.end()) entries.push_back(svg_legend_role(role));
    if (any_skip && greatest == 0) entries.push_back(svg_legend_line("skip", svg_skip));
    if (greatest > 0) entries.push_back(svg_legend_scale(options.weight, greatest));
    svg_legend(d, entries, options.width - 2 * svg_margin);
  }
  return svg_page(d, options.title, options.width);
}

// ---- Boxes for layers.

inline std::string svg_summary(const LayeredGraph& g, const SvgOptions& options) {
  constexpr std::int64_t most_columns = 80;
  const LayerIndex& index = g.index();
  const std::int64_t layers = index.layer_count();
  const std::int64_t per_column = (layers + most_columns - 1) / most_columns;
  const auto columns = static_cast<std::size_t>((layers + per_column - 1) / per_column);
  std::vector<std::int64_t> vertices(columns), edges(columns * columns, 0);
  for (std::size_t c = 0; c < columns; ++c) {
    const auto first = static_cast<std::int64_t>(c) * per_column, last = std::min(first + per_column, layers);
    vertices[c] = index.start[static_cast<std::size_t>(last)] - index.start[static_cast<std::size_t>(first)];
  }
  for (const LayerConnection& c : index.connections)
    edges[static_cast<std::size_t>(c.source_layer / per_column) * columns +
          static_cast<std::size_t>(c.target_layer / per_column)] += c.edges;
  std::int64_t most_vertices = 1, most_edges = 1;
  std::size_t skips = 0, longest = 1;
  for (std::size_t a = 0; a < columns; ++a) {
    most_vertices = std::max(most_vertices, vertices[a]);
    for (std::size_t b = a + 1; b < columns; ++b) {
      if (edges[a * columns + b] == 0) continue;
      most_edges = std::max(most_edges, edges[a * columns + b]);
      skips += b > a + 1;
      longest = std::max(longest, b - a);
    }
  }
  const auto log_part = [](std::int64_t part, std::int64_t whole) {
    return exact_log(1 + static_cast<double>(part)) / exact_log(1 + static_cast<double>(whole));
  };

  const double room_x = options.width - 2 * svg_margin - (options.axis ? 56 : 0);
  const double pitch = std::min(150.0, room_x / static_cast<double>(columns));
  const double room_y = options.height - 2 * svg_margin - (options.title.empty() ? 0 : svg_title_height) -
                        (options.axis ? pitch < 80 ? 145 : 40 : 0) - (options.legend ? 30 : 0) - 32;
  const double box = std::min(54.0, 0.55 * pitch);
  const double tallest = std::min(220.0, 0.45 * room_y);
  const double rise = std::min(0.5 * room_y, std::max(60.0, 0.16 * pitch * static_cast<double>(columns)));
  const auto x = [&](std::size_t c) { return pitch * static_cast<double>(c); };
  const auto height = [&](std::size_t c) {
    return std::max(0.05 * tallest, tallest * log_part(vertices[c], most_vertices));
  };
  SvgDrawing d;
  d.include(0, 0, 0);
  for (std::size_t c = 0; c < columns; ++c) {
    d.include(x(c), -height(c) / 2, box / 2);
    d.include(x(c), height(c) / 2, 0);
  }
  d.top = -tallest / 2;

  const double thickest = std::clamp(0.16 * pitch, 2.0, 14.0);
  const double opacity = std::clamp(6 / std::sqrt(static_cast<double>(skips) + 1), 0.06, 0.6);
  std::string texts;
  svg_put(d.body, "<g class=\"edges\" fill=\"none\">\n");
  for (std::size_t a = 0; a + 1 < columns; ++a) {
    const std::int64_t count = edges[a * columns + a + 1];
    if (count == 0) continue;
    svg_put(d.body, "<path d=\"M", x(a) + box / 2, " 0L", x(a + 1) - box / 2, " 0\" stroke=\"", svg_edge,
            "\" stroke-width=\"", thickest * log_part(count, most_edges), "\"/>\n");
    const std::string text = svg_count(count);
    if (svg_width(text, 10) + 6 < pitch - box)
      svg_write(texts, (x(a) + x(a + 1)) / 2, -thickest / 2 - 4, 10, "middle", svg_ink, text);
  }
  svg_put(d.body, "</g>\n<g class=\"skips\" fill=\"none\" stroke=\"", svg_skip, "\" stroke-opacity=\"", opacity,
          "\">\n");
  for (std::size_t span = longest; span > 1; --span)
    for (std::size_t a = 0; a + span < columns; ++a) {
      const std::size_t b = a + span;
      const std::int64_t count = edges[a * columns + b];
      if (count == 0) continue;
      // The top of the arc lies above every box; a cubic's top is at 1/4 of its ends and 3/4 of its handles.
      const double top = -tallest / 2 - 12 - rise * std::sqrt(static_cast<double>(span) / static_cast<double>(longest));
      const double from = -height(a) / 2, to = -height(b) / 2, handle = (4 * top - (from + to) / 2) / 3;
      const double stroke = 0.7 * thickest * log_part(count, most_edges);
      svg_put(d.body, "<path d=\"M", x(a) + box / 5, " ", from, "C", x(a) + box / 5, " ", handle, " ", x(b) - box / 5,
              " ", handle, " ", x(b) - box / 5, " ", to, "\" stroke-width=\"", stroke, "\"/>\n");
      if (skips <= 12)
        svg_write(texts, (x(a) + x(b)) / 2, top - stroke / 2 - 4, 10, "middle", svg_ink, svg_count(count));
      d.include((x(a) + x(b)) / 2, top, skips <= 12 ? 16 : 3);
    }
  svg_put(d.body, "</g>\n<g class=\"boxes\">\n");
  for (std::size_t c = 0; c < columns; ++c) {
    const SvgRole role = c == 0 ? SvgRole::input : c + 1 == columns ? SvgRole::output : SvgRole::hidden;
    svg_put(d.body, "<rect x=\"", x(c) - box / 2, "\" y=\"", -height(c) / 2, "\" width=\"", box, "\" height=\"",
            height(c), "\" rx=\"", std::min(3.0, box / 5), "\" fill=\"", svg_roles[static_cast<std::size_t>(role)].fill,
            "\"/>\n");
  }
  svg_put(d.body, "</g>\n<g class=\"counts\">\n", texts, "</g>\n");

  std::vector<double> at;
  std::vector<std::string> numbers, widths;
  for (std::size_t c = 0; c < columns; ++c) {
    const auto first = static_cast<std::int64_t>(c) * per_column, last = std::min(first + per_column, layers) - 1;
    at.push_back(x(c));
    numbers.push_back(first == last ? svg_count(first) : svg_count(first) + "–" + svg_count(last));
    widths.push_back(svg_count(vertices[c]));
  }
  const std::array<std::pair<std::string_view, std::vector<std::string>>, 2> rows{
      {{"layer", numbers}, {"width", widths}}};
  if (options.axis) svg_axis(d, at, rows, false);
  if (options.legend) {
    std::vector<SvgLegendEntry> entries{svg_legend_role(SvgRole::input)};
    if (columns > 2) entries.push_back(svg_legend_role(SvgRole::hidden));
    if (columns > 1) entries.push_back(svg_legend_role(SvgRole::output));
    if (skips > 0) entries.push_back(svg_legend_line("skip", svg_skip));
    svg_legend(d, entries, options.width - 2 * svg_margin);
  }
  return svg_page(d, options.title, options.width);
}

}  // namespace detail

/// A picture of the graph: layers as columns from left to right, the vertices of a layer below one another in the
/// order of layered_layout; returns the text of an SVG document.
///
/// Vertices are circles coloured by role: input (first layer), output (last layer), hidden, and hollow if dead, that
/// is, on no path from the first layer to the last. Edges that pass over layers are arcs, further out the more they
/// pass. With an edge attribute options.weight (float, double or std::int64_t), width and colour of an edge show |w|
/// relative to the greatest and its sign, blue for plus and red for minus. A graph beyond the limits of the options is
/// summarised: a box per layer (more than 80 layers: per group of consecutive ones), its height growing with the
/// logarithm of its number of vertices, and a line per pair of connected boxes whose width grows with the logarithm of
/// its number of edges. The same graph and options give the same text. Throws on a size of the page that is not 200 to
/// 20000, and on negative limits. Full: as layered_layout; summary: O(V + E).
inline std::string write_svg(const LayeredGraph& g, const SvgOptions& options = {}) {
  for (const double side : {options.width, options.height})
    check(side >= 300 && side <= 20000, "write_svg: width and height are 300 to 20000 (", options.width, " and ",
          options.height, ")");
  check(options.edge_limit >= 0 && options.side_limit >= 0, "write_svg: limits cannot be negative (",
        options.edge_limit, " and ", options.side_limit, ")");
  check(options.layout.sweeps >= 0, "write_svg: cannot make fewer than 0 sweeps (", options.layout.sweeps, ")");
  if (g.vertex_count() == 0) return detail::svg_page({}, options.title, options.width);
  bool summary = options.detail == SvgDetail::summary;
  if (options.detail == SvgDetail::automatic) {
    summary = g.edge_count() > options.edge_limit || g.num_layers() > options.side_limit;
    for (std::int64_t l = 0; l < g.num_layers() && !summary; ++l) summary = g.layer_size(l) > options.side_limit;
  }
  return summary ? detail::svg_summary(g, options) : detail::svg_full(g, options);
}

}  // namespace deepstruct
