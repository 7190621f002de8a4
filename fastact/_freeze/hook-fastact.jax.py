"""For PyInstaller, in a program that imports fastact.jax: the module that is imported by its name."""

hiddenimports = ["fastact.jax._handlers"]
