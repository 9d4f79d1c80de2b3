"""A copy of a WebAssembly module in which one exported function traps: what a panic of the filter looks like to Envoy.

The product has no way to make it panic, so the test changes the module instead: a function `unreachable` is appended,
and the export points to it. All other code stays as it was built (WebAssembly core specification, section 5.5).
"""

from wasm_module import imports, number

FUNCTION, EXPORT, CODE = 3, 7, 10
UNREACHABLE_BODY = bytes([3, 0, 0x00, 0x0B])  # size, no locals, `unreachable`, `end`


def trapping(module: bytes, export: str) -> bytes:
    sections = _sections(module)
    imported = len(list(imports(module)))
    types, at = number(sections[FUNCTION], 0)
    functions = []
    for _ in range(types):
        value, at = number(sections[FUNCTION], at)
        functions.append(value)
    index, start, end = _export(sections[EXPORT], export)
    added = imported + len(functions)
    functions.append(functions[index - imported])
    bodies, at = number(sections[CODE], 0)
    sections[FUNCTION] = _leb(len(functions)) + b"".join(map(_leb, functions))
    sections[CODE] = _leb(bodies + 1) + sections[CODE][at:] + UNREACHABLE_BODY
    sections[EXPORT] = sections[EXPORT][:start] + _leb(added) + sections[EXPORT][end:]
    # Custom sections (id 0) name things for debuggers only.
    return module[:8] + b"".join(bytes([kind]) + _leb(len(body)) + body for kind, body in sections.items())


def _sections(module: bytes) -> dict[int, bytes]:
    """The sections but the custom ones, in order."""
    found, at = {}, 8
    while at < len(module):
        kind = module[at]
        size, at = number(module, at + 1)
        if kind:
            found[kind] = module[at : at + size]
        at += size
    return found


def _export(section: bytes, name: str) -> tuple[int, int, int]:
    """The function index of an export, and where it is written."""
    count, at = number(section, 0)
    for _ in range(count):
        length, at = number(section, at)
        found = section[at : at + length].decode()
        start = at + length + 1
        index, end = number(section, start)
        if found == name:
            return index, start, end
        at = end
    raise ValueError(f"no export {name}")


def _leb(value: int) -> bytes:
    out = bytearray()
    while True:
        out.append(value & 0x7F | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(out)
