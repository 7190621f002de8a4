"""For PyInstaller, in a program that imports fastact.torch: the compiled module, which is imported by its name."""

hiddenimports = ["fastact.torch._exchange"]
