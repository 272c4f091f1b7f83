# SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
"""A heap of many small objects: syntax trees of the modules that come with Python.

Argument: pages that the heap is to have. Says `ready`, and stays until its standard
input ends.
"""

import ast
import gc
import os
import sys


def heap_pages():
    with open("/proc/self/statm", "rb") as statm:
        _, resident, shared, *_ = map(int, statm.read().split())
    return resident - shared


def fill(pages):
    # The collector would look at all of it again and again.
    gc.disable()
    top = os.path.dirname(os.__file__)
    names = sorted(name for name in os.listdir(top) if name.endswith(".py"))
    trees = []
    while True:
        before = len(trees)
        for name in names:
            with open(os.path.join(top, name), "rb") as file:
                trees.append(ast.parse(file.read()))
            if heap_pages() >= pages:
                return trees
        if len(trees) == before:
            sys.exit(f"no modules in {top}")


if __name__ == "__main__":
    kept = fill(int(sys.argv[1]))
    print("ready", flush=True)
    sys.stdin.read()
