#!/usr/bin/env python3
"""Checks who may enter whom: rooms.py [repository root [file...]]   (only these files, else all)

Prints one line per violation, "file:line: rule: text", and exits 1 if there is one. The rules:
  room      a header includes its own room and rooms to its left (ALLOWED below); `io` sees all, nobody sees `io`
  library   Eigen only where EIGEN_AT says; zlib, nlohmann, pugixml only in io; otherwise the standard library
  device    kernels/*.cu and *.cuh include core views, kernels/contract.hpp and each other, and nothing of Eigen or Tensor
  macro     #define, #if and friends only in version.hpp, core/device.hpp and simd/
  virtual   no virtual functions
  quiet     nothing prints, asserts, exits or catches signals
  openmp    no #pragma omp: core/parallel.hpp owns the threads
"""
import pathlib
import re
import sys

# core < simd < kernels < autograd < ops < nn < train < models < transform < {prune, grow}; graph sits on core.
CHAIN = ["core", "simd", "kernels", "autograd", "ops", "nn", "train", "models", "transform"]
ALLOWED = {room: set(CHAIN[: i + 1]) for i, room in enumerate(CHAIN)}
ALLOWED["graph"] = {"core", "graph"}
for room in ("models", "transform"):
    ALLOWED[room].add("graph")
for room in ("prune", "grow"):
    ALLOWED[room] = set(CHAIN) | {"graph", room}
ALLOWED["io"] = set(ALLOWED) | {"io"}

OPEN_TO_ALL = {"version.hpp", "fwd.hpp"}  # files at the top that any room may include
UMBRELLAS = {"deepstruct.hpp": set(ALLOWED) - {"io"}, "graph.hpp": set(ALLOWED) - {"io"}, "images.hpp": set(ALLOWED) - {"io"}, "prune.hpp": set(ALLOWED) - {"io"}, "io.hpp": set(ALLOWED)}  # files at the top that include rooms

EIGEN_AT = re.compile(r"core/eigen\.hpp$|graph/spectrum\.hpp$|prune/")
MACROS_AT = re.compile(r"version\.hpp$|core/device\.hpp$|simd/")
DEVICE_MAY_INCLUDE = re.compile(r"core/(views?|device)\.hpp$|kernels/contract\.hpp$|version\.hpp$")
DEVICE_NEVER_REACHES = re.compile(r"core/(tensor|eigen|mask|indices)\.hpp$|^(autograd|ops|nn|train|models|transform)/")

STANDARD = set("""algorithm any array atomic barrier bit bitset charconv chrono cctype cerrno cfenv cfloat cinttypes climits
cmath compare complex concepts condition_variable coroutine cstddef cstdint cstdio cstdlib cstring ctime cwchar deque
exception execution filesystem fstream functional future initializer_list iomanip ios iosfwd istream iterator latch limits
list locale map memory memory_resource mutex new numbers numeric optional ostream queue random ranges ratio regex
scoped_allocator semaphore set shared_mutex source_location span sstream stack stdexcept stop_token streambuf string
string_view system_error thread tuple type_traits typeindex typeinfo unordered_map unordered_set utility valarray variant
vector version""".split())
LIBRARIES = {  # other headers, and the files that may include them
    re.compile(r"(unsupported/)?Eigen/"): EIGEN_AT,
    re.compile(r"zlib\.h$|zconf\.h$|nlohmann/|pugixml\.hpp$"): re.compile(r"io(/|\.hpp$)"),
    re.compile(r"(unistd|fcntl|sys/\w+)\.h$"): re.compile(r"io/"),  # rename and fsync of finished files
    re.compile(r"(immintrin|x86intrin|cpuid)\.h$"): re.compile(r"simd/"),
}
DEVICE_LIBRARIES = re.compile(r"cu\w*(\.h|\.hpp|_v2\.h)$|cooperative_groups|cub/|mma\.h$|thrust/|nv/|cuda/")

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:<([^>]+)>|"([^"]+)"|(\S.*))')
MACRO = re.compile(r"^\s*#\s*(define|undef|if|ifdef|ifndef|elif|elifdef|elifndef|else|endif)\b")
QUIET = re.compile(
    r"\bstd\s*::\s*(cout|cerr|clog|cin)\b|\b(v?f?printf|puts|fputs|putchar|perror)\s*\("
    r"|\bassert\s*\(|\b(exit|_Exit|quick_exit|abort)\s*\(|\b(std\s*::\s*signal|sigaction)\b"
    r"|#\s*include\s*<(iostream|cassert|csignal|assert\.h|signal\.h)>"
)
TOKENS = re.compile(  # comments and literals, which are blanked before the code is searched
    r'//[^\n]*|/\*.*?\*/|R"(?P<d>[^()\s\\]{0,16})\(.*?\)(?P=d)"|"(?:\\.|[^"\\\n])*"|(?<![0-9A-Za-z_])\'(?:\\.|[^\'\\\n])+\'', re.S)


def blank(text):
    """The code without comments and literals, every line in its place; the names of includes stay."""
    def replace(match):
        token = match.group()
        line_start = text.rfind("\n", 0, match.start()) + 1
        if token.startswith('"') and re.match(r"\s*#\s*include\b", text[line_start:match.start()]):
            return token
        return " " + "\n" * token.count("\n")
    return TOKENS.sub(replace, text)


class Checker:
    def __init__(self, root):
        self.root = root
        self.include = root / "include" / "deepstruct"
        self.violations = []
        self.lines = {}  # path -> blanked lines

    def say(self, path, number, rule, text):
        self.violations.append(f"{path.relative_to(self.root)}:{number}: {rule}: {text}")

    def read(self, path):
        if path not in self.lines:
            self.lines[path] = blank(path.read_text()).split("\n")
        return self.lines[path]

    def includes(self, path):
        """(line number, file of ours or None, spelling) of every include."""
        for number, line in enumerate(self.read(path), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            angled, quoted, computed = match.groups()
            name = angled or quoted or computed.strip()
            if quoted and (path.parent / quoted).exists():
                yield number, (path.parent / quoted).resolve(), name
            elif name.startswith("deepstruct/"):
                yield number, (self.root / "include" / name).resolve(), name
            elif quoted:
                yield number, (path.parent / quoted).resolve(), name
            else:
                yield number, None, name

    def ours(self, path):
        """The name inside include/deepstruct, such as "core/tensor.hpp", or None."""
        return path.relative_to(self.include).as_posix() if path.is_relative_to(self.include) else None

    def check_header(self, path):
        name = self.ours(path)
        at_top = "/" not in name
        room = None if at_top else name.split("/")[0]
        if not at_top and room not in ALLOWED:
            return self.say(path, 1, "room", f"there is no room {room}")
        if at_top and name not in OPEN_TO_ALL and name not in UMBRELLAS:
            return self.say(path, 1, "room", "only umbrellas, version.hpp and fwd.hpp live at the top")

        for number, target, spelling in self.includes(path):
            if target is None:
                self.check_library(path, name, number, spelling)
                continue
            other = self.ours(target)
            if other is None or not target.exists():
                self.say(path, number, "room", f"{spelling} is not a file of include/deepstruct")
            elif "/" not in other:
                if other not in OPEN_TO_ALL and not (name in ("io.hpp", "graph.hpp", "images.hpp", "prune.hpp") and other == "deepstruct.hpp"):
                    self.say(path, number, "room", f"{spelling} is an umbrella")
            else:
                allowed = UMBRELLAS.get(name, set()) if at_top else ALLOWED[room]
                if other.split("/")[0] not in allowed:
                    self.say(path, number, "room", f"{room or name} may not include {other.split('/')[0]} ({spelling})")

        for number, line in enumerate(self.read(path), 1):
            if MACRO.match(line) and not MACROS_AT.match(name):
                self.say(path, number, "macro", line.strip())
            if re.search(r"\bvirtual\b", line):
                self.say(path, number, "virtual", line.strip())
            if QUIET.search(line):
                self.say(path, number, "quiet", line.strip())
            if re.match(r"\s*#\s*pragma\s+omp\b", line) or re.search(r"\b_Pragma\b|\bomp\.h\b", line):
                self.say(path, number, "openmp", line.strip())

    def check_library(self, path, name, number, spelling):
        if spelling in STANDARD or spelling in {"iostream", "cassert", "csignal"}:  # the last three: rule quiet
            return
        for pattern, where in LIBRARIES.items():
            if pattern.match(spelling) and where.match(name):
                return
        self.say(path, number, "library", f"{spelling} may not be included here")

    def check_device(self, path):
        for number, target, spelling in self.includes(path):
            if target is None:
                if spelling not in STANDARD and not DEVICE_LIBRARIES.match(spelling):
                    self.say(path, number, "device", f"{spelling} may not be included here")
            elif self.ours(target) is None:
                if not target.is_relative_to(self.root / "kernels"):
                    self.say(path, number, "device", f"{spelling} is neither in kernels/ nor in include/deepstruct")
            elif not DEVICE_MAY_INCLUDE.match(self.ours(target)):
                self.say(path, number, "device", f"{spelling}: only core views and kernels/contract.hpp")
            else:
                for reached in self.reached_from(target):
                    self.say(path, number, "device", f"{spelling} reaches {reached}")

    def reached_from(self, start):
        """What a device file must not see, among all that an include of ours leads to."""
        seen, queue, bad = set(), [start], []
        while queue:
            path = queue.pop()
            if path in seen or not path.exists():
                continue
            seen.add(path)
            if self.ours(path) and DEVICE_NEVER_REACHES.match(self.ours(path)):
                bad.append(self.ours(path))
            for _, target, spelling in self.includes(path):
                if target is not None:
                    queue.append(target)
                elif re.match(r"(unsupported/)?Eigen/", spelling):
                    bad.append(spelling)
        return sorted(set(bad))

    def run(self, only):
        headers = sorted(p for p in self.include.rglob("*") if p.is_file() and p.suffix in {".hpp", ".inl", ".h", ".cuh"})
        device = sorted(p for p in (self.root / "kernels").rglob("*") if p.suffix in {".cu", ".cuh"})
        if not headers:
            sys.exit(f"rooms: no headers under {self.include}")
        if only:
            headers, device = [p for p in headers if p in only], [p for p in device if p in only]
        for path in headers:
            self.check_header(path)
        for path in device:
            self.check_device(path)
        for line in self.violations:
            print(line)
        print(f"rooms: {len(headers)} headers, {len(device)} device files, {len(self.violations)} violations")
        return 1 if self.violations else 0


if __name__ == "__main__":
    root = pathlib.Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parents[2]
    sys.exit(Checker(root).run({root / name for name in sys.argv[2:]}))
