#!/usr/bin/env python3
"""Writes the first files of the corpora, from which fuzzing starts: small valid files and some with one mistake.

Usage: tests/fuzz/seeds.py, then build/dev/tests/fuzz_replay tests/fuzz/corpus/model --models for files of models.
"""
import gzip
import json
import pathlib
import struct

corpus = pathlib.Path(__file__).parent / "corpus"


def write(target, name, content):
    folder = corpus / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def idx(kind, extents, data):
    return bytes([0, 0, kind, len(extents)]) + b"".join(struct.pack(">I", n) for n in extents) + data


def npy(descr, fortran, shape, data, version=1):
    header = f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n".encode()
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + data


def safetensors(header, data=b""):
    text = header if isinstance(header, str) else json.dumps(header)
    return struct.pack("<Q", len(text)) + text.encode() + data


write("csv", "plain", "1,2.5,-3e4\n4,5,6\n")
write("csv", "header", 'x;"y, z"; w \r\n1;+2;3\r\n4 ; 5;6\r\n\r\n')
write("csv", "nonfinite", "nan\tinf\n\t-inf\n1e-40\t-nan\n")
write("csv", "mark", b"\xef\xbb\xbf1 2\n3 4")
write("csv", "ragged", "1,2\n3\n")
write("csv", "large", "1e39,3.4028235e38\n")
write("csv", "underflow", "1e-400,-0\n")

write("idx", "images", idx(8, [2, 2, 3], bytes(range(0, 240, 20))))
write("idx", "images_many", idx(8, [65, 1, 2], bytes(k % 256 for k in range(130))))
write("idx", "labels", idx(8, [5], bytes([0, 9, 3, 3, 255])))
write("idx", "signed", idx(9, [3, 1], b"\x80\x7f\xff"))
write("idx", "short", idx(11, [2, 2], struct.pack(">4h", 1, -2, 32767, -32768)))
write("idx", "int", idx(12, [2], struct.pack(">2i", 2**31 - 1, -5)))
write("idx", "float", idx(13, [1, 2, 1, 2], struct.pack(">4f", 1, float("nan"), float("inf"), 1e-45)))
write("idx", "double", idx(14, [2], struct.pack(">2d", 1e39, 0.1)))
write("idx", "no_samples", idx(8, [0, 1 << 31, 1 << 8], b""))
write("idx", "lying", idx(8, [1 << 31, 1 << 31, 1 << 31], b"abc"))

write("npy", "float", npy("<f4", False, "(2, 3)", struct.pack("<6f", *range(6))))
write("npy", "double", npy("<f8", True, "(2, 2, 1)", struct.pack("<4d", 1, float("nan"), float("-inf"), -0.0), 2))
write("npy", "int", npy("<i4", True, "(1, 2, 1, 2)", struct.pack("<4i", 1, -2, 3, 2**31 - 1), 3))
write("npy", "long", npy("<i8", False, "(3,)", struct.pack("<3q", 1, -2, 2**31)))
write("npy", "bool", npy("|b1", False, "(3,)", b"\0\1\1"))
write("npy", "bytes", npy("|u1", True, "(17, 2)", bytes(range(34))))
write("npy", "scalar", npy("<f4", False, "()", struct.pack("<f", 7)))
write("npy", "no_samples", npy("<f4", True, "(0, 1099511627776)", b""))
write("npy", "lying", npy("<f4", False, "(4611686018427387904, 4)", b"1234"))
write("npy", "big_endian", npy(">f4", False, "(1,)", b"1234"))

write("edge_list", "plain", "# a comment\n0 1\n1\t2 # another\n\n2 2\n")
write("edge_list", "weights", "0 1 0.5\n1 0 {'weight': 2}\n1 2 {}\n3 1 nan\n")
write("edge_list", "braces", "0 1 {'color': \"a'}\", 'x': [1, {2: 3}], \"weight\": -1e-3, 'n': None}\n2 0\n")
write("edge_list", "far", "0 65535\n")
write("edge_list", "beyond", "0 65536\n")
write("edge_list", "broken", "0 1 {'weight': \n1 -2\n")

graphml = '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">{}</graphml>'
write("graphml", "plain", graphml.format('<graph edgedefault="directed"><node id="0"/><node id="1"/>'
      '<edge source="0" target="1"/></graph>'))
keys = "".join(f'<key id="{kind[0]}{k}" for="{kind}" attr.name="{name}" attr.type="{name}"/>'
               for kind in ("node", "edge") for k, name in enumerate(("boolean", "long", "float", "double", "string")))
values = "".join(f'<data key="{{0}}{k}">{value}</data>' for k, value in
                 enumerate(("true", "-7", "0.1", "-inf", " a &lt; b &#13;<![CDATA[<&]]> ")))
write("graphml", "attributes", graphml.format(
    keys + f'<graph edgedefault="undirected"><node id="b">{values.format("n")}</node><node id="a"/>'
    f'<edge id="e0" source="a" target="b">{values.format("e")}</edge><edge source="b" target="b"/></graph>'))
write("graphml", "defaults", '<?xml version="1.0"?>\n<!-- & -->' + graphml.format(
    '<key id="w" attr.name="weight" attr.type="double"><default>1.5</default></key>'
    '<key id="t" for="node" attr.name="text"><default>x&amp;y</default></key>'
    '<graph><node id="0"/><edge source="0" target="n1"><data key="w">NaN</data></edge></graph>'))
write("graphml", "layers", graphml.format(
    '<key id="l" for="node" attr.name="layer" attr.type="long"/>'
    '<key id="p" for="node" attr.name="position" attr.type="int"/><graph edgedefault="directed">'
    + "".join(f'<node id="{v}"><data key="l">{l}</data><data key="p">{p}</data></node>'
              for v, (l, p) in enumerate(((0, 1), (0, 0), (2, 0), (1, 0))))
    + '<edge source="0" target="2"/><edge source="1" target="3"/></graph>'))
write("graphml", "cycle", graphml.format('<graph edgedefault="directed"><edge source="a" target="b"/>'
      '<edge source="b" target="a"/></graph>'))
write("graphml", "yed", graphml.format('<key for="node" id="d1" yfiles.type="nodegraphics"/>'
      '<graph edgedefault="directed"><node id="n0"><data key="d1"><y:Fill color="#1"/></data></node></graph>'))
write("graphml", "parallel", graphml.format('<graph><edge source="1" target="0"/><edge source="0" target="1"/></graph>'))
write("graphml", "entity", '<!DOCTYPE graphml [<!ENTITY a "b">]>' + graphml.format("<graph/>"))
write("graphml", "reference", graphml.format('<graph><node id="&#0;&#x110000;"/></graph>'))
write("graphml", "nested", graphml.format('<graph><node id="0"><graph/></node></graph>'))

write("gzip", "plain", gzip.compress(b"one,two\n1,2\n" * 3, mtime=0))
write("gzip", "two", gzip.compress(b"first", mtime=0) + gzip.compress(b"", mtime=0))
write("gzip", "bomb", gzip.compress(bytes(5 << 20), mtime=0))
write("gzip", "cut", gzip.compress(b"cut off in the middle", mtime=0)[:-6])
write("gzip", "behind", gzip.compress(b"x", mtime=0) + b"foreign")
write("gzip", "text", "no gzip at all")
write("gzip", "named", b"\x1f\x8b\x08\x1f\0\0\0\0\0\xff\4\0extrname\0comment\0" + gzip.compress(b"named", mtime=0)[10:])

table = {"baseline": [0.9, 0.95, 0.95], "avx2": [1, 0, 0.5], "avx512": [0.123456789, 1e-45, -0.0]}
write("kernel_table", "plain", json.dumps(table))
write("kernel_table", "short", json.dumps(table | {"avx2": [1, 2]}))
write("kernel_table", "range", json.dumps(table | {"avx2": [0.5, 1.5, 0]}))
write("kernel_table", "types", json.dumps(table | {"avx2": [None, "\u00e9", {}]}))
write("kernel_table", "deep", '{"baseline": [' + "[" * 300 + "]" * 300 + ", 0, 0]}")
write("kernel_table", "infinite", '{"baseline": [1e999, 0, 0]}')

numbers = {"a": ("F32", 4), "b": ("I64", 8), "c": ("BOOL", 1), "d": ("F16", 2), "e": ("BF16", 2), "f": ("F64", 8),
           "g": ("U8", 1), "h": ("I16", 2), "i": ("U32", 4), "j": ("U64", 8), "k": ("I8", 1), "l": ("U16", 2),
           "m": ("I32", 4)}
header, data = {"__metadata__": {"format": "pt", "\u00fc": "\n"}}, b""
for name, (kind, size) in numbers.items():
    header[name] = {"dtype": kind, "shape": [1, 2], "data_offsets": [len(data), len(data) + 2 * size]}
    data += bytes(k % 2 for k in range(2 * size))
write("safetensors", "types", safetensors(header, data))
one = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
write("safetensors", "plain", safetensors({"weight": one}, struct.pack("<2f", 1, float("nan"))))
write("safetensors", "none", safetensors("{}"))
write("safetensors", "empty", safetensors({"x": one | {"shape": [0, 1 << 40], "data_offsets": [0, 0]},
                                           "y": one | {"shape": [], "data_offsets": [0, 4]}}, b"1234"))
write("safetensors", "wide", safetensors({"x": one | {"dtype": "F64", "shape": [1]}}, struct.pack("<d", 1e300)))
write("safetensors", "gap", safetensors({"x": one | {"data_offsets": [4, 12]}}, bytes(12)))
write("safetensors", "huge", safetensors({"x": one | {"shape": [1e300], "data_offsets": [0, 2**64 - 1]}}, bytes(8)))
write("safetensors", "deep", safetensors('{"x":' + "[" * 50 + "]" * 50 + "}"))
write("safetensors", "long_header", struct.pack("<Q", 2**63) + b"{}")

for k in range(11):
    write("model_edit", f"base_{k}", bytes([k]))
    write("model_edit", f"integer_{k}", bytes([k, 0, 3, 0, 0, 0, 241, 1, 0, 9, 7, 4, 0, 0, 0, 5, 0, 1, 2, 3, 4]))
