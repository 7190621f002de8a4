"""The extension module.  Cython finds the declarations in the installed fastact; the compiler is told of its header."""

from Cython.Build import cythonize
from setuptools import Extension, setup

import fastact

setup(ext_modules=cythonize([Extension("cython_user", ["cython_user.pyx"], include_dirs=[fastact.get_include()])]))
