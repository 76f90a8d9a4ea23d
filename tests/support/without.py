"""Python as it is where only some of the installed packages are: `python without.py NAME,NAME... CODE`."""

import sys


class Without:
    """A finder of modules that does not find those of some packages."""

    def __init__(self, finder, packages):
        self._finder, self._packages = finder, packages

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self._packages:
            return None
        return self._finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self._finder, name)  # metadata of distributions is asked for there


if __name__ == "__main__":
    packages, code = sys.argv[1:]
    sys.meta_path[:] = [Without(finder, packages.split(",")) for finder in sys.meta_path]
    sys.path[0] = ""  # not the folder of this file
    exec(compile(code, "<given>", "exec"), {"__name__": "__main__"})
