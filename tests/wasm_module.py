"""Fails unless a module imports only what Envoy 1.36 offers, and is small.

Envoy 1.36 refuses the whole module for one unknown import (`fd_filestat_get`, which `std::fs` brings, is such).
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

LARGEST = 1_500_000  # bytes; what a worker of Envoy has to compile
ALLOWED = [
    r"env\.proxy_\w+",
    r"wasi_snapshot_preview1\."
    r"(random_get|args_get|args_sizes_get|environ_get|environ_sizes_get|clock_time_get|fd_write|proc_exit)",
]
IMPORT_SECTION = 2


def imports(module: bytes) -> Iterator[str]:
    """`module.name` of every import (WebAssembly core specification, section 5.5.5)."""
    if module[:8] != b"\0asm\1\0\0\0":
        raise ValueError("not a WebAssembly module of version 1")
    at = 8
    while at < len(module):
        section = module[at]
        size, at = number(module, at + 1)
        if section == IMPORT_SECTION:
            count, cursor = number(module, at)
            for _ in range(count):
                space, cursor = name(module, cursor)
                function, cursor = name(module, cursor)
                if module[cursor] != 0:
                    raise ValueError(f"{space}.{function} is not a function")
                _, cursor = number(module, cursor + 1)
                yield f"{space}.{function}"
        at += size


def number(module: bytes, at: int) -> tuple[int, int]:
    """An unsigned LEB128 number and where it ends."""
    value = shift = 0
    while True:
        byte = module[at]
        value |= (byte & 0x7F) << shift
        shift += 7
        at += 1
        if byte < 0x80:
            return value, at


def name(module: bytes, at: int) -> tuple[str, int]:
    length, at = number(module, at)
    return module[at : at + length].decode(), at + length


def main() -> int:
    path = Path(sys.argv[1])
    module = path.read_bytes()
    found = sorted(imports(module))
    refused = [item for item in found if not any(re.fullmatch(pattern, item) for pattern in ALLOWED)]
    for item in refused:
        print(f"{path}: imports {item}, which Envoy 1.36 does not offer", file=sys.stderr)
    if len(module) > LARGEST:
        print(f"{path}: {len(module)} bytes, more than {LARGEST}", file=sys.stderr)
    print(f"{path}: {len(found)} imports, {len(module)} bytes")
    return 1 if refused or not found or len(module) > LARGEST else 0


if __name__ == "__main__":
    sys.exit(main())
