// Pictures as SVG text: line_chart, heat_map and bar_chart, each drawn from one plain struct.
#pragma once

#include "svg/bar_chart.hpp"
#include "svg/heat_map.hpp"
#include "svg/line_chart.hpp"
