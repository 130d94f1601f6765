"""Run as a script by the layer's `otel-instrument`: begin, then become the Python file named by the arguments.

For functions whose PYTHONPATH is set by the user: the runtime reads no `.pth` file of a layer then. There is one
Python process, and no variable is changed, so the function's children start as they would without the layer.
"""

import sys


def _begin(root: str) -> None:
    # This folder was put first because the script is in it; the layer's is on the path for this import alone.
    del sys.path[0]
    sys.path.append(root)
    try:
        import spanwell.aws_lambda.pth  # noqa: F401
    except Exception as error:  # a module of the user's with this name, say: the function starts all the same
        sys.stderr.write(f"spanwell: nothing is traced: {type(error).__name__}: {error}\n")
    finally:
        sys.path.remove(root)


def _become(arguments: "list[str]") -> None:
    path = arguments[0]
    sys.argv[:] = arguments
    sys.path.insert(0, path.rpartition("/")[0])
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    main = vars(sys.modules["__main__"])
    for name in [name for name in main if not name.startswith("__")]:
        del main[name]
    main.update(__file__=path, __doc__=None, __cached__=None)
    exec(code, main)


if __name__ == "__main__":
    _begin(__file__.rsplit("/", 3)[0])
    _become(sys.argv[1:])
