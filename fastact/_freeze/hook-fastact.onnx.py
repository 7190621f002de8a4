"""For PyInstaller, in a program that imports fastact.onnx: the modules that are imported by their names."""

hiddenimports = ["fastact.onnx._backend", "fastact.onnx._library"]
